"""The term `feature_kl`: divergence of features that a softmax turns into distributions."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from pydantic import Field
from torch import Tensor, nn

from medkd.transfer.features import Projector, on_one_grid, positions
from medkd.transfer.terms import LayerTermSettings, TermContext, TermInputs

Axis = Literal["space", "channels"]


class FeatureKlSettings(LayerTermSettings):
    """Divergence of two layers after a softmax over a declared axis; several such terms add up."""

    kind: Literal["feature_kl"] = "feature_kl"
    softmax_over: Axis = Field(
        "space",
        description="space: each channel is a distribution over positions; channels: each "
        "position is a distribution over channels",
    )
    temperature: float = Field(
        4.0, gt=0.0, le=100.0, description="softens both sides; the loss is scaled by its square"
    )
    projector: Literal["linear", "none"] = Field(
        "linear", description="linear: student channels to teacher channels; none: as they are"
    )

    @property
    def needs_maps(self) -> bool:
        """A distribution over positions needs positions."""
        return self.softmax_over == "space"

    @property
    def identity(self) -> tuple[object, ...]:
        """The kind, the two layers and the axis."""
        return (*super().identity, self.softmax_over)


class FeatureKlTerm(nn.Module):
    """`feature_kl_loss` between two layers, with the projector that it trains."""

    def __init__(self, settings: FeatureKlSettings, context: TermContext) -> None:
        super().__init__()
        self.settings = settings
        teacher, student = settings.features(context)
        if settings.softmax_over == "space" and min(positions(teacher), positions(student)) < 2:
            raise ValueError(
                f"the layers give {tuple(teacher.shape)} and {tuple(student.shape)}: a softmax "
                "over one position is always 1; name earlier layers, or use softmax_over: channels"
            )
        if settings.softmax_over == "channels" and teacher.shape[1] < 2:
            raise ValueError(
                "a softmax over one channel is always 1: name another layer, or use softmax_over: "
                "space"
            )
        self.projector: nn.Module = nn.Identity()
        if settings.projector == "linear":
            self.projector = Projector(student.shape[1], teacher.shape[1])
        with torch.no_grad():
            self._loss(teacher, student)  # refuses layers that do not match, before training

    def forward(self, inputs: TermInputs) -> Tensor:
        """Return the unweighted loss."""
        return self._loss(*self.settings.features(inputs))

    def _loss(self, teacher: Tensor, student: Tensor) -> Tensor:
        own = self.settings
        student = self.projector(student)
        return feature_kl_loss(teacher, student, over=own.softmax_over, temperature=own.temperature)


def feature_kl_loss(
    teacher_feature: Tensor, student_feature: Tensor, *, over: Axis, temperature: float
) -> Tensor:
    """KL(teacher || student) of features (Shu et al. 2021, 2011.13256, section 3).

    space:     T^2 * mean_n,c sum_x p_t (log p_t - log p_s),   p = softmax over positions x of A / T
    channels:  T^2 * mean_n,x sum_c p_t (log p_t - log p_s),   p = softmax over channels c of A / T

    The paper's channel-wise distillation is `space`. Hidden activations are no distributions: the
    softmax over the declared axis makes them one. Maps of different size are first averaged to
    the smaller size on each axis. The teacher is detached.

    Args:
        teacher_feature: [B, C, *spatial].
        student_feature: [B, C, *spatial], after its projector.
        over: the axis of the softmax.
        temperature: T > 0.

    Returns:
        Scalar >= 0, 0 if both distributions are equal.

    Raises:
        ValueError: if samples, channels or the number of axes differ.
    """
    maps = on_one_grid(teacher_feature.detach(), student_feature)
    dim = 2 if over == "space" else 1
    log_t, log_s = (F.log_softmax(a.reshape(*a.shape[:2], -1) / temperature, dim=dim) for a in maps)
    return temperature**2 * (log_t.exp() * (log_t - log_s)).sum(dim=dim).mean()
