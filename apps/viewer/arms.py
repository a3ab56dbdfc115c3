"""The marks of all arms of a RUN, and those of the other arms as rings."""

from __future__ import annotations

import session
from scene import Ring

from medkd.review.cases import NO_MARKS, CaseMarks
from medkd.review.opened import Review
from medkd.review.outcomes import Outcomes, judge_marks
from medkd.runs import ARMS
from medkd.types import RunCase


def load_arms(review: Review, case: RunCase) -> dict[str, CaseMarks]:
    """Return the marks of a scan by arm, the student's first.

    It is empty if there is no other arm, or scores may not be seen.
    """
    if review.kind != "RUN" or case.status != "analysed":
        return {}
    if not session.load_sight(review, case.case_id).scores:
        return {}
    order = [session.ARM, *(arm for arm in ARMS if arm != session.ARM)]
    found = {arm: session.load_marks(review, arm).get(case.case_id, NO_MARKS) for arm in order}
    others = any(marks.source != "none" for arm, marks in found.items() if arm != session.ARM)
    return found if others else {}


def other_rings(review: Review, case: RunCase, *, above_only: bool) -> list[Ring]:
    """Build the rings of the other arms' marks, highest score first.

    Args:
        review: the opened RUN, RESULTS or INDEX.
        case: the scan.
        above_only: whether to leave out marks below the threshold that was chosen for their arm.
    """
    findings = session.load_findings(review).get(case.case_id)
    rings = []
    for arm, found in load_arms(review, case).items():
        if arm == session.ARM:
            continue
        threshold = session.mark_threshold(review, found.source, arm) if above_only else None
        marks = found.above(threshold)
        outcomes = Outcomes({}, ()) if findings is None else judge_marks(marks, findings)
        rings += [
            Ring(
                f"{arm}:{mark.mark_id}",
                "other",
                mark.number,
                mark.candidate.center_mm,
                mark.candidate.diameter_mm,
                score=mark.candidate.score,
                outcome=outcomes.marks.get(mark.mark_id, ""),
                arm=arm,
            )
            for mark in marks
        ]
    return rings
