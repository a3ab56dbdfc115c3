"""Write the folder RESULTS case by case, so that a stopped search can be resumed, and its table.

results.csv has one row per mark of the scans, or one row per radiograph. For scans, LUNA16's
submission columns come first, so `medkd froc` and the official script can read it. The other
columns locate a mark in the scan as it is stored on disk. Voxels count from 0 along i, j, k;
`slice_number` counts from 1 along k; `instance_number` and `sop_instance_uid` are those of the
DICOM image, and empty for volumes. `lung_side` is the patient's side. Paths and UIDs are empty if
they may contain the name of a patient.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medkd.detect.page import PageFacts, write_page
from medkd.errors import SettingsError
from medkd.files import remove_partial
from medkd.io.luna16_tables import MARK_COLUMNS
from medkd.io.tables import write_table
from medkd.jsonio import write_json
from medkd.runs import ResultsFolder, SearchRecord
from medkd.types import Candidate, CaseResult, MarkPlace

_PLACE_COLUMNS = (
    "diameter_mm", "voxel_i", "voxel_j", "voxel_k", "slice_number", "instance_number",
    "frame_number", "sop_instance_uid", "lung_side", "lung_third",
    "case", "path", "threshold", "above_threshold",
)  # fmt: skip

_TABLE_SHARE = 0.05
"""Largest share of the time that rewriting the growing table may take."""


@dataclass(frozen=True, slots=True)
class TableFacts:
    """The kind of rows of a table, the threshold chosen on validation, the labels of images."""

    kind: Literal["scan", "image"] = "scan"
    threshold: float | None = None
    labels: tuple[str, ...] = ()


def open_results(out: Path, record: SearchRecord, *, resume: bool) -> dict[str, CaseResult]:
    """Create a folder of results, or open one to resume its search.

    Args:
        out: a new or empty folder; with `resume` also the folder of the same search.
        record: the record of this search.
        resume: resume the search in this folder, if there is one.

    Returns:
        Finished results by the key of their input.

    Raises:
        SettingsError: if the folder holds something else, or a search with another model,
            settings, inputs or version; every difference is named.
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
    write_json(folder.record, record)  # the threshold may be another one of the same model
    return {result.input_key: result for result in folder.read() if result.input_key}


def write_results(
    out: Path,
    results: Iterable[CaseResult],
    *,
    facts: TableFacts | None = None,
    finished: Sequence[CaseResult] = (),
    page: PageFacts | None = None,
    progress: Callable[[list[CaseResult]], None] | None = None,
) -> list[CaseResult]:
    """Write results one after another.

    Table and page contain all results at the end, even after an error or an interruption.

    Args:
        out: a folder that `open_results` opened.
        results: the results; they may be computed during the writing.
        facts: facts for the table.
        finished: results that are already in the folder.
        page: facts for the page of scans; None: no page is written.
        progress: called with all results so far, after each.

    Returns:
        All results, the finished ones first.
    """
    done = list(finished)
    names = {_file_name(result.seriesuid): result.seriesuid for result in done}
    folder = ResultsFolder(out)
    table = _GrowingTable(folder.table, facts or TableFacts())
    try:
        for result in results:
            write_json(out / f"{_new_name(result.seriesuid, names)}.json", result)
            done.append(result)
            table.offer(done)
            if progress is not None:
                progress(done)
    finally:
        table.write(done)
        if page is not None:
            write_page(folder, done, page)
    return done


class _GrowingTable:
    """The table of all results so far, rewritten as often as this costs little time."""

    def __init__(self, path: Path, facts: TableFacts) -> None:
        self._path, self._facts = path, facts
        self._written_at, self._cost_s = 0.0, 0.0

    def offer(self, results: Sequence[CaseResult]) -> None:
        if time.monotonic() - self._written_at >= self._cost_s / _TABLE_SHARE:
            self.write(results)

    def write(self, results: Sequence[CaseResult]) -> None:
        started = time.monotonic()
        _write_table(self._path, results, self._facts)
        self._written_at = time.monotonic()
        self._cost_s = self._written_at - started


