"""Settings of an objective: label loss, list of transfer terms, schedule of their weights.

Combinations that cannot teach anything are refused here, before anything is trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from medkd.settings import Settings
from medkd.transfer.hard_labels import HardLabelSettings
from medkd.transfer.outputs import Outputs
from medkd.transfer.point_labels import PointLossSettings
from medkd.transfer.table import (
    NOTHING_WITH_TWO_CLASSES,
    TERMS,
    AnyAlignmentSettings,
    AnyTermSettings,
)
from medkd.transfer.targets import Precision
from medkd.transfer.terms import TermSettings


class ConstantSchedule(Settings):
    """The weights of the terms are constant."""

    kind: Literal["constant"] = "constant"

    def factor(self, progress: float) -> float:
        """Return 1 at any progress (0..1)."""
        return 1.0 if 0.0 <= progress <= 1.0 else _refuse(progress)


class WarmupSchedule(Settings):
    """The weights of the terms rise linearly from 0 and are constant afterwards."""

    kind: Literal["warmup"] = "warmup"
    share: float = Field(0.1, gt=0.0, le=1.0, description="part of training in which they rise")

    def factor(self, progress: float) -> float:
        """Return the factor on the weights at progress 0..1 of training."""
        return min(1.0, progress / self.share) if 0.0 <= progress <= 1.0 else _refuse(progress)


class DecaySchedule(Settings):
    """The weights of the terms are constant, then fall linearly to `floor` times their value."""

    kind: Literal["decay"] = "decay"
    start: float = Field(0.5, ge=0.0, lt=1.0, description="progress at which they begin to fall")
    floor: float = Field(0.0, ge=0.0, lt=1.0, description="factor at the end of training")

    def factor(self, progress: float) -> float:
        """Return the factor on the weights at progress 0..1 of training."""
        if not 0.0 <= progress <= 1.0:
            return _refuse(progress)
        fallen = max(0.0, progress - self.start) / (1.0 - self.start)
        return 1.0 - fallen * (1.0 - self.floor)


POINTS_NOT_ALIGNED = (
    "alignment: it compares one embedding for each sample, and a point detector has none: use a "
    "classifier"
)

ScheduleSettings = Annotated[
    ConstantSchedule | WarmupSchedule | DecaySchedule, Field(discriminator="kind")
]


class TargetSettings(Settings):
    """How the teacher's answers reach the student."""

    mode: Literal["live", "stored"] = Field(
        "live",
        description="live: the teacher is asked in every step. stored: it is asked once for each "
        "view, and its answers are kept in the cache; training then costs the student alone.",
    )
    average: bool = Field(
        False,
        description="Every view of a sample is taught the mean of the teacher's answers to "
        "`views` views of it (logits only); needs mode: stored.",
    )
    views: int | None = Field(
        None,
        ge=1,
        description="Views per sample that the teacher answers; null: augmentation.views. Another "
        "number than that needs average.",
    )
    scale: Literal["own", "control"] = Field(
        "own",
        description="own: the teacher's calibrated logits. control: moved to the mean and spread "
        "of the control's logits on the training samples, so that the student's threshold stays "
        "where the control's is; needs average.",
    )
    precision: Precision = Field("half", description="Precision of stored answers.")

    @model_validator(mode="after")
    def _average_is_stored(self) -> Self:
        if self.average and self.mode == "live":
            raise ValueError("targets.average needs targets.mode: stored")
        if self.scale == "control" and not self.average:
            raise ValueError("targets.scale: control needs targets.average: true")
        return self


AUTO = "auto"
"""Short form of a transfer: soft labels, from a teacher that is better than the control alone."""


