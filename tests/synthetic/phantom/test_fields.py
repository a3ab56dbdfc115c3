"""Smooth fields, soft edges, and interpolation of a lattice at voxels."""

import numpy as np
import pytest

from medkd.synthetic.phantom.canvas import Canvas
from medkd.synthetic.phantom.fields import (
    SmoothField,
    paint,
    smooth_max,
    smooth_min,
    soft_step,
    upsample,
    upsampled,
)
from tests.synthetic.phantom.chests import axis_mm


def _canvas(shape=(20, 18, 16), spacing=0.8, first=(-7.0, 3.0, 1.0)):
    return Canvas(shape, np.full(3, spacing), np.asarray(first), np.zeros(3))


def _field(seed=0, knot_mm=6.0):
    return SmoothField.drawn(np.random.default_rng(seed), knot_mm, period_mm=120.0)


def test_a_smooth_field_has_about_unit_variance():
    values = _field(knot_mm=3.0).on(_canvas((50, 50, 50), 2.0))
    assert abs(values.mean()) < 0.1
    assert values.std() == pytest.approx(1.0, abs=0.15)


def test_a_smooth_field_is_the_same_on_a_part_as_on_the_whole():
    canvas, field = _canvas(), _field()
    box = (slice(3, 9), slice(5, 18), slice(2, 4))
    np.testing.assert_allclose(field.on(canvas.part(box)), field.on(canvas)[box], atol=1e-5)


def test_a_smooth_field_repeats_after_its_period():
    field = _field(knot_mm=6.0)
    near, far = _canvas(), _canvas(first=(-7.0 + 120.0, 3.0, 1.0))
    np.testing.assert_allclose(field.on(near), field.on(far), atol=1e-4)


def test_upsampling_is_exact_for_a_linear_field():
    fine = _canvas()
    coarse = fine.coarse(2.0, margin_mm=0.0)
    field = axis_mm(coarse, 0) - 2 * axis_mm(coarse, 1) + 0.5 * axis_mm(coarse, 2)
    expected = axis_mm(fine, 0) - 2 * axis_mm(fine, 1) + 0.5 * axis_mm(fine, 2)
    np.testing.assert_allclose(upsample(field, coarse, fine), expected, atol=1e-4)


def test_upsampling_agrees_with_sampling_at_the_voxel_centres():
    fine = _canvas()
    coarse = fine.coarse(2.0, margin_mm=0.0)
    field = np.random.default_rng(1).normal(size=coarse.shape).astype(np.float32)
    index = np.argwhere(np.ones(fine.shape, dtype=bool))
    expected = coarse.sample(field, fine.points_mm(index)).reshape(fine.shape)
    np.testing.assert_allclose(upsample(field, coarse, fine), expected, atol=1e-5)


def test_several_fields_are_interpolated_together():
    fine = _canvas()
    coarse = fine.coarse(2.0, margin_mm=0.0)
    first = np.random.default_rng(2).normal(size=coarse.shape).astype(np.float32)
    pairs = [(a.copy(), b.copy()) for a, b in upsampled([first, -first], coarse, fine)]
    assert len(pairs) == fine.shape[0]
    np.testing.assert_array_equal(pairs[7][0], -pairs[7][1])


def test_a_soft_edge_is_one_half_at_the_surface_and_1_half_a_width_inside():
    cover = soft_step(np.array([-2.0, -0.5, 0.0, 0.25, 9.0], np.float32), 1.0)
    np.testing.assert_allclose(cover, [1.0, 1.0, 0.5, 0.25, 0.0])


def test_painting_blends_by_coverage():
    volume = np.array([-1000.0, 0.0], np.float32)
    paint(volume, np.array([0.5, 1.0], np.float32), 100.0)
    np.testing.assert_allclose(volume, [-450.0, 100.0])


def test_smooth_extrema_equal_plain_ones_away_from_the_edge():
    one, other = np.array([-9.0, 5.0], np.float32), np.array([3.0, -8.0], np.float32)
    np.testing.assert_allclose(smooth_max(one, other, blend_mm=2.0), [3.0, 5.0])
    np.testing.assert_allclose(smooth_min(one, other, blend_mm=2.0), [-9.0, -8.0])
