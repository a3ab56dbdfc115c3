"""A 3-D point detector: one forward pass gives a map of nodule scores, positions and sizes.

The network is fully convolutional. Its stem moves each 2 x 2 x 2 block of voxels into channels, so
no layer runs at full resolution. Residual blocks run at strides 4 and 8; their output is added
back at strides 4 and 2. Each cell of the map covers 2 x 2 x 2 voxels and has five values:

    0       logit of a nodule centred in or near the cell
    1 to 3  offset (i, j, k) from the centre of the cell to the centre of the nodule, in cells
    4       natural logarithm of the diameter in mm

The student and the teacher differ only in their channels.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F  # noqa: N812  # torch's usual alias
from pydantic import Field, model_validator
from torch import Tensor, nn

from medkd.models.network import Network, NetworkSettings

STRIDE = 2
"""Voxels per cell of the map, on each axis."""
ALIGNMENT = 8
"""The coarsest stride: the shape of a view must be a multiple of it on each axis."""
MAP_CHANNELS = 5
PRIOR_LOGIT = -6.0
"""Initial nodule logit of every cell: a rare class (Lin et al. 2017, section 4.1)."""
PRIOR_LOG_MM = 2.0
"""Initial logarithm of all diameters: 7.4 mm."""


class DetectorSettings(NetworkSettings):
    """Settings of the point detector; the defaults (0.48 M parameters) are for a student."""

    spatial_dims: ClassVar[int] = 3
    finds_points: ClassVar[bool] = True
    kind: Literal["detector3d"] = "detector3d"
    channels: tuple[int, int, int] = Field((24, 36, 56), description="at strides 2, 4 and 8")
    blocks: tuple[int, int] = Field((2, 1), description="residual blocks at strides 4 and 8")

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if min(*self.channels, *self.blocks) < 1:
            raise ValueError("channels and blocks: expected at least 1 each")
        return self


class PointDetector(Network):
    """Residual encoder with two levels and a map of points at stride 2.

    Example:
        >>> network = PointDetector(DetectorSettings())
        >>> network(torch.rand(1, 1, 40, 32, 48)).shape
        torch.Size([1, 5, 20, 16, 24])
    """

    def __init__(self, settings: DetectorSettings) -> None:
        super().__init__(settings, embedding_layer="down8")
        # Of the layers at strides 2, 4 and 8 and of interpolation, rounded up to `ALIGNMENT`.
        self.context_voxels = 32 + 2 * 4 * settings.blocks[0] + 2 * 8 * settings.blocks[1]
        fine, middle, coarse = settings.channels
        self.stem = _conv_norm(settings.in_channels * STRIDE**3, fine)
        self.down4 = _stage(fine, middle, settings.blocks[0])
        self.down8 = _stage(middle, coarse, settings.blocks[1])
        self.up4 = nn.Conv3d(coarse, middle, 1)
        self.join4 = _Residual(middle)
        self.up2 = nn.Conv3d(middle, fine, 1)
        self.join2 = _conv_norm(fine, fine)
        self.head = nn.Conv3d(fine, MAP_CHANNELS, 1)
        self.head.bias = nn.Parameter(torch.tensor([PRIOR_LOGIT, 0.0, 0.0, 0.0, PRIOR_LOG_MM]))

    def forward(self, view: Tensor) -> Tensor:
        """Compute the map of a view.

        Args:
            view: [B, C, I, J, K] float in 0..1; I, J and K are multiples of `ALIGNMENT`.

        Returns:
            [B, 5, I/2, J/2, K/2], see the module's description.

        Raises:
            ValueError: if the shape is not accepted.
        """
        self._check_view(view)
        if any(size % ALIGNMENT for size in view.shape[2:]):
            raise ValueError(f"expected multiples of {ALIGNMENT}, got {tuple(view.shape[2:])}")
        fine: Tensor = self.stem(space_to_depth(view))
        middle: Tensor = self.down4(fine)
        coarse: Tensor = self.down8(middle)
        # Each map is freed as soon as possible: the finest ones decide the memory of a whole scan.
        middle = self.join4(_doubled(self.up4(coarse)).add_(middle))
        fine = _doubled(self.up2(middle)).add_(fine)
        fine = self.join2(fine)
        found: Tensor = self.head(fine)
        return found


class CentreScore(nn.Module):
    """A point detector as a classifier of candidates: the highest logit near a view's centre.

    Args:
        network: a network that `finds_points`.
    """

    within_vox = 5.0
    """Greatest distance of a cell from the centre of the view, in voxels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, view: Tensor) -> Tensor:
        """Compute logits [B, 1] of views [B, C, I, J, K]."""
        logits: Tensor = self.network(view)[:, 0].float()
        axes = [
            (STRIDE * torch.arange(n, device=view.device) + (STRIDE - 1) / 2 - (STRIDE * n - 1) / 2)
            for n in logits.shape[1:]
        ]
        square = sum(grid.square() for grid in torch.meshgrid(*axes, indexing="ij"))
        near = torch.as_tensor(square) <= self.within_vox**2
        return torch.where(near, logits, -torch.inf).flatten(1).amax(dim=1, keepdim=True)


def space_to_depth(view: Tensor) -> Tensor:
    """Move each 2 x 2 x 2 block of voxels into channels: [B, C, I, J, K] -> [B, 8 C, I/2, ...]."""
    batch, channels, i, j, k = view.shape
    blocks = view.reshape(batch, channels, i // 2, 2, j // 2, 2, k // 2, 2)
    return blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(
        batch, channels * 8, i // 2, j // 2, k // 2
    )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv_norm(channels, channels)
        self.second = nn.Sequential(
            nn.Conv3d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm3d(channels)
        )

    def forward(self, feature: Tensor) -> Tensor:
        return F.relu(feature + self.second(self.first(feature)), inplace=True)


def _conv_norm(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
    )


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        _conv_norm(inputs, outputs, stride=2), *(_Residual(outputs) for _ in range(blocks))
    )


def _doubled(feature: Tensor) -> Tensor:
    return F.interpolate(feature, scale_factor=2.0, mode="nearest")
