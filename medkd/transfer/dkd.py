"""The term `dkd`: soft labels in two parts, of the labelled class and of the other classes."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from pydantic import Field
from torch import Tensor, nn

from medkd.transfer.outputs import at_least_float32
from medkd.transfer.terms import LogitTermSettings, TermContext, TermInputs


class DkdSettings(LogitTermSettings):
    """Decoupled soft labels, for exclusive outputs of three classes or more."""

    teaches_outputs: ClassVar[bool] = True

    kind: Literal["dkd"] = "dkd"
    samples: Literal["labelled"] = Field(
        "labelled", description="the parts are defined by the label: other samples are left out"
    )
    temperature: float = Field(
        4.0, gt=0.0, le=100.0, description="softens both sides; the loss is scaled by its square"
    )
    target_weight: float = Field(
        1.0, ge=0.0, description="factor on the part of the labelled class"
    )
    non_target_weight: float = Field(
        8.0, gt=0.0, description="factor on the part of the other classes"
    )


class DkdTerm(nn.Module):
    """`dkd_loss` on the batch's logits and labels."""

    def __init__(self, settings: DkdSettings, _context: TermContext) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, inputs: TermInputs) -> Tensor:
        """Return the unweighted loss."""
        known = inputs.label_known.all(dim=1)
        label = torch.where(inputs.label_known, inputs.label, 0.0).argmax(dim=1)
        return dkd_loss(
            inputs.teacher_logits[known],
            inputs.student_logits[known],
            label[known],
            settings=self.settings,
        )


def dkd_loss(
    teacher_logits: Tensor, student_logits: Tensor, label: Tensor, *, settings: DkdSettings
) -> Tensor:
    """Decoupled knowledge distillation (Zhao et al. 2022, 2203.08679, section 3).

    T^2 * mean_n [a KL(b_t || b_s) + c KL(q_t || q_s)],   p = softmax(z / T)

    b = (p_y, 1 - p_y) are the shares of the labelled class y and of the rest: the target part.
    q_k = p_k / (1 - p_y) is the division of the rest among the other classes k: the non-target
    part. a is `target_weight`, c is `non_target_weight`. With a = 1 and c = 1 - p_t,y the sum
    would be the soft-label loss. The teacher is detached.

    Args:
        teacher_logits: [B, K], K > 2.
        student_logits: [B, K].
        label: [B] int64, the class of each sample.
        settings: temperature T and the two weights.

    Returns:
        Scalar >= 0, 0 if both distributions are equal; 0 if there is no sample.
    """
    if not len(label):
        return student_logits.sum() * 0
    temperature = settings.temperature
    log_t = F.log_softmax(at_least_float32(teacher_logits.detach()) / temperature, dim=1)
    log_s = F.log_softmax(at_least_float32(student_logits) / temperature, dim=1)
    target = F.one_hot(label, log_t.shape[1]).bool()
    shares_t, rest_t = _parts(log_t, target)
    shares_s, rest_s = _parts(log_s, target)
    value = settings.target_weight * _kl(shares_t, shares_s)
    value = value + settings.non_target_weight * _kl(rest_t, rest_s)
    return temperature**2 * value.mean()


def _parts(log_p: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return log b [B, 2] and log q [B, K - 1]."""
    of_label = log_p[target][:, None]
    others = log_p[~target].view(len(log_p), -1)
    total = others.logsumexp(dim=1, keepdim=True)
    return torch.cat([of_label, total], dim=1), others - total


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)