def _is_new(out: Path) -> bool:
    return not out.exists() or (out.is_dir() and not any(out.iterdir()))


def _remedy(folder: ResultsFolder) -> str:
    if folder.record.is_file():
        return "it holds a search: add --resume to resume it, or choose a new folder"
    held = "this is a file" if not folder.path.is_dir() else "it holds something else"
    return f"{held}: choose a new folder with --out, or remove this one first"


def _check_same(out: Path, before: SearchRecord, now: SearchRecord) -> None:
    reasons = list(_differences(before, now))
    if reasons:
        reasons.append("use the same as at its start, or choose a new folder with --out")
        raise SettingsError(f"{out}: the search in this folder was different", reasons)


def _differences(before: SearchRecord, now: SearchRecord) -> Iterator[str]:
    names = {
        "kind": "kind of case",
        "model": "model (sha256 of its facts and weights)",
        "inputs": "inputs (sha256 of their list)",
        "cases": "number of cases",
        "medkd_version": "version of medkd",
    }
    first, second = before.settings, now.settings
    for name in sorted(k for k in first | second if first.get(k) != second.get(k)):
        yield f"{name}: {first.get(name)!r} there, {second.get(name)!r} now"
    for key, words in names.items():
        if getattr(before, key) != getattr(now, key):
            yield f"{words}: {_short(getattr(before, key))} there, {_short(getattr(now, key))} now"


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


def _new_name(seriesuid: str, names: dict[str, str]) -> str:
    """Return the file name of a case; two cases never share a name."""
    plain = _file_name(seriesuid)
    name, number = plain, 2
    while names.get(name, seriesuid) != seriesuid:
        name, number = f"{plain}-{number}", number + 1
    names[name] = seriesuid
    return name


def _file_name(seriesuid: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", seriesuid).lstrip(".")[:200] or "scan"


def _write_table(path: Path, results: Sequence[CaseResult], facts: TableFacts) -> None:
    if facts.kind == "image":
        write_table(path, _image_columns(facts), [_image_row(r, facts) for r in results])
    else:
        rows = [row for result in results for row in _mark_rows(result, facts)]
        write_table(path, (*MARK_COLUMNS, *_PLACE_COLUMNS), rows)


def _mark_rows(result: CaseResult, facts: TableFacts) -> Iterator[tuple[object, ...]]:
    places = result.places or (None,) * len(result.candidates)
    for mark, place in zip(result.candidates, places, strict=True):
        yield (
            mark.seriesuid, *mark.center_mm, mark.score, mark.diameter_mm, *_place_cells(place),
            result.seriesuid, result.path, facts.threshold, _above(mark, facts),
        )  # fmt: skip


def _place_cells(place: MarkPlace | None) -> tuple[object, ...]:
    if place is None:
        return ("",) * 9
    i, j, k = place.voxel
    image, lung = place.image, place.lung
    return (
        i, j, k, k + 1, image.instance_number, image.frame_number, image.sop_instance_uid,
        lung.side if lung else "", lung.third if lung else "",
    )  # fmt: skip


def _above(mark: Candidate, facts: TableFacts) -> str:
    return "" if facts.threshold is None else str(int(mark.score >= facts.threshold))


def _image_columns(facts: TableFacts) -> tuple[str, ...]:
    probabilities = [f"probability_{label}" for label in facts.labels]
    return ("case", "path", "status", *probabilities, "threshold", "above_threshold", "reasons")


def _image_row(result: CaseResult, facts: TableFacts) -> tuple[object, ...]:
    found = [result.probabilities.get(label) for label in facts.labels]
    above = ""
    if facts.threshold is not None and len(found) == 1 and found[0] is not None:
        above = str(int(found[0] >= facts.threshold))
    return (
        result.seriesuid, result.path, result.status, *found, facts.threshold, above,
        "; ".join(result.reasons),
    )  # fmt: skip
