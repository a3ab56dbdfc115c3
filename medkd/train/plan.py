"""Which networks a run trains, and what all of them share."""

from __future__ import annotations

from dataclasses import dataclass

from medkd.config.run_settings import CONTROL, RunSettings, TeacherSettings
from medkd.runs import RunFolder
from medkd.train.domains import Domain
from medkd.train.logs import Progress
from medkd.transfer.settings import TransferSettings


@dataclass(frozen=True, slots=True)
class TaughtArm:
    """A small network to train: alone (teacher None), or taught by the teacher of that name."""

    name: str
    transfer: TransferSettings
    teacher: str | None = None


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Teachers by name, then small networks in the order in which they are trained."""

    teachers: dict[str, TeacherSettings]
    arms: tuple[TaughtArm, ...]

    @property
    def students(self) -> tuple[TaughtArm, ...]:
        """The arms that have a teacher."""
        return tuple(arm for arm in self.arms if arm.teacher is not None)

    @property
    def has_control(self) -> bool:
        """Whether the same network is trained without a teacher too."""
        return any(arm.name == CONTROL for arm in self.arms)


@dataclass(frozen=True, slots=True, eq=False)
class RunContext:
    """What all arms of a run share; `source` is `target` where the teacher has no own domain."""

    settings: RunSettings
    plan: RunPlan
    run: RunFolder
    source: Domain
    target: Domain
    device: str
    progress: Progress


def standard_plan(settings: RunSettings) -> RunPlan:
    """Plan teacher, control and student; the teacher alone if there is no student."""
    arms: tuple[TaughtArm, ...] = ()
    if settings.student and settings.transfer:
        control = TaughtArm(CONTROL, settings.transfer)
        arms = (control, TaughtArm("student", settings.transfer, "teacher"))
    return RunPlan(settings.teachers(), arms)
