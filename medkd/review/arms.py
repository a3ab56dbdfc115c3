"""What the arms of a RUN say about one place of a scan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from medkd.review.cases import CaseMarks, Mark
from medkd.types import Point


def nearest_mark(marks: Sequence[Mark], center_mm: Point, *, within_mm: float) -> Mark | None:
    """Return the mark nearest to a point (LPS mm), if any is at most `within_mm` away."""
    near = [
        (distance_mm, mark)
        for mark in marks
        if (distance_mm := math.dist(mark.candidate.center_mm, center_mm)) <= within_mm
    ]
    return min(near, key=lambda pair: pair[0])[1] if near else None


def arm_scores(arms: Mapping[str, CaseMarks], center_mm: Point, *, within_mm: float) -> str:
    """Return the score of each arm at a point, such as "student 0.930, teacher none".

    Args:
        arms: the marks of the scan by arm.
        center_mm: the point in LPS mm.
        within_mm: how far away a mark may be.
    """
    return ", ".join(
        f"{arm} {_score_words(found, center_mm, within_mm)}" for arm, found in arms.items()
    )


def _score_words(found: CaseMarks, center_mm: Point, within_mm: float) -> str:
    if found.source == "none":
        return "not searched"
    mark = nearest_mark(found.marks, center_mm, within_mm=within_mm)
    return f"{mark.candidate.score:.3f}" if mark else "none"
