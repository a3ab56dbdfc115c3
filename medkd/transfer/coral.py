"""The alignment `coral`: both domains have the same covariances of features."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medkd.transfer.alignment import AlignmentLoss, AlignmentSettings, domain_vectors


class CoralSettings(AlignmentSettings):
    """Covariances of the features; a shift of their means alone is not reduced."""

    kind: Literal["coral"] = "coral"


def build_coral(_settings: CoralSettings, _width: int) -> AlignmentLoss:
    """Build the alignment `coral`."""
    return AlignmentLoss(coral_loss)


def coral_loss(own: Tensor, other: Tensor) -> Tensor:
    """Distance of covariances (Sun and Saenko 2016, 1607.01719, equations 1 to 3).

    |C_s - C_t|_F^2 / (4 d^2),   C = sum_n (x_n - m) (x_n - m)^T / (B - 1)

    m is the mean of a batch; the features have d channels and are averaged over space. Means are
    not compared. Both domains receive a gradient.

    Args:
        own: [B, C, *spatial], B >= 2.
        other: [N, C, *spatial], N >= 2.

    Returns:
        Scalar >= 0, 0 if the covariances are equal.
    """
    first, second = domain_vectors(own, other)
    difference = covariance(first) - covariance(second)
    return difference.square().sum() / (4 * first.shape[1] ** 2)


def covariance(rows: Tensor) -> Tensor:
    """Return the unbiased covariance of rows, [B, C] to [C, C], in the precision of the rows."""
    centred = rows - rows.mean(dim=0)
    with torch.autocast(rows.device.type, enabled=False):
        return centred.T @ centred / (len(rows) - 1)
