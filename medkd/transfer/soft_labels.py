"""The term `soft_label`: the student learns the teacher's probabilities."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from pydantic import Field
from torch import Tensor, nn

from medkd.errors import SettingsError
from medkd.transfer.outputs import Outputs, matched_logits, mean_over_known
from medkd.transfer.sample_weights import SampleWeight, weigh_samples
from medkd.transfer.teacher import TeacherOutput
from medkd.transfer.terms import LogitTermSettings, PreparedTerm, TermContext, TermInputs

Divergence = Literal["forward", "reverse", "symmetric"]

LEAST_WEIGHT = 1e-9
"""Mean weight of the training samples at or below which they cannot be weighted."""


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
    final_temperature: float | None = Field(
        None,
        gt=0.0,
        le=100.0,
        description="the temperature moves linearly from `temperature` at the start of the "
        "training to this one at its end; null: it is constant",
    )
    sample_weight: SampleWeight = Field(
        "equal",
        description="equal; confidence: a sample counts by 1 - entropy of the teacher's answer; "
        "correct: a labelled sample on which the teacher is wrong does not count",
    )

    def temperature_at(self, progress: float) -> float:
        """Return the temperature at progress 0..1 of training.

        T = T_first + (T_final - T_first) * progress. The idea that the temperature falls to 1 is
        that of Annealing Knowledge Distillation, Jafari et al. 2021 (2104.07163). There it falls in
        steps, the student's logits follow the annealed logits of the teacher, and labels are used
        only afterwards. Here it moves continuously, may also rise, and applies to both sides of the
        divergence, which is scaled by the square of the present temperature.

        Example:
            >>> SoftLabelSettings(temperature=4.0, final_temperature=1.0).temperature_at(0.5)
            2.5
        """
        if not 0.0 <= progress <= 1.0:
            raise ValueError(f"expected progress as a share of training, 0..1, got {progress!r}")
        if self.final_temperature is None:
            return self.temperature
        return self.temperature + (self.final_temperature - self.temperature) * progress


def build_soft_label(settings: SoftLabelSettings, context: TermContext) -> nn.Module:
    """Build the term; one that weighs samples looks at the training samples first."""
    kind = SoftLabelTerm if settings.sample_weight == "equal" else WeightedSoftLabelTerm
    return kind(settings, context)


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
            temperature=self.settings.temperature_at(inputs.progress),
            known=self.settings.taught(inputs.label_known),
            divergence=self.settings.divergence,
            weight=self.weights(inputs.teacher_logits, inputs.label, inputs.label_known),
        )

    def weights(self, teacher_logits: Tensor, label: Tensor, known: Tensor) -> Tensor | None:
        """Return the weights of the samples, see `weigh_samples`; None: they weigh the same."""
        by = self.settings.sample_weight
        if by == "equal":
            return None
        return weigh_samples(teacher_logits, label, known, outputs=self.outputs, by=by)


class WeightedSoftLabelTerm(SoftLabelTerm, PreparedTerm):
    """A term that refuses a teacher by which no sample counts, before the training."""

    def __init__(self, settings: SoftLabelSettings, context: TermContext) -> None:
        super().__init__(settings, context)
        self._samples = 0
        self._total = 0.0

    def observe(self, answer: TeacherOutput, label: Tensor, known: Tensor) -> None:
        """Add up the weights of a batch."""
        weights = self.weights(answer.logits, label, known)
        if weights is None:
            raise ValueError("samples that weigh the same need no preparation")
        taught = self.settings.taught(known)
        if taught is not None:
            rows = taught if weights.shape == taught.shape else taught.all(dim=1, keepdim=True)
            weights = weights * rows
        self._samples += len(weights)
        self._total += float(weights.sum())

    def finish(self) -> None:
        """Refuse weights that are all 0.

        Raises:
            SettingsError: if no sample seen has a weight.
        """
        if self._total <= LEAST_WEIGHT * self._samples:
            why = {
                "confidence": "the teacher gives all classes the same probability",
                "correct": "the teacher is wrong on every labelled sample",
            }[self.settings.sample_weight]
            raise SettingsError(
                "these samples cannot be weighted",
                [
                    f"soft_label: sample_weight: {self.settings.sample_weight} is 0 for all "
                    f"{self._samples} training samples seen, because {why}: use another teacher, "
                    "or sample_weight: equal"
                ],
            )
        self.is_prepared = True


def soft_label_loss(
    teacher_logits: Tensor,
    student_logits: Tensor,
    *,
    outputs: Outputs,
    temperature: float,
    known: Tensor | None = None,
    divergence: Divergence = "forward",
    weight: Tensor | None = None,
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
    With weights w each mean is sum of w v / sum of w, so only their ratios count.

    Args:
        teacher_logits: [B, K] or [B, K, *spatial].
        student_logits: the same shape; in a binary task K may be 1 on one side and 2 on the other.
        outputs: what the student's K outputs mean.
        temperature: T > 0.
        known: [B, K] bool, the labels that are taught (None: all). A sample with exclusive
            outputs is taught only if all its labels are known.
        divergence: its direction.
        weight: [B, K] or [B, 1] >= 0, see `weigh_samples`; None: all weigh the same.

    Returns:
        Scalar >= 0, 0 only if both distributions are equal; 0 if nothing is known or weighs.
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
    return temperature**2 * mean_over_known(value, known, weight)


def _softmax_kl(first: Tensor, second: Tensor) -> Tensor:
    log_p, log_q = F.log_softmax(first, dim=1), F.log_softmax(second, dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1, keepdim=True)


def _bernoulli_kl(first: Tensor, second: Tensor) -> Tensor:
    p = first.sigmoid()
    positive = F.logsigmoid(first) - F.logsigmoid(second)
    negative = F.logsigmoid(-first) - F.logsigmoid(-second)
    return p * positive + (1 - p) * negative
