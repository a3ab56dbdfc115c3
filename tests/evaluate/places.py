"""Small worlds for FROC tests: everything on the x axis unless a place is given."""

from __future__ import annotations

from medkd.types import Candidate, Nodule, Point, Reference


def nodule(uid: str, x: float, diameter: float = 8.0) -> Nodule:
    return Nodule(uid, (x, 0.0, 0.0), diameter)


def finding(uid: str, x: float, diameter: float = -1.0) -> Nodule:
    return Nodule(uid, (x, 0.0, 0.0), diameter, "excluded")


def mark(uid: str, x: float, score: float, at: Point | None = None) -> Candidate:
    return Candidate(uid, at or (x, 0.0, 0.0), score)


def reference(*nodules: Nodule, uids: str = "a", excluded: tuple[Nodule, ...] = ()) -> Reference:
    """One series a letter of `uids`."""
    return Reference(nodules, excluded, tuple(uids))
