"""The logic of the worklist: the order of cases, the marks of a case, the progress of a reader.

The module reads a RUN (`medkd/runs.py`) and decisions; it draws nothing. A case that was not
analysed is never treated as a case without findings: it is listed first, with its reasons.
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
from medkd.models.package import read_info
from medkd.review.store import WHOLE_CASE, Decision, Verdict
from medkd.review.worklist import Progress, order_cases
from medkd.runs import ARMS, Prediction, RunFolder, read_cases, read_predictions
from medkd.types import Candidate, CaseResult, Evaluation, FrocResult, RunCase

MarkSource = Literal["whole-scan", "candidates", "detect", "none", "hidden"]

SPLITS = ("test", "val", "train")


@dataclass(frozen=True, slots=True)
class Mark:
    """A candidate shown to a reader: its number in the case (1 = highest score) and a stable id.

    `scored` is False if the reading mode hides scores; then marks are numbered by their place.
    """

    number: int
    mark_id: str
    candidate: Candidate
    scored: bool = True

    @property
    def score(self) -> float | None:
        """The score that the reader may see."""
        return self.candidate.score if self.scored else None


@dataclass(frozen=True, slots=True)
class CaseMarks:
    """The marks of one case, highest score first, and their source."""

    marks: tuple[Mark, ...]
    source: MarkSource
    notes: tuple[str, ...] = ()

    def above(self, threshold: float | None) -> tuple[Mark, ...]:
        """Return the marks whose score is at least `threshold`; all if there is no threshold."""
        return tuple(
            mark for mark in self.marks if threshold is None or mark.candidate.score >= threshold
        )


NO_MARKS = CaseMarks((), "none")
"""For a scan that was not searched and is in no list of candidates."""

HIDDEN_MARKS = CaseMarks((), "hidden")
"""For a scan whose marks the reader may not see."""


def read_run_cases(path: Path) -> list[RunCase]:
    """Read the cases.csv of a RUN in reading order.

    Raises:
        SeriesError: if it cannot be read, or if two rows have the same case id.
    """
    cases = read_cases(path)
    counts = Counter(case.case_id for case in cases)
    reasons = [f"{count} rows have the id {name!r}" for name, count in counts.items() if count > 1]
    if reasons:
        raise SeriesError(f"{path}: expected one row per case", reasons)
    return order_cases(cases)


def find_case(cases: Sequence[RunCase], asked: Sequence[str]) -> RunCase:
    """Return the requested case.

    Args:
        cases: all cases.
        asked: the requested case ids; exactly one id is expected, possibly repeated.

    Raises:
        SettingsError: if no id or several ids were requested, or no case has the id.
    """
    names = list(dict.fromkeys(asked))
    if len(names) != 1:
        reason = f"expected one case, got {len(names)}: {', '.join(map(repr, names))}"
        raise SettingsError("the requested case is ambiguous", [reason])
    for case in cases:
        if case.case_id == names[0]:
            return case
    known = [case.case_id for case in cases]
    near = get_close_matches(names[0], known, n=5) or known[:5]
    count = "1 case" if len(known) == 1 else f"{len(known)} cases"
    reasons = [
        f"it has {count}, for example {', '.join(map(repr, near))}",
        "the address may belong to another run, or be incomplete",
    ]
    raise SettingsError(f"no case is named {names[0]!r} here", reasons)


def mark_id(candidate: Candidate) -> str:
    """Return the id of a mark: its place in LPS mm, which does not change with its number."""
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
        # A decision on one of two marks at one place must not apply to the other mark.
        again = f"_{times[name]}" if times[name] > 1 else ""
        marks.append(Mark(number, f"{name}{again}", candidate))
    return tuple(marks)


def read_case_marks(run: RunFolder, arm: str) -> dict[str, CaseMarks]:
    """Read the marks of an arm on all scans of a RUN.

    A searched scan has the marks that were found, possibly none. Other scans have the scored
    places of the list of candidates. A scan with neither is not in the result.

    Returns:
        Marks by case id.

    Raises:
        MedkdError: if a file of the run cannot be read, with all reasons.
    """
    listed = _group(
        Candidate(row.seriesuid, row.center_mm, row.probabilities[0])
        for row in _predictions(run, arm)
        if row.center_mm is not None
    )
    found = {name: CaseMarks(number_marks(c), "candidates") for name, c in listed.items()}
    if run.marks(arm).is_file():
        marks = _group(read_marks(run.marks(arm)))
        uids = run.reference / "seriesuids.csv"
        searched = [*(read_seriesuids(uids) if uids.is_file() else ()), *marks]
        found |= {
            name: CaseMarks(number_marks(marks.get(name, ())), "whole-scan") for name in searched
        }
    for path in sorted(run.result(arm, "x").parent.glob("*.json")):
        result = read_json(path, CaseResult)
        marked = CaseMarks(number_marks(result.candidates), "whole-scan", result.notes)
        found[path.stem] = marked if result.status == "analysed" else NO_MARKS
    return found


def _predictions(run: RunFolder, arm: str) -> Iterator[Prediction]:
    for split in SPLITS:
        path = run.predictions(arm, split)
        yield from read_predictions(path) if path.is_file() else ()


def read_image_probabilities(run: RunFolder) -> dict[str, dict[str, float]]:
    """Read the calibrated probabilities of whole images.

    Returns:
        Case id to arm to probability, without arms that did not score the image. If a model has
        several labels, the key is "arm, label".

    Raises:
        MedkdError: if a file of the run cannot be read, with all reasons.
    """
    found: dict[str, dict[str, float]] = {}
    for arm in ARMS:
        for row in _predictions(run, arm):
            if row.center_mm is None:
                names = _label_names(run, arm, len(row.probabilities))
                named = zip(names, row.probabilities, strict=True)
                found.setdefault(row.seriesuid, {}).update(named)
    return found


def _label_names(run: RunFolder, arm: str, count: int) -> list[str]:
    """Return the keys of the probabilities of an arm."""
    if count == 1:
        return [arm]
    return [f"{arm}, {name}" for name in read_info(run.model(arm)).label_names]


def arm_threshold(evaluation: Evaluation | None, arm: str, source: MarkSource) -> float | None:
    """Return the frozen threshold of an arm for marks of a source; None if there is none."""
    froc = arm_froc(evaluation, arm, source)
    if froc is None or froc.at_operating_point is None:
        return None
    return froc.at_operating_point.threshold


def arm_froc(evaluation: Evaluation | None, arm: str, source: MarkSource) -> FrocResult | None:
    """Return the FROC result of an arm on the track named `source`; None if there is none."""
    for result in evaluation.arms if evaluation else ():
        for froc in result.froc if result.name == arm else ():
            if froc.track == source:
                return froc
    return None


def call_words(probability: float, threshold: float | None) -> str:
    """Return what a model calls an image; empty without a threshold.

    Example:
        >>> call_words(0.4, 0.4), call_words(0.39, 0.4), call_words(0.4, None)
        ('positive', 'negative', '')
    """
    if threshold is None:
        return ""
    return "positive" if probability >= threshold else "negative"


def count_decided(marks: Iterable[Mark], decisions: Mapping[str, Decision]) -> int:
    """Count the marks that a reader accepted or rejected; `decisions` are by mark id."""
    return sum(
        mark.mark_id in decisions and decisions[mark.mark_id].verdict in {"accept", "reject"}
        for mark in marks
    )


def case_progress(case: RunCase, decisions: Mapping[str, Decision]) -> Progress:
    """Return the progress of one reader with one case.

    An image is reviewed once it was accepted or rejected, a scan once the reader marked the whole
    case as reviewed; with two reads, once that was done in the second one.

    Args:
        case: the case.
        decisions: the latest decisions of this reader on it, by mark id.
    """
    done: set[Verdict] = {"accept", "reject"} if case.kind == "image" else {"reviewed"}
    whole = decisions.get(WHOLE_CASE)
    if whole is not None and whole.verdict in done and whole.read != "first":
        return "reviewed"
    touched = any(d.verdict != "undecided" or d.note for d in decisions.values())
    return "begun" if touched else "open"


def by_case(decisions: Iterable[Decision]) -> dict[str, dict[str, Decision]]:
    """Group the latest decisions of one reader: case id to mark id to decision."""
    grouped: dict[str, dict[str, Decision]] = {}
    for decision in decisions:
        grouped.setdefault(decision.case_id, {})[decision.mark_id] = decision
    return grouped


def _group(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    grouped: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        grouped.setdefault(candidate.seriesuid, []).append(candidate)
    return grouped
