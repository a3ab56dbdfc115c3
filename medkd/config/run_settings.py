"""What the keys of a run's configuration mean: its sections, composed of the rooms' own settings.

`config.py` reads YAML into `RunSettings` and prints the descriptions below (`medkd config keys`).
A key that belongs to one thing alone is described beside that thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from medkd.config.data_sets import DataSettings
from medkd.data.archive_cases import ArchiveData
from medkd.data.augment import AugmentationSettings, check_augmentation
from medkd.data.data_sets import MedMnistData
from medkd.data.loading import ImageStep, LoadingSettings, hu_window, patch_shape, spacing_mm
from medkd.data.split_settings import SplitSettings
from medkd.detect import DetectSettings
from medkd.models.table import ModelSettings, check_model_input
from medkd.settings import InputPath, OtherPath, Settings
from medkd.transfer.settings import TransferSettings, check_transfer

ArmName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
CONTROL = "control"


class TrainingSettings(Settings):
    """How one network is trained, whatever it learns from."""

    epochs: int = Field(20, ge=1, description="Passes over the training samples.")
    batch_size: int = Field(32, ge=1, description="Samples a forward pass.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak of the cosine schedule (AdamW).")
    weight_decay: float = Field(
        0.01, ge=0, description="Decoupled decay; biases and norm layers are left alone."
    )
    warmup_epochs: float = Field(
        1.0, ge=0, description="Epochs in which the learning rate rises from 0 to its peak."
    )
    mixed_precision: Literal["no", "bf16", "fp16", "auto"] = Field(
        "no",
        description="Precision of the forward pass; fp16 needs a GPU, bf16 of 3-D networks too; "
        "auto: bf16 on a GPU that computes in it, else no.",
    )
    accumulate: int = Field(1, ge=1, description="Batches whose gradients make one step.")
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="Decay a step of averaged weights, which then are the result."
    )
    early_stop_patience: int | None = Field(
        None, ge=1, description="Epochs without a better validation score before stopping."
    )
    monitor: Literal["roc_auc", "pr_auc", "loss"] = Field(
        "roc_auc", description="Validation score that picks the best epoch; ties go to the loss."
    )
    keep: Literal["best", "last"] = Field(
        "best", description="Weights that are the result: of the best epoch, or of the last."
    )
    balanced: bool = Field(True, description="Batches hold every class in equal parts.")
    prior: Literal["data", "balanced"] = Field(
        "data",
        description="data: probabilities are put right for the true share of positives; "
        "balanced: they read as if classes were equally frequent.",
    )
    gradient_clip: float | None = Field(None, gt=0, description="Largest norm of the gradient.")
    workers: int = Field(0, ge=0, description="Processes that load samples; 0: this one.")
    max_steps_per_epoch: int | None = Field(
        None, ge=1, description="Batches an epoch at most; for trials."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> TrainingSettings:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs} leaves nothing of {self.epochs} epochs; "
                "set it below"
            )
        if self.early_stop_patience is not None and self.keep == "last":
            raise ValueError("early_stop_patience with keep: last keeps a worse epoch; use best")
        return self


class EvaluationSettings(Settings):
    """How numbers are made from predictions."""

    rule: Literal["youden", "max_accuracy", "half", "sensitivity"] = Field(
        "youden", description="How the threshold is chosen on validation; half: probability .5."
    )
    sensitivity: float = Field(
        0.9, gt=0, lt=1, description="Least sensitivity on validation, for rule: sensitivity."
    )
    bootstrap: int = Field(1000, ge=0, description="Resamples of an interval; 0: no intervals.")
    seed: int = Field(0, ge=0, description="Seed of the bootstrap.")


class DomainSettings(Settings):
    """One data domain: which set, how it is divided, loaded and varied."""

    data: DataSettings = Field(description="The set.")
    split: SplitSettings = Field(description="Train, validation and test.")
    loading: LoadingSettings = Field(
        (ImageStep(),), description="Steps from a file to the view that every model sees."
    )
    augmentation: AugmentationSettings = Field(
        default_factory=AugmentationSettings, description="How views of a sample differ."
    )
    negatives_per_positive: int | None = Field(
        None, ge=1, description="Negative training candidates kept for each positive; null: all."
    )
    cache_dir: OtherPath = Field(
        "${run_dir}/cache", description="Where prepared scans are kept; see `medkd cache`."
    )
    cache_gib: float = Field(
        100.0, gt=0, description="Most disk space of the cache; the least recently used goes."
    )

    @model_validator(mode="after")
    def _loading_fits_the_set(self) -> DomainSettings:
        if self.is_ct and patch_shape(self.loading) is None:
            raise ValueError("CT needs loading steps that end in a crop; see demo/phantom")
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
        """Whether samples are patches of CT scans (else whole images)."""
        images = isinstance(self.data, ArchiveData) and self.data.cases == "images"
        return not images and not isinstance(self.data, MedMnistData)

    def _reads_files(self) -> bool:
        steps = [step for step in self.loading if isinstance(step, ImageStep)]
        return any(s.source == "file" and s.size_px and len(s.size_px) == 2 for s in steps)


class TeacherSettings(Settings):
    """The source model: one that stands in a model directory, or one to be trained."""

    from_: InputPath | None = Field(None, alias="from", description="A model directory to take.")
    model: ModelSettings | None = Field(None, description="The network to train.")
    training: TrainingSettings = Field(
        default_factory=TrainingSettings, description="How it is trained."
    )

    @model_validator(mode="after")
    def _one_way(self) -> TeacherSettings:
        if (self.from_ is None) == (self.model is None):
            raise ValueError("give either from (a model directory) or model (to be trained)")
        return self


class StudentSettings(Settings):
    """The small model; the control is the same one without a teacher."""

    model: ModelSettings = Field(description="The network, at most 0.5 M parameters.")
    training: TrainingSettings = Field(
        default_factory=TrainingSettings, description="How student and control are trained."
    )


class DetectionSettings(Settings):
    """Marks on whole scans, for FROC (CT only)."""

    arms: tuple[ArmName, ...] = Field(
        ("control", "student", "teacher"), description="Arms that search whole scans."
    )
    search: DetectSettings = Field(
        default_factory=DetectSettings, description="How a scan is searched."
    )
    fp_per_scan: float = Field(
        1.0, gt=0, description="False marks a scan allowed on validation at the frozen threshold."
    )


class BenchArm(Settings):
    """One distilled arm of a bench."""

    name: ArmName = Field(description="Its name in folders and tables.")
    teacher: ArmName = Field("teacher", description="Which of the bench's teachers teaches it.")
    transfer: TransferSettings = Field(description="What is transferred.")


class Comparison(Settings):
    """The one comparison that is not adjusted for others."""

    first: ArmName = Field("headline", description="An arm; headline: the one chosen.")
    second: ArmName = Field(CONTROL, description="Another arm.")
    metric: Literal["roc_auc", "accuracy@half", "accuracy@frozen"] = Field(
        "roc_auc", description="The score: at probability .5 or at the frozen threshold."
    )


class PublishedRow(Settings):
    """A row of somebody else's, shown beside ours."""

    name: str = Field(description="Method.")
    roc_auc: float = Field(ge=0, le=1, description="As published.")
    accuracy: float = Field(ge=0, le=1, description="As published, at probability .5.")
    source: str = Field(description="Where it stands.")


