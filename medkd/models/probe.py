"""A probe: a frozen pretrained network with a linear classifier on the features of its layers.

Where labels are few, this teaches more than the same network trained further: the features stay as
they were learned from many images, and only a linear model is fitted, in seconds. The features of
each layer are averaged over its positions or tokens (`layout.py` finds its channels), standardised
and projected on their principal components; scikit-learn's `LogisticRegression` is fitted on the
result. All of it is stored as tensors, so a probe is a network like any other: it is saved, loaded
and asked in the same way.

Source: Alain and Bengio 2017 (linear classifier probes); Kornblith et al. 2019, "Do better ImageNet
models transfer better?", 4.1 (logistic regression on fixed features).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from medkd.errors import SettingsError
from medkd.models import classifiers, detector, luna_classifier, teachers, teachers_xray
from medkd.models.network import Network, NetworkSettings
from medkd.models.package import load_model, read_info
from medkd.settings import ModelPath, Settings, union_by_kind

logger = logging.getLogger(__name__)

Float64 = NDArray[np.float64]
Pooling = Literal["global", "centre"]

CENTRE_SD = 0.2
"""Standard deviation of the weights of `centre` pooling, as a share of the size of a map."""

_TRIAL_SIZE = 32  # voxels of an empty view by which the number of features is found

_BACKBONES: tuple[type[NetworkSettings], ...] = (
    teachers.Torchvision2dSettings, teachers.Timm2dSettings, teachers.Resnet3dSettings,
    teachers_xray.Torchxrayvision2dSettings, luna_classifier.LunaClassifierSettings,
    detector.DetectorSettings, classifiers.Compact2dSettings, classifiers.Compact3dSettings,
    classifiers.Shallow2dSettings, classifiers.Shallow3dSettings,
)  # fmt: skip

if TYPE_CHECKING:
    BackboneSettings = NetworkSettings
else:
    BackboneSettings = union_by_kind(_BACKBONES)
"""The settings of a network that can be probed."""


class LookSettings(Settings):
    """One look at a view: its field of view, and the layers that are read."""

    size_vox: int | None = Field(
        None, ge=4, description="Edge of the central part of the view, voxels; null: all of it."
    )
    layers: tuple[str, ...] | None = Field(
        None, min_length=1, description="Layers, as `medkd layers` lists them; null: `layers`."
    )
    pooling: Pooling | None = Field(None, description="As `pooling`; null: the same.")

    def shape_in(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the part of a view that is looked at, as `central_part` cuts it."""
        return tuple(min(self.size_vox or size, size) for size in spatial)


