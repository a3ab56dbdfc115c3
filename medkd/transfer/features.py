"""Operations on features that several terms share; features are [B, C] or [B, C, *spatial]."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from torch import Tensor, nn

from medkd.transfer.outputs import at_least_float32

EPSILON = 1e-6


class Projector(nn.Module):
    """One linear map of channels, shared by all positions: [B, S, *spatial] to [B, T, *spatial]."""

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(student_channels, teacher_channels)

    def forward(self, feature: Tensor) -> Tensor:
        """Map channels."""
        mapped: Tensor = self.linear(feature.movedim(1, -1))
        return mapped.movedim(-1, 1)


def pool(feature: Tensor) -> Tensor:
    """Average over space: [B, C, *spatial] to [B, C]; [B, C] is returned as it is."""
    return feature if feature.ndim == 2 else feature.flatten(2).mean(dim=2)


def direction(feature: Tensor, dim: int = 1) -> Tensor:
    """Divide by the length along one axis: v / sqrt(sum v^2 + 1e-6)."""
    return feature * (feature.square().sum(dim=dim, keepdim=True) + EPSILON).rsqrt()


def check_direction(width: int) -> None:
    """Refuse to normalise features of one channel.

    Raises:
        ValueError: if there is one channel.
    """
    if width == 1:
        raise ValueError("a normalised feature of one channel is +-1: set normalise: false")


def positions(feature: Tensor) -> int:
    """Return the number of positions of a feature; 1 for [B, C]."""
    return feature[0, 0].numel()


def gram(rows: Tensor) -> Tensor:
    """Return all products of rows, [B, D] to [B, B], in the precision of the rows.

    Under mixed precision torch would multiply in half precision, which is too coarse for
    differences of similarities.
    """
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ rows.T


def on_one_grid(teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    """Average both maps to the smaller size on each axis; both at least in float32.

    Raises:
        ValueError: if samples, channels or the number of axes differ.
    """
    common = torch.promote_types(torch.promote_types(teacher.dtype, student.dtype), torch.float32)
    teacher, student = teacher.to(common), student.to(common)
    if teacher.shape[:2] != student.shape[:2] or teacher.ndim != student.ndim:
        raise ValueError(
            f"features do not match: teacher {tuple(teacher.shape)}, student after its projector "
            f"{tuple(student.shape)}; name layers that match, or use pooled: true or projector: "
            "linear where the term has these keys"
        )
    if teacher.shape == student.shape:
        return teacher, student
    grid = [min(a, b) for a, b in zip(teacher.shape[2:], student.shape[2:], strict=True)]
    return _average_to(teacher, grid), _average_to(student, grid)


def _average_to(feature: Tensor, grid: list[int]) -> Tensor:
    if feature.ndim == 5:
        return F.adaptive_avg_pool3d(feature, (grid[0], grid[1], grid[2]))
    if feature.ndim == 4:
        return F.adaptive_avg_pool2d(feature, (grid[0], grid[1]))
    raise ValueError(f"features to average have 2 or 3 spatial axes, got {tuple(feature.shape)}")


def vectors(teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    """Return pooled features [B, C], the teacher's detached, at least in float32."""
    return pool(at_least_float32(teacher.detach())), pool(at_least_float32(student))
