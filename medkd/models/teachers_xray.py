"""TorchXRayVision's DenseNet-121 behind medkd's view: a source trained on chest radiographs.

The network is torchvision's DenseNet-121 with one input channel, under the same names, so that
the package itself is not needed. It wants -1024..1024 and 224 px; a view is 0..1. Its operating
points (`op_threshs`, which bend a score so that a threshold becomes 1/2) are left out: they are no
part of the network and must be off before fine-tuning.

Its weights are published as whole-model pickles, which run code when loaded. medkd takes tensors
only; save them once where you trust the file, then `medkd import` or `weights: file`:

    import torch, torchxrayvision as xrv
    model = xrv.models.DenseNet(weights="densenet121-res224-all")
    torch.save(model.state_dict(), "xrv-all.pt")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from pydantic import Field, model_validator
from torch import Tensor, nn

from medkd.errors import CheckpointError
from medkd.models.teachers import BodyAndHead, ImageSettings, read_body_file
from medkd.models.weights import fit_weights

OUTPUTS = (
    "Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema",
    "Fibrosis", "Effusion", "Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass",
    "Hernia", "Lung Lesion", "Fracture", "Lung Opacity", "Enlarged Cardiomediastinum",
)  # fmt: skip
"""The classifier's outputs in order (`torchxrayvision.datasets.default_pathologies`)."""

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
"""Outputs that each set of weights was trained for; the others of the 18 are noise."""

XrvName = Literal[
    "densenet121-res224-all", "densenet121-res224-nih", "densenet121-res224-pc",
    "densenet121-res224-rsna", "densenet121-res224-chex", "densenet121-res224-mimic_nb",
    "densenet121-res224-mimic_ch",
]  # fmt: skip

_HALF_RANGE = 1024.0
_EMBEDDING = 1024


class Torchxrayvision2dSettings(ImageSettings):
    """TorchXRayVision's DenseNet-121 for chest radiographs, its weights from a local file."""

    kind: Literal["torchxrayvision2d"] = "torchxrayvision2d"
    in_channels: int = Field(1, ge=1, le=1, description="channels of the view")
    image_size: Annotated[int, Field(ge=32)] = Field(
        224, description="px; views are resized to this square inside the network"
    )
    name: XrvName = Field("densenet121-res224-all", description="which of its weights")
    outputs: tuple[str, ...] = Field(
        (), description="its own outputs to start from, one a label, e.g. [Nodule]; none: new head"
    )
    weights: Literal["none", "file"] = Field("none", description="file: its state, as safetensors")

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
                f"label_count is {self.label_count}, but outputs names {len(self.outputs)}"
            )
        return self


class XrvInput(nn.Module):
    """Turn a view in 0..1 into TorchXRayVision's -1024..1024 at its size."""

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
    """DenseNet-121's features, pooled: [B, 1, I, J] in -1024..1024 to [B, 1024]."""

    def __init__(self) -> None:
        from torchvision.models import densenet121

        super().__init__()
        self.features = densenet121(weights=None).features
        self.features.conv0 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.features.conv0.weight)

    def forward(self, image: Tensor) -> Tensor:
        """Pool the features of a batch."""
        return F.adaptive_avg_pool2d(F.relu(self.features(image)), 1).flatten(1)


def build_torchxrayvision2d(settings: Torchxrayvision2dSettings) -> BodyAndHead:
    """Build the network with random weights from the global generator."""
    prepare = XrvInput(settings.image_size)
    return BodyAndHead(XrvBody(), _EMBEDDING, settings=settings, prepare=prepare)


def initialise_torchxrayvision2d(network: BodyAndHead, settings: Torchxrayvision2dSettings) -> str:
    """Load the file that the settings name and say in words what it is."""
    path, found = read_body_file(settings)
    return f"local file {path.name}, {adopt_torchxrayvision2d(network, settings, found)}"


def adopt_torchxrayvision2d(
    network: BodyAndHead, settings: Torchxrayvision2dSettings, found: Mapping[str, Any]
) -> str:
    """Put the library's own state into body and, for `outputs`, head; say what became of them.

    Args:
        network: takes the tensors.
        settings: what it is built from.
        found: `state_dict()` of the library's DenseNet: features, classifier, perhaps op_threshs.

    Raises:
        CheckpointError: if tensors are missing, unknown, misshapen or not finite.
    """
    features = {k: v for k, v in found.items() if not k.startswith(("classifier.", "op_threshs"))}
    fit_weights(network.body, features, name=settings.name)
    if not settings.outputs:
        return f"{settings.name}, new head"
    places = [OUTPUTS.index(name) for name in settings.outputs]
    head = {}
    for part in ("weight", "bias"):
        values = found.get(f"classifier.{part}")
        if not isinstance(values, Tensor) or values.shape[:1] != (len(OUTPUTS),):
            raise CheckpointError(
                f"{settings.name}: its outputs cannot be kept",
                [f"classifier.{part} of {len(OUTPUTS)} outputs expected; leave `outputs` out"],
            )
        head[part] = values[places]
    fit_weights(network.head, head, name=settings.name)
    return f"{settings.name}, head of its {', '.join(settings.outputs)}"
