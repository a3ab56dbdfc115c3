"""The first read of a case, without the marks of the model: what belongs to it, and what it locks.

A reader finishes the first read by one row, its lock. Rows after the lock never belong to the first
read. The nodules that were added in the first read are locked. The case itself is not: a note, a
verdict on an image or "reviewed" can be given again in the second read, by a new row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from medkd.review.decision import FIRST_READ, WHOLE_CASE, Decision


def find_lock(history: Iterable[Decision]) -> Decision | None:
    """Return the row by which the first read was finished; None if it was not.

    Args:
        history: decisions of one reader on one case.
    """
    return next((row for row in history if row.mark_id == FIRST_READ), None)


def locked_marks(history: Sequence[Decision]) -> frozenset[str]:
    """Return the ids of the marks on which this reader can decide nothing any more.

    Args:
        history: decisions of one reader on one case.

    Example:
        >>> nodule = Decision("scan-1", "added_1", "anna", "added", read="first")
        >>> locked_marks([nodule])
        frozenset()
        >>> lock = Decision("scan-1", FIRST_READ, "anna", "finished", read="first")
        >>> sorted(locked_marks([nodule, lock]))
        ['added_1', 'first_read']
    """
    if find_lock(history) is None:
        return frozenset()
    of_first = {row.mark_id for row in history if row.read == "first"}
    return frozenset(of_first - {WHOLE_CASE})
