"""Small classifiers that we train ourselves: compact (students), shallow and linear.

`compact2d` and `compact3d` are fully convolutional residual networks with batch norm and a
global-mean head; with more channels the same network is a wide teacher. All weights are random.

The dense run and what it equals: a patch's logit is head(mean of the feature cells of the
patch), so over a large view the same number is a local mean of the feature map with the patch's
window, one step of the total stride apart. Grid cell g stands for the patch whose first voxel
is g * stride. It is exact where the view is the patch itself. In a larger view each feature
cell is exact whose receptive field lies inside the patch; cells nearer to the patch's edge see
the real neighbourhood instead of the zeros that padding puts there, so the logit differs by
their share. Where that matters, score the patch itself again with `forward`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from pydantic import Field, model_validator
from torch import Tensor, nn

from medkd.models.network import GlobalMean, Network, NetworkSettings

CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}

Positive = Annotated[int, Field(ge=1)]


class _Compact(NetworkSettings):
    stem_channels: Positive = Field(16, description="channels of the first convolution")
    stem_stride: Literal[1, 2] = Field(1, description="2 halves the resolution at once")
    channels: tuple[Positive, ...] = Field((32, 32, 64, 128), description="one a residual block")
    strides: tuple[Literal[1, 2], ...] = Field((1, 2, 2, 2), description="one a residual block")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="share of the embedding dropped")

    @model_validator(mode="after")
    def _one_stride_a_block(self) -> Self:
        if not self.channels or len(self.channels) != len(self.strides):
            raise ValueError(
                f"channels and strides need one number a block each, got {len(self.channels)} "
                f"and {len(self.strides)}"
            )
        return self


class Compact2dSettings(_Compact):
    """Residual 2-D network; the defaults have 0.32 M parameters, doubled channels 1.27 M."""

    spatial_dims: ClassVar[int] = 2
    kind: Literal["compact2d"] = "compact2d"


class Compact3dSettings(_Compact):
    """Residual 3-D network; the defaults have 0.36 M parameters and a total stride of 4."""

    spatial_dims: ClassVar[int] = 3
    kind: Literal["compact3d"] = "compact3d"
    stem_stride: Literal[1, 2] = Field(2, description="2 halves the resolution at once")
    channels: tuple[Positive, ...] = Field((16, 32, 48, 64), description="one a residual block")
    strides: tuple[Literal[1, 2], ...] = Field((1, 2, 1, 1), description="one a residual block")


class Shallow2dSettings(NetworkSettings):
    """Two convolutions and a global mean: a lower anchor for 2-D."""

    spatial_dims: ClassVar[int] = 2
    kind: Literal["shallow2d"] = "shallow2d"
    channels: Positive = Field(16, description="channels of the first convolution; then twice")


class Shallow3dSettings(NetworkSettings):
    """Two convolutions and a global mean: a lower anchor for 3-D."""

    spatial_dims: ClassVar[int] = 3
    kind: Literal["shallow3d"] = "shallow3d"
    channels: Positive = Field(16, description="channels of the first convolution; then twice")


class Linear2dSettings(NetworkSettings):
    """Logistic regression on pixels: what a network must beat."""

    spatial_dims: ClassVar[int] = 2
    kind: Literal["linear2d"] = "linear2d"
    image_shape: tuple[Positive, Positive] = Field((28, 28), description="rows, columns")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The only image that it takes."""
        return self.image_shape


