"""Small classifiers without pretrained weights: compact (students), shallow and linear.

`compact2d` and `compact3d` are fully convolutional residual networks with batch norm, spatial
pooling by a weighted mean, and a linear head. With more channels the same network serves as a
wide teacher. All weights are initialised randomly.

Dense evaluation. A patch's logit is head(weighted mean of its feature cells). Both steps are
linear, so the logits of all patches of a large view are a moving weighted mean of the head's
map, one total stride apart. Grid cell g is the patch whose first voxel is g * stride. The result
is exact if the view is the patch itself. In a larger view a feature cell is exact if its
receptive field lies inside the patch; a cell nearer to the patch's edge sees the real
neighbourhood instead of padding. Two settings keep this difference small and are the default in
3-D (`tests/bench/test_dense_run.py` measures them). `padding: replicate`: with zero padding a
network learns where patches end. `pooling: centre`: cells far from the patch's centre get little
weight, which also makes the map peak at the nodule. Where the exact logit matters, score the
patch at a peak again with `forward`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

import torch
import torch.nn.functional as F  # noqa: N812  # torch's usual alias
from pydantic import Field, model_validator
from torch import Tensor, nn

from medkd.models.network import Network, NetworkSettings

CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}

Positive = Annotated[int, Field(ge=1)]


class _Convolutional(NetworkSettings):
    padding: Literal["zeros", "replicate"] = Field(
        "zeros", description="fill value outside the view; replicate: the outermost voxel"
    )
    pooling: Literal["mean", "centre"] = Field(
        "mean", description="centre: features far from the centre get less weight"
    )
    centre_share: float = Field(
        0.2,
        gt=0.0,
        le=1.0,
        description="Gaussian sigma of pooling: centre, relative to the patch size",
    )


class _Convolutional3d(_Convolutional):
    spatial_dims: ClassVar[int] = 3
    padding: Literal["zeros", "replicate"] = Field(
        "replicate", description="fill value outside the view; replicate: the outermost voxel"
    )
    pooling: Literal["mean", "centre"] = Field(
        "centre", description="centre: features far from the centre get less weight"
    )


class _Compact(_Convolutional):
    stem_channels: Positive = Field(16, description="channels of the first convolution")
    stem_stride: Literal[1, 2] = Field(1, description="2 halves the resolution in the stem")
    channels: tuple[Positive, ...] = Field((32, 32, 64, 128), description="one per residual block")
    strides: tuple[Literal[1, 2], ...] = Field((1, 2, 2, 2), description="one per residual block")
    dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="fraction of the embedding dropped in training"
    )

    @model_validator(mode="after")
    def _one_stride_per_block(self) -> Self:
        if not self.channels or len(self.channels) != len(self.strides):
            raise ValueError(
                f"channels and strides need one number per block each, got {len(self.channels)} "
                f"and {len(self.strides)}"
            )
        return self


class Compact2dSettings(_Compact):
    """Residual 2-D network; the defaults have 0.32 M parameters, doubled channels 1.27 M."""

    spatial_dims: ClassVar[int] = 2
    kind: Literal["compact2d"] = "compact2d"


class Compact3dSettings(_Convolutional3d, _Compact):
    """Residual 3-D network; the defaults have 0.36 M parameters and a total stride of 4."""

    kind: Literal["compact3d"] = "compact3d"
    stem_stride: Literal[1, 2] = Field(2, description="2 halves the resolution in the stem")
    channels: tuple[Positive, ...] = Field((16, 32, 48, 64), description="one per residual block")
    strides: tuple[Literal[1, 2], ...] = Field((1, 2, 1, 1), description="one per residual block")


class Shallow2dSettings(_Convolutional):
    """Two convolutions and spatial pooling: a weak baseline for 2-D."""

    spatial_dims: ClassVar[int] = 2
    kind: Literal["shallow2d"] = "shallow2d"
    channels: Positive = Field(
        16, description="channels of the first convolution; the second doubles them"
    )


class Shallow3dSettings(_Convolutional3d):
    """Two convolutions and spatial pooling: a weak baseline for 3-D."""

    kind: Literal["shallow3d"] = "shallow3d"
    channels: Positive = Field(
        16, description="channels of the first convolution; the second doubles them"
    )


class Linear2dSettings(NetworkSettings):
    """Logistic regression on pixels: the baseline that a network must beat."""

    spatial_dims: ClassVar[int] = 2
    kind: Literal["linear2d"] = "linear2d"
    image_shape: tuple[Positive, Positive] = Field((28, 28), description="rows, columns")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The only accepted image shape (rows, columns)."""
        return self.image_shape


