"""The nodules that the reader added to a scan: their rows beside the image, and their rings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import deciding
from panels import Listed
from scene import Ring

from medkd.review.first_read import locked_marks
from medkd.review.history import list_added
from medkd.review.store import Decision
from medkd.types import RunCase


@dataclass(frozen=True, slots=True)
class Added:
    """An added nodule and its number in the case; a nodule that is not saved yet has the number 0.

    `number` never changes, also when an earlier nodule is withdrawn. `locked`: it belongs to a
    first read that is finished.
    """

    number: int
    decision: Decision
    locked: bool = False


def find_added(case: RunCase, history: Sequence[Decision]) -> list[Added]:
    """Return the added nodules of a case, those that could not be saved last.

    Args:
        case: the case.
        history: all decisions of the reader on it, oldest first.
    """
    locked = locked_marks(history)
    saved = [Added(number, one, one.mark_id in locked) for number, one in list_added(history)]
    names = {one.decision.mark_id for one in saved}
    unsaved = [one for one in deciding.unsaved_nodules(case.case_id) if one.mark_id not in names]
    return saved + [Added(0, replace(one, verdict="added")) for one in unsaved]


def added_rows(added: Sequence[Added]) -> list[Listed]:
    """Build the rows beside the image."""
    return [
        Listed(f"Added {one.number or '(not saved)'}", one.decision, locked=one.locked)
        for one in added
    ]


def added_rings(added: Sequence[Added]) -> list[Ring]:
    """Build the rings."""
    return [
        Ring(
            one.decision.mark_id,
            "added",
            one.number,
            one.decision.center_mm or (0.0, 0.0, 0.0),
            one.decision.diameter_mm,
            verdict="added",
            saved=deciding.saved_words(one.decision) if one.decision.decided_at else "",
            unsaved=deciding.is_unsaved(one.decision),
            locked=one.locked,
        )
        for one in added
    ]
