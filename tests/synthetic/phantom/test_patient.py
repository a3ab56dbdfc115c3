"""A patient: sizes within limits, and the positions of its parts."""

import numpy as np
import pytest

from medkd.synthetic.phantom.canvas import Canvas, cube_root
from medkd.synthetic.phantom.patient import Frame, draw_patient


def _patient(seed=0, size="full"):
    return draw_patient(np.random.Generator(np.random.PCG64(seed)), size)


def test_the_same_seed_draws_the_same_patient():
    one, other = _patient(4), _patient(4)
    assert one.lung_hu == other.lung_hu
    np.testing.assert_array_equal(one.scale, other.scale)


def test_patients_of_region_and_full_come_from_one_population():
    np.testing.assert_array_equal(_patient(2, "full").scale, _patient(2, "region").scale)


def test_small_chests_are_smaller():
    small = np.prod([_patient(seed, "small").scale for seed in range(20)], axis=1)
    large = np.prod([_patient(seed, "full").scale for seed in range(20)], axis=1)
    assert small.max() < large.min()


def test_the_hila_are_symmetric_except_that_the_left_is_higher():
    right, left = _patient().hilum(-1.0), _patient().hilum(1.0)
    assert right.artery_mm[0] < 0 < left.artery_mm[0]
    assert left.artery_mm[2] > right.artery_mm[2]


def test_a_frame_is_in_template_mm():
    patient = _patient()
    canvas = Canvas((3, 4, 5), np.full(3, 2.0), np.array([10.0, 20.0, 30.0]), np.zeros(3))
    frame = Frame.of(patient, canvas)
    assert frame.shape == (3, 4, 5)
    assert frame.y[0, 3, 0] == pytest.approx(26.0 / patient.scale[1])


def test_a_box_of_a_frame_contains_the_points_between_its_corners():
    canvas = Canvas((9, 9, 9), np.full(3, 5.0), np.full(3, -20.0), np.zeros(3))
    frame = Frame.of(_patient(), canvas)
    part = frame.part(frame.box(np.full(3, -8.0), np.full(3, 12.0)))
    assert part.x.min() >= -8.0
    assert part.z.max() <= 12.0
    assert frame.part(frame.box(np.full(3, 90.0), np.full(3, 99.0))).shape == (0, 0, 0)


@pytest.mark.parametrize("value", [0.001, 0.7, 1.0, 27.0, 5000.0])
def test_the_cube_root_cubed_is_the_value(value):
    assert cube_root(value) ** 3 == pytest.approx(value, rel=1e-14)