class Linear3dSettings(NetworkSettings):
    """Logistic regression on voxels: the baseline that a network must beat."""

    spatial_dims: ClassVar[int] = 3
    kind: Literal["linear3d"] = "linear3d"
    image_shape: tuple[Positive, Positive, Positive] = Field((28, 28, 28), description="i, j, k")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The only accepted patch shape (i, j, k)."""
        return self.image_shape


class WeightedMean(nn.Module):
    """Spatial weighted mean of [B, C, *cells] to [B, C]; the weights sum to 1.

    Args:
        stride: voxels between neighbouring cells.
        pooling: "mean" weights all cells equally; "centre" weights them by a Gaussian around
            the patch's centre voxel, (size - 1) / 2.
        centre_share: standard deviation of the Gaussian divided by the patch's size.
    """

    def __init__(self, stride: int, *, pooling: str, centre_share: float) -> None:
        super().__init__()
        self.stride = stride
        self.pooling = pooling
        self.centre_share = centre_share

    def weights(self, size: int, like: Tensor) -> Tensor:
        """Return the weight of each cell along an axis of `size` voxels, at least float32."""
        cells, kind = math.ceil(size / self.stride), torch.promote_types(like.dtype, torch.float32)
        if self.pooling == "mean":
            return torch.full((cells,), 1.0 / cells, device=like.device, dtype=kind)
        place = torch.arange(cells, device=like.device, dtype=kind) * self.stride
        bell = torch.exp(-(((place - (size - 1) / 2) / (self.centre_share * size)) ** 2) / 2)
        return bell / bell.sum()

    def forward(self, feature: Tensor, shape: Sequence[int]) -> Tensor:
        """Return the weighted mean [B, C] of feature maps [B, C, *cells].

        The weights follow from `shape`, the shape of the patch in voxels.
        """
        for size in reversed(shape):
            feature = (feature * self.weights(size, feature)).sum(dim=-1)
        return feature


class PooledConvNet(Network):
    """A classifier: convolutions, spatial mean (`WeightedMean`), dropout, linear head.

    Args:
        features: the convolutions, from [B, C, *spatial] to feature maps [B, E, *cells].
        embedding_size: E.
        settings: axes, channels, labels, padding and pooling.
        stride: total stride of `features`, the same on every axis.
        dropout: fraction of the embedding dropped in training.
    """

    def __init__(
        self,
        features: nn.Sequential,
        embedding_size: int,
        *,
        settings: _Convolutional,
        stride: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            settings, embedding_layer="pool", dense_stride=(stride,) * settings.spatial_dims
        )
        self.features = features
        self.pool = WeightedMean(
            stride, pooling=settings.pooling, centre_share=settings.centre_share
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(embedding_size, settings.label_count)
        _initialise(self)

    def _logits(self, view: Tensor) -> Tensor:
        embedding = self.pool(self.features(view), view.shape[2:])
        logits: Tensor = self.head(self.dropout(embedding))
        return logits

    def forward_dense(self, view: Tensor, *, patch_shape: Sequence[int]) -> Tensor:
        """Score every patch of a large view, `dense_stride` voxels apart.

        Args:
            view: [B, C, *spatial] float in 0..1, at least as large as the patch on each axis.
            patch_shape: spatial shape of the patches that the network was trained on.

        Returns:
            [B, K, *grid] logits. Cell g is the patch whose first voxel is g * dense_stride; its
            centre is (patch_shape - 1) / 2 voxels further. The module's docstring states where
            the logits are exact.

        Raises:
            ValueError: if the view does not fit the network or is smaller than the patch.

        Example:
            >>> network = build_compact(Compact3dSettings(channels=(8,), strides=(2,))).eval()
            >>> network.forward_dense(torch.rand(1, 1, 24, 16, 16), patch_shape=(16, 16, 16)).shape
            torch.Size([1, 1, 3, 1, 1])
        """
        self._check_view(view)
        if len(patch_shape) != self.spatial_dims or any(
            size < patch for size, patch in zip(view.shape[2:], patch_shape, strict=False)
        ):
            raise ValueError(
                f"the view {tuple(view.shape[2:])} must be at least as large as the patch "
                f"{tuple(patch_shape)} on each of {self.spatial_dims} axes"
            )
        dense: Tensor = self.head(self.features(view).movedim(1, -1)).movedim(-1, 1)
        for axis, size in enumerate(patch_shape, start=2):
            dense = _moving_mean(dense, self.pool.weights(size, dense), axis=axis)
        return self.pick_used(dense)


class ResidualBlock(nn.Module):
    """Two convolutions of kernel size 3, batch norm, a shortcut (He et al. 2015, section 3)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, settings: _Convolutional) -> None:
        super().__init__()
        convolution, norm = CONVOLUTIONS[settings.spatial_dims], NORMS[settings.spatial_dims]
        self.conv1 = _convolution3(inputs, outputs, stride=stride, settings=settings)
        self.norm1 = norm(outputs)
        self.conv2 = _convolution3(outputs, outputs, stride=1, settings=settings)
        self.norm2 = norm(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                convolution(inputs, outputs, 1, stride=stride, bias=False), norm(outputs)
            )

    def forward(self, feature: Tensor) -> Tensor:
        """Map [B, inputs, *spatial] to [B, outputs, *spatial / stride]."""
        inner = F.relu(self.norm1(self.conv1(feature)))
        return F.relu(self.norm2(self.conv2(inner)) + self.shortcut(feature))


