"""The terms `similarity` and `pkt`: which samples of a batch are alike.

There is no projector, so the layers may differ in channels and size. Both terms see the samples of
one forward pass, of all processes that train together: accumulated batches are not joined.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from medkd.transfer.features import direction, gram, vectors
from medkd.transfer.outputs import at_least_float32
from medkd.transfer.terms import LayerTerm, LayerTermSettings, TermContext

EPSILON = 1e-7


class SimilaritySettings(LayerTermSettings):
    """Products of the activations of samples (similarity-preserving)."""

    least_samples: ClassVar[int] = 2

    kind: Literal["similarity"] = "similarity"


class PktSettings(LayerTermSettings):
    """Probabilities that samples are neighbours; use layers of two channels or more."""

    least_samples: ClassVar[int] = 3

    kind: Literal["pkt"] = "pkt"


def build_similarity(settings: SimilaritySettings, _context: TermContext) -> LayerTerm:
    """Build the term `similarity`."""
    return LayerTerm(settings, similarity_loss)


def build_pkt(settings: PktSettings, context: TermContext) -> LayerTerm:
    """Build the term `pkt`; refuse layers of one channel."""
    if 1 in (feature.shape[1] for feature in settings.features(context)):
        raise ValueError("the cosine of one channel is +-1: use similarity or rkd_distance")
    return LayerTerm(settings, pkt_loss)


def similarity_loss(teacher_feature: Tensor, student_feature: Tensor) -> Tensor:
    """Distance of similarity matrices (Tung and Mori 2019, 1907.09682, section 3).

    1 / B^2 * sum_ij (G_t,ij - G_s,ij)^2,   G_i = H_i / |H_i|,   H_ij = a_i . a_j

    a is the whole feature of a sample, all channels and positions. The teacher is detached.

    Args:
        teacher_feature: [B, C, *spatial], B >= 2: of one sample G is always 1.
        student_feature: [B, D, *spatial].

    Returns:
        Scalar >= 0, 0 if one set of features is a scaled or turned copy of the other.
    """
    teacher, student = _rows(teacher_feature.detach()), _rows(student_feature)
    return (teacher - student).square().mean()


def pkt_loss(teacher_feature: Tensor, student_feature: Tensor) -> Tensor:
    """Divergence of neighbourhoods (Passalis and Tefas 2018, 1803.10837, section 3).

    mean_i sum_j p_t,ij log(p_t,ij / p_s,ij)
    p_ij = K_ij / sum_k K_ik,   K_ij = (cos(a_i, a_j) + 1) / 2

    j and k are other samples than i; a is the feature averaged over space. The paper sums over i;
    the mean keeps the size of the loss at any batch size. The teacher is detached.

    Args:
        teacher_feature: [B, C, *spatial], B >= 3: with two samples the only neighbour is certain.
        student_feature: [B, D, *spatial].

    Returns:
        Scalar >= 0, 0 if all neighbourhoods are equal.
    """
    teacher, student = (_neighbours(rows) for rows in vectors(teacher_feature, student_feature))
    return (teacher * (teacher.log() - student.log())).sum(dim=1).mean()


def _rows(feature: Tensor) -> Tensor:
    flat = at_least_float32(feature).flatten(1)
    products = gram(flat)
    length: Tensor = torch.linalg.vector_norm(products, dim=1, keepdim=True)
    return products / length.clamp_min(EPSILON)


def _neighbours(rows: Tensor) -> Tensor:
    """Return p [B, B - 1]."""
    kernel = (gram(direction(rows)) + 1) / 2
    others = ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    kernel = kernel[others].view(len(rows), -1).clamp_min(EPSILON)
    return kernel / kernel.sum(dim=1, keepdim=True)
