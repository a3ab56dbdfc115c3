"""What the list beside the image tells about a row: its place, and the score of each arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import arms
import places
from display import AxialStack
from panels import Listed
from scene import UNKNOWN_DIAMETER_MM

from medkd.review.arms import arm_scores
from medkd.review.opened import Review
from medkd.review.place_words import short_place
from medkd.types import Point, RunCase


def placed_rows(stack: AxialStack | None, rows: Sequence[Listed]) -> list[Listed]:
    """Return the rows with their places, in short, and in full as the first line of their box."""
    if stack is None:
        return list(rows)
    found = places.find_places(stack, [_center_mm(row) for row in rows])
    return [
        replace(
            row,
            place=short_place(place),
            lines=(places.describe(stack, row.shown, place), *row.lines),
        )
        for row, place in zip(rows, found, strict=True)
    ]


def scored_rows(review: Review, case: RunCase, rows: Sequence[Listed]) -> list[Listed]:
    """Return the rows with the score of each arm at their place, if the RUN has several arms."""
    if not (found := arms.load_arms(review, case)):
        return list(rows)
    scored = []
    for row in rows:
        radius_mm = (row.shown.diameter_mm or UNKNOWN_DIAMETER_MM) / 2
        scores = arm_scores(found, _center_mm(row), within_mm=radius_mm)
        scored.append(replace(row, lines=(*row.lines, f"Scores here: {scores}")))
    return scored


def _center_mm(row: Listed) -> Point:
    return row.shown.center_mm or (0.0, 0.0, 0.0)
