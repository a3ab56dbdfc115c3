"""Many scans through one model, and what that leaves: RESULTS.

RESULTS/<seriesuid>.json    one `CaseResult` a scan, refusals too
RESULTS/results.csv         every mark in LUNA16's submission columns
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from medkd.detect.search import detect_nodules
from medkd.detect.view import DetectSettings
from medkd.errors import SeriesError, SettingsError
from medkd.files import replacing
from medkd.io.annotations import write_marks
from medkd.io.scans import find_scans, read_scan
from medkd.jsonio import write_json
from medkd.models.package import LoadedModel
from medkd.types import CaseResult

RESULTS_NAME = "results.csv"
_PHANTOM_RECORD = "phantom.json"


def list_inputs(inputs: Sequence[Path]) -> list[Path]:
    """List the scans at or below the inputs, each once.

    Raises:
        SettingsError: with every input that is absent or holds no scan.
    """
    found: dict[Path, None] = {}
    reasons = []
    for place in inputs:
        scans = find_scans(place) if place.exists() else ()
        if not scans:
            reasons.append(f"{place}: {'no scan in it' if place.exists() else 'no such place'}")
        found.update(dict.fromkeys(scans))
    if reasons:
        raise SettingsError("the inputs cannot be searched", reasons)
    return list(found)


def is_phantom(path: Path) -> bool:
    """Whether a scan belongs to a set that `medkd phantom` wrote."""
    return any((folder / _PHANTOM_RECORD).is_file() for folder in list(path.parents)[:2])


def search_scans(
    paths: Iterable[Path], model: LoadedModel, settings: DetectSettings | None = None
) -> Iterable[CaseResult]:
    """Search scans one by one; one that cannot be read gives a result with its reasons.

    Args:
        paths: volumes or DICOM folders.
        model: as for `detect_nodules`.
        settings: the same.

    Raises:
        CheckpointError: if the model cannot search scans.
    """
    places: dict[str, Path] = {}
    for path in paths:
        try:
            scan = read_scan(path)
        except SeriesError as error:
            yield _refused(path, error.reasons or (error.headline,), taken=places)
            continue
        if scan.seriesuid in places:
            first = places[scan.seriesuid].name
            reason = f"series {scan.seriesuid} was read from {first} already"
            yield _refused(path, (reason,), taken=places)
            continue
        places[scan.seriesuid] = path
        yield detect_nodules(scan, model, settings)


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


def _refused(path: Path, reasons: tuple[str, ...], *, taken: dict[str, Path]) -> CaseResult:
    """A result for a scan whose series is not known: named after its file, never twice."""
    name = path.name.split(".mh")[0] if path.suffix in {".mhd", ".mha"} else path.stem
    number, unique = 2, name
    while unique in taken:
        unique, number = f"{name}-{number}", number + 1
    taken[unique] = path
    return CaseResult(unique, (), "not_analysed", reasons=reasons)


def _file_name(seriesuid: str) -> str:
    """A series' name as a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", seriesuid).lstrip(".") or "scan"
