"""Settings of a training run or bench: `RunSettings` and its sections.

`load.py` reads YAML into `RunSettings`, and `medkd config keys` prints the descriptions below.
Settings of one component, such as a model or a transfer term, are defined beside that component.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from medkd.config.adaptation_settings import AdaptationSettings
from medkd.config.domain_settings import ArmName, DomainSettings
from medkd.config.mutual import ArmTransferSettings
from medkd.config.pool_controls import PoolControls
from medkd.config.training_settings import TrainingSettings
from medkd.config.tune_settings import TunedSettings, TuneSettings
from medkd.data.loading import hu_window, patch_shape, spacing_mm
from medkd.detect import DetectSettings
from medkd.detect.view import OneLook
from medkd.models.initialise import InitialiseSettings
from medkd.models.probe import ProbeSettings
from medkd.models.table import ModelSettings, check_model_input
from medkd.settings import ModelPath, Settings
from medkd.transfer.outputs import Outputs
from medkd.transfer.settings import batch_misfits, check_targets, check_transfer

CONTROL = "control"
CONTROL_VIEWS = "control_views"
"""The arm whose network is the control's, scored by the mean over views."""
SELF_TRAINING = "self_training"
"""The arm that learns from the control's mean answers over views."""


class EvaluationSettings(Settings):
    """How predictions are evaluated."""

    rule: Literal["youden", "max_accuracy", "half", "sensitivity"] = Field(
        "youden",
        description="How the threshold is chosen on validation data; half: probability .5.",
    )
    sensitivity: float = Field(
        0.9, gt=0, lt=1, description="Least sensitivity on validation data, for rule: sensitivity."
    )
    views: int = Field(
        1,
        ge=1,
        description="Each sample is scored by the mean logit over this many views (see "
        "augmentation); 1: by the sample as it is.",
    )
    bootstrap: int = Field(1000, ge=0, description="Bootstrap resamples; 0: no intervals.")
    seed: int = Field(0, ge=0, description="Seed of the bootstrap.")


class EnsembleOf(Settings):
    """A teacher whose logits are the mean of several models' logits, brought to one scale."""

    members: tuple[ArmName, ...] = Field(
        (), description="Names of other teachers of a bench, or control."
    )
    from_: tuple[ModelPath, ...] = Field(
        (),
        alias="from",
        description="Model directories or shipped models, which are members too; each may lack "
        "some of the labels.",
    )
    weights: Literal["equal", "validation", "confidence"] = Field(
        "validation",
        description="equal; validation: in proportion to a member's likelihood of the validation "
        "labels (pseudo-BMA); confidence: for each sample, the surer a member the more.",
    )

    @model_validator(mode="after")
    def _several(self) -> EnsembleOf:
        if len(self.members) + len(self.from_) < 2:
            raise ValueError("an ensemble needs two members at least (members, from)")
        return self


class TeacherSettings(AdaptationSettings):
    """The teacher: a model directory, a network to train, or an ensemble of other arms.

    `teacher: {kind: probe, ...}` is short for `teacher: {model: {kind: probe, ...}}`.
    """

    from_: ModelPath | None = Field(
        None, alias="from", description="A model directory, or the name of a shipped model."
    )
    model: ModelSettings | None = Field(None, description="The network to train.")
    ensemble: EnsembleOf | None = Field(None, description="Several that teach together.")
    initialise: InitialiseSettings | None = Field(
        None, description="The network starts from a source model; null: its own first weights."
    )
    training: TrainingSettings = Field(
        default_factory=TrainingSettings, description="How the network is trained."
    )

    @model_validator(mode="before")
    @classmethod
    def _probe_in_short(cls, values: Any) -> Any:  # noqa: ANN401  # plain values from YAML
        if not isinstance(values, dict) or values.get("kind") != "probe":
            return values
        of_teacher = {name for name in cls.model_fields if name not in ("model", "from_")}
        own = {key: value for key, value in values.items() if key in of_teacher}
        probe = {key: value for key, value in values.items() if key not in own}
        return {"model": probe, **own}

    @model_validator(mode="after")
    def _one_way(self) -> TeacherSettings:
        if sum(one is not None for one in (self.from_, self.model, self.ensemble)) != 1:
            raise ValueError(
                "give one of from (a model directory), model (a network to train) and ensemble "
                "(several together)"
            )
        if self.from_ and self.initialise:
            raise ValueError("initialise needs model: a network given by from is not trained")
        if self.from_ and (reason := self.unfit_for_given()):
            raise ValueError(reason)
        return self


