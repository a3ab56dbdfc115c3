"""The term `hint`: a layer of the student learns to predict a layer of the teacher."""

from __future__ import annotations

from typing import Literal, Self

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from pydantic import Field, model_validator
from torch import Tensor, nn

from medkd.transfer.terms import LayerTermSettings, TermContext, TermInputs

EPSILON = 1e-6


class HintSettings(LayerTermSettings):
    """A student layer predicts a teacher layer through a projector that is discarded afterwards."""

    kind: Literal["hint"] = "hint"
    pooled: bool = Field(False, description="compare means over space instead of maps")
    normalise: bool = Field(True, description="compare directions, not lengths, of channel vectors")
    projector: Literal["linear", "none"] = Field(
        "linear", description="linear: student channels to teacher channels; none: as they are"
    )

    @model_validator(mode="after")
    def _both_layers_or_none(self) -> Self:
        if (self.teacher_layer is None) != (self.student_layer is None) and not self.pooled:
            raise ValueError(
                "one layer is the pooled embedding and the other is named: set pooled: true, or "
                "name both"
            )
        return self

    @property
    def identity(self) -> tuple[object, ...]:
        """The kind, the two layers, and whether feature maps or their means are compared."""
        return (*super().identity, self.pooled)


class Projector(nn.Module):
    """One linear map of channels, shared by all positions: [B, S, *spatial] to [B, T, *spatial]."""

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(student_channels, teacher_channels)

    def forward(self, feature: Tensor) -> Tensor:
        """Map channels."""
        mapped: Tensor = self.linear(feature.movedim(1, -1))
        return mapped.movedim(-1, 1)


class HintTerm(nn.Module):
    """`hint_loss` between two layers, with the projector that it trains."""

    def __init__(self, settings: HintSettings, context: TermContext) -> None:
        super().__init__()
        self.settings = settings
        teacher, student = settings.features(context)
        width = teacher.shape[1]
        if settings.normalise and width == 1:
            raise ValueError("a normalised feature of one channel is +-1: set normalise: false")
        self.projector: nn.Module = nn.Identity()
        if settings.projector == "linear":
            self.projector = Projector(student.shape[1], width)
        with torch.no_grad():
            self._loss(teacher, student)  # refuses layers that do not match, before training

    def forward(self, inputs: TermInputs) -> Tensor:
        """Return the unweighted loss."""
        return self._loss(*self.settings.features(inputs))

    def _loss(self, teacher: Tensor, student: Tensor) -> Tensor:
        if self.settings.pooled:
            teacher, student = pool(teacher), pool(student)
        return hint_loss(teacher, self.projector(student), normalise=self.settings.normalise)


def hint_loss(teacher_feature: Tensor, student_feature: Tensor, *, normalise: bool) -> Tensor:
    """Squared distance of features (FitNets, 1412.6550, equation 3).

    plain:       mean_n,x,c (t - s)^2
    normalised:  mean_n,x sum_c (t / |t| - s / |s|)^2  (= 2 - 2 cos), |v| = sqrt(sum v^2 + 1e-6)

    The teacher is detached. The mean is over samples n and positions x. If the maps differ in
    size, both are averaged to the smaller size on each axis.

    Args:
        teacher_feature: [B, C, *spatial].
        student_feature: [B, C, *spatial], after its projector.
        normalise: whether to compare directions only.

    Returns:
        Scalar >= 0.

    Raises:
        ValueError: if samples, channels or the number of axes differ.
    """
    teacher, student = _on_one_grid(teacher_feature.detach(), student_feature)
    if not normalise:
        return (teacher - student).square().mean()
    return (_direction(teacher) - _direction(student)).square().sum(dim=1).mean()


def pool(feature: Tensor) -> Tensor:
    """Average over space: [B, C, *spatial] to [B, C]; [B, C] is returned as it is."""
    return feature if feature.ndim == 2 else feature.flatten(2).mean(dim=2)


def _direction(feature: Tensor) -> Tensor:
    return feature * (feature.square().sum(dim=1, keepdim=True) + EPSILON).rsqrt()


def _on_one_grid(teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    common = torch.promote_types(torch.promote_types(teacher.dtype, student.dtype), torch.float32)
    teacher, student = teacher.to(common), student.to(common)
    if teacher.shape[:2] != student.shape[:2] or teacher.ndim != student.ndim:
        raise ValueError(
            f"features do not match: teacher {tuple(teacher.shape)}, student after its projector "
            f"{tuple(student.shape)}; use pooled: true, another layer or projector: linear"
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
