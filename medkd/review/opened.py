"""What is reviewed: a RUN, RESULTS or an INDEX, recognised by the content of its files.

A RUN has a run.json, RESULTS have a detect.record, and the first line of an INDEX names its
columns; names of folders and suffixes of files do not matter. Readers' decisions on an INDEX are
stored in the folder `NAME.review` beside it, those on a RUN or RESULTS in the folder itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medkd.errors import SeriesError, SettingsError
from medkd.formats import RUN
from medkd.index.case_store import open_image, open_scan
from medkd.index.table import is_index, read_index, read_index_record
from medkd.io.dicom.gate import GateSettings
from medkd.io.find_scans import find_places
from medkd.io.medmnist import MedMnistSet, read_medmnist
from medkd.io.radiograph.gate import VIEWABLE
from medkd.io.radiograph.read import read_radiograph
from medkd.io.scans import read_place, read_scan
from medkd.jsonio import read_json
from medkd.review.cases import (
    NO_MARKS,
    CaseMarks,
    number_marks,
    read_case_marks,
    read_image_probabilities,
    read_run_cases,
)
from medkd.review.index_cases import index_cases
from medkd.review.modes import CONCURRENT, ReadingMode
from medkd.review.worklist import order_cases
from medkd.runs import ResultsFolder, RunFolder
from medkd.types import CaseResult, Radiograph, RunCase, Scan

HINT = (
    "give the folder that `medkd train`, `medkd demo` or `medkd detect` wrote (its --out), or "
    "the index.csv of `medkd index`"
)


@dataclass(frozen=True, slots=True)
class Review:
    """What is reviewed; build it with `open_review`.

    `path` is the folder of a RUN or of RESULTS, or index.csv. `index` is the INDEX from which
    RESULTS come, if it was given. `store` is the URL or path of the store of decisions, if it is
    not the usual file. `mode` says what a reader sees.
    """

    kind: Literal["RUN", "RESULTS", "INDEX"]
    path: Path
    index: Path | None = None
    store: str = ""
    mode: ReadingMode = CONCURRENT

    @property
    def title(self) -> str:
        """The name of what is reviewed: its folder, for an INDEX with the file."""
        place = self.path.resolve()
        return f"{place.parent.name}/{place.name}" if self.kind == "INDEX" else place.name

    @property
    def run(self) -> RunFolder:
        """The files of a RUN."""
        return RunFolder(self.path)

    @property
    def results(self) -> ResultsFolder:
        """The files of RESULTS."""
        return ResultsFolder(self.path)

    @property
    def decisions(self) -> Path | str:
        """The store of the readers' decisions: a file, or a URL."""
        return self.store or self.home / "review.sqlite"

    @property
    def home(self) -> Path:
        """The folder of this review, with the decisions unless they are in another store."""
        if self.kind == "INDEX":
            return self.path.with_suffix(".review")
        return self.run.review.parent if self.kind == "RUN" else self.results.review.parent


def open_review(place: Path, *, index: Path | None = None, store: str = "") -> Review:
    """Open a RUN, RESULTS or an INDEX for review.

    Args:
        place: the folder of a RUN or of RESULTS, or an index.csv.
        index: for RESULTS, the INDEX that was searched; the pixels are read through it.
        store: path or URL of the store of decisions; empty: the usual file.

    Raises:
        SettingsError: if `place` is none of them or an incomplete RUN, or if `index` is not an
            INDEX or `place` does not hold RESULTS.
        MedkdError: if this medkd cannot read its format version, or the folder for decisions
            cannot be created.
    """
    review = Review(_kind_of(place), place, index, store)
    if index is not None:
        _check_index(review, index)
    if review.kind == "INDEX":
        read_index_record(place)
        if not store:
            _make_decisions_folder(review)
    elif review.kind == "RESULTS":
        review.results.read_record()
    else:
        _check_run(review.run)
    return review


def read_worklist(review: Review, found: Sequence[CaseResult] | None = None) -> list[RunCase]:
    """Read the cases in reading order.

    Args:
        review: the opened RUN, RESULTS or INDEX.
        found: the results of RESULTS, if they were read before.

    Raises:
        MedkdError: if they cannot be read, or two cases have the same id.
    """
    if review.kind == "INDEX":
        return index_cases(read_index(review.path))
    if review.kind == "RESULTS":
        return order_cases(map(_result_case, _results(review, found)))
    return read_run_cases(review.run.cases)


