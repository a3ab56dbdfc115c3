"""A canvas: the positions of its voxels, and how it is cut into parts."""

import numpy as np
import pytest

from medkd.synthetic.phantom.canvas import Canvas
from tests.synthetic.phantom.chests import axis_mm


def _canvas(turn=None):
    more = {} if turn is None else {"turn": turn}
    return Canvas(
        (6, 5, 9), np.array([0.7, 0.7, 1.25]), np.array([-3.0, 10.0, 4.0]),
        np.array([5.0, -120.0, -300.0]), **more,
    )  # fmt: skip


def _quarter_turn():
    return np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def test_a_straight_patient_is_translated_but_not_rotated_to_lps():
    canvas = _canvas()
    place = canvas.grid.voxel_to_world([1, 2, 3])
    # first + index * spacing + offset
    np.testing.assert_allclose(place, [-3 + 0.7 + 5, 10 + 1.4 - 120, 4 + 3.75 - 300])


def test_a_rotated_canvas_and_its_grid_agree_on_every_voxel():
    canvas = _canvas(_quarter_turn())
    index = np.array([[0, 0, 0], [5, 0, 2], [1, 4, 8]])
    expected = canvas.to_lps(canvas.points_mm(index))
    np.testing.assert_allclose(canvas.grid.voxel_to_world(index), expected, atol=1e-5)


def test_sampling_a_linear_field_gives_the_line():
    canvas = _canvas()
    field = axis_mm(canvas, 0) * 2 + axis_mm(canvas, 1) - axis_mm(canvas, 2)
    points = np.array([[-2.2, 10.9, 7.7], [-1.0, 12.0, 5.0]])
    expected = points[:, 0] * 2 + points[:, 1] - points[:, 2]
    np.testing.assert_allclose(canvas.sample(field, points), expected, atol=1e-5)


def test_a_part_keeps_the_positions_of_its_voxels():
    canvas = _canvas()
    part = canvas.part((slice(2, 5), slice(None), slice(4, None)))
    assert part.shape == (3, 5, 5)
    np.testing.assert_allclose(part.points_mm(np.zeros((1, 3))), canvas.points_mm([[2, 0, 4]]))


def test_slabs_cover_every_slice_once():
    canvas = _canvas()
    slabs = list(canvas.slabs(4))
    assert [(s.start, s.stop) for s, _ in slabs] == [(0, 4), (4, 8), (8, 9)]
    assert [part.shape[2] for _, part in slabs] == [4, 4, 1]
    np.testing.assert_allclose(slabs[1][1].first_mm, canvas.points_mm([[0, 0, 4]])[0])


def test_overlapping_coarse_lattices_share_their_points():
    canvas = _canvas()
    whole = canvas.coarse(2.0, margin_mm=3.0)
    part = canvas.part((slice(3, 5), slice(1, 3), slice(2, 5))).coarse(2.0, margin_mm=3.0)
    np.testing.assert_array_equal(part.first_mm % 2.0, 0.0)
    assert ((part.first_mm - whole.first_mm) % 2.0 == 0).all()
    assert (part.shape <= np.asarray(whole.shape)).all()


def test_a_coarse_lattice_covers_the_margin_on_both_sides():
    canvas = _canvas()
    coarse = canvas.coarse(2.0, margin_mm=3.0)
    ends = canvas.points_mm(np.array([[0, 0, 0], np.asarray(canvas.shape) - 1]))
    assert (coarse.line_mm(0)[[0, -1]] - ends[:, 0])[0] == pytest.approx(-3.0, abs=2.0)
    assert coarse.contains(ends + np.array([[-3.0], [3.0]])).all()
