"""What is reviewed: a RUN, RESULTS or an INDEX, recognised by what its own files say.

A RUN has a run.json, RESULTS have a detect.record, and the first line of an INDEX names its
columns. Names of folders and endings of files decide nothing. Readers' decisions on an INDEX are
kept in the folder `NAME.review` beside it, those on a RUN or RESULTS in the folder itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medkd.errors import SeriesError, SettingsError
from medkd.formats import RUN
from medkd.index.case_store import open_image, open_scan
from medkd.index.table import is_index, read_index, read_index_record
from medkd.io.radiograph.read import read_radiograph
from medkd.io.scans import read_scan
from medkd.jsonio import read_json
from medkd.review.cases import (
    CaseMarks,
    read_case_marks,
    read_image_probabilities,
    read_run_cases,
)
from medkd.review.index_cases import index_cases
from medkd.review.results_cases import (
    read_result_image,
    read_result_scan,
    result_cases,
    result_marks,
    result_probabilities,
)
from medkd.runs import ResultsFolder, RunFolder
from medkd.types import Radiograph, RunCase, Scan

HINT = (
    "give the folder that `medkd train`, `medkd demo` or `medkd detect` left (its --out), or the "
    "index.csv of `medkd index`"
)


@dataclass(frozen=True, slots=True)
class Review:
    """What is reviewed; build it with `open_review`.

    Args:
        kind: what it is.
        path: the folder of a RUN or of RESULTS, or index.csv.
        index: of RESULTS: the INDEX that was searched; None where it was not given.
    """

    kind: Literal["RUN", "RESULTS", "INDEX"]
    path: Path
    index: Path | None = None

    @property
    def run(self) -> RunFolder:
        """The files of a RUN."""
        return RunFolder(self.path)

    @property
    def results(self) -> ResultsFolder:
        """The files of RESULTS."""
        return ResultsFolder(self.path)

    @property
    def decisions(self) -> Path:
        """The store of the readers' decisions."""
        if self.kind == "INDEX":
            return self.path.with_suffix(".review") / "review.sqlite"
        return self.run.review if self.kind == "RUN" else self.results.review


def open_review(place: Path, *, index: Path | None = None) -> Review:
    """Say what there is to review at a path.

    Args:
        place: the folder of a RUN or of RESULTS, or index.csv.
        index: the INDEX that RESULTS come from, through which their pixels are read.

    Raises:
        SettingsError: if it is none of them, or `index` is no INDEX or does not belong there.
        MedkdError: if it is of a version that is not read, or decisions cannot be kept there.
    """
    review = Review(_kind_of(place), place, index)
    if index is not None:
        _check_index(review, index)
    if review.kind == "INDEX":
        read_index_record(place)
        _make_home(review)
    elif review.kind == "RESULTS":
        review.results.read_record()
    else:
        _check_run(review.run)
    return review


def read_worklist(review: Review) -> list[RunCase]:
    """Read the cases in reading order.

    Raises:
        MedkdError: if they cannot be read, or if two have one case id, which would hide a case.
    """
    if review.kind == "INDEX":
        return index_cases(read_index(review.path))
    if review.kind == "RESULTS":
        return result_cases(review.results)
    return read_run_cases(review.run.cases)


def read_marks(review: Review, arm: str) -> dict[str, CaseMarks]:
    """Read the marks of all scans by case id: of RESULTS all there are, of a RUN those of an arm.

    Raises:
        MedkdError: if a file cannot be read, with all reasons.
    """
    if review.kind == "RESULTS":
        return result_marks(review.results)
    return read_case_marks(review.run, arm)


def read_probabilities(review: Review) -> dict[str, dict[str, float]]:
    """Read the calibrated probabilities of whole images.

    Returns:
        Case id to arm (of RESULTS: label) to probability; what was not scored is left out.

    Raises:
        MedkdError: if a file cannot be read, with all reasons.
    """
    if review.kind == "RESULTS":
        return result_probabilities(review.results)
    return read_image_probabilities(review.run)


def pixels_path(review: Review, case: RunCase) -> Path:
    """Return the path through which the pixels of a case are read: its file, folder or INDEX.

    Raises:
        SeriesError: if RESULTS do not say it.
    """
    if review.kind == "INDEX":
        return review.path
    if review.index is not None:
        return review.index
    if not case.path:
        reasons = [
            "these RESULTS do not say where it was read from: its INDEX is pseudonymised",
            "to see it: medkd review RESULTS --index INDEX",
        ]
        raise SeriesError(f"{case.case_id}: cannot be shown", reasons)
    return review.path / case.path


def read_case_scan(review: Review, case: RunCase) -> Scan:
    """Read the scan of a case.

    Raises:
        MedkdError: if it cannot be read, with all reasons.
    """
    place = pixels_path(review, case)
    if is_index(place):
        return open_scan(place, case.case_id)
    if review.kind == "RESULTS":
        return read_result_scan(review.results, place, case.case_id)
    return read_scan(place, seriesuid=case.case_id)


def read_case_image(review: Review, case: RunCase) -> Radiograph:
    """Read the radiograph of a case.

    Raises:
        MedkdError: if it cannot be read, with all reasons.
    """
    place = pixels_path(review, case)
    if is_index(place):
        return open_image(place, case.case_id)
    if review.kind == "RESULTS":
        return read_result_image(review.results, place)
    return read_radiograph(place)


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
    reasons = _what_it_is(place) if place.is_dir() else _what_file_it_is(place)
    raise SettingsError(f"{place}: not a RUN, RESULTS or an INDEX", [*reasons, HINT])


def _check_index(review: Review, index: Path) -> None:
    if review.kind != "RESULTS":
        reason = f"{review.path} is a {review.kind}, which says itself where its cases are"
        raise SettingsError(f"--index {index}: not used", [reason])
    if not is_index(index):
        raise SettingsError(f"--index {index}: not an INDEX", ["give an index.csv"])


def _check_run(run: RunFolder) -> None:
    read_json(run.record, dict, form=RUN)
    if not run.cases.is_file():
        reason = (
            "it holds a run that was stopped before it had cases: go on with it by "
            f"`medkd train CONFIG --out {run.path} --resume`"
        )
        raise SettingsError(f"{run.path}: not a whole RUN", [reason])


def _make_home(review: Review) -> None:
    home = review.decisions.parent
    try:
        home.mkdir(exist_ok=True)
    except OSError as error:
        remedy = (
            f"decisions are kept beside the INDEX: ask for the right to write in "
            f"{review.path.resolve().parent}, make room there, or make the INDEX in another folder"
        )
        raise SeriesError(f"{home}: cannot be written", [str(error), remedy]) from error


def _what_it_is(folder: Path) -> Iterator[str]:
    """Say what a folder contains, and what in it can be reviewed."""
    names = sorted(entry.name for entry in folder.iterdir())
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    yield f"expected run.json or detect.record in it, found {listed or 'nothing'}"
    if ResultsFolder(folder).table.is_file():
        yield "it holds a table of `medkd detect` without its detect.record: copy the whole folder"
    for found in find_reviews(folder)[:20]:
        yield f"it holds something to review: medkd review {found}"


def _what_file_it_is(file: Path) -> Iterator[str]:
    """Say what a file is that is no INDEX."""
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            first = stream.readline(200).strip()
    except OSError as error:
        yield f"it cannot be read: {type(error).__name__}"
        return
    yield f"a file, and not an INDEX: its first line is {first[:80]!r}"
    if found := find_reviews(file.parent):
        yield f"to review what is beside it: {', '.join(map(str, found[:5]))}"