class Linear3dSettings(NetworkSettings):
    """Logistic regression on voxels: what a network must beat."""

    spatial_dims: ClassVar[int] = 3
    kind: Literal["linear3d"] = "linear3d"
    image_shape: tuple[Positive, Positive, Positive] = Field((28, 28, 28), description="i, j, k")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The only patch that it takes."""
        return self.image_shape


class PooledConvNet(Network):
    """Convolutional features, global mean, dropout, linear head.

    Args:
        features: [B, C, *spatial] to [B, E, *spatial / stride].
        embedding_size: E.
        settings: axes, channels and labels.
        stride: total stride of `features`, the same on every axis.
        dropout: share of the embedding dropped in training.
    """

    def __init__(
        self,
        features: nn.Sequential,
        embedding_size: int,
        *,
        settings: NetworkSettings,
        stride: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            settings, embedding_layer="pool", dense_stride=(stride,) * settings.spatial_dims
        )
        self.features = features
        self.pool = GlobalMean()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(embedding_size, settings.label_count)
        _initialise(self)

    def _logits(self, view: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.pool(self.features(view))))
        return logits

    def forward_dense(self, view: Tensor, *, patch_shape: Sequence[int]) -> Tensor:
        """Score every patch of a large view, `dense_stride` voxels apart.

        Args:
            view: [B, C, *spatial] float in 0..1, at least as large as the patch on each axis.
            patch_shape: spatial shape of the patches that the network was trained on.

        Returns:
            [B, K, *grid] logits; cell g is the patch whose first voxel is g * dense_stride and
            whose centre is (patch_shape - 1) / 2 further. Exact as the module's docstring says.

        Raises:
            ValueError: if the view does not fit the network or is smaller than the patch.

        Example:
            >>> import torch
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
        stride = self.dense_stride or (1,) * self.spatial_dims
        window = [math.ceil(p / s) for p, s in zip(patch_shape, stride, strict=True)]
        average = F.avg_pool2d if self.spatial_dims == 2 else F.avg_pool3d
        pooled = average(self.features(view), window, stride=1)
        logits: Tensor = self.head(self.dropout(pooled.movedim(1, -1)))
        return logits.movedim(-1, 1)


class ResidualBlock(nn.Module):
    """Two 3-wide convolutions with batch norm and a shortcut (He et al. 2015, section 3)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, spatial_dims: int) -> None:
        super().__init__()
        convolution, norm = CONVOLUTIONS[spatial_dims], NORMS[spatial_dims]
        self.conv1 = convolution(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm(outputs)
        self.conv2 = convolution(outputs, outputs, 3, padding=1, bias=False)
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
    """One weight a voxel and output."""

    def __init__(self, settings: Linear2dSettings | Linear3dSettings) -> None:
        super().__init__(settings, embedding_layer="flatten")
        weights = settings.in_channels * math.prod(settings.image_shape)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(weights, settings.label_count)

    def _logits(self, view: Tensor) -> Tensor:
        logits: Tensor = self.head(self.flatten(view))
        return logits


def build_compact(settings: Compact2dSettings | Compact3dSettings) -> PooledConvNet:
    """Build a compact network with random weights from the global generator."""
    dims = settings.spatial_dims
    width = settings.stem_channels
    layers: list[nn.Module] = [
        CONVOLUTIONS[dims](
            settings.in_channels, width, 3, stride=settings.stem_stride, padding=1, bias=False
        ),
        NORMS[dims](width),
        nn.ReLU(),
    ]
    for channels, stride in zip(settings.channels, settings.strides, strict=True):
        layers.append(ResidualBlock(width, channels, stride=stride, spatial_dims=dims))
        width = channels
    return PooledConvNet(
        nn.Sequential(*layers),
        width,
        settings=settings,
        stride=settings.stem_stride * math.prod(settings.strides),
        dropout=settings.dropout,
    )


def build_shallow(settings: Shallow2dSettings | Shallow3dSettings) -> PooledConvNet:
    """Build a two-layer network with random weights from the global generator."""
    convolution, norm = CONVOLUTIONS[settings.spatial_dims], NORMS[settings.spatial_dims]
    width = settings.channels
    features = nn.Sequential(
        convolution(settings.in_channels, width, 3, stride=2, padding=1, bias=False),
        norm(width),
        nn.ReLU(),
        convolution(width, 2 * width, 3, stride=2, padding=1, bias=False),
        norm(2 * width),
        nn.ReLU(),
    )
    return PooledConvNet(features, 2 * width, settings=settings, stride=4)


def build_linear(settings: Linear2dSettings | Linear3dSettings) -> LinearClassifier:
    """Build a logistic regression with random weights from the global generator."""
    return LinearClassifier(settings)


def _initialise(network: nn.Module) -> None:
    """He et al. 2015 (1502.01852), equation 10, over the outputs; heads start small."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