class BenchSettings(Settings):
    """Seeds x arms, one restartable cell a seed."""

    seeds: tuple[int, ...] = Field((0, 1, 2, 3, 4), min_length=1, description="One cell each.")
    protocol: Literal["test", "cross_validation"] = Field(
        "test", description="cross_validation: folds of train and validation; test is not touched."
    )
    folds: int = Field(5, ge=3, description="Folds of cross_validation; a cell a seed and fold.")
    teachers: dict[ArmName, TeacherSettings] = Field(
        default_factory=dict, description="Teachers by name; none: the run's own."
    )
    teacher_seeds: Literal["shared", "each"] = Field(
        "each", description="shared: every teacher is trained once, with the run's seed."
    )
    arms: tuple[BenchArm, ...] = Field(
        (), description="Distilled arms beside the control; none: the run's own."
    )
    choose_on: Literal["validation"] = Field(
        "validation", description="Where the distilled arm that is the headline is chosen."
    )
    primary: Comparison = Field(
        default_factory=Comparison, description="The comparison named before the run."
    )
    published: tuple[PublishedRow, ...] = Field((), description="Rows of others.")

    @model_validator(mode="after")
    def _names_fit(self) -> BenchSettings:
        names = [*self.teachers, *(arm.name for arm in self.arms), CONTROL, "headline"]
        reasons = [f"the name {n!r} stands twice" for n in {n for n in names if names.count(n) > 1}]
        taught_by = {arm.teacher for arm in self.arms} - set(self.teachers or {"teacher"})
        reasons += [f"an arm names the teacher {t!r}, which is not listed" for t in taught_by]
        known = {*names, *(() if self.arms else ("student",)), "teacher"}
        compared = (self.primary.first, self.primary.second)
        reasons += [f"primary names {n!r}, which is no arm" for n in compared if n not in known]
        if len(set(self.seeds)) < len(self.seeds):
            reasons.append("a seed stands twice")
        folds = self.protocol == "cross_validation"
        if folds and self.teacher_seeds == "shared":
            reasons.append(
                "teacher_seeds: shared would show a teacher the held-out folds; use each"
            )
        if folds and any(teacher.from_ for teacher in self.teachers.values()):
            reasons.append("a given teacher may have seen the held-out folds: train it in them")
        labels = {
            (arm.transfer.outputs, arm.transfer.hard_label.model_dump_json()) for arm in self.arms
        }
        if len(labels) > 1:
            reasons.append("arms differ in hard_label or outputs, so that no control fits them all")
        if reasons:
            raise ValueError("; ".join(sorted(reasons)))
        return self