class TransferSettings(Settings):
    """The objective of a student; without terms and alignment it is that of the control arm.

    `transfer: auto` is short for `terms: [{kind: soft_label}]` with `only_if_better: true`.
    """

    outputs: Outputs = Field(
        "independent",
        description="independent: a sigmoid each; exclusive: one softmax over all, for data with "
        "one of several classes for each sample. The teacher is trained in the same way.",
    )
    hard_label: HardLabelSettings = Field(
        default_factory=HardLabelSettings, description="the data's own labels"
    )
    points: PointLossSettings = Field(
        default_factory=PointLossSettings, description="the data's own nodules, for detector3d"
    )
    terms: tuple[AnyTermSettings, ...] = Field(
        (), description="what the teacher gives; none: control"
    )
    schedule: ScheduleSettings = Field(
        default_factory=ConstantSchedule, description="factor on all terms over training"
    )
    targets: TargetSettings = Field(
        default_factory=TargetSettings, description="how the teacher's answers reach the student"
    )
    only_if_better: bool = Field(
        False,
        description="the student is trained without the terms if the teacher is not better on "
        "validation (ROC AUC) than the finished control",
    )
    alignment: AnyAlignmentSettings | None = Field(
        None,
        description="makes features of another domain alike, without its labels; null: none, as "
        "in the control",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_degenerate_loss(cls, values: Any) -> Any:  # noqa: ANN401  # plain values from YAML
        if values == AUTO:
            return {"terms": [{"kind": "soft_label"}], "only_if_better": True}
        terms = values.get("terms") if isinstance(values, dict) else None
        for term in terms if isinstance(terms, list | tuple) else ():
            kind = term.get("kind") if isinstance(term, dict) else None
            if kind not in NOTHING_WITH_TWO_CLASSES:
                continue
            if kind not in TERMS:
                raise ValueError(f"term {kind} is not offered: {NOTHING_WITH_TWO_CLASSES[kind]}")
            if values.get("outputs") != "exclusive":
                raise ValueError(f"term {kind}: {_three_classes(kind)}")
        return values

    @model_validator(mode="after")
    def _averages_are_logits(self) -> Self:
        layered = [t.kind for t in self.terms if any(t.layers(s) for s in ("teacher", "student"))]
        if self.targets.average and layered:
            raise ValueError(
                f"targets.average gives logits only, but {', '.join(layered)} compare layers"
            )
        return self

    @model_validator(mode="after")
    def _something_is_learned(self) -> Self:
        if reasons := repeated_terms(self.terms):
            raise ValueError("; ".join(reasons))
        if self.hard_label.weight > 0:
            return self
        if not any(term.teaches_outputs for term in self.terms):
            able = ", ".join(kind for kind, its in TERMS.items() if its.settings.teaches_outputs)
            raise ValueError(
                f"hard_label.weight is 0 without any of {able}: nothing teaches the outputs"
            )
        if isinstance(self.schedule, DecaySchedule) and self.schedule.floor == 0:
            raise ValueError(
                "hard_label.weight is 0 and the schedule falls to 0: nothing is learned at the "
                "end; set schedule.floor or hard_label.weight"
            )
        return self

    def without_terms(self) -> TransferSettings:
        """Return the objective of the control arm: the same labels, no transfer, no alignment.

        The control of a student that learns from soft labels alone learns from the labels, with
        weight 1: it shows what the labels would have given.
        """
        own = self.hard_label
        if own.weight == 0:
            own = own.model_copy(update={"weight": 1.0})
        return TransferSettings(outputs=self.outputs, hard_label=own, points=self.points)


def check_targets(targets: TargetSettings, trained_views: int | Literal["live"]) -> Iterator[str]:
    """Yield why a teacher's answers cannot be stored for these views; nothing if they can.

    Args:
        targets: how the answers reach the student.
        trained_views: views per sample on which the student is trained, `augmentation.views`.
    """
    if targets.mode == "live":
        return
    if targets.average:
        if targets.views is None and trained_views == "live":
            yield "targets.average needs targets.views (or augmentation.views: a number)"
    elif trained_views == "live":
        yield "targets.mode: stored needs augmentation.views: a number, not live"
    elif targets.views not in (None, trained_views):
        yield (
            f"targets.views is {targets.views}, augmentation.views {trained_views}: only "
            "targets.average allows another number"
        )


def repeated_terms(terms: Iterable[TermSettings]) -> list[str]:
    """Return a reason for each term that occurs more than once; empty if all differ."""
    counts = Counter(term.identity for term in terms)
    return [
        f"the same term occurs {count} times ({', '.join(map(str, identity))}): raise its weight"
        for identity, count in counts.items()
        if count > 1
    ]


def check_transfer(
    settings: TransferSettings,
    label_count: int,
    *,
    teacher_label_count: int | None = None,
    finds_points: bool = False,
) -> tuple[str, ...]:
    """Return why these settings cannot be used with this student and teacher; empty if they can.

    Args:
        settings: already checked in themselves.
        label_count: outputs of the student, K.
        teacher_label_count: outputs of the teacher; None if not known yet.
        finds_points: whether the student is a point detector.
    """
    reasons = []
    unfit = "logits" if finds_points else "points"
    student = "finds points" if finds_points else "classifies samples"
    reasons += [
        f"{term.kind}: it compares {term.compares}, but the student {student}"
        for term in settings.terms
        if term.compares == unfit
    ]
    reasons += [
        f"{term.kind}: it compares positions, and the pooled embedding has none: name "
        "teacher_layer and student_layer"
        for term in settings.terms
        if term.needs_maps and not finds_points
        if None in (*term.layers("teacher"), *term.layers("student"))
    ]
    if settings.alignment is not None and finds_points:
        reasons.append(POINTS_NOT_ALIGNED)
    if settings.outputs == "exclusive" and label_count < 2:
        reasons.append(
            "outputs: exclusive with one output is always 1 (softmax of one logit): a yes-or-no "
            "label needs outputs: independent"
        )
    if settings.outputs == "exclusive" and settings.targets.scale == "control":
        reasons.append(
            "targets.scale: control moves each logit on its own, but exclusive outputs depend on "
            "the differences of logits: use targets.scale: own"
        )
    for term in settings.terms:
        several = settings.outputs == "exclusive" and label_count > 2
        if term.kind in NOTHING_WITH_TWO_CLASSES and not several:
            reasons.append(f"{term.kind}: {_three_classes(term.kind)}")
        found = term.misfits(
            settings.outputs, label_count=label_count, teacher_label_count=teacher_label_count
        )
        reasons += [f"{term.kind}: {reason}" for reason in found]
    return tuple(reasons)


def batch_misfits(settings: TransferSettings, batch_size: int) -> tuple[str, ...]:
    """Return why batches of this size cannot be used; empty if they can."""
    too_small = tuple(
        f"{term.kind}: it compares the samples of a batch with each other and needs at least "
        f"{term.least_samples} of them, got {batch_size}: raise student.training.batch_size"
        for term in settings.terms
        if batch_size < term.least_samples
    )
    return too_small + (settings.alignment.misfits(batch_size) if settings.alignment else ())


def _three_classes(kind: str) -> str:
    return (
        "it needs outputs: exclusive with at least 3 classes, because "
        f"{NOTHING_WITH_TWO_CLASSES[kind]}; with fewer use soft_label or logit_mse"
    )


def _refuse(progress: float) -> float:
    raise ValueError(f"expected progress as a share of training, 0..1, got {progress!r}")
