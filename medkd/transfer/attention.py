"""The term `attention`: the student looks where the teacher looks."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medkd.transfer.features import EPSILON, on_one_grid, positions
from medkd.transfer.outputs import at_least_float32
from medkd.transfer.terms import LayerTerm, LayerTermSettings, TermContext


class AttentionSettings(LayerTermSettings):
    """Attention maps of two layers, which may differ in channels and size; no projector."""

    kind: Literal["attention"] = "attention"

    @property
    def needs_maps(self) -> bool:
        """Attention is a share of each position."""
        return True


def build_attention(settings: AttentionSettings, context: TermContext) -> LayerTerm:
    """Build the term `attention`; refuse layers without positions or with other axes."""
    features = settings.features(context)
    for side, feature in zip(("teacher", "student"), features, strict=True):
        if positions(feature) < 2:
            raise ValueError(
                f"{side}_layer gives {tuple(feature.shape)}, without two positions to compare: "
                "name an earlier layer, or use hint"
            )
    with torch.no_grad():
        attention_loss(*features)
    return LayerTerm(settings, attention_loss)


def attention_loss(teacher_feature: Tensor, student_feature: Tensor) -> Tensor:
    """Squared distance of attention maps (Zagoruyko and Komodakis 2017, 1612.03928, equation 2).

    mean_n sum_x (Q_t,x / |Q_t| - Q_s,x / |Q_s|)^2,   Q_x = sum_c A_c,x^2

    Q is the paper's F_sum with power 2. The distance is squared, as in the authors' program. Maps
    of different size are averaged to the smaller size on each axis. The teacher is detached.

    Args:
        teacher_feature: [B, C, *spatial].
        student_feature: [B, D, *spatial].

    Returns:
        Scalar, 0 to 2; 0 if both maps are proportional.

    Raises:
        ValueError: if samples or the number of axes differ.
    """
    teacher, student = on_one_grid(_energy(teacher_feature.detach()), _energy(student_feature))
    return (_shares(teacher) - _shares(student)).square().sum(dim=1).mean()


def _energy(feature: Tensor) -> Tensor:
    return at_least_float32(feature).square().mean(dim=1, keepdim=True)


def _shares(energy: Tensor) -> Tensor:
    """Divide each map by its length, whatever the scale of its features."""
    flat = energy.flatten(1)
    length: Tensor = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return flat / length.clamp_min(EPSILON**2)
