"""What a reader decides: the record of one decision, and what a valid one is."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import Literal, get_args

from medkd.types import Point

Verdict = Literal["accept", "reject", "undecided", "reviewed", "added", "finished"]
"""accept, reject: a mark or an image; undecided: no verdict (any more); reviewed: a whole case;
added: a nodule that the model did not mark. An added nodule that is undecided was withdrawn.
finished: the first read of a case is finished, and thereby locked."""

Read = Literal["first", "second", ""]
"""first: before the marks of the model were shown; second: after that; "": no first read."""

Field = Literal["verdict", "note", "center_mm", "diameter_mm"]
"""The field that a change of a decision concerns."""

Value = str | Point | float
"""The value of a field: a text, a place in LPS mm, or a diameter in mm."""

WHOLE_CASE = "case"
"""The `mark_id` of a decision on the case itself."""

FIRST_READ = "first_read"
"""The `mark_id` of the row that locks the first read of a case."""

ADDED_PREFIX = "added_"
"""The `mark_id` of every nodule that a reader added begins with this."""

LARGEST_MM = 300.0
"""Diameters above this are refused: no nodule is larger than a chest."""

VERDICTS = frozenset(get_args(Verdict))


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision of one reader on one mark, or on the whole case, at one time.

    `score`, `center_mm` (LPS mm) and `diameter_mm` are copies of what the reader saw, or place and
    diameter that the reader gave, so the decision can still be understood after the model ran
    again. The store sets `number`, `decided_at` (UTC), `medkd_version` and `hash` (`chain.py`).
    `undoes` is the number of the decision that this one takes back, and `read` the read of a case
    to which it belongs; the store sets it too.
    """

    case_id: str
    mark_id: str
    reader: str
    verdict: Verdict
    note: str = ""
    score: float | None = None
    center_mm: Point | None = None
    medkd_version: str = ""
    decided_at: str = ""
    number: int = 0
    diameter_mm: float | None = None
    undoes: int | None = None
    hash: str = ""
    read: Read = ""

    @property
    def is_added(self) -> bool:
        """Whether it concerns a nodule that a reader added."""
        return self.mark_id.startswith(ADDED_PREFIX)


def new_mark_id() -> str:
    """Return the id of a nodule that a reader is about to add; no two are equal.

    Example:
        >>> new_mark_id().startswith(ADDED_PREFIX)
        True
    """
    return f"{ADDED_PREFIX}{secrets.token_hex(8)}"


def check_decision(decision: Decision) -> None:
    """Check that a decision can be saved.

    Raises:
        ValueError: if reader, case or mark is empty, the verdict is not known, a text cannot be
            stored, or a place or diameter is missing or impossible.
    """
    empty = [n for n in ("case_id", "mark_id", "reader") if not getattr(decision, n).strip()]
    if empty:
        raise ValueError(f"a decision needs {', '.join(empty)}, got {decision!r}")
    if decision.verdict not in VERDICTS:
        raise ValueError(f"a verdict is one of {sorted(VERDICTS)}, got {decision.verdict!r}")
    for name in ("case_id", "mark_id", "reader", "note"):
        _check_text(name, getattr(decision, name))
    _check_numbers(decision)
    if decision.verdict == "added" and not decision.is_added:
        raise ValueError(
            f"only a mark whose id begins with {ADDED_PREFIX} is added, got {decision.mark_id!r}"
        )
    if (decision.verdict == "finished") != (decision.mark_id == FIRST_READ):
        raise ValueError(
            f"only the mark {FIRST_READ} is, and is always, finished, got {decision!r}"
        )
    if decision.is_added and (decision.center_mm is None or decision.diameter_mm is None):
        raise ValueError(f"an added nodule needs a place and a diameter, got {decision!r}")


def _check_text(name: str, text: str) -> None:
    # PostgreSQL refuses U+0000, and no database stores half a surrogate pair.
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{name}: expected text, got a character that is none: {text!r}")


def _check_numbers(decision: Decision) -> None:
    if not all(map(math.isfinite, decision.center_mm or ())):
        raise ValueError(f"a place has three finite mm, got {decision.center_mm!r}")
    if decision.center_mm is not None and len(decision.center_mm) != 3:
        raise ValueError(f"a place has three finite mm, got {decision.center_mm!r}")
    if decision.score is not None and not math.isfinite(decision.score):
        raise ValueError(f"a score is a finite number, got {decision.score!r}")
    diameter = decision.diameter_mm
    if diameter is not None and not 0 < diameter <= LARGEST_MM:
        raise ValueError(f"a diameter is above 0 and at most {LARGEST_MM:g} mm, got {diameter!r}")
