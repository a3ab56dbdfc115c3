"""The term `soft_label`: the student learns the teacher's probabilities."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from pydantic import Field
from torch import Tensor, nn

from medkd.transfer.outputs import Outputs, matched_logits, mean_over_known
from medkd.transfer.terms import LogitTermSettings, TermContext, TermInputs

Divergence = Literal["forward", "reverse", "symmetric"]


class SoftLabelSettings(LogitTermSettings):
    """The teacher's probabilities as labels (Hinton 2015, 1503.02531, section 2)."""

    teaches_outputs: ClassVar[bool] = True

    kind: Literal["soft_label"] = "soft_label"
    temperature: float = Field(
        2.0, gt=0.0, le=100.0, description="softens both sides; the loss is scaled by its square"
    )
    divergence: Divergence = Field(
        "forward",
        description="forward: KL(teacher || student), the student covers what the teacher deems "
        "possible; reverse: KL(student || teacher); symmetric: their mean",
    )


class SoftLabelTerm(nn.Module):
    """`soft_label_loss` on the batch's logits."""

    def __init__(self, settings: SoftLabelSettings, context: TermContext) -> None:
        super().__init__()
        self.settings = settings
        self.outputs: Outputs = context.outputs

    def forward(self, inputs: TermInputs) -> Tensor:
        """Return the unweighted loss."""
        return soft_label_loss(
            inputs.teacher_logits,
            inputs.student_logits,
            outputs=self.outputs,
            temperature=self.settings.temperature,
            known=self.settings.taught(inputs.label_known),
            divergence=self.settings.divergence,
        )


def soft_label_loss(
    teacher_logits: Tensor,
    student_logits: Tensor,
    *,
    outputs: Outputs,
    temperature: float,
    known: Tensor | None = None,
    divergence: Divergence = "forward",
) -> Tensor:
    """Kullback-Leibler divergence of the softened outputs of teacher t and student s.

    exclusive:    T^2 * mean_n  sum_k p_t (log p_t - log p_s),   p = softmax(z / T)
    independent:  T^2 * mean_nk [p_t log(p_t / p_s) + (1 - p_t) log((1 - p_t) / (1 - p_s))],
                  p = sigmoid(z / T)

    This is the forward divergence KL(t || s). The reverse one, KL(s || t), exchanges t and s;
    the symmetric one is the mean of both (half of the divergence of Jeffreys).

    Hinton et al. 2015 (1503.02531), section 2; T^2 keeps the size of the gradient. The teacher is
    detached. The mean is over samples and positions, for independent outputs over labels too. In
    a binary task one side may have one logit and the other two: the margin of the two is taken.

    Args:
        teacher_logits: [B, K] or [B, K, *spatial].
        student_logits: the same shape; in a binary task K may be 1 on one side and 2 on the other.
        outputs: what the student's K outputs mean.
        temperature: T > 0.
        known: [B, K] bool, the labels that are taught (None: all). A sample with exclusive
            outputs is taught only if all its labels are known.
        divergence: its direction.

    Returns:
        Scalar >= 0, 0 only if both distributions are equal; 0 if nothing is known.
    """
    teacher, student = matched_logits(teacher_logits.detach(), student_logits, outputs)
    teacher, student = teacher / temperature, student / temperature
    exclusive = outputs == "exclusive" and student.shape[1] > 1
    one_way = _softmax_kl if exclusive else _bernoulli_kl
    if divergence == "forward":
        value = one_way(teacher, student)
    elif divergence == "reverse":
        value = one_way(student, teacher)
    else:
        value = (one_way(teacher, student) + one_way(student, teacher)) / 2
    return temperature**2 * mean_over_known(value, known)


def _softmax_kl(first: Tensor, second: Tensor) -> Tensor:
    log_p, log_q = F.log_softmax(first, dim=1), F.log_softmax(second, dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1, keepdim=True)


def _bernoulli_kl(first: Tensor, second: Tensor) -> Tensor:
    p = first.sigmoid()
    positive = F.logsigmoid(first) - F.logsigmoid(second)
    negative = F.logsigmoid(-first) - F.logsigmoid(-second)
    return p * positive + (1 - p) * negative
