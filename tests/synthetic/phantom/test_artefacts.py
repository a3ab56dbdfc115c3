"""The noise of phantoms: its texture, its strength, and the streaks near bone."""

import numpy as np
import pytest

from medkd.synthetic.phantom.artefacts import (
    Lattice,
    MapInterpolator,
    NoiseTexture,
    Views,
    find_streaks,
    find_strength,
)
from medkd.synthetic.phantom.canvas import Canvas
from medkd.synthetic.phantom.kernel import Kernel, SliceProfile
from tests.synthetic.phantom.chests import axis_mm

KERNEL = Kernel("standard", cutoff=0.5, rise=0.2, order=2.2, aperture=1.0)
CANVAS = Canvas((20, 30, 10), np.array([2.0, 2.0, 3.0]), np.array([-20.0, -30, -15]), np.zeros(3))
LATTICE = Lattice.around(CANVAS, 4.0)


def texture(*, thickness_mm: float = 2.0) -> NoiseTexture:
    taps = SliceProfile(thickness_mm, 0.0).noise_taps(1.0)
    return NoiseTexture((96, 80), KERNEL, taps=taps, pixel_mm=0.7, seed=5)


def ellipse(half_x_mm: float, half_y_mm: float, *, at_x_mm: float = 0.0) -> np.ndarray:
    canvas = LATTICE.canvas(CANVAS)
    x, y = axis_mm(canvas, 0) - at_x_mm, axis_mm(canvas, 1)
    inside = (x / half_x_mm) ** 2 + (y / half_y_mm) ** 2 <= 1
    return np.broadcast_to(inside, LATTICE.shape)


def at_middle(maps: np.ndarray, *, x_mm: float = 0.0, y_mm: float = 0.0) -> float:
    i, j = round((x_mm + 252) / 4), round((y_mm + 180) / 4)
    return float(maps[1, j, i])


def test_noise_has_unit_deviation_and_no_mean():
    drawn = np.stack([parts[0] for parts in texture().slices(0, 12)])
    assert drawn.std() == pytest.approx(1.0, abs=0.02)
    assert abs(drawn.mean()) < 0.005


def test_the_noise_of_a_slice_does_not_depend_on_the_first_slice():
    late = [parts[0] for parts in texture().slices(3, 2)]
    early = [parts[0] for parts in texture().slices(0, 5)][3:]
    assert np.array_equal(late, early)


def test_overlapping_slices_share_their_noise():
    first, second, third = (parts[0].ravel() for parts in texture().slices(0, 3))
    # Boxes of 2 mm spaced by 1 mm: the correlation is one half, then zero.
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0.5, abs=0.05)
    assert abs(np.corrcoef(first, third)[0, 1]) < 0.06


def test_the_middle_of_260_mm_of_water_has_the_stated_noise():
    water = np.where(ellipse(130, 130), 0.0, -1000.0).astype(np.float32)
    even, cosine, sine = find_strength(LATTICE, water, modulation=0.5)
    # All rays through the middle cross the 260 mm that define the strength.
    assert at_middle(even) == pytest.approx(1.0, abs=0.04)
    assert np.hypot(at_middle(cosine), at_middle(sine)) < 0.02


def test_a_broad_body_makes_streaky_noise_that_changes_from_front_to_back():
    water = np.where(ellipse(220, 100), 0.0, -1000.0).astype(np.float32)
    even, cosine, _ = find_strength(LATTICE, water, modulation=0.3)
    # The noise varies along y, across the long rays from side to side: cos 2 phi = -1.
    assert at_middle(cosine) < -0.2 * at_middle(even)


def test_lungs_and_air_are_less_noisy_than_the_middle_of_the_chest():
    body = np.where(ellipse(170, 110), 0.0, -1000.0).astype(np.float32)
    body[ellipse(50, 70, at_x_mm=80.0)] = -850.0
    sigma = find_strength(LATTICE, body, modulation=0.5)[0]
    assert at_middle(sigma, x_mm=80) < 0.85 * at_middle(sigma)
    assert at_middle(sigma, y_mm=-160) < 0.8 * at_middle(sigma)


def test_rays_through_a_disc_cross_its_chord():
    views = Views(LATTICE, 7)
    disc = ellipse(100, 100).astype(np.float64)
    path = views.project(disc, 3)[:, 0]
    chord = 2 * np.sqrt(np.maximum(100.0**2 - views.offset_mm**2, 0))
    assert np.abs(path - chord)[chord > 100].max() < 12
    assert path.sum() == pytest.approx(chord.sum(), rel=0.01)


def test_a_linear_map_stays_linear_on_the_pixels():
    canvas = LATTICE.canvas(CANVAS)
    rising = axis_mm(canvas, 0) + 2 * axis_mm(canvas, 1) + 3 * axis_mm(canvas, 2)
    maps = np.ascontiguousarray(rising.transpose(2, 1, 0))
    plane = MapInterpolator(LATTICE, CANVAS).plane(maps, 4)
    expected = axis_mm(CANVAS, 0) + 2 * axis_mm(CANVAS, 1) + 3 * axis_mm(CANVAS, 2)
    assert np.allclose(plane, expected[:, :, 4].T, atol=1e-3)


def test_there_is_a_dark_band_between_bones():
    body = np.where(ellipse(180, 110), 40.0, -1000.0).astype(np.float32)
    body[ellipse(16, 16, at_x_mm=-100) | ellipse(16, 16, at_x_mm=100)] = 900.0
    streaks = find_streaks(LATTICE, body, strength=1.0)
    assert at_middle(streaks) < -5
    assert at_middle(streaks) < at_middle(streaks, y_mm=60) - 5


def test_without_bone_there_are_no_streaks():
    body = np.where(ellipse(180, 110), 40.0, -1000.0).astype(np.float32)
    assert not find_streaks(LATTICE, body, strength=1.0).any()
