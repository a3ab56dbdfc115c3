"""A nodule / not-nodule network from LUNA16 teaching material, wrapped for medkd.

Architecture: batch norm on the input; four blocks of (convolution of kernel size 3 with bias,
ReLU, the same again, max-pool 2), channels 8, 16, 32, 64; flatten; linear to two classes, class 1
is nodule. Its input is [B, 1, 32, 48, 48] in (z, y, x), native spacing, HU clipped to
-1000..1000. The wrapper accepts (i, j, k) views of that HU window and returns one logit: the
difference of the two. The published weights have no licence: they can be used by `medkd import`
and are never shipped.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from medkd.models.network import Network, NetworkSettings

LOW_HU, HIGH_HU = -1000.0, 1000.0
POOLINGS = 4

Sixteenfold = Annotated[int, Field(ge=16, multiple_of=16)]


class LunaClassifierSettings(NetworkSettings):
    """The network of `medkd import --kind luna_classifier`; too large for a student."""

    spatial_dims: ClassVar[int] = 3
    hu_window: ClassVar[tuple[float, float] | None] = (LOW_HU, HIGH_HU)
    kind: Literal["luna_classifier"] = "luna_classifier"
    in_channels: int = Field(1, ge=1, le=1, description="channels of the view")
    label_count: int = Field(1, ge=1, le=1, description="outputs: nodule")
    width: Annotated[int, Field(ge=1)] = Field(8, description="channels of the first block")
    patch_shape: tuple[Sixteenfold, Sixteenfold, Sixteenfold] = Field(
        (48, 48, 32), description="i, j, k voxels; the only accepted shape"
    )

    @model_validator(mode="after")
    def _not_too_big(self) -> Self:
        if max(self.patch_shape) > 256:
            raise ValueError(f"patch_shape {self.patch_shape} is larger than 256 voxels")
        return self

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The only accepted patch shape (i, j, k)."""
        return self.patch_shape


class LunaBlock(nn.Module):
    """Two convolutions, each with ReLU, then max-pool 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv3d(outputs, outputs, 3, padding=1)
        self.pool = nn.MaxPool3d(2)

    def forward(self, feature: Tensor) -> Tensor:
        """Map [B, inputs, *spatial] to [B, outputs, *spatial / 2]."""
        pooled: Tensor = self.pool(self.conv2(self.conv1(feature).relu()).relu())
        return pooled


class RawLunaNetwork(nn.Module):
    """The original network: (z, y, x) HU in, two logits out, original parameter names."""

    def __init__(self, shape_zyx: tuple[int, int, int], *, width: int) -> None:
        super().__init__()
        self.tail_batchnorm = nn.BatchNorm3d(1)
        self.block1 = LunaBlock(1, width)
        self.block2 = LunaBlock(width, 2 * width)
        self.block3 = LunaBlock(2 * width, 4 * width)
        self.block4 = LunaBlock(4 * width, 8 * width)
        cells = [size // 2**POOLINGS for size in shape_zyx]
        self.flatten = nn.Flatten()
        self.head_linear = nn.Linear(8 * width * cells[0] * cells[1] * cells[2], 2)

    def forward(self, patch_hu: Tensor) -> Tensor:
        """Map [B, 1, z, y, x] HU in -1000..1000 to [B, 2] logits (not nodule, nodule)."""
        feature = self.tail_batchnorm(patch_hu)
        for block in (self.block1, self.block2, self.block3, self.block4):
            feature = block(feature)
        logits: Tensor = self.head_linear(self.flatten(feature))
        return logits


class LunaClassifier(Network):
    """Wrapper of `RawLunaNetwork`: (i, j, k) view in 0..1 in, one logit out."""

    def __init__(self, settings: LunaClassifierSettings) -> None:
        size_i, size_j, size_k = settings.patch_shape
        super().__init__(settings, embedding_layer="raw.flatten")
        self.raw = RawLunaNetwork((size_k, size_j, size_i), width=settings.width)

    def _logits(self, view: Tensor) -> Tensor:
        patch_hu = view * (HIGH_HU - LOW_HU) + LOW_HU
        two = self.raw(patch_hu.permute(0, 1, 4, 3, 2))  # (i, j, k) = (x, y, z) to (z, y, x)
        margin: Tensor = two[:, 1:] - two[:, :1]
        return margin
