"""The terms `soft_points` and `teacher_marks`: a point detector learns from the teacher's map.

Both need the same view in front of both networks, so that cells match.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812  # torch's usual alias
from pydantic import Field, model_validator
from torch import Tensor, nn

from medkd.transfer.point_labels import PointLossSettings, point_loss, point_targets
from medkd.transfer.terms import Compared, TermContext, TermInputs, TermSettings
from medkd.types import ABSENT, EXCLUDED, NODULE, Points

_MOST_MARKS = 16
"""Most marks of the teacher in one view."""


class SoftPointsSettings(TermSettings):
    """The teacher's map as targets where one of the networks sees something."""

    teaches_outputs: ClassVar[bool] = True
    compares: ClassVar[Compared] = "points"

    kind: Literal["soft_points"] = "soft_points"
    foreground: float = Field(
        0.05, gt=0, lt=1, description="least probability, of either network, of a compared cell"
    )
    offset_weight: float = Field(1.0, ge=0, description="factor on the loss of positions")
    size_weight: float = Field(0.5, ge=0, description="factor on the loss of log diameters")


class SoftPointsTerm(nn.Module):
    """`soft_points_loss` on the maps of a batch."""

    def __init__(self, settings: SoftPointsSettings, _context: TermContext) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, inputs: TermInputs) -> Tensor:
        """Return the unweighted loss."""
        return soft_points_loss(inputs.teacher_logits, inputs.student_logits, self.settings)


def soft_points_loss(teacher: Tensor, student: Tensor, settings: SoftPointsSettings) -> Tensor:
    """Quality focal loss of the scores (Li et al. 2020, 2006.04388, eq. 5), offsets and sizes.

    score:   sum_c m_c |p_t - p_s|^2 H(p_t, p_s) / n,   H: binary cross-entropy
    offset:  sum_c p_t smooth_l1(o_s - o_t) / sum_c p_t,  size: the same with |d_s - d_t|

    m_c is 1 in foreground cells, in which p_t or p_s is at least `foreground`, otherwise 0. n is
    the number of cells in which the teacher's probability is a maximum of its neighbours, at
    least 1. Offsets and sizes count in the teacher's foreground cells only.

    Args:
        teacher: [B, 5, I, J, K] map, detached.
        student: [B, 5, I, J, K] map.
        settings: threshold and weights.

    Returns:
        Scalar >= 0.
    """
    taught, found = teacher.detach().float(), student.float()
    goal, share = taught[:, 0].sigmoid(), found[:, 0].sigmoid()
    of_teacher = goal >= settings.foreground
    cells = of_teacher | (share.detach() >= settings.foreground)
    entropy = F.binary_cross_entropy_with_logits(found[:, 0], goal, reduction="none")
    peaks = of_teacher & (goal == _highest_around(goal))
    score = (cells * (goal - share).square() * entropy).sum() / peaks.sum().clamp(min=1)
    weight = goal * of_teacher
    total = weight.sum().clamp(min=1e-6)
    away = F.smooth_l1_loss(found[:, 1:4], taught[:, 1:4], reduction="none", beta=0.5).sum(dim=1)
    size = (found[:, 4] - taught[:, 4]).abs()
    return (
        score
        + settings.offset_weight * (weight * away).sum() / total
        + settings.size_weight * (weight * size).sum() / total
    )


class TeacherMarksSettings(TermSettings):
    """Confident marks of the teacher are labels of samples without labels."""

    teaches_outputs: ClassVar[bool] = False
    compares: ClassVar[Compared] = "points"

    kind: Literal["teacher_marks"] = "teacher_marks"
    sure: float = Field(0.5, gt=0, lt=1, description="least probability of a nodule")
    doubtful: float = Field(
        0.1, gt=0, lt=1, description="marks from here to `sure` carry no loss; others are no marks"
    )
    points: PointLossSettings = Field(
        default_factory=PointLossSettings, description="loss on these labels"
    )

    @model_validator(mode="after")
    def _in_order(self) -> TeacherMarksSettings:
        if self.doubtful > self.sure:
            raise ValueError(f"doubtful {self.doubtful} must not be above sure {self.sure}")
        return self


class TeacherMarksTerm(nn.Module):
    """The loss of `point_labels` with marks of the teacher as findings."""

    def __init__(self, settings: TeacherMarksSettings, _context: TermContext) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, inputs: TermInputs) -> Tensor:
        """Return the unweighted loss; 0 if all samples have labels."""
        rows = ~inputs.label_known[:, 0]
        student = inputs.student_logits[rows]
        if not len(student):
            return inputs.student_logits.sum() * 0
        own = self.settings
        marks = teacher_marks(inputs.teacher_logits[rows], sure=own.sure, doubtful=own.doubtful)
        i, j, k = student.shape[2:]
        targets = point_targets(marks, (i, j, k), cell_mm=inputs.cell_mm, settings=own.points)
        found = point_loss(student, targets, own.points)
        position = own.points.offset_weight * found["offset"]
        return found["score"] + position + own.points.size_weight * found["size"]


def teacher_marks(teacher: Tensor, *, sure: float, doubtful: float) -> Points:
    """Return the peaks of a teacher's map as findings: nodules if sure, excluded if doubtful.

    Args:
        teacher: [B, 5, I, J, K] map.
        sure: least probability of a nodule.
        doubtful: least probability of an excluded finding.
    """
    share = teacher[:, 0].float().sigmoid()
    peaks = torch.where(share == _highest_around(share), share, 0.0)
    best, cells = peaks.flatten(1).topk(min(_MOST_MARKS, peaks[0].numel()), dim=1)
    place = torch.stack(torch.unravel_index(cells, share.shape[1:]), dim=2)
    values = teacher.flatten(2).gather(2, cells[:, None].expand(-1, 5, -1)).float()
    center = 2 * (place + values[:, 1:4].transpose(1, 2)) + 0.5
    kind = torch.where(best >= sure, NODULE, torch.where(best >= doubtful, EXCLUDED, ABSENT))
    return Points(center, values[:, 4].exp(), kind)


def _highest_around(share: Tensor) -> Tensor:
    """Return the highest of the 27 cells around each cell of [B, I, J, K]."""
    return F.max_pool3d(share[:, None], 3, stride=1, padding=1)[:, 0]
