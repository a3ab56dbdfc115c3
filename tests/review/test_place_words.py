"""Where a nodule is, in the words of a report."""

from __future__ import annotations

import numpy as np
import pytest

from medkd.geometry import VoxelGrid
from medkd.lungs import LungField
from medkd.lungs.sides import LEFT, RIGHT
from medkd.review.place_words import lung_words, report_line, short_place

GRID = VoxelGrid.from_parts((20, 10, 30), spacing_mm=(4, 4, 4), origin_mm=(-38, 0, 0))


def build_lungs() -> LungField:
    """Build two boxes: the right lung 0 to 60 mm high, the left one 0 to 116 mm high."""
    sides = np.zeros(GRID.shape, np.uint8)
    sides[1:9, 1:9, :16] = RIGHT
    sides[11:19, 1:9, :] = LEFT
    box = (slice(0, 20), slice(0, 10), slice(0, 30))
    return LungField(box, sides, GRID, 2.0, 3.0)


@pytest.mark.parametrize(
    ("point_mm", "words"),
    [
        ((-20, 18, 10), "right lung, lower third"),
        ((-20, 18, 50), "right lung, upper third"),
        ((20, 18, 50), "left lung, middle third"),
        ((20, 18, 100), "left lung, upper third"),
        ((0, 18, 50), "outside the lungs"),  # between the lungs
        ((-20, 18, 100), "outside the lungs"),  # above the right one
    ],
)
def test_a_point_is_in_a_third_of_its_own_lung_or_outside(point_mm, words):
    assert lung_words(build_lungs(), [point_mm]) == (words,)


def test_a_place_is_shortened_for_the_list():
    short = [short_place(words) for words in ("left lung, upper third", "outside the lungs", "")]
    assert short == ["left upper", "outside", ""]


def test_a_line_for_the_pacs_leaves_out_what_is_not_known():
    line = report_line("", 12, image="", diameter_mm=None)
    assert line == "slice 12"
    assert report_line("", 0, image="", diameter_mm=6.25) == "outside the scan, 6.3 mm"
    whole = report_line("left lung, upper third", 12, image="image 30", diameter_mm=6.0)
    assert whole == "left lung, upper third, slice 12 (image 30), 6.0 mm"
