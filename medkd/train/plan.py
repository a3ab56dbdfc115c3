"""Plan a run: which networks are trained, in which order, and what they share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medkd.config.mutual import ArmTransferSettings, MutualSettings
from medkd.config.run_settings import (
    CONTROL,
    CONTROL_VIEWS,
    SELF_TRAINING,
    BenchArm,
    RunSettings,
)
from medkd.config.training_settings import TrainingSettings
from medkd.data.patches import PatchSource
from medkd.data.sampling import derive_seed
from medkd.models.initialise import InitialiseSettings
from medkd.models.network import NetworkSettings
from medkd.runs import RunFolder
from medkd.train.answers import Asked
from medkd.train.domains import Domain
from medkd.train.logs import EpochHook, Progress, no_hook
from medkd.train.ranks import ALONE, Ranks
from medkd.transfer.objective import SIDES
from medkd.transfer.settings import TargetSettings, TransferSettings
from medkd.transfer.targets import Precision

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
        members: names of the arms of which it is the ensemble.
        joined: finished models that are members too: directories, or names of shipped models.
        weights: how the members are weighted, see `EnsembleOf`.
        mutual: the networks that are trained with it; it then has no teacher.
        same_as: name of the arm whose network it has; only the scoring differs.
        untaught: why it is trained without its terms; empty: it is trained as planned.
        views: views of a sample over which its score is averaged; None: as `evaluation.views` says.
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
    members: tuple[str, ...] = ()
    joined: tuple[Path, ...] = ()
    weights: Literal["equal", "validation", "confidence"] = "equal"
    mutual: MutualSettings | None = None
    same_as: str | None = None
    views: int | None = None
    untaught: str = ""
    adapt: Literal["batch_norm", "embedding"] | None = None

    @property
    def is_ensemble(self) -> bool:
        """Whether its network is joined from others."""
        return bool(self.members or self.joined)


@dataclass(frozen=True, slots=True, eq=False)
class RunContext:
    """What all arms of a run share. Without a separate source domain, `source` is `target`."""

    settings: RunSettings
    run: RunFolder
    source: Domain
    target: Domain
    device: str
    progress: Progress
    after_epoch: EpochHook = no_hook
    ranks: Ranks = ALONE

    def domain_of(self, arm: Arm) -> Domain:
        """Return the domain on which an arm is trained."""
        return self.source if arm.role == "teacher" else self.target

    def view_seed(self, domain: Domain) -> int:
        """Return the seed of the views of a domain."""
        own = domain.settings.augmentation.seed
        return self.settings.seed if own is None else own

    def asked(
        self,
        arm: Arm,
        source: PatchSource,
        *,
        views: int,
        domain: Domain | None = None,
        precision: Precision = "float32",
        rows: tuple[int, ...] | None = None,
    ) -> Asked:
        """Ask for `views` views of samples of a domain, by default the target; `PLAIN`: samples."""
        domain = domain or self.target
        return Asked(
            domain, source, views, self.view_seed(domain), self.device, precision, arm.name,
            self.progress, rows,
        )  # fmt: skip

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
    teachers = plan_teachers(settings)
    if settings.student is None or settings.transfer is None:
        return teachers
    taught_by: str | None = teachers[0].name if teachers else "teacher"
    if settings.transfer.needs_no_teacher:
        taught_by = None
    student = BenchArm(name="student", teacher=taught_by, transfer=settings.transfer)
    return in_order(teachers, plan_students(settings, [student]))


def in_order(teachers: Iterable[Arm], students: Iterable[Arm]) -> tuple[Arm, ...]:
    """Put each arm after the arms that it needs: an ensemble may have the control as a member."""
    given = tuple(teachers)
    single = [arm for arm in given if not arm.is_ensemble]
    several = [arm for arm in given if arm.is_ensemble]
    own = tuple(students)
    control = [arm for arm in own if CONTROL in (arm.name, arm.same_as)]
    return (*single, *control, *several, *(arm for arm in own if arm not in control))


def plan_teachers(settings: RunSettings) -> tuple[Arm, ...]:
    """Return the arms of the teachers, to be trained or loaded; outputs as of the students."""
    return tuple(
        Arm(
            name=name,
            role="teacher",
            training=one.training,
            model=one.model,
            members=one.ensemble.members if one.ensemble else (),
            joined=_paths(one.ensemble.from_) if one.ensemble else (),
            weights=one.ensemble.weights if one.ensemble else "equal",
            taken_from=Path(one.from_).expanduser() if one.from_ else None,
            transfer=TransferSettings(outputs=settings.outputs, alignment=one.alignment),
            initialise=one.initialise,
            adapt=one.adapt,
        )
        for name, one in settings.teachers().items()
    )


def _paths(models: Iterable[str]) -> tuple[Path, ...]:
    return tuple(Path(model).expanduser() for model in models)


def plan_students(settings: RunSettings, students: Iterable[BenchArm]) -> tuple[Arm, ...]:
    """Return the controls, which are students without transfer terms, and the students.

    Where there are samples without labels, two more arms show what they give without a teacher:
    the control scored by the mean over views (classifiers only), and self-training, a student of
    the control.
    """
    own = settings.student
    if own is None:
        raise ValueError("expected settings with a student")
    asked = list(students)
    if settings.trains_itself:
        first = next((one.transfer for one in asked if one.teacher), asked[0].transfer)
        asked = [_self_training(settings, first), *asked]
    start = own.initialise
    taught = [
        Arm(
            name=s.name,
            role="student" if s.teacher or s.transfer.needs_no_teacher else "control",
            training=own.training,
            model=s.model or own.model,
            transfer=s.transfer,
            teacher=s.teacher if s.transfer.mutual is None else None,
            initialise=start if s.model is None and s.start == "student" else None,
            mutual=s.transfer.mutual,
        )
        for s in asked
    ]
    plain = taught[0].transfer.without_terms()
    control = Arm(CONTROL, "control", own.training, own.model, None, plain, initialise=start)
    if not settings.averages_control:
        return (control, *taught)
    views = settings.controls.views
    averaged = Arm(CONTROL_VIEWS, "control", own.training, same_as=CONTROL, views=views)
    return (control, averaged, *taught)


def _self_training(settings: RunSettings, transfer: ArmTransferSettings) -> BenchArm:
    """Return the student of the control: the same terms on outputs, and answers over views.

    A point detector answers for each crop as it is.
    """
    points = settings.student is not None and settings.student.model.finds_points
    terms = tuple(t for t in transfer.terms if not any(t.layers(side) for side in SIDES))
    if not terms:
        kind = "teacher_marks" if points else "soft_label"
        terms = TransferSettings.model_validate({"terms": [{"kind": kind}]}).terms
    over_views = TargetSettings(mode="stored", average=True, views=settings.controls.views or 1)
    targets = TargetSettings() if points else over_views
    changed = {"terms": terms, "targets": targets, "only_if_better": False, "mutual": None}
    return BenchArm(
        name=SELF_TRAINING, teacher=CONTROL, transfer=transfer.model_copy(update=changed)
    )
