"""The whole bench: tuning scans, the threshold, test scans, the figures.

    DIR/config.yaml                its settings
    DIR/scans/tuning-NNN.json      `ScanRow` of each scan; one that stands is not measured again
    DIR/scans/test-NNN.json
    DIR/difficulty.json            `DifficultyRecord`
    DIR/table.md, DIR/*.png        drawn from it

The threshold is tuned on the tuning scans alone and frozen before a test scan is made.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medkd.config.difficulty_settings import DifficultySettings
from medkd.config.load import dump_settings
from medkd.errors import SettingsError, WorkerError
from medkd.files import write_text
from medkd.jsonio import read_json, write_json
from medkd.processes import Crashed, SafePool
from medkd.provenance import finish_record, start_record
from medkd.synthetic.phantom import DIFFICULTY, GENERATOR_VERSION, generator_stamp
from medkd.train.difficulty.draw import draw_difficulty
from medkd.train.difficulty.measure import Part, ScanTask, measure_scan
from medkd.train.difficulty.rows import DifficultyRecord, ScanRow, Scores
from medkd.train.difficulty.score import (
    choose_threshold,
    describe_blobs,
    judge_scores,
    score_blobs,
    score_judge,
    score_surroundings,
)
from medkd.train.difficulty.tables import difficulty_markdown
from medkd.train.folder import open_folder
from medkd.train.logs import Progress, no_progress

logger = logging.getLogger(__name__)

RESULT_NAME = "difficulty.json"


def run_difficulty(
    settings: DifficultySettings,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress = no_progress,
) -> DifficultyRecord:
    """Measure how hard the phantoms of this generator are.

    Args:
        settings: of the bench.
        folder: where rows and result go.
        resume: go on with what stands there; scans that are measured stay as they are.
        progress: told of every scan.

    Raises:
        SettingsError: if the folder holds something else, or rows of another generator.
        CheckpointError: if the classifier's file is not the one that was asked for.
    """
    began = time.perf_counter()
    open_folder(folder, folder / "config.yaml", settings, resume=resume)
    _check_generator(folder)
    record = start_record(
        dump_settings(settings), seed=settings.seed, device="cpu", deterministic=True
    )
    tuning = measure_part(settings, "tuning", folder=folder, progress=progress)
    threshold, tried = choose_threshold(tuning, settings)
    logger.info("threshold %g, CPM %.3f on the tuning scans", threshold, tried[threshold])
    test = measure_part(settings, "test", folder=folder, threshold=threshold, progress=progress)
    result = result_of(
        settings, tuning=tuning, test=test, threshold=threshold, tuned_cpm=tried[threshold]
    )
    judge = settings.judge
    finished = finish_record(
        record,
        seconds=time.perf_counter() - began,
        data_fingerprints={"generator": generator_stamp()},
        weights_sha256={Path(judge.weights).name: judge.sha256} if judge else {},
    )
    result = replace(result, record=finished)
    write_json(folder / RESULT_NAME, result)
    write_text(folder / "table.md", difficulty_markdown(result))
    draw_difficulty(result, folder)
    return result


def measure_part(
    settings: DifficultySettings,
    part: Part,
    *,
    folder: Path,
    threshold: float | None = None,
    progress: Progress = no_progress,
) -> list[ScanRow]:
    """Measure the scans of one part that have no row yet, and return all rows.

    Args:
        settings: of the bench.
        part: which scans.
        folder: of the bench.
        threshold: the blob finder's, frozen; None: all are tried, and nothing is judged. Judged
            are the best false marks under the lowest threshold of all: a high one leaves scans
            with fewer false marks than nodules, and which scan a place lies in would tell.
        progress: told of every scan.
    """
    count = settings.phantoms(part).scans
    paths = [folder / "scans" / f"{part}-{number:03d}.json" for number in range(count)]
    lowest = min(settings.blobs.thresholds)
    tried = set(settings.blobs.thresholds) if threshold is None else {lowest, threshold}
    judged = None if threshold is None else lowest
    tasks = [
        ScanTask(settings, part, number, tuple(sorted(tried)), judged, path)
        for number, path in enumerate(paths)
        if not path.is_file()
    ]
    done, words = count - len(tasks), f"{part}: measuring scans"
    progress(words, done, count, "")
    for path in run_tasks(tasks, workers=settings.workers):
        done += 1
        progress(words, done, count, path.stem)
    return [read_json(path, ScanRow) for path in paths]


def run_tasks(tasks: Sequence[ScanTask], *, workers: int) -> Iterator[Path]:
    """Measure scans in processes of their own, and yield their rows in order.

    Raises:
        WorkerError: if the process of a scan is killed again and again.
    """
    if workers == 1 or len(tasks) < 2:
        yield from map(measure_scan, tasks)
        return
    for task, result in SafePool(measure_scan, workers, _one_thread).run(tasks):
        if isinstance(result, Crashed):
            raise WorkerError(
                f"{task.part} scan {task.number} was not measured",
                ["its process was killed twice: most likely there was not enough memory",
                 "go on with --resume and --set workers=1"],
            )  # fmt: skip
        yield result


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _check_generator(folder: Path) -> None:
    """Refuse to go on with scans of another generator."""
    path, now = folder / "generator.txt", generator_stamp() + "\n"
    if not path.is_file():
        write_text(path, now)
    elif (before := path.read_text(encoding="utf-8")) != now:
        raise SettingsError(
            f"{folder}: holds scans of another generator",
            [f"there: {before.strip()}", f"now: {now.strip()}", "name another --out"],
        )


def result_of(
    settings: DifficultySettings,
    *,
    tuning: Sequence[ScanRow],
    test: Sequence[ScanRow],
    threshold: float,
    tuned_cpm: float,
) -> DifficultyRecord:
    """Return the figures of measured scans, without a run record.

    Args:
        settings: of the bench.
        tuning: rows of the scans that the threshold was tuned on.
        test: rows of the scans that are scored; their places are judged.
        threshold: the blob finder's.
        tuned_cpm: its CPM on the tuning scans.
    """
    froc = score_blobs(test, settings, threshold=threshold, bootstrap=settings.bootstrap)
    judged = score_judge(test, settings)
    masked = score_surroundings(test, settings)
    nodules, false = judge_scores(test)
    return DifficultyRecord(
        generator_version=GENERATOR_VERSION,
        difficulty=DIFFICULTY,
        size=settings.size,
        scans=len(test),
        tuning_scans=len(tuning),
        nodules=froc.nodules,
        blob_finder=describe_blobs(froc, threshold, tuned_cpm=tuned_cpm),
        luna16_classifier=judged,
        masked_surroundings=masked,
        notes=tuple(_notes(settings, judged is None, masked is None, froc.warnings)),
        seconds_a_scan=_mean_seconds(test),
        peak_mib=max(row.peak_mib for row in (*tuning, *test)),
        scores=Scores(
            tuple(p.judge_score for p in nodules if p.judge_score is not None),
            tuple(p.judge_score for p in false if p.judge_score is not None),
            tuple(p.diameter_mm for p in nodules if p.diameter_mm is not None),
        ),
    )


def _notes(
    settings: DifficultySettings, no_judge: bool, no_masked: bool, warnings: Iterable[str]
) -> Iterator[str]:
    if no_judge:
        file = f"{settings.judge.weights} is not there" if settings.judge else "none is named"
        yield f"NOT MEASURED: the classifier of real nodules ({file})"
    if no_masked:
        yield "NOT MEASURED: the masked surroundings (too few places)"
    yield from warnings


def _mean_seconds(rows: Sequence[ScanRow]) -> dict[str, float]:
    names = rows[0].seconds
    return {name: round(float(np.mean([r.seconds[name] for r in rows])), 2) for name in names}
