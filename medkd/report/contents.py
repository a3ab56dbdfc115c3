"""Read all files of a RUN that a report needs.

The file names are those of `medkd/runs.py`. Nothing is computed or drawn here.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from medkd.errors import MedkdError, SeriesError, SettingsError
from medkd.formats import EVALUATION
from medkd.jsonio import read_json
from medkd.runs import Disagreement, RunFolder, read_cases, read_disagreements
from medkd.types import Evaluation, ReaderStudy, RunCase

T = TypeVar("T")

TERM_PREFIX = "term_"
"""Prefix of the columns of loss terms in `log.csv`."""


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """One arm's `log.csv`: the epochs, and each column as numbers (NaN for an empty cell)."""

    epochs: tuple[int, ...]
    columns: dict[str, tuple[float, ...]]

    def terms(self) -> dict[str, tuple[float, ...]]:
        """Return the columns of the loss terms by name, without the prefix."""
        return {
            name.removeprefix(TERM_PREFIX): values
            for name, values in self.columns.items()
            if name.startswith(TERM_PREFIX)
        }


@dataclass(frozen=True, slots=True)
class RunContents:
    """The contents of a RUN; `cases` is None if the run has no `cases.csv`.

    `readers` is None if no reader decided anything. `disagreements` of teacher and student are
    ordered, the greatest first; `label_next` is the same for the training cases without labels.
    """

    evaluation: Evaluation
    config_text: str
    cases: tuple[RunCase, ...] | None = None
    logs: dict[str, TrainingLog] = field(default_factory=dict)
    readers: ReaderStudy | None = None
    disagreements: tuple[Disagreement, ...] = ()
    label_next: tuple[Disagreement, ...] = ()

    @property
    def not_analysed(self) -> tuple[RunCase, ...]:
        """The cases that were not analysed, each with its reasons."""
        return tuple(case for case in self.cases or () if case.status == "not_analysed")


def read_contents(run: RunFolder) -> RunContents:
    """Read the contents of a RUN.

    Raises:
        SettingsError: if the folder is not a finished RUN; the reasons list every file that is
            missing or cannot be read.
    """
    reasons = _missing(run)
    if reasons:
        raise SettingsError(f"{run.path}: not a finished run folder", [*reasons, _hint(run.path)])
    faults: list[str] = []
    evaluation = _try(faults, lambda: read_json(run.evaluation, Evaluation, form=EVALUATION))
    cases = _try(faults, lambda: tuple(read_cases(run.cases))) if run.cases.is_file() else None
    logs = _read_logs(run, evaluation, faults)
    differing = _read_disagreements(run.explained.disagreements, faults)
    label_next = _read_disagreements(run.label_next, faults)
    if faults or evaluation is None:
        raise SettingsError(f"{run.path}: this run folder cannot be read", faults)
    text = run.config.read_text(encoding="utf-8")
    return RunContents(
        evaluation, text, cases, logs, disagreements=differing, label_next=label_next
    )


def read_log(path: Path) -> TrainingLog:
    """Read an arm's `log.csv`, which has one row per epoch.

    Raises:
        SeriesError: if there is no column `epoch`, or naming every cell that is not a number.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        names = [name for name in reader.fieldnames or () if name != "epoch"]
        if "epoch" not in (reader.fieldnames or ()):
            raise SeriesError(
                f"{path}: not a training log", [f"expected a column epoch, got {names}"]
            )
        rows = list(reader)
    reasons = [
        f"row {number}, {name}: expected a number, got {row[name]!r}"
        for number, row in enumerate(rows, start=2)
        for name in ("epoch", *names)
        if not _is_number(row[name], empty=name != "epoch")
    ]
    if reasons:
        raise SeriesError(f"{path}: not a training log", reasons)
    columns = {name: tuple(float(row[name] or math.nan) for row in rows) for name in names}
    return TrainingLog(tuple(int(float(row["epoch"])) for row in rows), columns)


def _is_number(cell: str | None, *, empty: bool) -> bool:
    if not cell:
        return empty
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _missing(run: RunFolder) -> list[str]:
    if not run.path.is_dir():
        return [f"expected a folder, got {'a file' if run.path.exists() else 'a missing path'}"]
    wanted = {run.evaluation: "the scores", run.config: "the resolved settings"}
    return [f"{path.name} is missing ({use})" for path, use in wanted.items() if not path.is_file()]


def _hint(path: Path) -> str:
    if (path / "results.csv").is_file():
        return "this is an output of `medkd detect`; a report needs an output of `medkd train`"
    return (
        "give the output folder (--out) of `medkd train` or `medkd demo`; "
        "resume a stopped run with `medkd train CONFIG --out DIR --resume`"
    )


def _try(faults: list[str], read: Callable[[], T]) -> T | None:
    """Return what `read` returns; after a refusal add its lines to `faults` and return None."""
    try:
        return read()
    except MedkdError as error:
        faults += [error.headline, *error.reasons]
        return None


def _read_disagreements(path: Path, faults: list[str]) -> tuple[Disagreement, ...]:
    """Read a table that not every run has."""
    return _try(faults, lambda: tuple(read_disagreements(path))) or () if path.is_file() else ()


def _read_logs(
    run: RunFolder, evaluation: Evaluation | None, faults: list[str]
) -> dict[str, TrainingLog]:
    """Read the logs in the order of the arms; an arm without training has no log."""
    found = {path.parent.name: path for path in (run.path / "training").glob("*/log.csv")}
    arms = [arm.name for arm in evaluation.arms if arm.name in found] if evaluation else []
    logs = {}
    for arm in (*arms, *sorted(set(found).difference(arms))):
        log = _try(faults, partial(read_log, found[arm]))
        if log is not None:
            logs[arm] = log
    return logs
