"""What the K outputs of a network mean, and how losses on outputs are averaged.

"independent" outputs are one sigmoid each (binary, multi-label); "exclusive" outputs share one
softmax (multi-class). A binary task is one independent logit or two exclusive ones: the softmax
of two logits is the sigmoid of their difference, so both forms give the same loss.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Outputs = Literal["independent", "exclusive"]


def binary_margin(logits: Tensor) -> Tensor:
    """Return one logit [B, 1, ...] for a binary task given as [B, 1 or 2, ...] logits."""
    return logits if logits.shape[1] == 1 else logits[:, 1:] - logits[:, :1]


def is_binary(outputs: Outputs, label_count: int) -> bool:
    """Return whether K outputs are one binary decision."""
    return label_count == 1 or (label_count == 2 and outputs == "exclusive")


def mean_over_known(value: Tensor, known: Tensor | None, weight: Tensor | None = None) -> Tensor:
    """Average a loss over the labels that are known: sum of w v / sum of w.

    Args:
        value: [B, K, *spatial], or [B, 1, *spatial] if one loss covers all labels of a sample:
            such a sample counts only if all its labels are known.
        known: [B, K] bool; None: everything counts.
        weight: [B, K] or [B, 1] >= 0, w; None: all values weigh the same.

    Returns:
        Scalar; 0 with a gradient of 0 if nothing is known or all weights are 0.
    """
    if known is None and weight is None:
        return value.mean()
    if known is None:
        known = torch.ones(len(value), 1, dtype=torch.bool, device=value.device)
    if value.shape[1] == 1:
        known = known.all(dim=1, keepdim=True)
    axes = (1,) * (value.ndim - 2)
    mask = known.view(*known.shape, *axes).expand_as(value)
    if weight is None:
        total = torch.where(mask, value, torch.zeros_like(value)).sum()
        return total / mask.sum().clamp_min(1)
    share = weight.view(*weight.shape, *axes).to(value).expand_as(value)
    share = torch.where(mask, share, torch.zeros_like(share))
    total = (share * torch.where(mask, value, torch.zeros_like(value))).sum()
    return total / share.sum().clamp_min(torch.finfo(value.dtype).tiny)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return float64 unchanged and everything else as float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def matched_logits(teacher: Tensor, student: Tensor, outputs: Outputs) -> tuple[Tensor, Tensor]:
    """Return both logits in one shape, at least in float32.

    In a binary task one side may have one logit and the other two: then both become margins.

    Raises:
        ValueError: if the shapes differ otherwise.
    """
    teacher, student = at_least_float32(teacher), at_least_float32(student)
    widths = {teacher.shape[1], student.shape[1]}
    if widths == {1, 2} and is_binary(outputs, student.shape[1]):
        teacher, student = binary_margin(teacher), binary_margin(student)
    if teacher.shape != student.shape:
        raise ValueError(
            f"teacher and student give different outputs: {tuple(teacher.shape)} and "
            f"{tuple(student.shape)}"
        )
    return teacher, student