def read_marks(
    review: Review, arm: str, found: Sequence[CaseResult] | None = None
) -> dict[str, CaseMarks]:
    """Read the marks of all scans by case id; of a RUN only the marks of one arm.

    Args:
        review: the opened RUN or RESULTS.
        arm: the arm of a RUN.
        found: the results of RESULTS, if they were read before.

    Raises:
        MedkdError: if a file cannot be read, with all reasons.
    """
    if review.kind == "RESULTS":
        results = _results(review, found)
        return {r.seriesuid: _result_marks(r) for r in results if r.kind == "scan"}
    return read_case_marks(review.run, arm)


def read_probabilities(
    review: Review, found: Sequence[CaseResult] | None = None
) -> dict[str, dict[str, float]]:
    """Read the calibrated probabilities of whole images; the arguments as in `read_worklist`.

    Returns:
        Case id to arm (of RESULTS: label) to probability; unscored images are omitted.

    Raises:
        MedkdError: if a file cannot be read, with all reasons.
    """
    if review.kind == "RESULTS":
        return {result.seriesuid: result.probabilities for result in _results(review, found)}
    return read_image_probabilities(review.run)


def pixels_path(review: Review, case: RunCase) -> Path:
    """Return the path through which the pixels of a case are read: its file, folder or INDEX.

    Raises:
        SeriesError: if RESULTS do not contain it.
    """
    if review.kind == "INDEX":
        return review.path
    if review.index is not None:
        return review.index
    if not case.path:
        reasons = [
            "these RESULTS do not contain its path, because its INDEX is pseudonymised",
            "to show it: medkd review RESULTS --index INDEX",
        ]
        raise SeriesError(f"{case.case_id}: cannot be shown", reasons)
    return review.path / case.path


def read_case_scan(review: Review, case: RunCase) -> Scan:
    """Read the scan of a case; one that was not analysed too, if it can be decoded.

    Raises:
        MedkdError: if it cannot be read, with all reasons.
    """
    place = pixels_path(review, case)
    if is_index(place):
        return open_scan(place, case.case_id, refused=case.status == "not_analysed")
    if review.kind == "RESULTS":
        return _read_result_scan(review.results, place, case)
    return read_scan(place, seriesuid=case.case_id)


def read_case_image(review: Review, case: RunCase) -> Radiograph:
    """Read the radiograph of a case; one that was not analysed too, if its pixels may be shown.

    Raises:
        MedkdError: if it cannot be read, with all reasons.
    """
    place = pixels_path(review, case)
    refused = case.status == "not_analysed"
    if is_index(place):
        return open_image(place, case.case_id, refused=refused)
    allow: tuple[str, ...] = VIEWABLE if refused else ()
    if review.kind == "RESULTS":
        allow = (*allow, *review.results.read_record().settings.get("allow", ()))
    return read_radiograph(place, allow=allow)


def _results(review: Review, found: Sequence[CaseResult] | None) -> Sequence[CaseResult]:
    return review.results.read() if found is None else found


def read_row(images: MedMnistSet, path: Path, case: RunCase) -> NDArray[np.float32]:
    """Return the image of a case that is a row of a MedMNIST file: [row, col, ...] in 0..1.

    Args:
        images: the content of the file.
        path: the file, for the error.
        case: its split and row.

    Raises:
        SeriesError: if there is no such row.
    """
    part = next((part.images for name, part in images.splits.items() if name == case.split), ())
    if case.row is None or not 0 <= case.row < len(part):
        reason = f"expected a row below {len(part)}, got {case.row!r}"
        raise SeriesError(f"{path}: no such row of {case.split}", [reason])
    return np.asarray(part[case.row], dtype=np.float32) / 255.0


def image_opener(review: Review) -> Callable[[RunCase], Scan | Radiograph]:
    """Return a function that reads the scan or radiograph of a case; it may raise a MedkdError."""
    read_set = lru_cache(maxsize=1)(read_medmnist)

    def open_image(case: RunCase) -> Scan | Radiograph:
        if case.kind == "scan":
            return read_case_scan(review, case)
        if case.row is None:
            return read_case_image(review, case)
        path = pixels_path(review, case)
        return Radiograph(case.case_id, read_row(read_set(path), path, case), case.patient_id)

    return open_image


