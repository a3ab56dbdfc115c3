"""What is transferred: hard labels, a list of terms, and how their weight changes with time.

Combinations that cannot teach anything are refused here, before anything is trained.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from medkd.settings import Settings
from medkd.transfer.features import HintSettings
from medkd.transfer.soft_labels import HardLabelSettings, Outputs, SoftLabelSettings

TermSettings = Annotated[SoftLabelSettings | HintSettings, Field(discriminator="kind")]

NOTHING_WITH_TWO_CLASSES = {
    "dkd": "with two classes its non-target part is 0 for every sample",
    "logit_standardisation": "with two classes every sample becomes +-0.7071: confidence is lost",
    "dist": "with two classes its inter-class correlation is +-1: only the decision is left",
}
"""Known losses that degenerate in the binary case; asked for by name, the reason is given."""


class ConstantSchedule(Settings):
    """The terms' weights as they stand, from the first batch to the last."""

    kind: Literal["constant"] = "constant"

    def factor(self, progress: float) -> float:
        """Return 1 at any progress (0..1)."""
        return 1.0 if 0.0 <= progress <= 1.0 else _refuse(progress)


class WarmupSchedule(Settings):
    """The terms' weights rise from 0 in a straight line, then stay."""

    kind: Literal["warmup"] = "warmup"
    share: float = Field(0.1, gt=0.0, le=1.0, description="part of training in which they rise")

    def factor(self, progress: float) -> float:
        """Return what weights are multiplied with at progress 0..1 of training."""
        return min(1.0, progress / self.share) if 0.0 <= progress <= 1.0 else _refuse(progress)


class DecaySchedule(Settings):
    """The terms' weights stay, then fall in a straight line to `floor` at the end."""

    kind: Literal["decay"] = "decay"
    start: float = Field(0.5, ge=0.0, lt=1.0, description="progress at which they begin to fall")
    floor: float = Field(0.0, ge=0.0, lt=1.0, description="factor at the end of training")

    def factor(self, progress: float) -> float:
        """Return what weights are multiplied with at progress 0..1 of training."""
        if not 0.0 <= progress <= 1.0:
            return _refuse(progress)
        fallen = max(0.0, progress - self.start) / (1.0 - self.start)
        return 1.0 - fallen * (1.0 - self.floor)


ScheduleSettings = Annotated[
    ConstantSchedule | WarmupSchedule | DecaySchedule, Field(discriminator="kind")
]


class TransferSettings(Settings):
    """A student's objective; with an empty list of terms it is the control arm's."""

    outputs: Outputs = Field(
        "independent", description="independent: a sigmoid each; exclusive: one softmax over all"
    )
    hard_label: HardLabelSettings = Field(
        default_factory=HardLabelSettings, description="the data's own labels"
    )
    terms: tuple[TermSettings, ...] = Field((), description="what the teacher gives; none: control")
    schedule: ScheduleSettings = Field(
        default_factory=ConstantSchedule, description="factor on all terms over training"
    )

    @model_validator(mode="before")
    @classmethod
    def _no_degenerate_loss(cls, values: Any) -> Any:  # noqa: ANN401  # plain values from YAML
        terms = values.get("terms") if isinstance(values, dict) else None
        for term in terms if isinstance(terms, list | tuple) else ():
            kind = term.get("kind") if isinstance(term, dict) else None
            if kind in NOTHING_WITH_TWO_CLASSES:
                raise ValueError(f"term {kind} is not offered: {NOTHING_WITH_TWO_CLASSES[kind]}")
        return values

    @model_validator(mode="after")
    def _something_is_learned(self) -> Self:
        twice = [key for key, count in Counter(map(_identity, self.terms)).items() if count > 1]
        if twice:
            raise ValueError(
                f"the same term stands twice ({', '.join(map(str, twice))}): raise its weight"
            )
        if self.hard_label.weight > 0:
            return self
        if not any(isinstance(term, SoftLabelSettings) for term in self.terms):
            raise ValueError(
                "hard_label.weight is 0 and no soft_label term stands: nothing teaches the outputs"
            )
        if isinstance(self.schedule, DecaySchedule) and self.schedule.floor == 0:
            raise ValueError(
                "hard_label.weight is 0 and the schedule falls to 0: nothing is learned at the "
                "end; set schedule.floor or hard_label.weight"
            )
        return self

    def without_terms(self) -> TransferSettings:
        """Return the control arm's objective: the same labels, no transfer.

        Raises:
            pydantic.ValidationError: if hard labels weigh 0: then there is no control arm.
        """
        return TransferSettings(outputs=self.outputs, hard_label=self.hard_label)


def check_transfer(
    settings: TransferSettings, label_count: int, *, teacher_label_count: int | None = None
) -> tuple[str, ...]:
    """Say what makes these settings impossible for this data and teacher; empty if nothing.

    Args:
        settings: checked in themselves already.
        label_count: outputs of the student, K.
        teacher_label_count: outputs of the teacher, None if not known yet.
    """
    reasons = []
    if settings.outputs == "exclusive" and label_count < 2:
        reasons.append(
            "outputs: exclusive with one output is always 1 (softmax of one logit): binary is "
            "outputs: independent with one output, or exclusive with two"
        )
    asks_outputs = any(isinstance(term, SoftLabelSettings) for term in settings.terms)
    if asks_outputs and teacher_label_count not in _teaching_widths(settings, label_count):
        reasons.append(
            f"soft_label: a teacher of {teacher_label_count} outputs cannot teach {label_count} "
            f"{settings.outputs} outputs: they do not name the same labels"
        )
    return tuple(reasons)


def _teaching_widths(settings: TransferSettings, label_count: int) -> set[int | None]:
    """Binary is one logit or two exclusive ones; else both sides have the same outputs."""
    binary = label_count == 1 or (label_count == 2 and settings.outputs == "exclusive")
    return {None, 1, 2} if binary else {None, label_count}


def _identity(term: Settings) -> tuple[object, ...]:
    if isinstance(term, HintSettings):
        return ("hint", term.teacher_layer, term.student_layer, term.pooled)
    return (getattr(term, "kind", ""),)


def _refuse(progress: float) -> float:
    raise ValueError(f"progress is a share of training, 0..1, got {progress!r}")
