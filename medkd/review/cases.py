"""The worklist's logic: order of cases, the marks of a case, how far a reader is with it.

Reads a RUN (`medkd/runs.py`) and decisions; draws nothing. A case that was not analysed is
never counted as one without findings: it stands first and keeps its reasons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from medkd.errors import SeriesError, SettingsError
from medkd.io.luna16_tables import read_marks, read_seriesuids
from medkd.jsonio import read_json
from medkd.review.store import WHOLE_CASE, Decision, Verdict
from medkd.runs import ARMS, Prediction, RunFolder, read_cases, read_predictions
from medkd.types import Candidate, CaseResult, Evaluation, FrocResult, RunCase

Progress = Literal["open", "begun", "reviewed"]
MarkSource = Literal["whole-scan", "candidates", "detect", "none"]

SPLITS = ("test", "val", "train")


@dataclass(frozen=True, slots=True)
class Mark:
    """A candidate shown to a reader: its number in the case (1 = highest score) and lasting id."""

    number: int
    mark_id: str
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class CaseMarks:
    """The marks of one case, highest score first, and where they come from."""

    marks: tuple[Mark, ...]
    source: MarkSource
    notes: tuple[str, ...] = ()

    def above(self, threshold: float | None) -> tuple[Mark, ...]:
        """Return the marks whose score is at least `threshold`; all where there is none."""
        return tuple(
            mark for mark in self.marks if threshold is None or mark.candidate.score >= threshold
        )


NO_MARKS = CaseMarks((), "none")
"""Of a scan that nothing searched and no candidate list names."""


def order_cases(cases: Iterable[RunCase]) -> list[RunCase]:
    """Sort for reading: not analysed first, then by falling score, ties by case id."""
    return sorted(
        cases,
        key=lambda case: (
            case.status == "analysed",
            -(case.score if case.score is not None else -1.0),
            case.case_id,
        ),
    )


def read_run_cases(path: Path) -> list[RunCase]:
    """Read the cases.csv of a RUN in reading order.

    Raises:
        SeriesError: if it cannot be read, or if two rows have one case id, which would hide a case.
    """
    cases = read_cases(path)
    counts = Counter(case.case_id for case in cases)
    reasons = [f"{count} rows are named {name!r}" for name, count in counts.items() if count > 1]
    if reasons:
        raise SeriesError(f"{path}: expected one row a case", reasons)
    return order_cases(cases)


def find_case(cases: Sequence[RunCase], asked: Sequence[str]) -> RunCase:
    """Return the case that was asked for, never another one in its place.

    Args:
        cases: those of the run.
        asked: the case ids that were asked for; exactly one is expected, repeated or not.

    Raises:
        SettingsError: if it is none or more than one, or the run has no such case.
    """
    names = list(dict.fromkeys(asked))
    if len(names) != 1:
        reason = f"expected one case, got {len(names)}: {', '.join(map(repr, names))}"
        raise SettingsError("which case is meant is not clear", [reason])
    for case in cases:
        if case.case_id == names[0]:
            return case
    known = [case.case_id for case in cases]
    near = get_close_matches(names[0], known, n=5) or known[:5]
    count = "1 case" if len(known) == 1 else f"{len(known)} cases"
    reasons = [
        f"it has {count}, for example {', '.join(map(repr, near))}",
        "the address may belong to another run, or be cut short",
    ]
    raise SettingsError(f"no case is named {names[0]!r} here", reasons)


def mark_id(candidate: Candidate) -> str:
    """Name a mark by its place in LPS mm, so that a decision outlives another run's numbering."""
    # + 0.0 turns a rounded -0.0 into 0.0.
    return "at_" + "_".join(f"{round(value, 2) + 0.0:.2f}" for value in candidate.center_mm)


def number_marks(candidates: Iterable[Candidate]) -> tuple[Mark, ...]:
    """Number candidates from the highest score."""
    ordered = sorted(candidates, key=lambda c: (-c.score, c.center_mm))
    times: Counter[str] = Counter()
    marks = []
    for number, candidate in enumerate(ordered, start=1):
        name = mark_id(candidate)
        times[name] += 1
        # A decision on one of two marks at one place must not count for the other.
        again = f"_{times[name]}" if times[name] > 1 else ""
        marks.append(Mark(number, f"{name}{again}", candidate))
    return tuple(marks)


