"""The term `soft_label`: the student learns the teacher's probabilities."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from pydantic import Field
from torch import Tensor, nn

from medkd.transfer.outputs import (
    Outputs,
    at_least_float32,
    binary_margin,
    is_binary,
    mean_over_known,
)
from medkd.transfer.terms import Compared, TermContext, TermInputs, TermSettings


class SoftLabelSettings(TermSettings):
    """The teacher's probabilities as labels (Hinton 2015, 1503.02531, section 2)."""

    teaches_outputs: ClassVar[bool] = True
    compares: ClassVar[Compared] = "logits"

    kind: Literal["soft_label"] = "soft_label"
    temperature: float = Field(
        2.0, gt=0.0, le=100.0, description="softens both sides; the loss is scaled by its square"
    )
    samples: Literal["all", "labelled"] = Field(
        "all", description="all: samples without a label are taught too"
    )

    def misfits(
        self, outputs: Outputs, *, label_count: int, teacher_label_count: int | None
    ) -> tuple[str, ...]:
        """Refuse a teacher whose outputs are not the student's; binary is one logit or two."""
        widths = {1, 2} if is_binary(outputs, label_count) else {label_count}
        if teacher_label_count is None or teacher_label_count in widths:
            return ()
        return (
            f"a teacher of {teacher_label_count} outputs cannot teach {label_count} {outputs} "
            "outputs: they do not name the same labels",
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
            known=inputs.label_known if self.settings.samples == "labelled" else None,
        )


def soft_label_loss(
    teacher_logits: Tensor,
    student_logits: Tensor,
    *,
    outputs: Outputs,
    temperature: float,
    known: Tensor | None = None,
) -> Tensor:
    """Kullback-Leibler divergence KL(teacher || student) of the softened outputs.

    exclusive:    T^2 * mean_n  sum_k p_t (log p_t - log p_s),   p = softmax(z / T)
    independent:  T^2 * mean_nk [p_t log(p_t / p_s) + (1 - p_t) log((1 - p_t) / (1 - p_s))],
                  p = sigmoid(z / T)

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

    Returns:
        Scalar >= 0, 0 only if both distributions are equal; 0 if nothing is known.
    """
    teacher, student = _matched(teacher_logits.detach(), student_logits, outputs)
    if outputs == "exclusive" and student.shape[1] > 1:
        log_t = F.log_softmax(teacher / temperature, dim=1)
        log_s = F.log_softmax(student / temperature, dim=1)
        divergence = (log_t.exp() * (log_t - log_s)).sum(dim=1, keepdim=True)
    else:
        divergence = _bernoulli_kl(teacher / temperature, student / temperature)
    return temperature**2 * mean_over_known(divergence, known)


def _matched(teacher: Tensor, student: Tensor, outputs: Outputs) -> tuple[Tensor, Tensor]:
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


def _bernoulli_kl(teacher: Tensor, student: Tensor) -> Tensor:
    p = teacher.sigmoid()
    positive = F.logsigmoid(teacher) - F.logsigmoid(student)
    negative = F.logsigmoid(-teacher) - F.logsigmoid(-student)
    return p * positive + (1 - p) * negative
