"""What phantoms are drawn with: coverage that keeps volume, centre and size."""

import numpy as np
import pytest

from medkd.data.phantom.old.draw import Canvas, Tubes, draw_tubes, smooth_field
from medkd.data.phantom.old.shapes import Shape, draw_finding, draw_shape
from medkd.data.phantom.old.vessels import grow_tree


def canvas_of(shape=(40, 36, 30), spacing=(2.1, 2.1, 1.7)) -> Canvas:
    size = np.asarray(spacing) * (np.asarray(shape) - 1)
    return Canvas(shape, np.asarray(spacing), -size / 2, np.array([5.0, -7.0, 11.0]))


@pytest.mark.parametrize("radius", [0.5, 1.0, 2.0, 4.0, 7.0])
def test_a_tube_keeps_its_volume_however_thin(radius):
    canvas = canvas_of()
    line = np.array([[-20.0, -3.3, 1.2], [20.0, 4.1, -2.6]])
    drawn = draw_tubes(canvas, Tubes.along(line, radius)).sum() * np.prod(canvas.spacing_mm)
    # A cylinder and its two half-sphere caps.
    length = np.linalg.norm(line[1] - line[0])
    wanted = np.pi * radius**2 * length + 4 / 3 * np.pi * radius**3
    assert drawn == pytest.approx(wanted, rel=0.12)


@pytest.mark.parametrize("diameter", [5.0, 9.0, 20.0])
def test_a_finding_states_the_centre_and_diameter_of_its_own_voxels(diameter):
    canvas = canvas_of()
    shape = draw_shape(np.random.default_rng(2), diameter, flatness=0.2, lobes=3)
    drawn = draw_finding(canvas, shape, np.array([1.3, -2.2, 0.7]), lung_mm=None)
    volume = np.zeros(canvas.shape)
    volume[drawn.box()] = drawn.coverage
    index = np.stack(np.indices(canvas.shape), axis=-1)
    center = (volume[..., None] * index).sum(axis=(0, 1, 2)) / volume.sum()
    measured = (6 * volume.sum() * np.prod(canvas.spacing_mm) / np.pi) ** (1 / 3)
    np.testing.assert_allclose(
        canvas.first_mm + center * canvas.spacing_mm, drawn.center_mm, atol=0.05
    )
    assert drawn.diameter_mm == pytest.approx(measured, rel=1e-3)
    assert drawn.diameter_mm == pytest.approx(diameter, rel=0.15)


def test_a_sphere_has_the_diameter_it_was_asked_for():
    shape = Shape(np.full(3, 5.0), np.eye(3), np.zeros((0, 3)), np.zeros(0))
    drawn = draw_finding(canvas_of(), shape, np.array([0.4, 0.2, -0.3]), lung_mm=None)
    assert drawn.diameter_mm == pytest.approx(10.0, rel=0.01)
    np.testing.assert_allclose(drawn.center_mm, [0.4, 0.2, -0.3], atol=0.05)


def test_only_the_part_in_the_lung_is_drawn():
    canvas = canvas_of()
    lung_mm = np.broadcast_to(canvas.axis_mm(0), canvas.shape).astype(np.float32)
    shape = Shape(np.full(3, 6.0), np.eye(3), np.zeros((0, 3)), np.zeros(0))
    drawn = draw_finding(canvas, shape, np.zeros(3), lung_mm=lung_mm)
    # Half a sphere: 3/8 r from the flat side, and the diameter of half the volume.
    np.testing.assert_allclose(drawn.center_mm, [-6.0 * 3 / 8, 0, 0], atol=0.1)
    assert drawn.diameter_mm == pytest.approx(12.0 * 0.5 ** (1 / 3), rel=0.02)


def test_a_finding_outside_the_lung_is_not_drawn():
    canvas = canvas_of()
    shape = Shape(np.full(3, 4.0), np.eye(3), np.zeros((0, 3)), np.zeros(0))
    outside = np.ones(canvas.shape, dtype=np.float32)
    assert draw_finding(canvas, shape, np.zeros(3), lung_mm=outside) is None


def test_a_smooth_field_has_unit_spread_and_neighbours_alike():
    canvas = canvas_of((60, 60, 60), (2.0, 2.0, 2.0))
    field = smooth_field(np.random.default_rng(0), canvas, 8.0)
    assert field.std() == pytest.approx(1.0, abs=0.15)
    assert np.abs(np.diff(field, axis=2)).mean() < 0.35


def test_a_tree_reaches_every_end_and_thins_towards_it():
    rng = np.random.default_rng(1)
    ends = rng.uniform(-50, 50, size=(40, 3))
    tree = grow_tree(rng, np.zeros(3), ends, end_radius_mm=0.5)
    reached = tree.end_mm[tree.ends == 1]
    assert len(reached) == 40
    np.testing.assert_allclose(sorted(map(tuple, reached)), sorted(map(tuple, ends)))
    assert tree.radius_mm[0] == pytest.approx(0.5 * 40 ** (1 / 2.7))
    assert tree.radius_mm.min() == pytest.approx(0.5)


def test_a_field_is_read_between_voxels():
    canvas = canvas_of()
    field = np.broadcast_to(canvas.axis_mm(1), canvas.shape).astype(np.float32)
    points = np.array([[0.0, 3.21, 1.0], [4.0, -7.7, 2.0]])
    np.testing.assert_allclose(canvas.sample(field, points), points[:, 1], atol=1e-4)