class ProbeSettings(NetworkSettings):
    """A frozen pretrained network with a linear classifier on the features of its layers."""

    kind: Literal["probe"] = "probe"
    backbone: BackboneSettings | None = Field(
        None, description="The pretrained network, with the weights that its settings name."
    )
    from_: ModelPath | None = Field(
        None,
        alias="from",
        description="The pretrained network: a model directory, or the name of a shipped model.",
    )
    layers: tuple[str, ...] = Field(
        min_length=1, description="Layers whose features are read, as `medkd layers` lists them."
    )
    pooling: Pooling = Field(
        "global",
        description="global: mean over all positions or tokens. centre: positions near the centre "
        "weigh more, for patches around a candidate; not for tokens.",
    )
    looks: tuple[LookSettings, ...] = Field(
        (LookSettings(),), min_length=1, description="One or several fields of view."
    )
    components: int = Field(128, ge=1, description="Principal components that are kept.")
    inverse_penalty: float = Field(
        0.003, gt=0, description="C of scikit-learn's LogisticRegression; less: simpler."
    )
    class_balanced: bool = Field(True, description="Both classes weigh the same in the fit.")
    views: int = Field(6, ge=1, description="Views of each labelled sample in the fit.")

    @model_validator(mode="after")
    def _one_backbone(self) -> Self:
        if (self.backbone is None) == (self.from_ is None):
            raise ValueError("a probe needs either backbone (a network) or from (a model)")
        if self.backbone is not None and self.backbone.in_channels != self.in_channels:
            raise ValueError(
                f"in_channels is {self.in_channels}, that of the backbone is "
                f"{self.backbone.in_channels}"
            )
        return self

    @property
    def body(self) -> NetworkSettings:
        """The settings of the pretrained network, read from its model if it is given by `from`."""
        from medkd.models.table import parse_model_settings  # the table also lists this network

        if self.backbone is not None:
            return self.backbone
        return parse_model_settings(read_info(str(self.from_)).settings)

    @property
    def spatial_dims(self) -> int:  # type: ignore[override]
        """Number of spatial axes of the pretrained network."""
        return self.body.spatial_dims

    @property
    def hu_window(self) -> tuple[float, float] | None:  # type: ignore[override]
        """The HU window of the pretrained network; None: any, or images."""
        if self.from_ is not None:
            return read_info(str(self.from_)).preprocessing.hu_window
        return self.body.hu_window

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The only accepted spatial shape of a view; None: any shape."""
        return self.body.input_shape if all(k.size_vox is None for k in self.looks) else None

    @property
    def names_weights(self) -> bool:
        """Whether weights are loaded into the new network: always, those of the backbone."""
        return True

    def stored(self) -> dict[str, Any]:
        """Return the plain values by which the network is built without the source model."""
        values = super().stored() | {"backbone": self.body.stored()}
        return {key: value for key, value in values.items() if key != "from"}


class Embedding(nn.Module):
    """Standardise features and project them on principal components: [B, F] -> [B, E]."""

    def __init__(self, features: int, components: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("components", torch.zeros(components, features))

    def forward(self, features: Tensor) -> Tensor:
        """Map [B, F] to [B, E]."""
        mean, scale = self.get_buffer("mean"), self.get_buffer("scale")
        return ((features - mean) / scale) @ self.get_buffer("components").T


class Probe(Network):
    """A frozen network, the features of some of its layers, and a linear head.

    `read_features` and `classify` are the two halves of `forward`: the first does not depend on
    the labels, so its result can be stored and used by every fit.
    """

    def __init__(self, settings: ProbeSettings) -> None:
        from medkd.models.table import build_part  # the table also lists this network

        super().__init__(settings, embedding_layer="embed")
        body = settings.body
        self.settings = settings
        self.backbone = build_part(body).eval().requires_grad_(False)
        if isinstance(self.backbone, teachers.BodyAndHead):
            # Not read; random weights would give each seed stored features of its own.
            nn.init.zeros_(self.backbone.head.weight)
        if body.spatial_dims == 2:  # twice as fast on a processor
            self.backbone.to(memory_format=torch.channels_last)
        self._axes, width = self._find_channels()
        self.embed = Embedding(width, min(settings.components, width))
        self.head = nn.Linear(len(self.embed.get_buffer("components")), settings.label_count)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but the pretrained network, which stays in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def read_features(self, view: Tensor) -> Tensor:
        """Compute the pooled features of views, [B, C, *spatial] in 0..1 to [B, F]."""
        self._check_view(view)
        return self._read(view)

    def classify(self, features: Tensor) -> Tensor:
        """Compute logits [B, K] from the features [B, F] of `read_features`."""
        logits: Tensor = self.head(self.embed(features))
        return logits

    def _logits(self, view: Tensor) -> Tensor:
        return self.classify(self._read(view))

    def _read(self, view: Tensor) -> Tensor:
        found = []
        for look in self.settings.looks:
            layers, pooling = self._layers_of(look), look.pooling or self.settings.pooling
            with _read_layers(self.backbone, layers) as outputs:
                self.backbone(central_part(view, look.size_vox) if look.size_vox else view)
            found += [pool(outputs[n].movedim(self._axes[n], 1), pooling) for n in layers]
        return torch.cat(found, dim=1)

    def _layers_of(self, look: LookSettings) -> tuple[str, ...]:
        return look.layers or self.settings.layers

    def _find_channels(self) -> tuple[dict[str, int], int]:
        """Run an empty view; return the axis of the channels of each layer, and all features."""
        body, looks = self.settings.body, self.settings.looks
        layers = tuple(dict.fromkeys(name for look in looks for name in self._layers_of(look)))
        shape = body.input_shape or (_TRIAL_SIZE,) * body.spatial_dims
        with torch.no_grad(), _read_layers(self.backbone, layers) as outputs:
            self.backbone(torch.zeros(1, self.settings.in_channels, *shape))
        axes = {n: self.backbone.channel_axis(n, outputs.get(n), samples=1) for n in layers}
        for look in looks:
            if (look.pooling or self.settings.pooling) == "centre":
                _check_places(self._layers_of(look), outputs, self.backbone.spatial_dims)
        counts = [outputs[n].shape[axes[n]] for look in looks for n in self._layers_of(look)]
        return axes, sum(counts)


def initialise_probe(network: Probe, settings: ProbeSettings) -> str:
    """Load the weights of the pretrained network and return their description."""
    from medkd.models.table import MODELS
    from medkd.models.weights import load_weights

    if settings.from_ is not None:
        source = load_model(settings.from_)
        load_weights(network.backbone, source.network.state_dict(), name=str(settings.from_))
        return f"frozen {source.info.kind}, trained on {source.info.trained_on}"
    body = settings.body
    start = MODELS[str(getattr(body, "kind", ""))].initialise
    if start is None or not body.names_weights:
        logger.warning("probe: the backbone has random weights")
        return "frozen random weights"
    return f"frozen {start(network.backbone, body)}"


def fit_probe(probe: Probe, features: Float64, labels: Float64) -> None:
    """Fit scaling, projection and classifier on the features of labelled views.

    Args:
        probe: its `embed` and `head` are filled.
        features: [N, F] from `read_features`.
        labels: [N, K]: 0, 1, or NaN where unknown.

    Raises:
        SettingsError: if a label does not have both classes.
    """
    settings = probe.settings
    reasons = [
        f"label {number}: {classes} of 2 classes occur in the labelled samples"
        for number, column in enumerate(labels.T)
        if (classes := len(np.unique(column[~np.isnan(column)]))) < 2
    ]
    if reasons:
        raise SettingsError("a probe cannot be fitted", [*reasons, "use more labels"])
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale < 1e-8] = 1.0
    scaled = (features - mean) / scale
    count = min(len(probe.embed.get_buffer("components")), *scaled.shape)
    components = PCA(count, svd_solver="full").fit(scaled).components_
    embedding = scaled @ components.T
    weight = "balanced" if settings.class_balanced else None
    with torch.no_grad():
        probe.embed.get_buffer("mean").copy_(_tensor(mean))
        probe.embed.get_buffer("scale").copy_(_tensor(scale))
        probe.embed.get_buffer("components").zero_()[:count] = _tensor(components)
        probe.head.weight.zero_()
        for number, column in enumerate(labels.T):
            rows = ~np.isnan(column)
            model = LogisticRegression(
                C=settings.inverse_penalty, class_weight=weight, max_iter=5000
            ).fit(embedding[rows], column[rows])
            probe.head.weight[number, :count] = _tensor(model.coef_[0])
            probe.head.bias[number] = float(model.intercept_[0])


def central_part(view: Tensor, size_vox: int) -> Tensor:
    """Return the central part of views [B, C, *spatial], at most `size_vox` along each axis."""
    for axis in range(2, view.ndim):
        size = min(size_vox, view.shape[axis])
        view = view.narrow(axis, (view.shape[axis] - size) // 2, size)
    return view


def pool(features: Tensor, pooling: Pooling) -> Tensor:
    """Average a layer's output [B, C, *spatial] over its positions; [B, C] stays as it is.

    Args:
        features: the output of a layer.
        pooling: "global": all positions weigh the same. "centre": by a Gaussian around the centre,
            whose standard deviation is `CENTRE_SD` of the size of the map.

    Raises:
        SettingsError: if the output has no channels.

    Example:
        >>> pool(torch.ones(2, 3, 5, 4), "centre").shape
        torch.Size([2, 3])
    """
    if features.ndim < 2:
        raise SettingsError("a layer without channels cannot be probed", [f"{features.shape}"])
    if features.ndim == 2:
        return features
    pooled = features
    for size in features.shape[2:]:
        weights = torch.ones(size, device=features.device)
        if pooling == "centre":
            places = torch.arange(size, device=features.device) - (size - 1) / 2
            weights = torch.exp(-0.5 * (places / (CENTRE_SD * size)) ** 2)
        weights = (weights / weights.sum()).to(pooled.dtype)
        pooled = (pooled * weights.view(-1, *(1,) * (pooled.ndim - 3))).sum(dim=2)
    return pooled


def _check_places(layers: Sequence[str], outputs: Mapping[str, Tensor], axes: int) -> None:
    """Refuse pooling around the centre for outputs whose places in the image are not known."""
    reasons = [
        f"layer {name!r} gives {tuple(outputs[name].shape[1:])} for one view: tokens, whose places "
        "are not known"
        for name in layers
        if outputs[name].ndim not in (2, axes + 2)
    ]
    if reasons:
        raise SettingsError(
            "tokens cannot be pooled around the centre", [*reasons, "use pooling: global"]
        )


@contextmanager
def _read_layers(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of named layers while the network runs inside the block."""
    known = dict(network.named_modules())
    if missing := [name for name in layers if name not in known]:
        some = ", ".join(list(known)[1:9])
        reasons = [f"no layer {name!r}; it has {some}, ..." for name in missing]
        raise SettingsError("the backbone of a probe lacks these layers", reasons)
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:  # noqa: ANN401  # torch's hook
        return lambda _module, _inputs, output: outputs.__setitem__(name, cast("Tensor", output))

    with ExitStack() as hooks:
        for name in layers:
            hooks.enter_context(known[name].register_forward_hook(keep(name)))
        yield outputs


def _tensor(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
