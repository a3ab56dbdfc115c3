from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkd.geometry import VoxelGrid
from medkd.io.reference.regions import measure_outlines, regions_of
from tests.io.reference.oblique import oblique_grid, oblique_places, rotation

degrees = st.floats(-180, 180)
mm = st.floats(-300, 300)


@given(degrees, degrees, degrees, st.tuples(mm, mm, mm), st.integers(3, 40), st.floats(1, 30))
def test_area_and_centre_do_not_depend_on_where_a_polygon_is_turned_or_moved(
    x: float, y: float, z: float, place: tuple[float, float, float], corners: int, radius: float
) -> None:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    flat = radius * np.stack([np.cos(angles), np.sin(angles), np.zeros(corners)], axis=1)
    drawn = measure_outlines([flat @ rotation(x, y, z).T + place], oblique_places())
    assert not isinstance(drawn, str)
    # Area of a regular polygon in a circle: n / 2 r^2 sin(2 pi / n).
    expected = corners / 2 * radius**2 * np.sin(2 * np.pi / corners)
    assert drawn.area_mm2 == pytest.approx(expected, rel=1e-6)
    assert drawn.center_mm == pytest.approx(place, abs=1e-6)


def test_planes_are_as_far_apart_as_they_are_drawn() -> None:
    square = np.asarray([[0, 0, 0], [4, 0, 0], [4, 4, 0], [0, 4, 0]], dtype=float)
    stack = [square + np.asarray((0, 0, z)) for z in (0, 3, 6)]
    drawn = measure_outlines(stack, oblique_places())
    assert not isinstance(drawn, str)
    assert (drawn.planes, drawn.step_mm, drawn.area_mm2) == (3, 3, 48)
    assert drawn.center_mm == pytest.approx((2, 2, 3))


@given(st.lists(st.tuples(*(st.integers(0, n - 1) for n in (6, 5, 4))), min_size=1, unique=True))
def test_components_hold_every_voxel_once_and_lie_where_their_voxels_do(
    places: list[tuple[int, int, int]],
) -> None:
    grid = VoxelGrid((6, 5, 4), oblique_grid().affine_lps_mm)
    drawn = np.zeros(grid.shape, dtype=bool)
    drawn[tuple(np.transpose(places))] = True
    voxel_mm3 = 0.7 * 0.9 * 1.5
    parts = regions_of(drawn, grid, split=True)
    counts = [np.pi / 6 * part.diameter_mm**3 / voxel_mm3 for part in parts]
    assert sum(counts) == pytest.approx(len(places))
    (whole,) = regions_of(drawn, grid, split=False)
    middle = np.average([part.center_mm for part in parts], axis=0, weights=counts)
    assert middle == pytest.approx(whole.center_mm, abs=1e-6)


SQUARE = np.asarray([[0, 0, 0], [4, 0, 0], [4, 4, 0], [0, 4, 0]], dtype=float)
COPIES = {
    "the same": SQUARE,
    "from another point": np.roll(SQUARE, 2, axis=0),
    "backwards": SQUARE[::-1],
    "closed by its first point": np.vstack([SQUARE, SQUARE[:1]]),
    "with a point between": np.insert(SQUARE, 1, [2, 0, 0], axis=0),
    "rounded": SQUARE + 0.004,
}


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("how", COPIES)
def test_an_outline_that_is_drawn_again_counts_once(how: str, copies: int) -> None:
    above = SQUARE + np.asarray((0, 0, 3))
    drawn = measure_outlines([SQUARE, *[COPIES[how]] * copies, above], oblique_places())
    assert not isinstance(drawn, str)
    assert (drawn.area_mm2, drawn.planes, drawn.repeated) == (32, 2, copies)
    assert drawn.center_mm == pytest.approx((2, 2, 1.5))


def test_a_hole_and_an_outline_beside_are_no_copies() -> None:
    hole = SQUARE / 2 + np.asarray((1, 1, 0))
    beside = SQUARE + np.asarray((5, 0, 0))
    drawn = measure_outlines([SQUARE, hole, hole[::-1], beside], oblique_places())
    assert not isinstance(drawn, str)
    assert (drawn.area_mm2, drawn.repeated) == (16 - 4 + 16, 1)
