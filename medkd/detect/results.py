"""RESULTS written case by case, so that a stopped search can go on (`medkd/runs.py` names files).

Each file is written under a temporary name and then renamed, so no file is ever half-written.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from medkd.detect.results_table import TableFacts, write_results_table
from medkd.errors import SettingsError
from medkd.files import remove_partial
from medkd.jsonio import write_json
from medkd.runs import ResultsFolder, SearchRecord
from medkd.types import CaseResult

_TABLE_SHARE = 0.05
"""Largest share of the time that rewriting the growing table may take."""


def open_results(out: Path, record: SearchRecord, *, resume: bool) -> dict[str, CaseResult]:
    """Begin a folder of results, or go on with one.

    Args:
        out: a new or empty folder; with `resume` also one that the same search left.
        record: of this search.
        resume: go on with what stands there (nothing there is a start too).

    Returns:
        Finished results by the key of their input.

    Raises:
        SettingsError: if the folder holds something else, or a search that was made with
            another model, settings, inputs or version; every difference is named.
    """
    folder = ResultsFolder(out)
    if _is_new(out):
        out.mkdir(parents=True, exist_ok=True)
        write_json(folder.record, record)
        return {}
    if not (resume and folder.record.is_file()):
        raise SettingsError(f"{out}: results cannot be written here", [_remedy(folder)])
    _check_same(out, folder.read_record(), record)
    remove_partial(out)
    return {result.input_key: result for result in folder.read() if result.input_key}


def write_results(
    out: Path,
    results: Iterable[CaseResult],
    *,
    facts: TableFacts | None = None,
    finished: Sequence[CaseResult] = (),
    progress: Callable[[list[CaseResult]], None] | None = None,
) -> list[CaseResult]:
    """Write results as they come; the table is whole whenever this ends, also by an error.

    Args:
        out: a folder of `open_results`.
        results: may be made while they are written.
        facts: what the table says beside the results.
        finished: results that stand there already.
        progress: called with all results so far, after each.

    Returns:
        All results, the finished ones first.
    """
    done = list(finished)
    names = {_file_name(result.seriesuid): result.seriesuid for result in done}
    table = _GrowingTable(ResultsFolder(out).table, facts or TableFacts())
    try:
        for result in results:
            write_json(out / f"{_new_name(result.seriesuid, names)}.json", result)
            done.append(result)
            table.offer(done)
            if progress is not None:
                progress(done)
    finally:
        table.write(done)
    return done


class _GrowingTable:
    """The table of all results so far, rewritten whole as often as costs little time."""

    def __init__(self, path: Path, facts: TableFacts) -> None:
        self._path, self._facts = path, facts
        self._written_at, self._cost_s = 0.0, 0.0

    def offer(self, results: Sequence[CaseResult]) -> None:
        if time.monotonic() - self._written_at >= self._cost_s / _TABLE_SHARE:
            self.write(results)

    def write(self, results: Sequence[CaseResult]) -> None:
        started = time.monotonic()
        write_results_table(self._path, results, self._facts)
        self._written_at = time.monotonic()
        self._cost_s = self._written_at - started


def _is_new(out: Path) -> bool:
    return not out.exists() or (out.is_dir() and not any(out.iterdir()))


def _remedy(folder: ResultsFolder) -> str:
    if folder.record.is_file():
        return "a search stands there: add --resume to go on with it, or name a new folder"
    held = "a file" if not folder.path.is_dir() else "something that no search left"
    return f"{held} stands there: name a new folder with --out, or remove this one first"


def _check_same(out: Path, before: SearchRecord, now: SearchRecord) -> None:
    reasons = list(_differences(before, now))
    if reasons:
        reasons.append("give the same as at its beginning, or name a new folder with --out")
        raise SettingsError(f"{out}: the search there was made with something else", reasons)


def _differences(before: SearchRecord, now: SearchRecord) -> Iterator[str]:
    told = {
        "kind": "kind of case",
        "model": "model (sha256 of its facts and weights)",
        "inputs": "inputs (sha256 of their list)",
        "cases": "number of cases",
        "medkd_version": "version of medkd",
    }
    first, second = before.settings, now.settings
    for name in sorted(k for k in first | second if first.get(k) != second.get(k)):
        yield f"{name}: {first.get(name)!r} there, {second.get(name)!r} now"
    for key, words in told.items():
        if getattr(before, key) != getattr(now, key):
            yield f"{words}: {_short(getattr(before, key))} there, {_short(getattr(now, key))} now"


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


def _new_name(seriesuid: str, names: dict[str, str]) -> str:
    """Name the file of a case; two cases never share one."""
    plain = _file_name(seriesuid)
    name, number = plain, 2
    while names.get(name, seriesuid) != seriesuid:
        name, number = f"{plain}-{number}", number + 1
    names[name] = seriesuid
    return name


def _file_name(seriesuid: str) -> str:
    """A series' name as a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", seriesuid).lstrip(".")[:200] or "scan"
