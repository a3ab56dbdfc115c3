"""What a student is trained to do: the weighted sum of label loss and transfer terms.

One objective for all arms; the control arm's has an empty list of terms. Teacher and student
are given the very same tensor. To add a term: its settings and loss in a file of their own, its
settings in `settings.TermSettings`, and a line in `TERMS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medkd.errors import SettingsError
from medkd.settings import Settings
from medkd.transfer.features import HintSettings, Projector, hint_loss, pool
from medkd.transfer.settings import TransferSettings, check_transfer
from medkd.transfer.soft_labels import (
    Outputs,
    SoftLabelSettings,
    hard_label_loss,
    soft_label_loss,
)
from medkd.transfer.taps import FeatureTaps, find_layers
from medkd.transfer.teacher import FrozenTeacher, TeacherOutput
from medkd.types import PatchBatch

PROBE_SIZE = 32


@dataclass(frozen=True, slots=True, eq=False)
class TransferOutput:
    """One forward pass.

    `loss` is what to minimise; `terms` are the unweighted, detached values by name
    ("hard_label" and each term's); `weights` what they were multiplied with now; `logits` are
    the student's, [B, K], attached.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    weights: dict[str, float]
    logits: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class TermInputs:
    """What a term may look at: both sides' logits and tapped features, what is labelled."""

    teacher: TeacherOutput
    student_logits: Tensor
    student_features: Mapping[str, Tensor]
    label_known: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class TermContext:
    """What a term is built for: kind of outputs, and one probe's features by layer."""

    outputs: Outputs
    teacher_features: Mapping[str, Tensor]
    student_features: Mapping[str, Tensor]


class SoftLabelTerm(nn.Module):
    """`soft_label_loss` on the batch's logits."""

    def __init__(self, settings: SoftLabelSettings, context: TermContext) -> None:
        super().__init__()
        self.settings = settings
        self.outputs: Outputs = context.outputs

    def forward(self, inputs: TermInputs) -> Tensor:
        """Return the unweighted loss."""
        return soft_label_loss(
            inputs.teacher.logits,
            inputs.student_logits,
            outputs=self.outputs,
            temperature=self.settings.temperature,
            known=inputs.label_known if self.settings.samples == "labelled" else None,
        )


class HintTerm(nn.Module):
    """`hint_loss` between two layers, with the projector that it trains."""

    def __init__(self, settings: HintSettings, context: TermContext) -> None:
        super().__init__()
        self.settings = settings
        teacher = context.teacher_features[str(settings.teacher_layer)]
        student = context.student_features[str(settings.student_layer)]
        width = teacher.shape[1]
        if settings.normalise and width == 1:
            raise ValueError("a normalised feature of one channel is +-1: set normalise: false")
        self.projector: nn.Module = nn.Identity()
        if settings.projector == "linear":
            self.projector = Projector(student.shape[1], width)
        with torch.no_grad():
            hint_loss(*self._prepared(teacher, student), normalise=settings.normalise)

    def forward(self, inputs: TermInputs) -> Tensor:
        """Return the unweighted loss."""
        teacher = inputs.teacher.features[str(self.settings.teacher_layer)]
        student = inputs.student_features[str(self.settings.student_layer)]
        return hint_loss(*self._prepared(teacher, student), normalise=self.settings.normalise)

    def _prepared(self, teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
        if self.settings.pooled:
            teacher, student = pool(teacher), pool(student)
        return teacher, self.projector(student)


TERMS: dict[str, Callable[[Any, TermContext], nn.Module]] = {
    "soft_label": SoftLabelTerm,
    "hint": HintTerm,
}


class TransferObjective(nn.Module):
    """A student with what it learns from.

    The teacher is no part of this module: not in `state_dict()`, `parameters()`, `modules()`.

    Args:
        student: trained; a module of this one.
        teacher: None only without terms.
        settings: labels, terms, schedule.
        positive_share: [K] share of positives a label in the training data, needed by
            `hard_label.class_balanced`.
        view_shape: [C, *spatial] of a view that both take, for finding the widths of tapped
            layers; None: derived from what the networks say they take.
        seed: for the projectors' random weights.

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
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.student = student
        self.settings = _with_layers(settings, student, teacher)
        self.teacher = teacher if settings.terms else None
        _check(self.settings, student, teacher, positive_share=positive_share)
        self._share = None if positive_share is None else torch.tensor(positive_share)
        context = self._probe(view_shape)
        self.terms = nn.ModuleDict(_build_terms(self.settings, context, seed=seed))

    def forward(self, batch: PatchBatch, progress: float) -> TransferOutput:
        """Score a batch and sum the weighted losses.

        Args:
            batch: image [B, C, *spatial], label and label_known [B, K].
            progress: share of training done, 0..1; drives the schedule.
        """
        teacher = None
        if self.teacher is not None:
            teacher = self.teacher(batch.image, _layers(self.settings, "teacher_layer"))
        with FeatureTaps(self.student, _layers(self.settings, "student_layer")) as taps:
            logits = self.student(batch.image)
        hard = hard_label_loss(
            logits,
            batch.label,
            outputs=self.settings.outputs,
            known=batch.label_known,
            smoothing=self.settings.hard_label.smoothing,
            positive_share=self._share if self.settings.hard_label.class_balanced else None,
        )
        losses, weights = {"hard_label": hard}, {"hard_label": self.settings.hard_label.weight}
        if teacher is not None:
            inputs = TermInputs(teacher, logits, taps.features(), batch.label_known)
            factor = self.settings.schedule.factor(progress)
            for (name, term), its in zip(self.terms.items(), self.settings.terms, strict=True):
                losses[name], weights[name] = term(inputs), its.weight * factor
        loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        return TransferOutput(loss, {k: v.detach() for k, v in losses.items()}, weights, logits)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what an optimiser shall move: the student's and the projectors' parameters."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    @property
    def extra_state(self) -> dict[str, Tensor]:
        """The projectors' tensors, apart from the student's; needed only to resume."""
        return dict(self.terms.state_dict())

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `extra_state` gave.

        Raises:
            RuntimeError: if it is of other terms.
        """
        self.terms.load_state_dict(dict(state))

    def _probe(self, view_shape: Sequence[int] | None) -> TermContext:
        """Run one empty view through both to learn the shapes of tapped layers."""
        student_layers = _layers(self.settings, "student_layer")
        if self.teacher is None or not student_layers:
            return TermContext(self.settings.outputs, {}, {})
        device = next((p.device for p in self.student.parameters()), torch.device("cpu"))
        shape = view_shape or _derived_view_shape(self.student, self.teacher)
        view = torch.zeros(1, *shape, device=device)
        modes = {module: module.training for module in self.student.modules()}
        with torch.no_grad(), FeatureTaps(self.student.eval(), student_layers) as taps:
            self.student(view)
        for module, mode in modes.items():
            module.training = mode
        teacher = self.teacher(view, _layers(self.settings, "teacher_layer"))
        return TermContext(self.settings.outputs, teacher.features, taps.features())


def _with_layers(
    settings: TransferSettings, student: nn.Module, teacher: FrozenTeacher | None
) -> TransferSettings:
    """Replace the layers left open by the networks' own embedding layers."""
    own = {
        "student_layer": getattr(student, "embedding_layer", None),
        "teacher_layer": getattr(teacher, "embedding_layer", None),
    }
    terms: list[Settings] = []
    for term in settings.terms:
        left_open = [key for key in own if getattr(term, key, "") is None]
        terms.append(term.model_copy(update={key: own[key] for key in left_open}))
    return settings.model_copy(update={"terms": tuple(terms)})


def _check(
    settings: TransferSettings,
    student: nn.Module,
    teacher: FrozenTeacher | None,
    *,
    positive_share: Sequence[float] | None,
) -> None:
    reasons: list[str] = []
    label_count = getattr(student, "label_count", None)
    if settings.terms and teacher is None:
        reasons.append("there are transfer terms but no teacher")
    if label_count is not None:
        taught = teacher.label_count if teacher is not None else None
        reasons += check_transfer(settings, label_count, teacher_label_count=taught)
    shares = list(positive_share or ())
    if settings.hard_label.class_balanced and not shares:
        reasons.append("hard_label.class_balanced needs the share of positives in training")
    if settings.hard_label.class_balanced and not all(0.0 < share < 1.0 for share in shares):
        reasons.append(
            f"hard_label.class_balanced: both classes must occur in training, got {shares} as "
            "share of positives"
        )
    for term in settings.terms:
        for side in ("student_layer", "teacher_layer"):
            if getattr(term, side, "") is None:
                reasons.append(f"{term.kind}: the {side} must be named: none is declared")
    if reasons:
        raise SettingsError("this student cannot be trained like this", reasons)
    find_layers(student, _layers(settings, "student_layer"))


def _build_terms(
    settings: TransferSettings, context: TermContext, *, seed: int
) -> dict[str, nn.Module]:
    built: dict[str, nn.Module] = {}
    reasons: list[str] = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for name, term in zip(term_names(settings), settings.terms, strict=True):
            try:
                built[name] = TERMS[term.kind](term, context)
            except ValueError as error:
                reasons.append(f"{term.kind}: {error}")
    if reasons:
        raise SettingsError("these transfer terms do not fit teacher and student", reasons)
    return built


def term_names(settings: TransferSettings) -> list[str]:
    """Name each term: its kind, numbered from the second of a kind on ("hint", "hint_2")."""
    seen: Counter[str] = Counter()
    names = []
    for term in settings.terms:
        seen[term.kind] += 1
        names.append(term.kind if seen[term.kind] == 1 else f"{term.kind}_{seen[term.kind]}")
    return names


def _layers(settings: TransferSettings, side: str) -> list[str]:
    named = [getattr(term, side, None) for term in settings.terms]
    return sorted({name for name in named if name is not None})


def _derived_view_shape(student: nn.Module, teacher: FrozenTeacher) -> tuple[int, ...]:
    axes = int(getattr(student, "spatial_dims", 2))
    fixed = getattr(student, "input_shape", None) or teacher.input_shape
    return (int(getattr(student, "in_channels", 1)), *(fixed or (PROBE_SIZE,) * axes))
