"""The terms `rkd_distance` and `rkd_angle`: how the samples of a batch lie to each other.

Both compare pooled embeddings, so the layers may differ in channels and size; there is no
projector. They see the samples of one forward pass: accumulated batches are not joined.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from torch import Tensor

from medkd.transfer.features import vectors
from medkd.transfer.terms import LayerTerm, LayerTermSettings, TermContext

EPSILON = 1e-12


class RkdDistanceSettings(LayerTermSettings):
    """Distances between samples, relative to their mean."""

    least_samples: ClassVar[int] = 3

    kind: Literal["rkd_distance"] = "rkd_distance"


class RkdAngleSettings(LayerTermSettings):
    """Angles between samples; use layers of two channels or more."""

    least_samples: ClassVar[int] = 3

    kind: Literal["rkd_angle"] = "rkd_angle"


def build_rkd_distance(settings: RkdDistanceSettings, _context: TermContext) -> LayerTerm:
    """Build the term `rkd_distance`."""
    return LayerTerm(settings, rkd_distance_loss)


def build_rkd_angle(settings: RkdAngleSettings, context: TermContext) -> LayerTerm:
    """Build the term `rkd_angle`; refuse layers of one channel."""
    if 1 in (feature.shape[1] for feature in settings.features(context)):
        raise ValueError("angles in one channel are 0 or 180 degrees: use rkd_distance")
    return LayerTerm(settings, rkd_angle_loss)


def rkd_distance_loss(teacher_feature: Tensor, student_feature: Tensor) -> Tensor:
    """Difference of relative distances (Park et al. 2019, 1904.05068, section 3.2.1).

    mean_ij h(d_t,ij - d_s,ij),   d_ij = |a_i - a_j| / mean_ij |a_i - a_j|,   i < j

    h is Huber's loss with delta 1; a is the feature averaged over space. The paper sums over
    pairs; the mean keeps the size of the loss at any batch size. The teacher is detached.

    Args:
        teacher_feature: [B, C, *spatial], B >= 3: of two samples the only distance is always 1.
        student_feature: [B, D, *spatial].

    Returns:
        Scalar >= 0, 0 if one set of samples is a scaled, turned and shifted copy of the other.
    """
    teacher, student = (_distances(rows) for rows in vectors(teacher_feature, student_feature))
    return F.smooth_l1_loss(student, teacher)


def rkd_angle_loss(teacher_feature: Tensor, student_feature: Tensor) -> Tensor:
    """Difference of angles (Park et al. 2019, 1904.05068, section 3.2.2).

    mean_ijk h(w_t,ijk - w_s,ijk),   w_ijk = cos of the angle at a_j between a_i and a_k

    The mean is over different i, j, k. h is Huber's loss with delta 1; a is the feature averaged
    over space. An angle at two equal samples counts as 90 degrees. The teacher is detached.

    Args:
        teacher_feature: [B, C, *spatial], B >= 3.
        student_feature: [B, D, *spatial].

    Returns:
        Scalar >= 0, 0 if one set of samples is a scaled, turned and shifted copy of the other.
    """
    teacher, student = (_cosines(rows) for rows in vectors(teacher_feature, student_feature))
    return F.smooth_l1_loss(student, teacher)


def _distances(rows: Tensor) -> Tensor:
    """Return the relative distances of all pairs i < j."""
    first, second = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    distance = torch.linalg.vector_norm(rows[first] - rows[second], dim=1)
    relative: Tensor = distance / distance.mean().clamp_min(EPSILON)
    return relative


def _cosines(rows: Tensor) -> Tensor:
    """Return the cosines of the angles at j of all different i, j, k."""
    edges = rows[None, :] - rows[:, None]  # [j, i]: from sample j to sample i
    edges = edges / torch.linalg.vector_norm(edges, dim=2, keepdim=True).clamp_min(EPSILON)
    with torch.autocast(rows.device.type, enabled=False):
        cosines: Tensor = edges @ edges.transpose(1, 2)  # [j, i, k]
    same = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    return cosines[~(same[:, :, None] | same[:, None, :] | same[None, :, :])]
