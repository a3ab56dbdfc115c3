"""The actions of a reader in the slice viewer, as the browser sends them, and their saving."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import deciding
import session
from display import AxialStack

from medkd.review.decision import ADDED_PREFIX, LARGEST_MM
from medkd.review.opened import Review
from medkd.review.store import WHOLE_CASE, Decision, Verdict
from medkd.types import Point, RunCase

Kind = Literal["verdict", "add", "place", "diameter", "undo"]

_ADDED_ID = re.compile(ADDED_PREFIX + "[0-9a-f]{16}")
_ON_MARKS = frozenset({"accept", "reject", "undecided"})
_ON_ADDED = frozenset({"added", "undecided"})


@dataclass(frozen=True, slots=True)
class Action:
    """One action of a reader; `number` is its place in the sequence of this browser tab.

    An undo names what it takes back: `undone` is the number of an action that was not answered
    when the reader took it back, `row` the number of a row of the store. The other is 0.
    """

    number: int
    kind: Kind
    mark_id: str = ""
    verdict: Verdict = "undecided"
    center_mm: Point | None = None
    diameter_mm: float | None = None
    undone: int = 0
    row: int = 0


def read_action(sent: Mapping[str, Any]) -> Action:
    """Read an action from the browser.

    Raises:
        ValueError: if it is none; then nothing of it may be saved.
    """
    try:
        return _read(sent)
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"expected an action of a reader, got {sent!r}") from error


def _read(sent: Mapping[str, Any]) -> Action:
    kind = sent["kind"]
    if kind not in get_args(Kind):
        raise ValueError(f"an action is one of {get_args(Kind)}, got {kind!r}")
    place = tuple(float(mm) for mm in sent.get("center") or ())
    diameter = float(sent.get("diameter") or 0.0)
    if len(place) not in {0, 3} or not all(map(math.isfinite, place)):
        raise ValueError(f"a place has three finite mm, got {place!r}")
    if not 0 <= diameter <= LARGEST_MM:
        raise ValueError(f"a diameter is at most {LARGEST_MM:g} mm, got {diameter!r}")
    return Action(
        int(sent["number"]),
        kind,
        str(sent.get("mark", "")),
        sent.get("verdict", "undecided"),
        cast("Point", place) if place else None,
        diameter or None,
        undone=int(sent.get("undone", 0)),
        row=int(sent.get("row", 0)),
    )


@dataclass(frozen=True, slots=True)
class Saver:
    """Saves the actions of a reader on one case; `shown` are the decisions as the page shows them.

    `stack` is the scan in which nodules are added; None: nothing can be added.
    """

    review: Review
    case: RunCase
    shown: Mapping[str, Decision]
    stack: AxialStack | None = None

    def save(self, action: Action, rows: Mapping[int, int]) -> int:
        """Save an action.

        Args:
            action: the action.
            rows: the number of the row that each earlier action wrote.

        Returns:
            The number of the written row; 0 if none was written.
        """
        if action.kind == "undo":
            seen = action.row or rows.get(action.undone, 0)
            saved = deciding.undo(self.review, self.case.case_id, seen) if seen else None
        elif action.kind == "add":
            saved = self._add(action)
        else:
            saved = self._change(action)
        return saved.number if saved else 0

    def _add(self, action: Action) -> Decision | None:
        known = _ADDED_ID.fullmatch(action.mark_id)
        if not known or not action.diameter_mm or not self._holds(action.center_mm):
            return None
        nodule = Decision(
            self.case.case_id,
            action.mark_id,
            session.reader_name(),
            "undecided",
            center_mm=action.center_mm,
            diameter_mm=action.diameter_mm,
        )
        return deciding.add_nodule(self.review, nodule)

    def _change(self, action: Action) -> Decision | None:
        shown = self.shown.get(action.mark_id) or self._just_added(action.mark_id)
        if shown is None:
            return None
        if action.kind == "verdict":
            allowed = _ON_ADDED if shown.is_added else _ON_MARKS
            if action.verdict in allowed:
                return deciding.save_change(self.review, shown, "verdict", action.verdict)
        elif shown.mark_id == WHOLE_CASE:
            return None
        elif action.kind == "place" and action.center_mm and self._holds(action.center_mm):
            return deciding.save_change(self.review, shown, "center_mm", action.center_mm)
        elif action.kind == "diameter" and action.diameter_mm:
            return deciding.save_change(self.review, shown, "diameter_mm", action.diameter_mm)
        return None

    def _just_added(self, mark_id: str) -> Decision | None:
        """Return a nodule of this reader that was added after the page was drawn."""
        if not _ADDED_ID.fullmatch(mark_id):
            return None
        return session.load_mine(self.review).get(self.case.case_id, {}).get(mark_id)

    def _holds(self, center_mm: Point | None) -> bool:
        if self.stack is None or center_mm is None:
            return False
        return bool(self.stack.grid.contains_world(center_mm))