class RunSettings(Settings):
    """A whole run: teacher on the source domain, control and student on the target domain."""

    name: str = Field("run", pattern=r"^[\w.-]+$", description="Name of the run.")
    seed: int = Field(0, ge=0, description="Seed of initial weights, batches and views.")
    split_seed: int = Field(
        0,
        ge=0,
        description="Seed of random splits, few labels and kept negatives; one for a bench.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where networks run.")
    threads: int | None = Field(None, ge=1, description="CPU threads; null: torch's choice.")
    source: DomainSettings | None = Field(
        None, description="What the teacher is trained on; null: the target domain."
    )
    target: DomainSettings = Field(description="What control and student are trained on.")
    teacher: TeacherSettings | None = Field(None, description="The source model.")
    student: StudentSettings | None = Field(None, description="Null: the teacher alone.")
    transfer: TransferSettings | None = Field(
        None, description="What the student learns; the control learns it without its terms."
    )
    evaluation: EvaluationSettings = Field(
        default_factory=EvaluationSettings, description="How numbers are made."
    )
    detection: DetectionSettings | None = Field(None, description="Null: no whole-scan marks.")
    bench: BenchSettings | None = Field(None, description="Seeds and arms of `medkd bench`.")

    @model_validator(mode="after")
    def _fits_together(self) -> RunSettings:
        reasons = [*self._missing(), *self._views(), *self._networks(), *self._transfers()]
        if reasons:
            raise ValueError("; ".join(reasons))
        return self

    def teachers(self) -> dict[str, TeacherSettings]:
        """Return every teacher of the run or bench by its name."""
        own = {"teacher": self.teacher} if self.teacher else {}
        return dict(self.bench.teachers) if self.bench and self.bench.teachers else own

    def _missing(self) -> Iterator[str]:
        if not self.teachers():
            yield "teacher: missing; give teacher.from or teacher.model"
        if self.student and not self.transfer and not (self.bench and self.bench.arms):
            yield "transfer: missing; say what the student learns from the teacher"
        if self.detection and not self.target.is_ct:
            yield "detection: only CT scans are searched"
        if self.bench and not self.student:
            yield "student: missing; a bench compares students"

    def _views(self) -> Iterator[str]:
        """Teacher and student must be used to the same kind of view."""
        if not self.source:
            return
        trained = any(teacher.model for teacher in self.teachers().values())
        if not trained:
            yield "source: no teacher is trained in this run, so nothing uses it"
        for words, read in (
            ("HU window", hu_window), ("spacing", spacing_mm), ("patch", patch_shape),
        ):  # fmt: skip
            ours, theirs = read(self.target.loading), read(self.source.loading)
            if ours != theirs:
                yield f"source.loading gives the {words} {theirs}, target.loading {ours}"

    def _networks(self) -> Iterator[str]:
        """CT views are known from the loading steps; images are checked when they are read."""
        shape = patch_shape(self.target.loading) if self.target.is_ct else None
        if shape is None:
            return
        named = {f"teacher {name}": t.model for name, t in self.teachers().items()}
        named |= {"student": self.student.model if self.student else None}
        window = hu_window(self.target.loading)
        for name, model in named.items():
            if model is not None:
                found = check_model_input(
                    model, view_shape=(1, *shape), hu_window=window, label_count=1
                )
                yield from (f"{name}: {reason}" for reason in found)

    def _transfers(self) -> Iterator[str]:
        if not self.student:
            return
        found = {"transfer": self.transfer} if self.transfer else {}
        found |= {f"bench arm {arm.name}": arm.transfer for arm in self.bench_arms()}
        for name, transfer in found.items():
            if not transfer.terms:
                yield f"{name}: no terms, so the student would be the control"
            if transfer.hard_label.weight == 0:
                yield f"{name}: hard_label.weight 0 leaves nothing for the control to learn"
            reasons = check_transfer(transfer, self.student.model.label_count)
            yield from (f"{name}: {reason}" for reason in reasons)

    def bench_arms(self) -> tuple[BenchArm, ...]:
        """Return the bench's own distilled arms; none outside a bench."""
        return self.bench.arms if self.bench else ()
