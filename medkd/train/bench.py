"""Run a bench: all arms with all seeds, then the raw rows and the table.

    DIR/config.yaml                    the settings of the bench
    DIR/seed-N, DIR/seed-N-fold-K      one RUN per cell: teachers, control and distilled arms
    DIR/teachers/<name>                RUN of a teacher that all seeds share
    DIR/rows.json                      `BenchRecord`, rewritten after every cell
    DIR/table.md                       made from rows.json

A finished cell is not run again. Nothing is chosen on the test part: the headline is the distilled
arm with the best mean ROC AUC on validation.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from medkd.config.load import dump_settings
from medkd.config.run_settings import CONTROL, SELF_TRAINING, BenchArm, BenchSettings, RunSettings
from medkd.data.splits import CrossValidationSplit
from medkd.errors import SettingsError
from medkd.files import write_text
from medkd.jsonio import write_json
from medkd.models.package import WHOLE_SCAN
from medkd.runs import RunFolder
from medkd.train.arm import FinishedArm, read_arm
from medkd.train.bench_record import (
    METRICS,
    BenchComparison,
    BenchRecord,
    BenchRow,
    BenchSamples,
    PublishedScore,
    bench_markdown,
)
from medkd.train.compare import measure_fidelity, settle_transfer
from medkd.train.folder import open_folder
from medkd.train.logs import Progress, no_progress
from medkd.train.plan import Arm, in_order, plan_students, plan_teachers
from medkd.train.predict import point_names
from medkd.train.run import run_arms
from medkd.types import ClassificationResult, Evaluation

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cell:
    """One seed and, in cross-validation, one fold."""

    seed: int
    fold: int | None

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"seed-{self.seed}" + ("" if self.fold is None else f"-fold-{self.fold}")

    @property
    def part(self) -> str:
        """Name of the part of the data on which the cell is scored."""
        return "test" if self.fold is None else f"fold-{self.fold}"


def run_bench(
    settings: RunSettings,
    folder: Path,
    *,
    resume: bool = False,
    work_dir: Path | None = None,
    progress: Progress = no_progress,
) -> BenchRecord:
    """Run every cell that is not finished, and write the table.

    Args:
        settings: settings with a `bench` section.
        folder: folder of the bench.
        resume: continue the bench in this folder.
        work_dir: `${run_dir}` in the settings; None: `folder`.
        progress: called after every step and before every cell.

    Raises:
        SettingsError: if there is no bench section, or the folder holds something else.
    """
    bench = settings.bench
    if bench is None:
        raise SettingsError("this configuration has no bench section", ["see bench/pneumoniamnist"])
    open_folder(folder, folder / "config.yaml", settings, resume=resume)
    work_dir = work_dir or folder
    teachers = _teachers(settings, bench, folder, work_dir=work_dir, progress=progress)
    arms = in_order(teachers, plan_students(settings, bench_arms(settings, bench)))
    cells = list(_cells(bench))
    rows: list[BenchRow] = []
    samples: dict[str, BenchSamples] = {}
    common: list[str] = []
    record: BenchRecord | None = None
    for number, cell in enumerate(cells):
        progress("bench: running cells", number, len(cells), cell.name)
        run = RunFolder(folder / cell.name)
        evaluation = _run_cell(settings, cell, run, arms=arms, work_dir=work_dir, progress=progress)
        finished = {arm.name: read_arm(run, arm.name) for arm in arms}
        rows += _rows_of(bench, cell, arms, finished, evaluation=evaluation)
        samples[cell.part] = _samples_of(finished)
        # Only warnings common to all cells are kept; the others are derived from the rows.
        common = [w for w in evaluation.warnings if number == 0 or w in common]
        record = _record(
            settings, bench, evaluation, finished, rows=rows, samples=samples, notes=common
        )
        write_json(folder / "rows.json", record)
    if record is None:
        raise ValueError("a bench has at least one cell")
    progress("bench: running cells", len(cells), len(cells), "")
    write_text(folder / "table.md", bench_markdown(record))
    return record


def bench_arms(settings: RunSettings, bench: BenchSettings) -> tuple[BenchArm, ...]:
    """Return the distilled arms of the bench or, if it names none, the student of the run."""
    if bench.arms or settings.transfer is None:
        return bench.arms
    teacher = next(iter(settings.teachers()), "teacher")
    return (BenchArm(name="student", teacher=teacher, transfer=settings.transfer),)


def choose_headline(rows: list[BenchRow]) -> str:
    """Choose the distilled arm with the best mean ROC AUC on validation; ties by Brier score.

    Self-training is a control and not a candidate.
    """
    found: dict[str, list[BenchRow]] = {}
    for row in rows:
        if row.role == "student" and row.teacher != CONTROL:
            found.setdefault(row.arm, []).append(row)
    if not found:
        raise ValueError("no distilled arm to choose from")

    def merit(arm: str) -> tuple[float, float]:
        scores = [row.validation for row in found[arm]]
        return (
            float(np.mean([s["roc_auc"] for s in scores])),
            -float(np.mean([s["brier"] for s in scores])),
        )

    return max(found, key=merit)


def _cells(bench: BenchSettings) -> Iterator[Cell]:
    folds = range(bench.folds) if bench.protocol == "cross_validation" else (None,)
    for seed, fold in product(bench.seeds, folds):
        yield Cell(seed, fold)


def _teachers(
    settings: RunSettings,
    bench: BenchSettings,
    folder: Path,
    *,
    work_dir: Path,
    progress: Progress,
) -> tuple[Arm, ...]:
    """Return the teachers of every cell; a shared teacher is trained here, once."""
    teachers = plan_teachers(settings)
    if bench.teacher_seeds == "each":
        return teachers
    shared = []
    for arm in teachers:
        if arm.model is None:
            shared.append(arm)
            continue
        run = RunFolder(folder / "teachers" / arm.name)
        nothing = dict.fromkeys(("bench", "detection", "student", "transfer"))
        own = {"teacher": settings.teachers()[arm.name]}
        alone = settings.model_copy(update={**nothing, **own})
        _open(run, alone)
        run_arms(alone, [arm], run, work_dir=work_dir, progress=progress)
        # It was adapted in its own run.
        shared.append(replace(arm, model=None, taken_from=run.model(arm.name), adapt=None))
    return tuple(shared)


def _run_cell(
    settings: RunSettings,
    cell: Cell,
    run: RunFolder,
    *,
    arms: Sequence[Arm],
    work_dir: Path,
    progress: Progress,
) -> Evaluation:
    own = _cell_settings(settings, cell)
    _open(run, own)
    logger.info("cell %s", cell.name)

    def report(what: str, done: int, total: int, note: str) -> None:
        progress(f"{cell.name}, {what}", done, total, note)

    return run_arms(own, arms, run, work_dir=work_dir, progress=report)


def _cell_settings(settings: RunSettings, cell: Cell) -> RunSettings:
    changed: dict[str, object] = {"seed": cell.seed}
    limit = settings.target.split.limit
    if settings.bench is not None and settings.bench.labels and limit is not None:
        own = limit.model_copy(update={"seed": cell.seed})
        split = settings.target.split.model_copy(update={"limit": own})
        settings = settings.model_copy(
            update={"target": settings.target.model_copy(update={"split": split})}
        )
    if cell.fold is not None and settings.bench is not None:
        split = CrossValidationSplit(
            folds=settings.bench.folds, fold=cell.fold, limit=settings.target.split.limit
        )
        changed["target"] = settings.target.model_copy(update={"split": split})
    return settings.model_copy(update=changed)


def _open(run: RunFolder, settings: RunSettings) -> None:
    """Write the settings of a cell; the folder of the bench was already checked."""
    if not run.config.is_file():
        write_text(run.config, dump_settings(settings))


def _rows_of(
    bench: BenchSettings,
    cell: Cell,
    arms: Sequence[Arm],
    finished: Mapping[str, FinishedArm],
    *,
    evaluation: Evaluation,
) -> Iterator[BenchRow]:
    counts = [evaluation.splits[part] for part in ("train", "val")]
    labels = sum(one.get("labelled", one["samples"]) for one in counts)
    for one in arms:
        planned = settle_transfer(one, finished)
        arm = finished[planned.name]
        teacher = finished[planned.teacher] if planned.teacher else None
        again = bench.teacher_seeds == "shared" and cell.seed != bench.seeds[0]
        if planned.role == "teacher" and again:
            continue  # the same network as in the first cell
        scores = {split: _mean_scores(found) for split, found in arm.result.classification.items()}
        points = [arm.info.operating_points[name].threshold for name in point_names(arm.info)]
        yield BenchRow(
            seed=cell.seed,
            fold=cell.fold,
            arm=arm.name,
            role=planned.role,
            model=arm.info.kind,
            parameters=arm.info.parameters,
            validation=scores["val"],
            test=scores["test"],
            threshold=points[0] if len(points) == 1 else tuple(points),
            probabilities=tuple(
                round(p, 7) for row in arm.predictions["test"] for p in row.probabilities
            ),
            record=evaluation.record,
            teacher=planned.teacher,
            kl_to_teacher=measure_fidelity(teacher, arm).kl if teacher else None,
            labels=labels,
            cpm=next((f.cpm_interpolated for f in arm.result.froc if f.track == WHOLE_SCAN), None),
            control_kl_to_teacher=(
                measure_fidelity(teacher, finished[CONTROL]).kl if teacher else None
            ),
            self_training_kl_to_teacher=(
                measure_fidelity(teacher, finished[SELF_TRAINING]).kl
                if teacher and SELF_TRAINING in finished
                else None
            ),
        )


def _mean_scores(results: Sequence[ClassificationResult]) -> dict[str, float]:
    """Return the scores of an arm on one split, averaged over the labels."""
    found = [
        {
            "roc_auc": one.roc_auc.value,
            "pr_auc": one.pr_auc.value,
            "brier": one.brier.value,
            "prevalence": one.prevalence,
        }
        for one in results
    ]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def _prevalence_words(first: BenchRow, control: FinishedArm) -> str:
    """State the prevalence in validation and in the scored samples, or that of each label."""
    scored = control.result.classification
    shares = [
        (one.prevalence, other.prevalence, f" for {one.label}")
        for one, other in zip(scored["val"], scored["test"], strict=True)
    ]
    if len(shares) == 1:
        shares = [(first.validation["prevalence"], first.test["prevalence"], "")]
    found = "; ".join(
        f"{100 * before:.1f} % of the validation samples and "
        f"{100 * after:.1f} % of the scored ones are positive{label}"
        for before, after, label in shares
    )
    return f"Prevalence shift: {found}; thresholds were fixed on validation."


def _samples_of(arms: Mapping[str, FinishedArm]) -> BenchSamples:
    rows = arms[CONTROL].predictions["test"]
    labels = tuple(label for row in rows for label in row.labels)
    return BenchSamples(labels, tuple(row.patient_id for row in rows))


def _record(
    settings: RunSettings,
    bench: BenchSettings,
    evaluation: Evaluation,
    finished: Mapping[str, FinishedArm],
    *,
    rows: list[BenchRow],
    samples: dict[str, BenchSamples],
    notes: Iterable[str],
) -> BenchRecord:
    names = finished[CONTROL].info.label_names
    return BenchRecord(
        name=settings.name,
        dataset=evaluation.dataset,
        protocol=bench.protocol,
        primary=BenchComparison(**bench.primary.model_dump()),
        headline=choose_headline(rows),
        samples=dict(samples),
        rows=tuple(rows),
        published=tuple(PublishedScore(**row.model_dump()) for row in bench.published),
        notes=(_prevalence_words(rows[0], finished[CONTROL]), *notes),
        bootstrap=settings.evaluation.bootstrap,
        bootstrap_seed=settings.evaluation.seed,
        metrics=METRICS,
        label_names=names if len(names) > 1 else (),
    )
