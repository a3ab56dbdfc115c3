"""The objective of a student: the weighted sum of the label loss and the transfer terms.

All arms use this one objective; the control arm has an empty list of terms. Teacher and student
receive the very same tensor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medkd.errors import SettingsError
from medkd.transfer.alignment import trained_width
from medkd.transfer.hard_labels import hard_label_loss
from medkd.transfer.outputs import Outputs, is_binary
from medkd.transfer.point_labels import point_loss, point_targets
from medkd.transfer.settings import (
    TransferSettings,
    batch_misfits,
    check_transfer,
    repeated_terms,
)
from medkd.transfer.table import ALIGNMENTS, TERMS
from medkd.transfer.taps import (
    Join,
    check_channels,
    find_layers,
    own_rows,
    probe_layers,
    tap_layers,
)
from medkd.transfer.teacher import FrozenTeacher, TeacherOutput
from medkd.transfer.terms import PreparedTerm, Side, TermContext, TermInputs
from medkd.types import PatchBatch

PROBE_SIZE = 32
SIDES: tuple[Side, Side] = ("teacher", "student")


@dataclass(frozen=True, slots=True, eq=False)
class TransferOutput:
    """The result of one forward pass.

    `loss` is minimised; `terms` are the unweighted, detached losses by name ("hard_label", or
    "score", "offset" and "size" of a point detector, the terms' names, and the kind of alignment);
    `weights` are their current weights; `logits` are the student's, [B, K] or a map, with gradient.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    weights: dict[str, float]
    logits: Tensor


class _StudentOutput(NamedTuple):
    """Logits and features of a batch, and the features that are aligned: own and of the other."""

    logits: Tensor
    features: dict[str, Tensor]
    compared: tuple[Tensor, ...] = ()


class TransferObjective(nn.Module):
    """A student together with the losses that train it.

    The teacher is not part of this module: it is in no `state_dict()`, `parameters()` or
    `modules()`.

    Args:
        student: the network that is trained; a submodule.
        teacher: may be None only if there are no terms.
        settings: labels, terms, schedule.
        positive_share: [K] share of positives of each label in the training data, needed by
            `hard_label.class_balanced`.
        view_shape: [C, *spatial] of a view, used to find the widths of tapped layers; None: the
            shape that the networks declare.
        cell_mm: edge of a cell of the map of a point detector.
        seed: seed of the projectors' random weights.

    Raises:
        SettingsError: with every reason why these do not fit together.

    Example:
        >>> student = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
        >>> objective = TransferObjective(student, None, TransferSettings())
        >>> image, label = torch.rand(3, 1, 2, 2), torch.ones(3, 1)
        >>> batch = PatchBatch(image, label, label.bool(), ("a", "b", "c"))
        >>> output = objective(batch, progress=0.0)
        >>> sorted(output.terms)
        ['hard_label']
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: FrozenTeacher | None,
        settings: TransferSettings,
        *,
        positive_share: Sequence[float] | None = None,
        view_shape: Sequence[int] | None = None,
        cell_mm: float = 2.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.student = student
        self.join: Join = own_rows
        self._finds_points = bool(getattr(student, "finds_points", False))
        self._cell_mm = cell_mm
        self.settings = with_embeddings(settings, student, teacher)
        self.teacher = teacher if settings.terms else None
        check_objective(self.settings, student, teacher, positive_share=positive_share)
        self._share = None if positive_share is None else torch.tensor(positive_share)
        context = self._probe(view_shape)
        self.terms = nn.ModuleDict(_build_terms(self.settings, context, seed=seed))
        shape = view_shape or _derived_view_shape(student, teacher)
        self.alignment = _build_alignment(self.settings, student, shape, seed=seed)

    def forward(self, batch: PatchBatch, progress: float) -> TransferOutput:
        """Run the networks on a batch and sum the weighted losses.

        Args:
            batch: image [B, C, *spatial], label and label_known [B, K]; for an alignment also
                `other`. With `join`, image may be a share of the B rows.
            progress: share of training done, 0..1, on which the schedule depends.

        Raises:
            SettingsError: if a term needs more samples in a batch.
            ValueError: if there is an alignment, but no batch of another domain, or the reverse.
        """
        if reasons := batch_misfits(self.settings, len(batch.label)):
            raise SettingsError("this batch is too small", list(reasons))
        teacher = self._ask_teacher(batch)
        student = self._run_student(batch)
        losses, weights = self._label_losses(student.logits, batch)
        if teacher is not None:
            inputs = TermInputs(
                teacher.logits,
                student.logits,
                teacher.features,
                student.features,
                batch.label,
                batch.label_known,
                self._cell_mm,
                progress,
            )
            factor = self.settings.schedule.factor(progress)
            for (name, term), its in zip(self.terms.items(), self.settings.terms, strict=True):
                losses[name], weights[name] = term(inputs), its.weight * factor
        if self.settings.alignment is not None and self.alignment is not None:
            kind = self.settings.alignment.kind
            losses[kind] = self.alignment(*student.compared, progress)
            weights[kind] = self.settings.alignment.weight
        loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        terms = {name: value.detach() for name, value in losses.items()}
        return TransferOutput(loss, terms, weights, student.logits)

    def _ask_teacher(self, batch: PatchBatch) -> TeacherOutput | None:
        if self.teacher is None:
            return None
        answer = self.teacher.answer(batch, tapped_layers(self.settings, "teacher"))
        total = len(batch.label)
        features = {name: self.join(rows, total) for name, rows in answer.features.items()}
        return TeacherOutput(self.join(answer.logits, total), features)

    def _run_student(self, batch: PatchBatch) -> _StudentOutput:
        """Run the student, with the samples of another domain in the same pass if it is aligned."""
        layers, alignment = tapped_layers(self.settings, "student"), self.settings.alignment
        if (alignment is None) != (batch.other is None):
            raise ValueError("a batch has samples of another domain if, and only if, it is aligned")
        total = len(batch.label)
        if alignment is None or batch.other is None:
            with tap_layers(self.student, layers) as features:
                logits = self.student(batch.image)
            joined = {name: self.join(rows, total) for name, rows in features.items()}
            return _StudentOutput(self.join(logits, total), joined)
        size, layer = len(batch.image), str(alignment.layer)
        joint = torch.cat([batch.image, batch.other.image])
        with tap_layers(self.student, [*layers, *({layer} - set(layers))]) as features:
            logits = self.student(joint)
        return _StudentOutput(
            self.join(logits[:size], total),
            {name: self.join(features[name][:size], total) for name in layers},
            (
                self.join(features[layer][:size], total),
                self.join(features[layer][size:], len(batch.other.label)),
            ),
        )

    @property
    def needs_samples(self) -> bool:
        """Whether a term must be prepared with the training samples."""
        return any(isinstance(term, PreparedTerm) for term in self.terms.values())

    def prepare(self, batches: Iterable[PatchBatch]) -> None:
        """Show the teacher's answers to the training samples to the terms that need them.

        Args:
            batches: the samples of one epoch, without augmentation.

        Raises:
            SettingsError: if a term cannot use what the teacher answers.
        """
        terms = [term for term in self.terms.values() if isinstance(term, PreparedTerm)]
        if not terms or self.teacher is None:
            return
        for batch in batches:
            answer = self.teacher(batch.image, tapped_layers(self.settings, "teacher"))
            for term in terms:
                term.observe(answer, batch.label, batch.label_known)
        for term in terms:
            term.finish()

    def _label_losses(
        self, logits: Tensor, batch: PatchBatch
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Return the losses on the data's own labels, and their weights, by name."""
        own = self.settings.hard_label
        if self._finds_points:
            found = self._point_losses(logits, batch)
            points = self.settings.points
            factors = {"score": 1.0, "offset": points.offset_weight, "size": points.size_weight}
            return found, {name: own.weight * factors[name] for name in found}
        hard = hard_label_loss(
            logits,
            batch.label,
            outputs=self.settings.outputs,
            known=batch.label_known,
            smoothing=own.smoothing,
            positive_share=self._share if own.class_balanced else None,
        )
        return {"hard_label": hard}, {"hard_label": own.weight}

    def _point_losses(self, found: Tensor, batch: PatchBatch) -> dict[str, Tensor]:
        if batch.points is None:
            raise ValueError("a point detector is trained on crops with points, got none")
        rows = batch.label_known[:, 0]
        if not rows.any():
            return {name: found.sum() * 0 for name in ("score", "offset", "size")}
        points, (i, j, k) = batch.points.select(rows), found.shape[2:]
        settings = self.settings.points
        targets = point_targets(points, (i, j, k), cell_mm=self._cell_mm, settings=settings)
        return point_loss(found[rows], targets, settings)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters to optimise: those of the student and of the terms' projectors."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def _probe(self, view_shape: Sequence[int] | None) -> TermContext:
        """Run one empty view through both networks to learn the shapes of tapped layers."""
        teacher_layers, student_layers = (tapped_layers(self.settings, side) for side in SIDES)
        if self.teacher is None or not (teacher_layers or student_layers):
            return TermContext(self.settings.outputs, {}, {})
        device = next((p.device for p in self.student.parameters()), torch.device("cpu"))
        shape = view_shape or _derived_view_shape(self.student, self.teacher)
        view = torch.zeros(1, *shape, device=device)
        with torch.no_grad():
            logits, features = probe_layers(self.student, view, student_layers)
        teacher = self.teacher(view, teacher_layers)
        check_channels(self.student, features)
        check_channels(self.teacher.network, teacher.features)
        return TermContext(self.settings.outputs, teacher.features, features, logits.shape[1])


def with_embeddings(
    settings: TransferSettings, student: nn.Module, teacher: FrozenTeacher | None
) -> TransferSettings:
    """Replace unnamed layers by the embedding layers that the networks declare."""
    own: dict[Side, str | None] = {
        "teacher": getattr(teacher, "embedding_layer", None),
        "student": getattr(student, "embedding_layer", None),
    }
    changed: dict[str, object] = {
        "terms": tuple(term.with_embeddings(own) for term in settings.terms)
    }
    if (aligned := settings.alignment) is not None:
        layer = {"layer": aligned.layer or own["student"]}
        changed["alignment"] = aligned.model_copy(update=layer)
    return settings.model_copy(update=changed)


def check_objective(
    settings: TransferSettings,
    student: nn.Module,
    teacher: FrozenTeacher | None,
    *,
    positive_share: Sequence[float] | None,
) -> None:
    """Refuse settings that do not fit a student and its teacher.

    Raises:
        SettingsError: with every reason.
    """
    reasons: list[str] = []
    label_count = getattr(student, "label_count", None)
    if settings.terms and teacher is None:
        reasons.append("there are transfer terms but no teacher")
    if label_count is not None:
        taught = teacher.label_count if teacher is not None else None
        finds = bool(getattr(student, "finds_points", False))
        reasons += check_transfer(
            settings, label_count, teacher_label_count=taught, finds_points=finds
        )
        if teacher is not None and settings.terms and finds != teacher.finds_points:
            reasons.append("only one of teacher and student is a point detector")
    if settings.hard_label.class_balanced:
        reasons += _check_shares(settings.outputs, label_count, positive_share or ())
    for term in settings.terms:
        reasons += [
            f"{term.kind}: the {side}_layer must be named: none is declared"
            for side in SIDES
            if None in term.layers(side)
        ]
    reasons += repeated_terms(settings.terms)
    if settings.alignment is not None and settings.alignment.layer is None:
        reasons.append("alignment: the layer must be named: none is declared")
    if reasons:
        raise SettingsError("this student cannot be trained like this", reasons)
    aligned = [str(settings.alignment.layer)] if settings.alignment is not None else []
    find_layers(student, [*tapped_layers(settings, "student"), *aligned])


def _check_shares(
    outputs: Outputs, label_count: int | None, shares: Sequence[float]
) -> Iterator[str]:
    if not shares:
        yield "hard_label.class_balanced needs the share of positives in training"
        return
    binary = label_count is not None and is_binary(outputs, label_count)
    if len(shares) != (1 if binary else label_count or len(shares)):
        yield f"hard_label.class_balanced: {len(shares)} shares of positives, {label_count} labels"
    if not all(0.0 < share < 1.0 for share in shares):
        yield (
            "hard_label.class_balanced: both classes must occur in training, got "
            f"{list(shares)} as share of positives"
        )


def _build_terms(
    settings: TransferSettings, context: TermContext, *, seed: int
) -> dict[str, nn.Module]:
    built: dict[str, nn.Module] = {}
    reasons: list[str] = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for name, term in zip(term_names(settings), settings.terms, strict=True):
            try:
                built[name] = TERMS[term.kind].build(term, context)
            except ValueError as error:
                reasons.append(f"{term.kind}: {error}")
    if reasons:
        raise SettingsError("these transfer terms do not fit teacher and student", reasons)
    return built


def _build_alignment(
    settings: TransferSettings, student: nn.Module, view_shape: Sequence[int], *, seed: int
) -> nn.Module | None:
    """Build the alignment, if there is one; refuse a layer that it cannot change."""
    aligned = settings.alignment
    if aligned is None:
        return None
    try:
        width = trained_width(student, str(aligned.layer), view_shape)
    except ValueError as error:
        reason = f"alignment {aligned.kind}: {error}"
        raise SettingsError("this network cannot be aligned like this", [reason]) from error
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return ALIGNMENTS[aligned.kind].build(aligned, width)


def term_names(settings: TransferSettings) -> list[str]:
    """Name each term by its kind, numbered from the second of a kind on ("hint", "hint_2")."""
    seen: Counter[str] = Counter()
    names = []
    for term in settings.terms:
        seen[term.kind] += 1
        names.append(term.kind if seen[term.kind] == 1 else f"{term.kind}_{seen[term.kind]}")
    return names


def tapped_layers(settings: TransferSettings, side: Side) -> list[str]:
    """Return the names of the layers of one network that the terms compare."""
    layers = {layer for term in settings.terms for layer in term.layers(side)}
    return sorted(layer for layer in layers if layer is not None)


def _derived_view_shape(student: nn.Module, teacher: FrozenTeacher | None) -> tuple[int, ...]:
    axes = int(getattr(student, "spatial_dims", 2))
    fixed = getattr(student, "input_shape", None) or getattr(teacher, "input_shape", None)
    return (int(getattr(student, "in_channels", 1)), *(fixed or (PROBE_SIZE,) * axes))
