"""Which networks a run trains, in which order, and what they share."""

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
        name: of its folders and tables.
        role: a teacher learns on the source domain, control and student on the target domain.
        training: how it is trained.
        model: the network to train; None: it is taken from `taken_from`.
        taken_from: a model directory.
        transfer: what it learns; only a student has transfer terms.
        teacher: name of the arm that teaches it; None: nobody.
    """

    name: str
    role: Role
    training: TrainingSettings
    model: NetworkSettings | None = None
    taken_from: Path | None = None
    transfer: TransferSettings = field(default_factory=TransferSettings)
    teacher: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RunContext:
    """What all arms of a run share; `source` is `target` where the teacher has no own domain."""

    settings: RunSettings
    run: RunFolder
    source: Domain
    target: Domain
    device: str
    progress: Progress

    def domain_of(self, arm: Arm) -> Domain:
        """Return the domain that an arm is trained on."""
        return self.source if arm.role == "teacher" else self.target

    def seed_of(self, arm: Arm) -> int:
        """Return the seed of an arm; control and students have the same."""
        return derive_seed(self.settings.seed, "teacher" if arm.role == "teacher" else "student")


def plan_arms(settings: RunSettings) -> tuple[Arm, ...]:
    """Plan the arms of a run: teachers, then the control, then the student."""
    teachers = plan_teachers(settings.teachers())
    if settings.student is None or settings.transfer is None:
        return teachers
    student = BenchArm(name="student", teacher=teachers[0].name, transfer=settings.transfer)
    return (*teachers, *plan_students(settings, [student]))


def plan_teachers(teachers: dict[str, TeacherSettings]) -> tuple[Arm, ...]:
    """Plan the teachers, trained or taken."""
    return tuple(
        Arm(
            name=name,
            role="teacher",
            training=settings.training,
            model=settings.model,
            taken_from=Path(settings.from_).expanduser() if settings.from_ else None,
        )
        for name, settings in teachers.items()
    )


def plan_students(settings: RunSettings, students: Iterable[BenchArm]) -> tuple[Arm, ...]:
    """Plan the control, which is a student without transfer terms, and the students."""
    own = settings.student
    if own is None:
        raise ValueError("students are planned, but the settings have no student")
    taught = tuple(
        Arm(s.name, "student", own.training, own.model, None, s.transfer, s.teacher)
        for s in students
    )
    plain = taught[0].transfer.without_terms()
    return (Arm(CONTROL, "control", own.training, own.model, None, plain), *taught)
