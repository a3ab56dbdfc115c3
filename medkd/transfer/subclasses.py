"""The term `subclass`: the student learns into which subclasses the teacher divides each class.

With two classes, soft labels carry one number per sample. The teacher's embedding carries more:
this term divides each class along the directions in which embeddings of the class differ, and
teaches these subclasses to a head of its own, which is discarded after training.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from pydantic import Field
from torch import Tensor, nn

from medkd.errors import SettingsError
from medkd.transfer.features import pool, vectors
from medkd.transfer.outputs import (
    Outputs,
    at_least_float32,
    binary_margin,
    is_binary,
    mean_over_known,
)
from medkd.transfer.teacher import TeacherOutput
from medkd.transfer.terms import (
    LayerTermSettings,
    LogitTermSettings,
    PreparedTerm,
    TermContext,
    TermInputs,
)

FLAT = 1e-6
"""Least variance along a direction, relative to that along the first direction of its class."""


class SubclassSettings(LayerTermSettings, LogitTermSettings):
    """Subclasses of the teacher's embedding, for binary or exclusive outputs."""

    kind: Literal["subclass"] = "subclass"
    subclasses: int = Field(4, ge=2, le=64, description="subclasses per class")
    subclass_temperature: float = Field(
        0.5, gt=0.0, le=100.0, description="small: a sample is in one subclass; large: in all"
    )
    temperature: float = Field(
        2.0,
        gt=0.0,
        le=100.0,
        description="softens class probabilities and the student's; the loss is scaled by its "
        "square",
    )

    def misfits(
        self, outputs: Outputs, *, label_count: int, teacher_label_count: int | None
    ) -> tuple[str, ...]:
        """Refuse several independent labels, and a teacher of other outputs."""
        reasons = super().misfits(
            outputs, label_count=label_count, teacher_label_count=teacher_label_count
        )
        if outputs == "independent" and label_count > 1:
            reasons += (
                f"{label_count} independent labels are not exclusive classes that could be "
                "divided: use hint or similarity",
            )
        return reasons


class SubclassTerm(PreparedTerm):
    """`subclass_loss` on the student's embedding, with the head that it trains."""

    mean: Tensor
    directions: Tensor
    rotation: Tensor

    def __init__(self, settings: SubclassSettings, context: TermContext) -> None:
        super().__init__()
        self.settings = settings
        self.outputs: Outputs = context.outputs
        teacher, student = settings.features(context)
        classes = 2 if is_binary(context.outputs, context.label_count) else context.label_count
        width, divided = teacher.shape[1], settings.subclasses
        if divided > width - classes + 1:
            raise ValueError(
                f"a teacher's embedding of {width} channels has {max(width - classes + 1, 0)} "
                f"directions that do not move its logits, but {divided} subclasses were asked "
                "for: lower subclasses, or name a wider teacher_layer"
            )
        self.head = nn.Linear(student.shape[1], classes * divided)
        self.register_buffer("mean", torch.zeros(classes, width))
        self.register_buffer("directions", torch.zeros(classes, divided, width))
        self.register_buffer("rotation", torch.linalg.qr(torch.randn(divided, divided)).Q)
        self._seen: list[list[Tensor]] = []

    def observe(self, answer: TeacherOutput, label: Tensor, known: Tensor) -> None:
        """Keep what the division into subclasses depends on."""
        feature = answer.features[str(self.settings.teacher_layer)]
        scores = _class_scores(answer.logits, self.outputs)
        member = _membership(scores.softmax(dim=1), label, known)
        embedding = pool(at_least_float32(feature))
        self._seen.append([part.cpu().double() for part in (embedding, scores, member)])

    def finish(self) -> None:
        """Find the directions of each class in all samples seen.

        Raises:
            SettingsError: if the embeddings of a class differ in too few directions.
        """
        embedding, scores, member = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        self._seen.clear()
        free = _directions_without(embedding, scores)
        reasons = []
        for number in range(len(self.mean)):
            weight = member[:, number]
            mean, axes, variance = principal_axes(embedding, weight, free=free)
            count = self.settings.subclasses
            if int((variance > FLAT * variance[:1]).sum()) < count or float(variance[0]) <= 0:
                reasons.append(
                    f"subclass: the teacher's embeddings of class {number} differ in fewer than "
                    f"{count} directions ({float(weight.sum()):.0f} samples): lower subclasses"
                )
                continue
            scaled = axes[:count] / variance[:count].mean().sqrt()
            self.mean[number] = mean.to(self.mean)
            self.directions[number] = (self.rotation.cpu().double() @ scaled).to(self.mean)
        if reasons:
            raise SettingsError("these classes cannot be divided into subclasses", reasons)
        self.is_prepared = True

    def forward(self, inputs: TermInputs) -> Tensor:
        """Return the unweighted loss."""
        if not self.is_prepared:
            raise ValueError("call TransferObjective.prepare before the training")
        teacher, student = vectors(*self.settings.features(inputs))
        scores = _class_scores(inputs.teacher_logits.detach(), self.outputs)
        return subclass_loss(
            scores,
            self.coordinates(teacher),
            self.head(student),
            settings=self.settings,
            known=self.settings.taught(inputs.label_known),
        )

    def coordinates(self, embedding: Tensor) -> Tensor:
        """Return the place [B, C, S] of each sample along the directions of each class."""
        offset = embedding[:, None] - self.mean
        return (offset[:, :, None] * self.directions).sum(dim=3)


