"""TorchXRayVision's DenseNet-121, wrapped for medkd: a source model for chest radiographs.

The network is torchvision's DenseNet-121 with one input channel and the same tensor names, so
TorchXRayVision need not be installed. Its input range is -1024..1024 at 224 px; the wrapper
converts views in 0..1. Its operating points (`op_threshs`, which rescale a score so that the
threshold becomes 1/2) are not loaded: they are not part of the network and must be switched off
before fine-tuning.

Its weights are published as whole-model pickles, which run code when loaded. medkd accepts only
tensors. Save them once on a machine where you trust the file, then use `medkd import` or
`weights: file`:

    import torch, torchxrayvision as xrv
    model = xrv.models.DenseNet(weights="densenet121-res224-all")
    torch.save(model.state_dict(), "xrv-all.pt")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import torch.nn.functional as F  # noqa: N812  # torch's usual alias
from pydantic import Field, model_validator
from torch import Tensor, nn

from medkd.errors import CheckpointError
from medkd.models.teachers import BodyAndHead, ImageSettings, read_body_file
from medkd.models.weights import load_weights

OUTPUTS = (
    "Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema",
    "Fibrosis", "Effusion", "Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass",
    "Hernia", "Lung Lesion", "Fracture", "Lung Opacity", "Enlarged Cardiomediastinum",
)  # fmt: skip
"""The classifier's outputs, in order (`torchxrayvision.datasets.default_pathologies`)."""

_NIH = frozenset(OUTPUTS[:14])
_CHEXPERT = frozenset(OUTPUTS) - {"Infiltration", "Emphysema", "Fibrosis", "Pleural_Thickening",
                                  "Nodule", "Mass", "Hernia"}  # fmt: skip
TRAINED_OUTPUTS: dict[str, frozenset[str]] = {
    "densenet121-res224-all": frozenset(OUTPUTS),
    "densenet121-res224-nih": _NIH,
    "densenet121-res224-pc": _NIH | {"Fracture"},
    "densenet121-res224-rsna": frozenset({"Pneumonia", "Lung Opacity"}),
    "densenet121-res224-chex": _CHEXPERT,
    "densenet121-res224-mimic_nb": _CHEXPERT,
    "densenet121-res224-mimic_ch": _CHEXPERT,
}
"""Outputs that each set of weights was trained for; its other outputs of the 18 are noise."""

XrvName = Literal[
    "densenet121-res224-all", "densenet121-res224-nih", "densenet121-res224-pc",
    "densenet121-res224-rsna", "densenet121-res224-chex", "densenet121-res224-mimic_nb",
    "densenet121-res224-mimic_ch",
]  # fmt: skip

_HALF_RANGE = 1024.0
_EMBEDDING = 1024


class Torchxrayvision2dSettings(ImageSettings):
    """TorchXRayVision's DenseNet-121 for chest radiographs; weights come from a local file."""

    kind: Literal["torchxrayvision2d"] = "torchxrayvision2d"
    in_channels: int = Field(1, ge=1, le=1, description="channels of the view")
    image_size: Annotated[int, Field(ge=32)] = Field(
        224, description="px; views are resized to this square inside the network"
    )
    name: XrvName = Field("densenet121-res224-all", description="name of the pretrained weights")
    outputs: tuple[str, ...] = Field(
        (),
        description="pretrained outputs kept as the head, one per label, e.g. [Nodule]; empty: new",
    )
    weights: Literal["none", "file"] = Field(
        "none", description="file: its state_dict as safetensors"
    )

    @model_validator(mode="after")
    def _outputs_are_trained(self) -> Self:
        known = TRAINED_OUTPUTS[self.name]
        unknown = [name for name in self.outputs if name not in known]
        if unknown:
            raise ValueError(
                f"{self.name} was not trained for {unknown}; its outputs are {sorted(known)}"
            )
        if self.outputs and len(self.outputs) != self.label_count:
            raise ValueError(
                f"label_count is {self.label_count}, but outputs has {len(self.outputs)} names"
            )
        return self


class XrvInput(nn.Module):
    """Convert a view in 0..1 to TorchXRayVision's range -1024..1024 and image size."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size

    def forward(self, view: Tensor) -> Tensor:
        """Map [B, 1, I, J] in 0..1 to [B, 1, size, size] in -1024..1024."""
        size = (self.image_size, self.image_size)
        if tuple(view.shape[2:]) != size:
            view = F.interpolate(view, size=size, mode="bilinear", align_corners=False)
        return (view * 2.0 - 1.0) * _HALF_RANGE


class XrvBody(nn.Module):
    """DenseNet-121's pooled features: maps [B, 1, I, J] in -1024..1024 to [B, 1024]."""

    def __init__(self) -> None:
        from torchvision.models import densenet121

        super().__init__()
        self.features = densenet121(weights=None).features
        self.features.conv0 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.features.conv0.weight)

    def forward(self, image: Tensor) -> Tensor:
        """Return the pooled features [B, 1024] of a batch."""
        return F.adaptive_avg_pool2d(F.relu(self.features(image)), 1).flatten(1)


def build_torchxrayvision2d(settings: Torchxrayvision2dSettings) -> BodyAndHead:
    """Build the network; its random weights come from the global generator."""
    prepare = XrvInput(settings.image_size)
    return BodyAndHead(XrvBody(), _EMBEDDING, settings=settings, prepare=prepare)


def initialise_torchxrayvision2d(network: BodyAndHead, settings: Torchxrayvision2dSettings) -> str:
    """Load the weights file named in the settings and return its description."""
    path, found = read_body_file(settings)
    return f"local file {path.name}, {adopt_torchxrayvision2d(network, settings, found)}"


def adopt_torchxrayvision2d(
    network: BodyAndHead, settings: Torchxrayvision2dSettings, found: Mapping[str, Any]
) -> str:
    """Load the library's tensors into the body and, for `outputs`, into the head.

    Args:
        network: the network that receives the tensors.
        settings: the settings that it was built from.
        found: `state_dict()` of the library's DenseNet: features, classifier, perhaps op_threshs.

    Returns:
        A description of the loaded weights, in words.

    Raises:
        CheckpointError: if tensors are missing, unknown, of a wrong shape or not finite.
    """
    features = {k: v for k, v in found.items() if not k.startswith(("classifier.", "op_threshs"))}
    load_weights(network.body, features, name=settings.name)
    if not settings.outputs:
        return f"{settings.name}, new head"
    places = [OUTPUTS.index(name) for name in settings.outputs]
    head = {}
    for part in ("weight", "bias"):
        values = found.get(f"classifier.{part}")
        if not isinstance(values, Tensor) or values.shape[:1] != (len(OUTPUTS),):
            raise CheckpointError(
                f"{settings.name}: its outputs cannot be kept",
                [
                    f"expected classifier.{part} with {len(OUTPUTS)} outputs; remove `outputs` "
                    "from the settings to use a new head"
                ],
            )
        head[part] = values[places]
    load_weights(network.head, head, name=settings.name)
    return f"{settings.name}, head of its {', '.join(settings.outputs)}"
