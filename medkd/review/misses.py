"""What a model got wrong at a threshold: missed nodules and false marks, worst first.

The rules are LUNA16's (`medkd/evaluate/matching.py`). A place can be shown in its case, because it
has the name of its ring in the slice viewer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medkd.evaluate.matching import cap_score, nodule_scores
from medkd.review.cases import NO_MARKS, CaseMarks, Mark
from medkd.review.outcomes import findings_by_scan, judge_marks, nodule_name, numbered
from medkd.review.stored_scores import list_scored, read_scored_reference
from medkd.runs import RunFolder
from medkd.types import Evaluation, Nodule, Point, Reference

Findings = Mapping[str, Sequence[Nodule]]
"""Reference standard by case id: included nodules and excluded findings."""


@dataclass(frozen=True, slots=True)
class WrongPlace:
    """A missed nodule or a false mark.

    `ring_id` names its ring in the slice viewer. `score` is that of the mark, or of the best mark
    in a missed nodule (None: no mark is in it). `diameter_mm` is None if it is not known.
    """

    case_id: str
    ring_id: str
    center_mm: Point
    diameter_mm: float | None
    score: float | None


@dataclass(frozen=True, slots=True)
class Mistakes:
    """What an arm got wrong on the test scans at its frozen threshold (None: it has none).

    `track` names the marks. `findings` is the reference standard of the scored scans.
    """

    track: str
    threshold: float | None
    findings: Findings
    missed: tuple[WrongPlace, ...]
    false_marks: tuple[WrongPlace, ...]


def find_mistakes(
    run: RunFolder, evaluation: Evaluation, marks: Mapping[str, CaseMarks], *, arm: str
) -> Mistakes | None:
    """Find what an arm got wrong on whole scans, or on listed candidates if it searched none.

    Args:
        run: the run.
        evaluation: its evaluation.
        marks: the marks of the arm by case id, as the case page numbers them.
        arm: name of the arm.

    Returns:
        None if the arm was not scored on scans.

    Raises:
        MedkdError: if the reference standard cannot be read, with all reasons.
    """
    track = next((what.track for what in list_scored(evaluation, arm) if what.track), "")
    if not track:
        return None
    point = next(f.at_operating_point for f in evaluation.arm(arm).froc if f.track == track)
    threshold = None if point is None else point.threshold
    findings = findings_by_scan(read_scored_reference(run, track, arm))
    return Mistakes(
        track,
        threshold,
        findings,
        tuple(find_missed(findings, marks, threshold=threshold)),
        tuple(find_false_marks(findings, marks, threshold=threshold)),
    )


def find_missed(
    findings: Findings, marks: Mapping[str, CaseMarks], *, threshold: float | None
) -> list[WrongPlace]:
    """Find the nodules without a mark of at least a threshold, the largest first.

    Args:
        findings: the reference standard of the scored scans, complete.
        marks: all marks by case id.
        threshold: None: every mark counts.

    Returns:
        Missed nodules by falling diameter, nodules of unknown diameter last.
    """
    missed = [
        one
        for case_id, known in findings.items()
        for one in _missed_in(case_id, known, marks.get(case_id, NO_MARKS), threshold)
    ]
    return sorted(missed, key=lambda one: (-(one.diameter_mm or 0.0), one.case_id, one.ring_id))


def find_false_marks(
    findings: Findings, marks: Mapping[str, CaseMarks], *, threshold: float | None
) -> list[WrongPlace]:
    """Find the false positives with at least a threshold, the highest score first.

    Args:
        findings: the reference standard of the scored scans, complete.
        marks: all marks by case id.
        threshold: None: every mark counts.
    """
    false = [
        WrongPlace(
            case_id, mark.mark_id, mark.candidate.center_mm, mark.candidate.diameter_mm,
            mark.candidate.score,
        )
        for case_id, known in findings.items()
        for mark in _false_in(known, marks.get(case_id, NO_MARKS), threshold)
    ]  # fmt: skip
    return sorted(false, key=lambda one: (-(one.score or 0.0), one.case_id, one.ring_id))


def _missed_in(
    case_id: str, known: Sequence[Nodule], found: CaseMarks, threshold: float | None
) -> Iterator[WrongPlace]:
    included = [(n, nodule) for n, nodule in numbered(known) if nodule.counts_as == "included"]
    reference = Reference(tuple(nodule for _, nodule in included), (), (case_id,))
    best = nodule_scores([mark.candidate for mark in found.marks], reference).tolist()
    least = -float("inf") if threshold is None else threshold
    for (number, nodule), score in zip(included, best, strict=True):
        has_mark = score > -float("inf")
        if has_mark and score >= least:
            continue
        diameter_mm = nodule.diameter_mm if nodule.diameter_mm > 0 else None
        score_of_mark = score if has_mark else None
        yield WrongPlace(case_id, nodule_name(number), nodule.center_mm, diameter_mm, score_of_mark)


def _false_in(known: Sequence[Nodule], found: CaseMarks, threshold: float | None) -> Iterator[Mark]:
    above = cap_score([mark.candidate.score for mark in found.marks])
    scored = [mark for mark in found.above(threshold) if mark.candidate.score > above]
    outcomes = judge_marks(scored, known).marks
    yield from (mark for mark in scored if outcomes[mark.mark_id] == "false")
