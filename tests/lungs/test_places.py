"""Side and third of points in the lungs, and what is implausible about the lungs."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from medkd.lungs import find_lungs
from medkd.lungs.sides import LEFT, RIGHT, split_air
from medkd.types import LungPlace
from tests.lungs.scans import stored_as


def ends_mm(phantom, side: str) -> np.ndarray:
    """Return the corners [2, 3] of the true left or right lung; its left is at larger x."""
    points = phantom.scan.grid.voxel_to_world(np.argwhere(phantom.lung))
    middle = (points[:, 0].min() + points[:, 0].max()) / 2
    mine = points[(points[:, 0] > middle) == (side == "left")]
    return np.stack([mine.min(axis=0), mine.max(axis=0)])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("height", "third"), [(0.2, "lower"), (0.5, "middle"), (0.8, "upper")])
def test_a_point_has_the_side_of_the_patient_and_a_third_of_the_height(
    phantom, side, height, third
):
    low, high = ends_mm(phantom, side)
    point = (low + high) / 2
    point[2] = low[2] + height * (high[2] - low[2])
    assert find_lungs(phantom.scan).lung_places([point]) == (LungPlace(side, third),)


def test_thirds_are_equal_parts_of_the_height(phantom):
    low, high = ends_mm(phantom, "left")
    z_mm = np.linspace(low[2], high[2], 301)
    line = np.column_stack([np.full(301, (low[0] + high[0]) / 2),
                            np.full(301, (low[1] + high[1]) / 2), z_mm])  # fmt: skip
    thirds = [place.third for place in find_lungs(phantom.scan).lung_places(line)]
    shares = [thirds.count(name) / 301 for name in ("lower", "middle", "upper")]
    assert shares == pytest.approx([1 / 3, 1 / 3, 1 / 3], abs=0.04)


def test_a_point_outside_gets_the_place_of_the_nearest_lung(phantom):
    field = find_lungs(phantom.scan)
    low, high = ends_mm(phantom, "left")
    middle = (low + high) / 2
    outside = [[high[0] + 60, middle[1], middle[2]], [middle[0], middle[1], high[2] + 90]]
    assert not field.contains(outside).any()
    assert field.lung_places(outside) == (LungPlace("left", "middle"), LungPlace("left", "upper"))


def test_no_points_have_no_places(phantom):
    assert find_lungs(phantom.scan).lung_places(np.empty((0, 3))) == ()


@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_places_do_not_depend_on_how_the_voxels_are_stored(phantom, axes):
    centers_mm = [nodule.center_mm for nodule in phantom.nodules]
    expected = find_lungs(phantom.scan)
    for flipped in product([False, True], repeat=3):
        field = find_lungs(stored_as(phantom.scan, axes, flipped))
        assert field.lung_places(centers_mm) == expected.lung_places(centers_mm)
        assert field.contains(centers_mm).all()
        assert field.left_litres == pytest.approx(expected.left_litres, rel=0.02)


def two_balls(apart: int) -> np.ndarray:
    """Return two balls of radius 15 with centres at x = 30 -+ apart / 2."""
    index = np.indices((60, 40, 40)) - np.array([0, 20, 20]).reshape(3, 1, 1, 1)
    centers = (30 - apart // 2, 30 + apart // 2)
    return np.any([np.hypot(np.hypot(index[0] - x, index[1]), index[2]) < 15 for x in centers],
                  axis=0)  # fmt: skip


@pytest.mark.parametrize("apart", [34, 28, 26, 24])
def test_lungs_that_touch_are_divided_between_them(apart):
    air = two_balls(apart)
    sides = split_air(air, 30.5)
    assert ((sides > 0) == air).all()
    assert (sides[:28][air[:28]] == RIGHT).all()
    assert (sides[33:][air[33:]] == LEFT).all()


def test_a_lung_that_reaches_across_the_midline_stays_whole():
    air = two_balls(34)
    assert set(np.unique(split_air(air, 26.5))) == {0, RIGHT, LEFT}
    assert (split_air(air, 26.5)[:28][air[:28]] == RIGHT).all()


@pytest.mark.parametrize(
    ("litres", "words"),
    [
        ((2.4, 2.0), None),
        ((0.6, 0.5), "lung volume outside 1.5 to 10 litres (right 0.6, left 0.5 litres)"),
        ((6.0, 5.5), "lung volume outside"),
        ((0.0, 2.5), "air was found in the left lung only"),
        ((2.5, 0.1), "air was found in the right lung only"),
        ((3.0, 1.4), "differ strongly in volume"),
    ],
)
def test_implausible_lungs_are_reported(phantom, litres, words):
    right, left = litres
    field = replace(find_lungs(phantom.scan), right_litres=right, left_litres=left)
    found = field.warnings
    assert found == () if words is None else len(found) == 1 and words in found[0]


def test_an_opaque_lung_is_reported_and_the_other_is_found(phantom):
    scan = phantom.scan
    left = phantom.lung & (np.arange(len(phantom.lung)) > 80)[:, None, None]
    field = find_lungs(replace(scan, voxels_hu=np.where(left, np.int16(30), scan.voxels_hu)))
    assert any("right lung only" in warning for warning in field.warnings)
    low, high = ends_mm(phantom, "right")
    assert field.lung_places([(low + high) / 2]) == (LungPlace("right", "middle"),)