def read_case_marks(run: RunFolder, arm: str) -> dict[str, CaseMarks]:
    """Read an arm's marks of all scans.

    A scan that the whole-scan run searched has its marks, maybe none; another has the scored
    places of the given candidate list; a scan of neither is not in the result.

    Returns:
        Marks by case id.

    Raises:
        MedkdError: if a file of the run cannot be read, with all reasons.
    """
    listed = _group(_scored_candidates(run, arm))
    found = {name: CaseMarks(number_marks(c), "candidates") for name, c in listed.items()}
    if run.marks(arm).is_file():
        marks = _group(read_marks(run.marks(arm)))
        searched = [*_searched(run), *marks]
        found |= {
            name: CaseMarks(number_marks(marks.get(name, ())), "whole-scan") for name in searched
        }
    for path in sorted(run.result(arm, "x").parent.glob("*.json")):
        result = read_json(path, CaseResult)
        marked = CaseMarks(number_marks(result.candidates), "whole-scan", result.notes)
        found[path.stem] = marked if result.status == "analysed" else NO_MARKS
    return found


def _scored_candidates(run: RunFolder, arm: str) -> Iterator[Candidate]:
    for row in _predictions(run, arm):
        if row.center_mm is not None:
            yield Candidate(row.seriesuid, row.center_mm, row.probability)


def _predictions(run: RunFolder, arm: str) -> Iterator[Prediction]:
    for split in SPLITS:
        path = run.predictions(arm, split)
        yield from read_predictions(path) if path.is_file() else ()


def _searched(run: RunFolder) -> list[str]:
    """Return the scans that the run's whole-scan marks were scored on."""
    path = run.reference / "seriesuids.csv"
    return read_seriesuids(path) if path.is_file() else []


def read_image_probabilities(run: RunFolder) -> dict[str, dict[str, float]]:
    """Read each arm's calibrated probability of whole images.

    Returns:
        Case id to arm to probability; an arm that did not score an image is left out.

    Raises:
        MedkdError: if a file of the run cannot be read, with all reasons.
    """
    found: dict[str, dict[str, float]] = {}
    for arm in ARMS:
        for row in _predictions(run, arm):
            if row.center_mm is None:
                found.setdefault(row.seriesuid, {})[arm] = row.probability
    return found


def student_threshold(evaluation: Evaluation | None, source: MarkSource) -> float | None:
    """Return the student's frozen threshold for marks of that source; None where there is none."""
    froc = student_froc(evaluation, source)
    if froc is None or froc.at_operating_point is None:
        return None
    return froc.at_operating_point.threshold


def student_froc(evaluation: Evaluation | None, source: MarkSource) -> FrocResult | None:
    """Return the student's FROC of the track that marks of `source` belong to."""
    for arm in evaluation.arms if evaluation else ():
        for froc in arm.froc if arm.name == "student" else ():
            if froc.track == source:
                return froc
    return None


def count_decided(marks: Iterable[Mark], decisions: Mapping[str, Decision]) -> int:
    """Count the marks that a reader accepted or rejected (`decisions` by mark id)."""
    return sum(
        mark.mark_id in decisions and decisions[mark.mark_id].verdict in {"accept", "reject"}
        for mark in marks
    )


def case_progress(case: RunCase, decisions: Mapping[str, Decision]) -> Progress:
    """Say how far one reader is with one case.

    Args:
        case: the case.
        decisions: this reader's latest decisions on it by mark id. An image is reviewed when it
            was accepted or rejected, a scan when the reader said that the whole case is done.
    """
    done: set[Verdict] = {"accept", "reject"} if case.kind == "image" else {"reviewed"}
    whole = decisions.get(WHOLE_CASE)
    if whole is not None and whole.verdict in done:
        return "reviewed"
    touched = any(d.verdict != "undecided" or d.note for d in decisions.values())
    return "begun" if touched else "open"


def by_case(decisions: Iterable[Decision]) -> dict[str, dict[str, Decision]]:
    """Group one reader's latest decisions: case id to mark id to decision."""
    grouped: dict[str, dict[str, Decision]] = {}
    for decision in decisions:
        grouped.setdefault(decision.case_id, {})[decision.mark_id] = decision
    return grouped


def _group(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    grouped: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        grouped.setdefault(candidate.seriesuid, []).append(candidate)
    return grouped