class LinearClassifier(Network):
    """A linear classifier with one weight per voxel and output."""

    def __init__(self, settings: Linear2dSettings | Linear3dSettings) -> None:
        super().__init__(settings, embedding_layer="flatten")
        weights = settings.in_channels * math.prod(settings.image_shape)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(weights, settings.label_count)

    def _logits(self, view: Tensor) -> Tensor:
        logits: Tensor = self.head(self.flatten(view))
        return logits


def build_compact(settings: Compact2dSettings | Compact3dSettings) -> PooledConvNet:
    """Build a compact network; its random weights come from the global generator."""
    width = settings.stem_channels
    layers: list[nn.Module] = [
        _convolution3(settings.in_channels, width, stride=settings.stem_stride, settings=settings),
        NORMS[settings.spatial_dims](width),
        nn.ReLU(),
    ]
    for channels, stride in zip(settings.channels, settings.strides, strict=True):
        layers.append(ResidualBlock(width, channels, stride=stride, settings=settings))
        width = channels
    return PooledConvNet(
        nn.Sequential(*layers),
        width,
        settings=settings,
        stride=settings.stem_stride * math.prod(settings.strides),
        dropout=settings.dropout,
    )


def build_shallow(settings: Shallow2dSettings | Shallow3dSettings) -> PooledConvNet:
    """Build a two-layer network; its random weights come from the global generator."""
    norm, width = NORMS[settings.spatial_dims], settings.channels
    features = nn.Sequential(
        _convolution3(settings.in_channels, width, stride=2, settings=settings),
        norm(width),
        nn.ReLU(),
        _convolution3(width, 2 * width, stride=2, settings=settings),
        norm(2 * width),
        nn.ReLU(),
    )
    return PooledConvNet(features, 2 * width, settings=settings, stride=4)


def _convolution3(
    inputs: int, outputs: int, *, stride: int, settings: _Convolutional
) -> nn.Conv2d | nn.Conv3d:
    return CONVOLUTIONS[settings.spatial_dims](
        inputs, outputs, 3, stride=stride, padding=1, bias=False, padding_mode=settings.padding
    )


def _moving_mean(dense: Tensor, weights: Tensor, *, axis: int) -> Tensor:
    """Return the weighted mean over each window of `len(weights)` cells along an axis, stride 1."""
    return (dense.unfold(axis, len(weights), 1) * weights).sum(dim=-1)


def _initialise(network: nn.Module) -> None:
    """Initialise as He et al. 2015 (1502.01852), equation 10, fan-out; heads get small weights."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
