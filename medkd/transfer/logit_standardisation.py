"""The term `logit_standardisation`: soft labels from logits without their mean and spread."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from medkd.transfer.outputs import at_least_float32
from medkd.transfer.soft_labels import soft_label_loss
from medkd.transfer.terms import LogitTermSettings, TermContext, TermInputs

EPSILON = 1e-7


class LogitStandardisationSettings(LogitTermSettings):
    """Soft labels from standardised logits, for exclusive outputs of three classes or more."""

    kind: Literal["logit_standardisation"] = "logit_standardisation"
    temperature: float = Field(
        2.0, gt=0.0, le=100.0, description="softens both sides; the loss is scaled by its square"
    )


class LogitStandardisationTerm(nn.Module):
    """`standardised_loss` on the batch's logits."""

    def __init__(self, settings: LogitStandardisationSettings, _context: TermContext) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, inputs: TermInputs) -> Tensor:
        """Return the unweighted loss."""
        return standardised_loss(
            inputs.teacher_logits,
            inputs.student_logits,
            temperature=self.settings.temperature,
            known=self.settings.taught(inputs.label_known),
        )


def standardised_loss(
    teacher_logits: Tensor,
    student_logits: Tensor,
    *,
    temperature: float,
    known: Tensor | None = None,
) -> Tensor:
    """Soft labels from logits that are standardised over classes (Sun et al. 2024, 2403.01427).

    T^2 * mean_n sum_k p_t (log p_t - log p_s),  p = softmax(x / T),  x = (z - mean_k z) / sd_k z

    The paper's section 4: its temperature is sd_k z times T. sd has K - 1 in its denominator,
    as in the authors' program. The student is free to have logits of another mean and spread, so
    this term does not teach how sure to be. The teacher is detached.

    Args:
        teacher_logits: [B, K] or [B, K, *spatial], K > 2.
        student_logits: the same shape.
        temperature: T > 0.
        known: [B, K] bool, the labels that are taught (None: all); a sample counts only if all
            its labels are known.

    Returns:
        Scalar >= 0, 0 if the student's logits are a rising linear function of the teacher's.
    """
    return soft_label_loss(
        _standardised(teacher_logits),
        _standardised(student_logits),
        outputs="exclusive",
        temperature=temperature,
        known=known,
    )


def _standardised(logits: Tensor) -> Tensor:
    z = at_least_float32(logits)
    return (z - z.mean(dim=1, keepdim=True)) / (z.var(dim=1, keepdim=True) + EPSILON).sqrt()