def subclass_loss(
    scores: Tensor,
    coordinates: Tensor,
    student_logits: Tensor,
    *,
    settings: SubclassSettings,
    known: Tensor | None = None,
) -> Tensor:
    """Divergence of subclass probabilities (Mueller et al. 2020, 2002.03936; LELP, 2409.20449).

    T^2 * mean_n sum_cs q_cs (log q_cs - log p_cs),   p = softmax over all c, s of g / T
    q_cs = softmax_c(z / T) * softmax_s(u_c / U)

    z are the teacher's logits of the classes c, g the logits of the student's extra head. u_cs is
    the place of the teacher's embedding along direction s of class c. As in LELP, directions are
    the first S principal axes of the embeddings of the class, after the directions on which the
    teacher's logits depend are taken out, turned at random so that all S carry about as much.

    This is not LELP to the letter. The student keeps its own head and learns the subclasses by
    another one; in LELP it has S outputs per class, which are summed. The directions of the logits
    are found by linear regression, so any layer can be used. The S places have a mean variance of
    1, so U means the same for every teacher. A sample without a label counts for each class with
    the teacher's probability. 2002.03936 needs a teacher that was trained with subclasses; here it
    may be any.

    Args:
        scores: [B, C], the teacher's logits of the classes.
        coordinates: [B, C, S], u.
        student_logits: [B, C * S], g.
        settings: T is `temperature`, U is `subclass_temperature`.
        known: [B, K] bool; a sample is taught only if all its labels are known. None: all are.

    Returns:
        Scalar >= 0, 0 if p equals q; 0 if nothing is known.
    """
    temperature = settings.temperature
    of_class = F.log_softmax(at_least_float32(scores) / temperature, dim=1)
    within = F.log_softmax(at_least_float32(coordinates) / settings.subclass_temperature, dim=2)
    log_q = (of_class[:, :, None] + within).flatten(1).detach()
    log_p = F.log_softmax(at_least_float32(student_logits) / temperature, dim=1)
    each = (log_q.exp() * (log_q - log_p)).sum(dim=1, keepdim=True)
    return temperature**2 * mean_over_known(each, known)


def principal_axes(
    embedding: Tensor, weight: Tensor, *, free: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean [D], principal axes [D, D] and variances [D] of weighted rows, largest first.

    Args:
        embedding: [N, D].
        weight: [N], how much each row counts.
        free: [D, D] projection onto the directions that may be used.
    """
    share = weight / weight.sum().clamp_min(1e-12)
    mean = share @ embedding
    offset = (embedding - mean) @ free
    variance, axes = torch.linalg.eigh(offset.T @ (share[:, None] * offset))
    axes = axes.T.flip(0)
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    return mean, axes * largest.sign(), variance.flip(0)


def _class_scores(logits: Tensor, outputs: Outputs) -> Tensor:
    """Return one logit per class, [B, C]; C is 2 for a binary task."""
    if is_binary(outputs, logits.shape[1]):
        margin = binary_margin(at_least_float32(logits))
        return torch.cat([-margin / 2, margin / 2], dim=1)
    return at_least_float32(logits)


def _membership(probability: Tensor, label: Tensor, known: Tensor) -> Tensor:
    """Return how far each sample is in each class: its label, or the teacher's probability."""
    y = torch.where(known, label, 0.0).to(probability)
    if y.shape[1] == 1:
        y = torch.cat([1 - y, y], dim=1)
    return torch.where(known.all(dim=1, keepdim=True), y, probability)


def _directions_without(embedding: Tensor, scores: Tensor) -> Tensor:
    """Return the projection that takes out the directions by which logits can be predicted."""
    centred = embedding - embedding.mean(dim=0)
    relative = scores - scores.mean(dim=1, keepdim=True)
    inverse = torch.linalg.pinv(centred.T @ centred, rtol=FLAT**2, hermitian=True)
    slope = inverse @ (centred.T @ (relative - relative.mean(dim=0)))
    left, size, _ = torch.linalg.svd(slope, full_matrices=False)
    used = left[:, size > FLAT * size.max().clamp_min(1e-12)]
    free: Tensor = torch.eye(embedding.shape[1], dtype=embedding.dtype) - used @ used.T
    return free