def _result_case(result: CaseResult) -> RunCase:
    # The score of a case is that of its highest mark or probability.
    scores = [mark.score for mark in result.candidates] + list(result.probabilities.values())
    return RunCase(
        case_id=result.seriesuid,
        patient_id="",
        kind=result.kind,
        path=result.path,
        split="",
        row=None,
        label=None,
        score=max(scores, default=None),
        status=result.status,
        reasons=result.reasons,
    )


def _result_marks(result: CaseResult) -> CaseMarks:
    if result.status != "analysed":
        return NO_MARKS
    return CaseMarks(number_marks(result.candidates), "detect", result.notes)


def _read_result_scan(results: ResultsFolder, path: Path, case: RunCase) -> Scan:
    """Read a scan from the path in its result: a file, or a folder that may hold several series.

    Raises:
        SeriesError: if it is missing or cannot be read, with all reasons.
    """
    gate = GateSettings.model_validate(results.read_record().settings.get("gate", {}))
    seriesuid = case.case_id
    if case.status == "not_analysed":
        # Being no chest CT of sufficient quality does not keep a reader from seeing it.
        gate = gate.for_viewing()
    for place in find_places([path]).scans:
        if not place.seriesuid:
            return read_place(place, gate=gate)
        if place.seriesuid == seriesuid:
            return read_place(place)  # it passed the gate when it was searched
    raise SeriesError(f"{seriesuid}: cannot be shown", [f"{path}: it is no longer there"])


def find_reviews(folder: Path) -> list[Path]:
    """List every RUN, RESULTS and INDEX in a folder, at most two levels down."""
    found: set[Path] = set()
    for depth in ("", "*/", "*/*/"):
        runs = (path.parent for path in folder.glob(f"{depth}{RunFolder(folder).record.name}"))
        found.update(run for run in runs if RunFolder(run).cases.is_file())
        records = folder.glob(f"{depth}{ResultsFolder(folder).record.name}")
        found.update(path.parent for path in records)
        found.update(path for path in folder.glob(f"{depth}*.csv") if is_index(path))
    return sorted(found)


def _kind_of(place: Path) -> Literal["RUN", "RESULTS", "INDEX"]:
    if is_index(place):
        return "INDEX"
    if RunFolder(place).record.is_file():
        return "RUN"
    if ResultsFolder(place).record.is_file():
        return "RESULTS"
    if not place.exists():
        raise SettingsError(f"{place}: no such folder or file", [HINT])
    found = _describe_folder(place) if place.is_dir() else _describe_file(place)
    raise SettingsError(f"{place}: not a RUN, RESULTS or an INDEX", [*found, HINT])


def _check_index(review: Review, index: Path) -> None:
    if review.kind != "RESULTS":
        reason = f"{review.path} is a {review.kind}, which contains the paths of its cases"
        raise SettingsError(f"--index {index}: not used", [reason])
    if not is_index(index):
        raise SettingsError(f"--index {index}: not an INDEX", ["give an index.csv"])


def _check_run(run: RunFolder) -> None:
    read_json(run.record, dict, form=RUN)
    if not run.cases.is_file():
        reason = (
            "the run was stopped before its cases were listed: continue it by "
            f"`medkd train CONFIG --out {run.path} --resume`"
        )
        raise SettingsError(f"{run.path}: an incomplete RUN", [reason])


def _make_decisions_folder(review: Review) -> None:
    folder = review.home
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        remedy = (
            f"decisions are saved beside the INDEX: get the right to write in "
            f"{review.path.resolve().parent}, free space there, or index into another folder"
        )
        raise SeriesError(f"{folder}: cannot be written", [str(error), remedy]) from error


def _describe_folder(folder: Path) -> Iterator[str]:
    """Yield what a folder contains, and what in it can be reviewed."""
    names = sorted(entry.name for entry in folder.iterdir())
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    yield f"expected run.json or detect.record in it, found {listed or 'nothing'}"
    if ResultsFolder(folder).table.is_file():
        yield "it has a table of `medkd detect` without its detect.record: copy the whole folder"
    for found in find_reviews(folder)[:20]:
        yield f"it contains something to review: medkd review {found}"


def _describe_file(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            first = stream.readline(200).strip()
    except OSError as error:
        yield f"it cannot be read: {type(error).__name__}"
        return
    yield f"a file that is not an INDEX: its first line is {first[:80]!r}"
    if found := find_reviews(file.parent):
        yield f"to review what is beside it: {', '.join(map(str, found[:5]))}"
