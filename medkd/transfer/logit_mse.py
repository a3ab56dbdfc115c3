"""The term `logit_mse`: the student learns the teacher's logits."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from medkd.transfer.outputs import Outputs, matched_logits, mean_over_known
from medkd.transfer.terms import LogitTermSettings, TermContext, TermInputs


class LogitMseSettings(LogitTermSettings):
    """The teacher's logits as labels: soft labels at a very high temperature."""

    teaches_outputs: ClassVar[bool] = True

    kind: Literal["logit_mse"] = "logit_mse"


class LogitMseTerm(nn.Module):
    """`logit_mse_loss` on the batch's logits."""

    def __init__(self, settings: LogitMseSettings, context: TermContext) -> None:
        super().__init__()
        self.settings = settings
        self.outputs: Outputs = context.outputs

    def forward(self, inputs: TermInputs) -> Tensor:
        """Return the unweighted loss."""
        return logit_mse_loss(
            inputs.teacher_logits,
            inputs.student_logits,
            outputs=self.outputs,
            known=self.settings.taught(inputs.label_known),
        )


def logit_mse_loss(
    teacher_logits: Tensor,
    student_logits: Tensor,
    *,
    outputs: Outputs,
    known: Tensor | None = None,
) -> Tensor:
    """Squared difference of logits (Hinton 2015, 1503.02531, section 2.1, equation 4).

    exclusive:    mean_n  sum_k (d_k - mean_k d)^2 / (2 K),   d = z_s - z_t
    independent:  mean_nk d^2 / 8

    It is the limit of `soft_label_loss` for T to infinity, with the same size of the gradient. A
    softmax does not change when a constant is added to all logits of a sample, so the mean of d
    is subtracted, as the paper assumes. Two exclusive logits and one independent logit give the
    same value. The teacher is detached; the mean is as in `soft_label_loss`.

    Args:
        teacher_logits: [B, K] or [B, K, *spatial].
        student_logits: the same shape; in a binary task K may be 1 on one side and 2 on the other.
        outputs: what the student's K outputs mean.
        known: [B, K] bool, the labels that are taught (None: all). A sample with exclusive
            outputs is taught only if all its labels are known.

    Returns:
        Scalar >= 0, 0 only if both distributions are equal; 0 if nothing is known.
    """
    teacher, student = matched_logits(teacher_logits.detach(), student_logits, outputs)
    difference = student - teacher
    if outputs == "exclusive" and student.shape[1] > 1:
        centred = difference - difference.mean(dim=1, keepdim=True)
        return mean_over_known(centred.square().mean(dim=1, keepdim=True) / 2, known)
    return mean_over_known(difference.square() / 8, known)