class StudentSettings(Settings):
    """The small model. The control is the same network, trained without a teacher."""

    model: ModelSettings = Field(description="The network, at most 0.5 million parameters.")
    initialise: InitialiseSettings | None = Field(
        None,
        description="Student and control start from a source model; null: their own first weights.",
    )
    training: TrainingSettings = Field(
        default_factory=TrainingSettings, description="How student and control are trained."
    )


class DetectionSettings(Settings):
    """Search of whole CT scans, evaluated by FROC."""

    arms: tuple[ArmName, ...] = Field(
        ("control", "student", "teacher"), description="Models that search whole scans."
    )
    search: OneLook = Field(default_factory=DetectSettings, description="How a scan is searched.")
    fp_per_scan: float = Field(
        1.0, gt=0, description="False positives per validation scan that set the threshold."
    )


class BenchArm(Settings):
    """One arm of a bench beside the control: distilled, or trained without a teacher."""

    name: ArmName = Field(description="Name of the arm in folders and tables.")
    teacher: ArmName | None = Field(
        "teacher",
        description="Its teacher: a key of `teachers`, control (self-training), or an arm listed "
        "before it (a chain of assistants, generations); null: it learns from labels only.",
    )
    start: Literal["student", "scratch"] = Field(
        "student",
        description="student: from the source model of student.initialise; scratch: from its own "
        "first weights.",
    )
    model: ModelSettings | None = Field(
        None, description="Its network, for example of an assistant; null: that of the student."
    )
    transfer: ArmTransferSettings = Field(
        default_factory=ArmTransferSettings,
        description="What is transferred; no terms: labels only. With mutual: no teacher.",
    )

    @model_validator(mode="after")
    def _terms_need_a_teacher(self) -> BenchArm:
        if self.transfer.mutual is None and (self.teacher is None) == bool(self.transfer.terms):
            raise ValueError(
                f"{self.name}: an arm with a teacher has transfer.terms, an arm with teacher: null "
                "has none"
            )
        return self


class Comparison(Settings):
    """The primary comparison; its p value is not adjusted for multiple comparisons."""

    first: ArmName = Field(
        "headline", description="An arm; headline: the arm chosen on validation."
    )
    second: ArmName = Field(CONTROL, description="The arm that it is compared with.")
    metric: Literal[
        "roc_auc", "pr_auc", "accuracy@half", "accuracy@frozen", "balanced_accuracy@frozen"
    ] = Field(
        "roc_auc", description="The metric; accuracy is at probability .5 or the chosen threshold."
    )


class PublishedRow(Settings):
    """A published result of another method, shown beside our results."""

    name: str = Field(description="Name of the method.")
    roc_auc: float = Field(ge=0, le=1, description="Published ROC AUC.")
    accuracy: float = Field(ge=0, le=1, description="Published accuracy, at probability .5.")
    source: str = Field(description="Publication.")


class LabelPoint(Settings):
    """One fraction of the labels in a map of when transfer pays."""

    fraction: float = Field(gt=0, le=1, description="Fraction of the labels that are used.")
    seeds: int = Field(
        5, ge=1, description="Seeds 0, 1, ...: of the labels that are used, and of the weights."
    )


