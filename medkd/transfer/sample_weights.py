"""How much each sample counts in a transfer term, by what the teacher answers to it.

Weights depend on the teacher's calibrated logits and on the labels, never on the student.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from torch import Tensor

from medkd.transfer.outputs import Outputs, at_least_float32, binary_margin

SampleWeight = Literal["equal", "confidence", "correct"]


def weigh_samples(
    teacher_logits: Tensor,
    label: Tensor,
    known: Tensor,
    *,
    outputs: Outputs,
    by: Literal["confidence", "correct"],
) -> Tensor:
    """Return how much each sample counts, from the teacher's probabilities p at temperature 1.

    confidence:  w = 1 - H(p) / log C,   H(p) = -sum_c p_c log p_c
    correct:     w = 1 where the most probable class is the label, or the label is not known, else 0

    C is the number of classes, 2 for an independent label. A confidence of 1 is certainty, 0 is
    equal probabilities. Kwon et al. 2020 (Adaptive knowledge distillation based on entropy, ICASSP)
    weigh several teachers by the entropy of their answers; here it weighs the samples of one
    teacher, and the formula is our own. That a teacher which is wrong does not teach is from Meng
    et al. 2019 (Conditional teacher-student learning, 1904.12399). There a sample is learned either
    from the teacher or from its label; here the loss on the labels is always added.

    Args:
        teacher_logits: [B, K].
        label: [B, K] float in 0..1; for two exclusive outputs also [B, 1].
        known: bool, the shape of `label`.
        outputs: what the K outputs mean.
        by: what the weights depend on.

    Returns:
        Weights in 0..1 without gradient: [B, K] of independent outputs, otherwise [B, 1].
    """
    kind = at_least_float32(teacher_logits).dtype
    z = teacher_logits.detach().double()  # 1 - H / log C of near-equal classes is below float32
    if z.shape[1] == 2 and label.shape[1] == 1:
        z, outputs = binary_margin(z), "independent"
    if label.shape[1] == 2 and z.shape[1] == 1:
        label, known = label[:, 1:], known.all(dim=1, keepdim=True)
    one_of_several = outputs == "exclusive" and z.shape[1] > 1
    if by == "correct":
        y = torch.where(known, label, torch.zeros_like(label))
        if one_of_several:
            known = known.all(dim=1, keepdim=True)
            right = z.argmax(dim=1, keepdim=True) == y.argmax(dim=1, keepdim=True)
        else:
            right = (z >= 0) == (y >= 0.5)
        return (right | ~known).to(kind)
    if one_of_several:
        log_p = F.log_softmax(z, dim=1)
        entropy = -(log_p.exp() * log_p).sum(dim=1, keepdim=True)
        return (1 - entropy / math.log(z.shape[1])).clamp(0.0, 1.0).to(kind)
    entropy = -(z.sigmoid() * F.logsigmoid(z) + (-z).sigmoid() * F.logsigmoid(-z))
    return (1 - entropy / math.log(2)).clamp(0.0, 1.0).to(kind)
