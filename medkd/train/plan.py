"""Plan a run: which networks are trained, in which order, and what they share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medkd.config.run_settings import (
    CONTROL,
    BenchArm,
    RunSettings,
    TeacherSettings,
    TrainingSettings,
)
from medkd.data.sampling import derive_seed
from medkd.models.initialise import InitialiseSettings
from medkd.models.network import NetworkSettings
from medkd.runs import RunFolder
from medkd.train.domains import Domain
from medkd.train.logs import Progress
from medkd.transfer.settings import TransferSettings

Role = Literal["teacher", "control", "student"]


@dataclass(frozen=True, slots=True)
class Arm:
    """One network of a run, before it is trained.

    Args:
        name: name of the arm in folders and tables.
        role: a teacher is trained on the source domain, control and student on the target domain.
        training: how it is trained.
        model: settings of the network to train; None if it is loaded from `taken_from`.
        taken_from: an existing model directory, or the name of a shipped model.
        transfer: settings of the loss; only a student has transfer terms. Teacher and student
            may be aligned with their other domain.
        teacher: name of the arm that teaches it; None if it has no teacher.
        initialise: the source model from which the network starts; control and student have the
            same.
        adapt: how the finished network is adapted to the target domain (`adapt.py`); None: it is
            not.
    """

    name: str
    role: Role
    training: TrainingSettings
    model: NetworkSettings | None = None
    taken_from: Path | None = None
    transfer: TransferSettings = field(default_factory=TransferSettings)
    teacher: str | None = None
    initialise: InitialiseSettings | None = None
    adapt: Literal["batch_norm", "embedding"] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RunContext:
    """What all arms of a run share. Without a separate source domain, `source` is `target`."""

    settings: RunSettings
    run: RunFolder
    source: Domain
    target: Domain
    device: str
    progress: Progress

    def domain_of(self, arm: Arm) -> Domain:
        """Return the domain on which an arm is trained."""
        return self.source if arm.role == "teacher" else self.target

    def other_domain_of(self, arm: Arm) -> Domain | None:
        """Return the domain with which an arm is aligned; None if it is not aligned."""
        if arm.transfer.alignment is None:
            return None
        return self.target if arm.role == "teacher" else self.source

    def seed_of(self, arm: Arm) -> int:
        """Return the seed of an arm; control and students have the same seed."""
        return derive_seed(self.settings.seed, "teacher" if arm.role == "teacher" else "student")


def plan_arms(settings: RunSettings) -> tuple[Arm, ...]:
    """Return the arms of a run: teachers, then control and student if the run has a student."""
    teachers = plan_teachers(settings.teachers())
    if settings.student is None or settings.transfer is None:
        return teachers
    student = BenchArm(name="student", teacher=teachers[0].name, transfer=settings.transfer)
    return (*teachers, *plan_students(settings, [student]))


def plan_teachers(teachers: dict[str, TeacherSettings]) -> tuple[Arm, ...]:
    """Return the arms of the teachers, to be trained or loaded."""
    return tuple(
        Arm(
            name=name,
            role="teacher",
            training=settings.training,
            model=settings.model,
            taken_from=Path(settings.from_).expanduser() if settings.from_ else None,
            transfer=TransferSettings(alignment=settings.alignment),
            initialise=settings.initialise,
            adapt=settings.adapt,
        )
        for name, settings in teachers.items()
    )


def plan_students(settings: RunSettings, students: Iterable[BenchArm]) -> tuple[Arm, ...]:
    """Return the control, which is a student without transfer terms, and the students."""
    own = settings.student
    if own is None:
        raise ValueError("expected settings with a student")
    start = own.initialise
    taught = tuple(
        Arm(s.name, "student", own.training, own.model, None, s.transfer, s.teacher, start)
        for s in students
    )
    plain = taught[0].transfer.without_terms()
    control = Arm(CONTROL, "control", own.training, own.model, None, plain, initialise=start)
    return (control, *taught)
