"""Labels as losses: hard ones, and the teacher's soft ones. For [B, K] and [B, K, *spatial].

Two kinds of outputs: "independent" (each a sigmoid: binary, multi-label) and "exclusive" (one
softmax over all: multi-class). Binary is written as one logit or as two; both give the same
value, for the softmax of two logits is the sigmoid of their margin.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from pydantic import Field
from torch import Tensor

from medkd.settings import Settings

Outputs = Literal["independent", "exclusive"]


class HardLabelSettings(Settings):
    """The loss on the data's own labels."""

    weight: float = Field(1.0, ge=0.0, description="factor on this loss; 0: labels unused")
    smoothing: float = Field(
        0.0, ge=0.0, lt=1.0, description="share of each label given to the other classes"
    )
    class_balanced: bool = Field(
        False, description="weigh classes inversely to their share in the training data"
    )


class SoftLabelSettings(Settings):
    """The teacher's probabilities as labels (Hinton 2015, 1503.02531, section 2)."""

    kind: Literal["soft_label"] = "soft_label"
    weight: float = Field(1.0, gt=0.0, description="factor on this term")
    temperature: float = Field(
        2.0, gt=0.0, le=100.0, description="softens both sides; the loss is scaled by its square"
    )
    samples: Literal["all", "labelled"] = Field(
        "all", description="all: samples without a label are taught too"
    )


def soft_label_loss(
    teacher_logits: Tensor,
    student_logits: Tensor,
    *,
    outputs: Outputs,
    temperature: float,
    known: Tensor | None = None,
) -> Tensor:
    """Kullback-Leibler divergence from the teacher's to the student's softened outputs.

    exclusive:    T^2 * mean_n  sum_k p_t (log p_t - log p_s),   p = softmax(z / T)
    independent:  T^2 * mean_nk [p_t log(p_t / p_s) + (1 - p_t) log((1 - p_t) / (1 - p_s))],
                  p = sigmoid(z / T)

    Hinton et al. 2015 (1503.02531), section 2; T^2 keeps the gradient's size. The teacher is
    detached. The mean is over samples (positions); for independent outputs over known labels
    too. One logit against two is binary: the two are replaced by their margin.

    Args:
        teacher_logits: [B, K] or [B, K, *spatial].
        student_logits: the same shape, or K 1 against 2.
        outputs: how K outputs relate.
        temperature: T > 0.
        known: [B, K] bool, which labels are taught (None: all). Exclusive outputs are taught
            where all labels of a sample are known.

    Returns:
        Scalar >= 0, 0 only if both distributions are equal; 0 if nothing is known.
    """
    teacher, student = _matched(teacher_logits.detach(), student_logits)
    if outputs == "exclusive" and student.shape[1] > 1:
        log_t = F.log_softmax(teacher / temperature, dim=1)
        log_s = F.log_softmax(student / temperature, dim=1)
        divergence = (log_t.exp() * (log_t - log_s)).sum(dim=1, keepdim=True)
    else:
        divergence = _bernoulli_kl(teacher / temperature, student / temperature)
    return temperature**2 * _mean_known(divergence, known)


def hard_label_loss(
    logits: Tensor,
    label: Tensor,
    *,
    outputs: Outputs,
    known: Tensor,
    smoothing: float = 0.0,
    positive_share: Tensor | None = None,
) -> Tensor:
    """Cross-entropy with the data's labels, over what is known.

    independent:  mean_nk w [-y log p - (1 - y) log(1 - p)],  p = sigmoid(z)
    exclusive:    mean_n  w [-sum_k y_k log p_k],             p = softmax(z)

    y is smoothed: (1 - smoothing) y + smoothing / classes. With `positive_share` w is
    1 / (classes * share of the sample's class), else 1.

    Args:
        logits: [B, K].
        label: [B, K] float in 0..1; exclusive: one-hot, or [B, 1] for two outputs.
        outputs: how K outputs relate.
        known: [B, K] bool; labels that are not known may have any value, NaN too.
        smoothing: 0..1.
        positive_share: [K] share of positives a label in the training data, 0..1, or None.

    Returns:
        Scalar >= 0; 0 if nothing is known.
    """
    z = _at_least_float32(logits)
    y = torch.where(known, label, torch.zeros_like(label)).to(z.dtype)
    share = None if positive_share is None else positive_share.to(z)
    if outputs == "exclusive" and z.shape[1] > 1:
        if y.shape[1] == 1:
            y = torch.cat([1 - y, y], dim=1)
            share = None if share is None else torch.cat([1 - share, share])
        weight = 1.0 if share is None else (y / (y.shape[1] * share)).sum(dim=1, keepdim=True)
        smooth = (1 - smoothing) * y + smoothing / y.shape[1]
        entropy = -(smooth * F.log_softmax(z, dim=1)).sum(dim=1, keepdim=True)
        return _mean_known(weight * entropy, known)
    weight = 1.0 if share is None else y / (2 * share) + (1 - y) / (2 * (1 - share))
    smooth = (1 - smoothing) * y + smoothing / 2
    entropy = F.binary_cross_entropy_with_logits(z, smooth, reduction="none")
    return _mean_known(weight * entropy, known)


def binary_margin(logits: Tensor) -> Tensor:
    """Return one logit [B, 1, ...] for binary outputs written as one or two ([B, 1 or 2, ...])."""
    return logits if logits.shape[1] == 1 else logits[:, 1:] - logits[:, :1]


def _matched(teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    teacher, student = _at_least_float32(teacher), _at_least_float32(student)
    if {teacher.shape[1], student.shape[1]} == {1, 2}:
        teacher, student = binary_margin(teacher), binary_margin(student)
    if teacher.shape != student.shape:
        raise ValueError(
            f"teacher and student give different outputs: {tuple(teacher.shape)} and "
            f"{tuple(student.shape)}"
        )
    return teacher, student


def _bernoulli_kl(teacher: Tensor, student: Tensor) -> Tensor:
    p = teacher.sigmoid()
    positive = F.logsigmoid(teacher) - F.logsigmoid(student)
    negative = F.logsigmoid(-teacher) - F.logsigmoid(-student)
    return p * positive + (1 - p) * negative


def _mean_known(value: Tensor, known: Tensor | None) -> Tensor:
    """Mean over [B, K or 1, *spatial] where known [B, K]; 0 with a gradient of 0 if nowhere."""
    if known is None:
        return value.mean()
    if value.shape[1] == 1:
        known = known.all(dim=1, keepdim=True)
    mask = known.view(*known.shape, *(1,) * (value.ndim - 2)).expand_as(value)
    total = torch.where(mask, value, torch.zeros_like(value)).sum()
    return total / mask.sum().clamp_min(1)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
