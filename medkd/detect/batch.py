"""Many scans through one model, and what that leaves: RESULTS.

RESULTS/<seriesuid>.json    one `CaseResult` a scan, refusals too
RESULTS/results.csv         every mark in LUNA16's submission columns
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from medkd.data.phantom import difficulty_words
from medkd.detect.search import detect_nodules
from medkd.detect.view import DetectSettings
from medkd.errors import SeriesError, SettingsError
from medkd.files import replacing
from medkd.io.annotations import write_marks
from medkd.io.case_store import read_case
from medkd.io.dicom.gate import GateSettings
from medkd.io.scan_inputs import ScanInput
from medkd.io.scans import ScanPlace, read_place
from medkd.io.synthetic_mark import SYNTHETIC_SCAN
from medkd.jsonio import write_json
from medkd.lungs import lungs_in_view
from medkd.models.package import LoadedModel
from medkd.types import CaseResult, Scan

RESULTS_NAME = "results.csv"


def search_scans(
    inputs: Iterable[ScanInput],
    model: LoadedModel,
    settings: DetectSettings | None = None,
    *,
    gate: GateSettings | None = None,
) -> Iterable[CaseResult]:
    """Search scans one by one; one that cannot be read gives a result with its reasons.

    Args:
        inputs: volumes, DICOM folders, scans of an INDEX (then results bear its case ids).
        model: as for `detect_nodules`.
        settings: the same.
        gate: what a DICOM folder must be to be analysed; the default one where not given. Of a
            volume, which was prepared by somebody, only `allow` is used; a scan of an INDEX has
            passed its own.

    Raises:
        CheckpointError: if the model cannot search scans.
    """
    places: dict[str, Path] = {}
    gate = gate or GateSettings()
    for given in inputs:
        try:
            scan = _read(given, gate)
        except SeriesError as error:
            reasons = error.reasons or (error.headline,)
            yield _refused(given.name, given.path, reasons, taken=places)
            continue
        if scan.seriesuid in places:
            first = places[scan.seriesuid].name
            reason = f"series {scan.seriesuid} was read from {first} already"
            yield _refused(given.name, given.path, (reason,), taken=places)
            continue
        places[scan.seriesuid] = given.path
        if given.generator:
            others = (note for note in scan.notes if not note.startswith(SYNTHETIC_SCAN))
            told = f"{SYNTHETIC_SCAN}: {difficulty_words(given.generator)}"
            scan = replace(scan, notes=(*others, told))
        yield detect_nodules(scan, model, settings)


def _read(given: ScanInput, gate: GateSettings) -> Scan:
    if given.case is None:
        return _read_series(given, gate)
    if given.case.status == "not_analysed":
        raise SeriesError(f"{given.case.case_id}: not analysed", given.case.reasons)
    found = read_case(given.path, given.case.case_id)
    if not isinstance(found, Scan):
        raise SeriesError(f"{given.case.case_id}: not a scan", ["the archive holds an image there"])
    return found


def _read_series(given: ScanInput, gate: GateSettings) -> Scan:
    """Read a scan on disk; a DICOM series passes the gate and must have its lungs in view."""
    place = given.place or ScanPlace(given.path, (given.path,))
    scan = read_place(place, gate=gate)
    hidden = lungs_in_view(scan) if place.seriesuid else ()
    if hidden and "lungs_not_in_view" not in gate.allow:
        raise SeriesError(f"{given.path}: not analysed", hidden)
    return replace(scan, notes=(*scan.notes, *(f"allowed: {reason}" for reason in hidden)))


def write_results(
    out: Path, results: Iterable[CaseResult], *, progress: Callable[[int], None] | None = None
) -> list[CaseResult]:
    """Write RESULTS, whole or not at all.

    Args:
        out: a folder that does not exist or is empty.
        results: may be made while they are written.
        progress: called with the number of scans done.

    Returns:
        All results.

    Raises:
        SettingsError: if `out` is not empty.
    """
    check_out(out)
    done: list[CaseResult] = []
    with replacing(out) as folder:
        folder.mkdir()
        for result in results:
            write_json(folder / f"{_file_name(result.seriesuid)}.json", result)
            done.append(result)
            if progress is not None:
                progress(len(done))
        write_marks(folder / RESULTS_NAME, [mark for r in done for mark in r.candidates])
    return done


def check_out(out: Path) -> None:
    """Refuse a place that holds something.

    Raises:
        SettingsError: if `out` is not a new or empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(
            f"{out}: results cannot be written here",
            ["something stands there: name a new folder, or remove this one first"],
        )


def _refused(
    name: str, path: Path, reasons: tuple[str, ...], *, taken: dict[str, Path]
) -> CaseResult:
    """A result for a scan that was not searched; no name comes twice."""
    number, unique = 2, name
    while unique in taken:
        unique, number = f"{name}-{number}", number + 1
    taken[unique] = path
    return CaseResult(unique, (), "not_analysed", reasons=reasons)


def _file_name(seriesuid: str) -> str:
    """A series' name as a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", seriesuid).lstrip(".") or "scan"
