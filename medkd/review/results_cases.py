"""RESULTS as something to review: the worklist, marks and pictures of what `medkd detect` left."""

from __future__ import annotations

from pathlib import Path

from medkd.errors import SeriesError
from medkd.io.dicom.gate import GateSettings
from medkd.io.find_scans import find_places
from medkd.io.radiograph.read import read_radiograph
from medkd.io.scans import read_place
from medkd.review.cases import NO_MARKS, CaseMarks, number_marks, order_cases
from medkd.runs import ResultsFolder
from medkd.types import CaseResult, Radiograph, RunCase, Scan


def result_cases(results: ResultsFolder) -> list[RunCase]:
    """Read the worklist; the score of a case is that of its highest mark or probability."""
    return order_cases(_case_of(result) for result in results.read())


def result_marks(results: ResultsFolder) -> dict[str, CaseMarks]:
    """Read the marks of every scan by case id."""
    return {
        result.seriesuid: CaseMarks(number_marks(result.candidates), "detect", result.notes)
        if result.status == "analysed"
        else NO_MARKS
        for result in results.read()
        if result.kind == "scan"
    }


def result_probabilities(results: ResultsFolder) -> dict[str, dict[str, float]]:
    """Read the probability of each label of every radiograph by case id."""
    return {result.seriesuid: result.probabilities for result in results.read()}


def read_result_scan(results: ResultsFolder, path: Path, seriesuid: str) -> Scan:
    """Read a scan from where the search read it.

    Args:
        results: whose record says which faults of a volume were accepted.
        path: the file or folder that the result names; a folder may hold several series.
        seriesuid: of the series.

    Raises:
        SeriesError: if it is gone or cannot be read, with all reasons.
    """
    gate = GateSettings.model_validate(results.read_record().settings.get("gate", {}))
    for place in find_places([path]).scans:
        if not place.seriesuid:
            return read_place(place, gate=gate)
        if place.seriesuid == seriesuid:
            return read_place(place)  # the search has judged the series: it is only shown here
    raise SeriesError(f"{seriesuid}: cannot be shown", [f"{path}: it is no longer there"])


def read_result_image(results: ResultsFolder, path: Path) -> Radiograph:
    """Read a radiograph from where it was scored; refusals as those of `read_radiograph`."""
    return read_radiograph(path, allow=results.read_record().settings.get("allow", ()))


def _case_of(result: CaseResult) -> RunCase:
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
