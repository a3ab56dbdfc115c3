"""The term `hint`: a layer of the student learns to predict a layer of the teacher."""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medkd.transfer.features import Projector, check_direction, direction, on_one_grid, pool
from medkd.transfer.terms import LayerTermSettings, TermContext, TermInputs


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


class HintTerm(nn.Module):
    """`hint_loss` between two layers, with the projector that it trains."""

    def __init__(self, settings: HintSettings, context: TermContext) -> None:
        super().__init__()
        self.settings = settings
        teacher, student = settings.features(context)
        width = teacher.shape[1]
        if settings.normalise:
            check_direction(width)
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
    teacher, student = on_one_grid(teacher_feature.detach(), student_feature)
    if not normalise:
        return (teacher - student).square().mean()
    return (direction(teacher) - direction(student)).square().sum(dim=1).mean()
