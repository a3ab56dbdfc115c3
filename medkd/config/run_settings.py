"""Settings of a training run or bench: `RunSettings` and its sections.

`load.py` reads YAML into `RunSettings`, and `medkd config keys` prints the descriptions below.
Settings of one component, such as a model or a transfer term, are defined beside that component.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from medkd.config.adaptation_settings import AdaptationSettings
from medkd.data.archive_cases import ArchiveData
from medkd.data.augment import AugmentationSettings, check_augmentation
from medkd.data.crops import CropSettings
from medkd.data.data_sets import Luna16Data, MedMnistData
from medkd.data.loading import ImageStep, LoadingSettings, hu_window, patch_shape, spacing_mm
from medkd.data.splits import SplitSettings
from medkd.detect import DetectSettings
from medkd.detect.view import OneLook
from medkd.models.initialise import InitialiseSettings
from medkd.models.table import ModelSettings, check_model_input
from medkd.settings import ModelPath, OtherPath, Settings
from medkd.synthetic.source import PhantomData
from medkd.synthetic.stream import PhantomStreamSettings
from medkd.transfer.settings import TransferSettings, batch_misfits, check_transfer

ArmName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
DataSettings = Annotated[
    Luna16Data | PhantomData | MedMnistData | ArchiveData, Field(discriminator="kind")
]
CONTROL = "control"


class TrainingSettings(Settings):
    """How one network (teacher, control or student) is trained."""

    epochs: int = Field(20, ge=1, description="Passes over the training samples.")
    batch_size: int = Field(32, ge=1, description="Samples per forward pass.")
    learning_rate: float = Field(
        1e-3, gt=0, description="Peak learning rate of the cosine schedule (AdamW)."
    )
    weight_decay: float = Field(
        0.01, ge=0, description="Decoupled weight decay; not applied to biases and norm layers."
    )
    warmup_epochs: float = Field(
        1.0, ge=0, description="Epochs in which the learning rate rises from 0 to its peak."
    )
    mixed_precision: Literal["no", "bf16", "fp16", "auto"] = Field(
        "no",
        description="Precision of the forward pass. fp16 needs a GPU; so does bf16 for 3-D "
        "classifiers. auto: bf16 on a GPU that supports it, and for point detectors on a "
        "processor that multiplies bf16 numbers; else no.",
    )
    accumulate: int = Field(
        1, ge=1, description="Batches whose gradients are averaged for one optimizer step."
    )
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay per step of an exponential moving average of the weights. If set, the "
        "averaged weights are used for validation and saved; null: no averaging.",
    )
    early_stop_patience: int | None = Field(
        None, ge=1, description="Stop after this many epochs without a better validation score."
    )
    monitor: Literal["roc_auc", "pr_auc", "loss"] = Field(
        "roc_auc",
        description="Validation metric that selects the best epoch; ties: the lower loss.",
    )
    keep: Literal["best", "last"] = Field(
        "best", description="Which weights are saved: of the best or of the last epoch."
    )
    average_best: int = Field(
        1, ge=1, description="keep: best saves the mean of the weights of this many best epochs."
    )
    balanced: bool = Field(True, description="Sample all classes equally often in each batch.")
    prior: Literal["data", "balanced"] = Field(
        "data",
        description="data: probabilities are corrected for the true prevalence. "
        "balanced: they assume equally frequent classes.",
    )
    gradient_clip: float | None = Field(
        None, gt=0, description="Largest gradient norm; null: not clipped."
    )
    workers: int = Field(
        0, ge=0, description="Processes that load samples; 0: the main process loads."
    )
    max_steps_per_epoch: int | None = Field(
        None, ge=1, description="Most batches per epoch, for quick trials; null: no limit."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> TrainingSettings:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs} must be below epochs {self.epochs}: reduce it"
            )
        if self.early_stop_patience is not None and self.keep == "last":
            raise ValueError("early_stop_patience with keep: last saves a worse epoch; use best")
        if self.average_best > 1 and self.keep == "last":
            raise ValueError("average_best needs keep: best")
        return self


class EvaluationSettings(Settings):
    """How predictions are evaluated."""

    rule: Literal["youden", "max_accuracy", "half", "sensitivity"] = Field(
        "youden",
        description="How the threshold is chosen on validation data; half: probability .5.",
    )
    sensitivity: float = Field(
        0.9, gt=0, lt=1, description="Least sensitivity on validation data, for rule: sensitivity."
    )
    bootstrap: int = Field(1000, ge=0, description="Bootstrap resamples; 0: no intervals.")
    seed: int = Field(0, ge=0, description="Seed of the bootstrap.")


class MoreCrops(Settings):
    """Further scans on which point detectors are trained; validation and test never use them."""

    data: DataSettings = Field(description="The data set; all its scans are used.")
    share: float = Field(gt=0, description="Crops from this set, relative to the other sets.")
    nodule_share: float = Field(
        0.7, ge=0, le=1, description="Share of its crops around a nodule; 0: without nodules."
    )


class PhantomCrops(PhantomStreamSettings):
    """Phantoms that are generated while a point detector is trained."""

    share: float = Field(gt=0, description="Crops from phantoms, relative to the other sets.")
    nodule_share: float = Field(
        0.7, ge=0, le=1, description="Share of their crops around a nodule."
    )


class MiningSettings(Settings):
    """Hard negatives: marks of the teacher in training scans that are on no finding."""

    rounds: int = Field(
        1, ge=1, description="Rounds, evenly spread over the training of the teacher."
    )
    per_scan: int = Field(20, ge=1, description="Most hard negatives per scan.")
    share: float = Field(0.3, gt=0, description="Crops around them, relative to other sets.")


class TrainingCrops(CropSettings):
    """The crops on which point detectors are trained, and their sources."""

    share: float = Field(
        1.0, ge=0, description="Crops from the labelled training scans, relative to other sets."
    )
    unlabelled_share: float = Field(
        0.5, ge=0, description="Crops from training scans without labels, relative to other sets."
    )
    rejected_share: float = Field(
        0.3,
        ge=0,
        description="Crops around marks that readers rejected in `medkd review` (an INDEX with "
        "--reviews), relative to other sets.",
    )
    more: dict[ArmName, MoreCrops] = Field(
        default_factory=dict, description="Further sets of scans, by name."
    )
    phantoms: PhantomCrops | None = Field(
        None, description="Phantoms generated during the training; null: none."
    )
    mining: MiningSettings | None = Field(
        None, description="Hard negatives from the training scans; null: none."
    )


class DomainSettings(Settings):
    """One data domain: the data set, its split, loading steps and augmentation."""

    data: DataSettings = Field(description="The data set.")
    split: SplitSettings = Field(description="How it is split into train, validation and test.")
    loading: LoadingSettings = Field(
        (ImageStep(),), description="Steps from a file to the input of the models."
    )
    augmentation: AugmentationSettings = Field(
        default_factory=AugmentationSettings, description="Random changes of the training samples."
    )
    crops: TrainingCrops = Field(
        default_factory=TrainingCrops, description="Crops for point detectors (detector3d)."
    )
    negatives_per_positive: int | None = Field(
        None, ge=1, description="Negative training candidates kept per positive one; null: all."
    )
    cache_dir: OtherPath = Field(
        "${run_dir}/cache", description="Folder of the cache of prepared scans; see `medkd cache`."
    )
    cache_gib: float = Field(
        100.0,
        gt=0,
        description="Size limit of the cache, GiB; the least recently used entries are removed.",
    )

    @model_validator(mode="after")
    def _loading_fits_the_set(self) -> DomainSettings:
        if self.is_ct and patch_shape(self.loading) is None:
            raise ValueError("CT needs loading steps with a crop step; see demo/phantom")
        if isinstance(self.data, ArchiveData) and not self.is_ct and not self._reads_files():
            raise ValueError(
                "radiographs of an archive need loading: [{kind: image, source: file, size_px: "
                "[ROWS, COLUMNS]}]"
            )
        reasons = check_augmentation(self.augmentation, 3 if self.is_ct else 2)
        if self.is_ct and reasons:
            raise ValueError("; ".join(reasons))
        return self

    @property
    def is_ct(self) -> bool:
        """Whether samples are patches of CT scans rather than whole images."""
        images = isinstance(self.data, ArchiveData) and self.data.cases == "images"
        return not images and not isinstance(self.data, MedMnistData)

    def _reads_files(self) -> bool:
        steps = [step for step in self.loading if isinstance(step, ImageStep)]
        return any(s.source == "file" and s.size_px and len(s.size_px) == 2 for s in steps)


class TeacherSettings(AdaptationSettings):
    """The teacher: a model directory, or a network to train."""

    from_: ModelPath | None = Field(
        None, alias="from", description="A model directory, or the name of a shipped model."
    )
    model: ModelSettings | None = Field(None, description="The network to train.")
    initialise: InitialiseSettings | None = Field(
        None, description="The network starts from a source model; null: its own first weights."
    )
    training: TrainingSettings = Field(
        default_factory=TrainingSettings, description="How the network is trained."
    )

    @model_validator(mode="after")
    def _one_way(self) -> TeacherSettings:
        if (self.from_ is None) == (self.model is None):
            raise ValueError("give either from (a model directory) or model (a network to train)")
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
    """One distilled arm of a bench."""

    name: ArmName = Field(description="Name of the arm in folders and tables.")
    teacher: ArmName = Field("teacher", description="Name of its teacher, a key of `teachers`.")
    transfer: TransferSettings = Field(description="What is transferred.")


class Comparison(Settings):
    """The primary comparison; its p value is not adjusted for multiple comparisons."""

    first: ArmName = Field(
        "headline", description="An arm; headline: the arm chosen on validation."
    )
    second: ArmName = Field(CONTROL, description="The arm that it is compared with.")
    metric: Literal["roc_auc", "accuracy@half", "accuracy@frozen"] = Field(
        "roc_auc", description="The metric; accuracy is at probability .5 or the chosen threshold."
    )


class PublishedRow(Settings):
    """A published result of another method, shown beside our results."""

    name: str = Field(description="Name of the method.")
    roc_auc: float = Field(ge=0, le=1, description="Published ROC AUC.")
    accuracy: float = Field(ge=0, le=1, description="Published accuracy, at probability .5.")
    source: str = Field(description="Publication.")


class BenchSettings(Settings):
    """A bench: every arm is trained with every seed; each seed can be resumed separately."""

    seeds: tuple[int, ...] = Field(
        (0, 1, 2, 3, 4), min_length=1, description="Seeds; one run per seed."
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
        taught_by = {arm.teacher for arm in self.arms} - set(self.teachers or {"teacher"})
        reasons += [f"an arm names the teacher {t!r}, which is not listed" for t in taught_by]
        known = {*names, *(() if self.arms else ("student",)), "teacher"}
        compared = (self.primary.first, self.primary.second)
        reasons += [f"primary names {n!r}, which is not an arm" for n in compared if n not in known]
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
        labels = {
            (arm.transfer.outputs, arm.transfer.hard_label.model_dump_json()) for arm in self.arms
        }
        if len(labels) > 1:
            reasons.append("arms differ in hard_label or outputs: one control must fit all of them")
        if reasons:
            raise ValueError("; ".join(sorted(reasons)))
        return self


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
    transfer: TransferSettings | None = Field(
        None, description="What the student learns; the control is trained without the terms."
    )
    evaluation: EvaluationSettings = Field(
        default_factory=EvaluationSettings, description="How predictions are evaluated."
    )
    detection: DetectionSettings | None = Field(
        None, description="Null: whole scans are not searched."
    )
    bench: BenchSettings | None = Field(None, description="Seeds and arms of `medkd bench`.")

    @model_validator(mode="after")
    def _fits_together(self) -> RunSettings:
        reasons = [*self._missing(), *self._views(), *self._networks(), *self._teaching()]
        reasons += self._transfers()
        if reasons:
            raise ValueError("; ".join(reasons))
        return self

    def teachers(self) -> dict[str, TeacherSettings]:
        """Return the teachers of the bench, or the teacher of the run, by name."""
        own = {"teacher": self.teacher} if self.teacher else {}
        return dict(self.bench.teachers) if self.bench and self.bench.teachers else own

    def _missing(self) -> Iterator[str]:
        if not self.teachers():
            yield "teacher: missing; give teacher.from or teacher.model"
        if self.student and not self.transfer and not (self.bench and self.bench.arms):
            yield "transfer: missing; it defines what the student learns from the teacher"
        if self.detection and not self.target.is_ct:
            yield "detection: only CT scans can be searched"
        if self.bench and not self.student:
            yield "student: missing; a bench compares students"

    def _views(self) -> Iterator[str]:
        """Yield reasons why source and target views are incompatible."""
        if not self.source:
            return
        trained = any(teacher.model for teacher in self.teachers().values())
        if not trained:
            yield "source: not used, because no teacher is trained in this run"
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
        """Yield reasons why teachers cannot be aligned with or adapted to the target domain."""
        two = self.source is not None
        for name, teacher in self.teachers().items():
            if teacher.model is not None:
                size = teacher.training.batch_size
                found = teacher.misfits(teacher.model, batch_size=size, two_domains=two)
                yield from (f"teacher {name}: {reason}" for reason in found)

    def _transfers(self) -> Iterator[str]:
        if not self.student:
            return
        found = {"transfer": self.transfer} if self.transfer else {}
        found |= {f"bench arm {arm.name}": arm.transfer for arm in self.bench_arms()}
        for name, transfer in found.items():
            if not transfer.terms and not transfer.alignment:
                yield f"{name}: no terms, so the student would equal the control"
            if transfer.alignment and not self.source:
                yield f"{name}.alignment: it needs two domains, but source is null: give source"
            if transfer.hard_label.weight == 0:
                yield f"{name}: with hard_label.weight 0 the control would learn nothing"
            model = self.student.model
            reasons = check_transfer(transfer, model.label_count, finds_points=model.finds_points)
            reasons += batch_misfits(transfer, self.student.training.batch_size)
            yield from (f"{name}: {reason}" for reason in reasons)

    def bench_arms(self) -> tuple[BenchArm, ...]:
        """Return the distilled arms of the bench; empty if there is no bench."""
        return self.bench.arms if self.bench else ()
