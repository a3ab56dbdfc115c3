"""Tubes keep their volume on any voxel grid, and slabs equal the whole canvas."""

import numpy as np
import pytest

from medkd.synthetic.phantom.canvas import Canvas
from medkd.synthetic.phantom.tubes import Tubes, draw_tubes


def _canvas(
    shape: tuple[int, int, int] = (60, 60, 40),
    spacing_mm: tuple[float, float, float] = (0.7, 0.7, 1.2),
) -> Canvas:
    spacing = np.array(spacing_mm)
    first = -(np.array(shape) - 1) / 2 * spacing
    return Canvas(shape, spacing, first, np.zeros(3))


def _tube(radius_mm: float, end_radius_mm: float | None = None) -> Tubes:
    points = np.array([[-9.3, -8.1, -13.7], [8.4, 10.2, 12.9]])
    return Tubes.along(points, np.array([radius_mm, end_radius_mm or radius_mm]))


def _bundle(rng: np.random.Generator) -> Tubes:
    start = rng.uniform(-20.0, 20.0, (150, 3))
    end = start + rng.normal(0.0, 6.0, (150, 3))
    return Tubes(start, end, rng.uniform(0.1, 3.0, 150), rng.uniform(0.1, 3.0, 150))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.mark.parametrize("radius_mm", [0.05, 0.2, 0.4, 0.5, 0.7, 1.5, 4.0])
@pytest.mark.parametrize("spacing_mm", [(0.7, 0.7, 1.2), (0.6, 0.6, 3.0), (2.1, 2.1, 1.75)])
def test_a_tube_of_any_width_keeps_its_volume(
    radius_mm: float, spacing_mm: tuple[float, float, float]
) -> None:
    canvas = _canvas((60, 60, 40), spacing_mm)
    length = float(np.sqrt(17.7**2 + 18.3**2 + 26.6**2))
    # A cylinder, with half a ball at each end if the tube is wider than a voxel.
    ends = 4.0 / 3.0 * np.pi * radius_mm**3 if radius_mm > 0.5 * canvas.edge_mm else 0.0
    expected = np.pi * radius_mm**2 * length + ends
    found = draw_tubes(canvas, _tube(radius_mm)).sum(dtype=np.float64) * np.prod(spacing_mm)
    assert found == pytest.approx(expected, rel=0.05)


def test_a_thin_taper_holds_the_volume_of_a_cone() -> None:
    canvas = _canvas()
    length = float(np.sqrt(17.7**2 + 18.3**2 + 26.6**2))
    # pi h (a^2 + a b + b^2) / 3
    expected = np.pi * length * (0.3**2 + 0.3 * 0.1 + 0.1**2) / 3.0
    found = draw_tubes(canvas, _tube(0.3, 0.1)).sum(dtype=np.float64) * 0.7 * 0.7 * 1.2
    assert found == pytest.approx(expected, rel=1e-3)


def test_the_middle_of_a_thick_tube_is_full_and_its_edge_is_at_the_radius() -> None:
    canvas = _canvas((41, 41, 41), (0.5, 0.5, 0.5))
    tube = Tubes.along(np.array([[0.0, 0.0, -8.0], [0.0, 0.0, 8.0]]), 3.0)
    line = draw_tubes(canvas, tube)[:, 20, 20]
    assert line[20] == 1.0
    crossing = np.interp(-0.5, -line[20:], np.arange(21) * 0.5)
    assert crossing == pytest.approx(3.0, abs=0.02)


def test_slabs_equal_the_whole_canvas(rng: np.random.Generator) -> None:
    canvas, tubes = _canvas(), _bundle(rng)
    whole = draw_tubes(canvas, tubes)
    for where, part in canvas.slabs(7):
        np.testing.assert_allclose(draw_tubes(part, tubes), whole[:, :, where], atol=2e-5)


def test_a_region_equals_that_part_of_the_whole_canvas(rng: np.random.Generator) -> None:
    canvas, tubes = _canvas(), _bundle(rng)
    box = (slice(11, 37), slice(20, 52), slice(5, 31))
    whole = draw_tubes(canvas, tubes)[box]
    np.testing.assert_allclose(draw_tubes(canvas.part(box), tubes), whole, atol=2e-5)


def test_coverage_is_between_0_and_1(rng: np.random.Generator) -> None:
    coverage = draw_tubes(_canvas((30, 30, 20), (2.1, 2.1, 3.0)), _bundle(rng))
    assert coverage.min() == 0.0
    assert coverage.max() <= 1.0


def test_tubes_far_from_a_canvas_leave_it_empty() -> None:
    away = Tubes.along(np.array([[90.0, 0.0, 0.0], [99.0, 0.0, 0.0]]), 2.0)
    assert len(away.near(_canvas())) == 0
    assert not draw_tubes(_canvas(), away).any()