class BenchSettings(Settings):
    """A bench: every arm is trained with every seed; each seed can be resumed separately."""

    seeds: tuple[int, ...] = Field(
        (0, 1, 2, 3, 4), min_length=1, description="Seeds; one run per seed."
    )
    labels: tuple[LabelPoint, ...] = Field(
        (),
        description="A map: the bench is repeated with fractions of the labels, the other training "
        "cases without theirs; `seeds` then counts for nothing. Empty: one bench.",
    )
    protocol: Literal["test", "cross_validation"] = Field(
        "test", description="cross_validation: folds of train and validation; test is not used."
    )
    folds: int = Field(5, ge=3, description="Folds of cross_validation; one run per seed and fold.")
    teachers: dict[ArmName, TeacherSettings] = Field(
        default_factory=dict, description="Teachers by name; empty: the teacher of the run."
    )
    teacher_seeds: Literal["shared", "each"] = Field(
        "each",
        description="shared: teachers are trained once, with the run's seed; each: per seed.",
    )
    arms: tuple[BenchArm, ...] = Field(
        (), description="Distilled arms beside the control; empty: the student of the run."
    )
    choose_on: Literal["validation"] = Field(
        "validation", description="Data on which the headline arm is chosen."
    )
    primary: Comparison = Field(
        default_factory=Comparison, description="The primary comparison, set before the run."
    )
    published: tuple[PublishedRow, ...] = Field(
        (), description="Published results of other methods."
    )

    @model_validator(mode="after")
    def _names_fit(self) -> BenchSettings:
        names = [*self.teachers, *(arm.name for arm in self.arms), CONTROL, "headline"]
        reasons = [f"the name {n!r} occurs twice" for n in {n for n in names if names.count(n) > 1}]
        reasons += self._unknown_teachers()
        known = {*names, *(() if self.arms else ("student",)), "teacher"}
        compared = (self.primary.first, self.primary.second)
        reasons += [f"primary names {n!r}, which is not an arm" for n in compared if n not in known]
        if len({point.fraction for point in self.labels}) < len(self.labels):
            reasons.append("labels: a fraction occurs twice")
        if self.labels and self.teacher_seeds == "shared":
            reasons.append("labels: teachers learn from the labels of each seed; use each")
        if len(set(self.seeds)) < len(self.seeds):
            reasons.append("a seed occurs twice")
        folds = self.protocol == "cross_validation"
        if folds and self.teacher_seeds == "shared":
            reasons.append(
                "teacher_seeds: shared would train a teacher on the held-out folds; use each"
            )
        if folds and any(teacher.from_ for teacher in self.teachers.values()):
            reasons.append(
                "a teacher given by from may have seen the held-out folds: train it in the bench"
            )
        plain = [arm.transfer.without_terms() for arm in self.arms]
        labels = {(one.outputs, one.hard_label.model_dump_json()) for one in plain}
        if len(labels) > 1:
            reasons.append("arms differ in hard_label or outputs: one control must fit all of them")
        if reasons:
            raise ValueError("; ".join(sorted(reasons)))
        return self

    def _unknown_teachers(self) -> Iterator[str]:
        """Yield a reason for each teacher or member of an ensemble that is not listed before."""
        before = {*(self.teachers or {"teacher"}), CONTROL}
        single = {name for name, one in self.teachers.items() if one.ensemble is None} | {CONTROL}
        for name, teacher in self.teachers.items():
            for member in teacher.ensemble.members if teacher.ensemble else ():
                if member not in single:
                    yield (
                        f"the ensemble {name!r} names {member!r}: members are single teachers of "
                        f"the bench, or {CONTROL}"
                    )
        for arm in self.arms:
            alone = arm.teacher is None or arm.transfer.mutual is not None
            if not alone and arm.teacher not in before:
                yield f"an arm names the teacher {arm.teacher!r}, which is not listed before it"
            before.add(arm.name)


