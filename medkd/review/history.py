"""What the history of a reader's decisions tells: what can be undone, what was added, and when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from medkd.review.decision import Decision, Verdict
from medkd.review.first_read import find_lock
from medkd.types import Point

VERDICT_WORDS: dict[Verdict, str] = {
    "accept": "accepted",
    "reject": "rejected",
    "undecided": "undecided",
    "reviewed": "case reviewed",
    "added": "added",
    "finished": "first read finished",
}


def open_decisions(history: Iterable[Decision]) -> list[Decision]:
    """Return the decisions that can be taken back: no undo, not taken back before, not locked.

    Args:
        history: all decisions of one reader on one case, oldest first.
    """
    rows = list(history)
    lock = find_lock(rows)
    undone = {row.undoes for row in rows}
    return [
        row
        for row in rows
        if row.undoes is None
        and row.number not in undone
        and (lock is None or row.number > lock.number)
    ]


def list_added(history: Iterable[Decision]) -> list[tuple[int, Decision]]:
    """Return the latest row of each nodule that the reader added and did not withdraw.

    Args:
        history: all decisions of one reader on one case, oldest first.

    Returns:
        (number, decision); numbers count from 1 in the order of adding, and never change.
    """
    latest: dict[str, Decision] = {}
    for row in history:
        if row.is_added:
            latest[row.mark_id] = row
    numbered = enumerate(latest.values(), start=1)
    return [(number, row) for number, row in numbered if row.verdict == "added"]


def describe_history(history: Sequence[Decision]) -> list[str]:
    """Describe each decision on one mark by what it changed, oldest first.

    Args:
        history: the decisions of one reader on one mark, oldest first.

    Example:
        >>> row = Decision("c", "m", "anna", "accept", decided_at="2026-01-31T09:30:05+00:00")
        >>> describe_history([row])
        ['2026-01-31 09:30:05 UTC: accepted']
    """
    lines = []
    before: Decision | None = None
    for row in history:
        how = "undone, now " if row.undoes is not None else ""
        lines.append(f"{time_words(row)}: {how}{', '.join(_changes(before, row))}")
        before = row
    return lines


def describe_verdict(decision: Decision) -> str:
    """Return the verdict as a word."""
    if decision.is_added and decision.verdict == "undecided":
        return "withdrawn"
    return VERDICT_WORDS[decision.verdict]


def time_words(decision: Decision) -> str:
    """Return the time of a decision as text, such as "2025-01-31 09:30:00 UTC"."""
    return f"{decision.decided_at[:19].replace('T', ' ')} UTC"


def place_words(decision: Decision) -> str:
    """Return the place of a decision as text, in LPS mm; empty if it has none."""
    return point_words(decision.center_mm) if decision.center_mm else ""


def point_words(point_mm: Point) -> str:
    """Return a point as text, such as "1.0, -2.5, 30.0 mm (LPS)"."""
    return f"{', '.join(f'{mm:.1f}' for mm in point_mm)} mm (LPS)"


def _changes(before: Decision | None, row: Decision) -> list[str]:
    changes = []
    if before is None or before.verdict != row.verdict:
        changes.append(describe_verdict(row))
    if row.note != (before.note if before else ""):
        changes.append(f"note: {row.note or '(empty)'}")
    if before is not None and row.center_mm and before.center_mm != row.center_mm:
        changes.append(f"place {place_words(row)}")
    if row.diameter_mm and (before.diameter_mm if before else None) != row.diameter_mm:
        changes.append(f"diameter {row.diameter_mm:.1f} mm")
    return changes or [describe_verdict(row)]