class RunSettings(Settings):
    """A run: a teacher on the source domain, control and student on the target domain.

    The control is the same network as the student, trained without the teacher.
    """

    name: str = Field("run", pattern=r"^[\w.-]+$", description="Name of the run.")
    seed: int = Field(0, ge=0, description="Seed of initial weights, batches and views.")
    split_seed: int = Field(
        0,
        ge=0,
        description="Seed of random splits, label limits and kept negatives; the same for all "
        "seeds of a bench.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Device of the networks.")
    threads: int | None = Field(None, ge=1, description="CPU threads; null: the default of torch.")
    source: DomainSettings | None = Field(
        None, description="Data of the teacher; null: the target domain."
    )
    target: DomainSettings = Field(description="Data of control and student.")
    teacher: TeacherSettings | None = Field(None, description="The teacher.")
    student: StudentSettings | None = Field(
        None, description="The student; null: only a teacher is trained."
    )
    transfer: ArmTransferSettings | None = Field(
        None,
        description="What the student learns; the control is trained without the terms. auto: soft "
        "labels, if the teacher is better than the control on validation.",
    )
    controls: PoolControls = Field(
        default_factory=PoolControls,
        description="Further controls, where samples without labels are trained on.",
    )
    evaluation: EvaluationSettings = Field(
        default_factory=EvaluationSettings, description="How predictions are evaluated."
    )
    detection: DetectionSettings | None = Field(
        None, description="Null: whole scans are not searched."
    )
    bench: BenchSettings | None = Field(None, description="Seeds and arms of `medkd bench`.")
    tune: TuneSettings | None = Field(None, description="The search of `medkd tune`.")
    tuned: TunedSettings | None = Field(
        None, description="The search that chose these settings; written by `medkd tune`."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> RunSettings:
        reasons = [*self._missing(), *self._views(), *self._networks(), *self._teaching()]
        reasons += [*self._transfers(), *self._arm_names()]
        if reasons:
            raise ValueError("; ".join(reasons))
        return self

    def teachers(self) -> dict[str, TeacherSettings]:
        """Return the teachers of the bench, or the teacher of the run, by name."""
        own = {"teacher": self.teacher} if self.teacher else {}
        return dict(self.bench.teachers) if self.bench and self.bench.teachers else own

    def _learned(self) -> list[ArmTransferSettings]:
        """Return what the arms of the bench learn, or else the student of the run."""
        arms = [arm.transfer for arm in self.bench_arms()]
        return arms or ([self.transfer] if self.transfer else [])

    @property
    def outputs(self) -> Outputs:
        """What the outputs of students and teachers mean; those of all arms are of one kind."""
        return next((one.outputs for one in self._learned()), "independent")

    def _missing(self) -> Iterator[str]:
        learned = self._learned()
        alone = learned and all(one.needs_no_teacher for one in learned)
        if not self.teachers() and not alone:
            yield "teacher: missing; give teacher.from or teacher.model"
        if self.student and not self.transfer and not (self.bench and self.bench.arms):
            yield "transfer: missing; it defines what the student learns from the teacher"
        if self.detection and not self.target.is_ct:
            yield "detection: only CT scans can be searched"
        if self.evaluation.views > 1 and self.student and self.student.model.finds_points:
            yield "evaluation.views: a point detector is scored on the sample as it is; use 1"
        if self.bench and not self.student:
            yield "student: missing; a bench compares students"
        if self.tune and self.tune.arm != "teacher" and not self.student:
            yield f"student: missing; tune.arm is {self.tune.arm}"

    def _views(self) -> Iterator[str]:
        """Yield reasons why source and target views are incompatible."""
        if not self.source:
            return
        trained = any(teacher.model for teacher in self.teachers().values())
        if not trained and not any(one.alignment for one in self._learned()):
            yield "source: not used, because no teacher is trained and no arm aligned in this run"
        for words, read in (
            ("HU window", hu_window), ("spacing", spacing_mm), ("patch", patch_shape),
        ):  # fmt: skip
            ours, theirs = read(self.target.loading), read(self.source.loading)
            if ours != theirs:
                yield f"source.loading has the {words} {theirs}, target.loading has {ours}"

    def _networks(self) -> Iterator[str]:
        """Yield reasons why networks do not fit CT views; images are checked when they are read."""
        shape = patch_shape(self.target.loading) if self.target.is_ct else None
        if shape is None:
            return
        named = {f"teacher {name}": t.model for name, t in self.teachers().items()}
        named |= {"student": self.student.model if self.student else None}
        window = hu_window(self.target.loading)
        spacing = spacing_mm(self.target.loading)
        for name, model in named.items():
            if model is None:
                continue
            found = check_model_input(
                model, view_shape=(1, *shape), hu_window=window, label_count=1
            )
            yield from (f"{name}: {reason}" for reason in found)
            if model.finds_points and (spacing is None or len(set(spacing)) > 1):
                yield f"{name}: a point detector needs a spacing step with equal spacings"

    def _teaching(self) -> Iterator[str]:
        """Yield reasons why teachers cannot give these outputs, or be aligned or adapted."""
        two = self.source is not None
        for name, teacher in self.teachers().items():
            if isinstance(teacher.model, ProbeSettings) and self.outputs == "exclusive":
                yield (
                    f"teacher {name}: a probe has one yes-or-no classifier for each class, but "
                    "transfer.outputs is exclusive: use outputs: independent, or a network as the "
                    "teacher"
                )
            if teacher.model is not None:
                size = teacher.training.batch_size
                found = teacher.misfits(teacher.model, batch_size=size, two_domains=two)
                yield from (f"teacher {name}: {reason}" for reason in found)

    def _transfers(self) -> Iterator[str]:
        if not self.student:
            return
        found = {"transfer": self.transfer} if self.transfer else {}
        found |= {
            f"bench arm {a.name}": a.transfer
            for a in self.bench_arms()
            if a.teacher or a.transfer.needs_no_teacher
        }
        for arm in self.bench_arms():
            if arm.teacher == CONTROL and arm.transfer.only_if_better:
                yield f"bench arm {arm.name}: only_if_better, but the control is its own teacher"
        for name, transfer in found.items():
            if transfer.mutual is not None and self.student.model.finds_points:
                yield f"{name}: mutual compares logits, and the student is a point detector"
            if not transfer.terms and transfer.mutual is None and not transfer.alignment:
                yield f"{name}: no terms, so the student would equal the control"
            if transfer.alignment and not self.source:
                yield f"{name}.alignment: it needs two domains, but source is null: give source"
            trained = self.target.augmentation.views
            unfit = check_targets(transfer.targets, trained)
            yield from (f"{name}: {reason}" for reason in unfit)
            model = self.student.model
            if model.finds_points and transfer.targets.mode == "stored":
                yield f"{name}: targets.mode: stored is for samples, detector3d learns from crops"
            reasons = check_transfer(transfer, model.used_count, finds_points=model.finds_points)
            reasons += batch_misfits(transfer, self.student.training.batch_size)
            yield from (f"{name}: {reason}" for reason in reasons)

    @property
    def has_pool(self) -> bool:
        """Whether the split keeps training cases without their labels."""
        limit = self.target.split.limit
        return limit is not None and limit.unlabelled == "keep"

    @property
    def averages_control(self) -> bool:
        """Whether the control is also scored by the mean over views."""
        points = self.student is None or self.student.model.finds_points
        return self.has_pool and self.controls.views is not None and not points

    @property
    def trains_itself(self) -> bool:
        """Whether a student of the control is trained too."""
        return self.has_pool and self.controls.self_training and self.student is not None

    def _arm_names(self) -> Iterator[str]:
        if self.trains_itself and any(arm.name == SELF_TRAINING for arm in self.bench_arms()):
            yield (
                f"bench: an arm {SELF_TRAINING} is added to yours of that name: rename it, or set "
                "controls.self_training: false"
            )
        usual = {"teacher", CONTROL, CONTROL_VIEWS, SELF_TRAINING, "student"}  # some may be off
        known = usual | set(self.teachers()) | {arm.name for arm in self.bench_arms()}
        searching = self.detection.arms if self.detection is not None else ()
        if unknown := [name for name in searching if name not in known]:
            yield (
                f"detection.arms: no arm is called {', '.join(map(repr, unknown))}; expected some "
                f"of {', '.join(sorted(known))}"
            )
        joined = self.teacher.ensemble if self.teacher is not None else None
        if joined is not None and joined.members and not self.bench:
            yield (
                "teacher.ensemble.members: they are teachers of a bench: use bench.teachers, or "
                "name model directories in teacher.ensemble.from"
            )

    def bench_arms(self) -> tuple[BenchArm, ...]:
        """Return the distilled arms of the bench; empty if there is no bench."""
        return self.bench.arms if self.bench else ()
