"""The measured response of a scan: its edge, its overshoot, its noise."""

import numpy as np
import pytest
from scipy import ndimage

from medkd.synthetic.implant.response import ScanResponse, measure_noise, measure_response

SPACING = np.array([0.7, 0.7, 2.0])


def chest_wall(sigma_mm: float, *, noise_hu: float) -> tuple[np.ndarray, np.ndarray]:
    """Lung inside a cylinder of 45 mm radius in soft tissue, blurred in the slice."""
    across = (np.arange(180) - 90) * 0.7
    away = np.hypot(across[:, None], across[None, :])
    image = np.where(away < 45, -860.0, 40.0)
    image = ndimage.gaussian_filter(image, sigma_mm / 0.7)
    volume = np.repeat(image[:, :, None], 14, axis=2)
    volume += np.random.default_rng(0).normal(0, noise_hu, volume.shape)
    return volume.astype(np.float32), np.repeat((away < 47)[:, :, None], 14, axis=2)


def measured(sigma_mm: float, noise_hu: float) -> ScanResponse:
    volume, lung = chest_wall(sigma_mm, noise_hu=noise_hu)
    rng = np.random.default_rng(1)
    return measure_response(volume, lung, spacing_mm=SPACING, thickness_mm=2.0, rng=rng)


@pytest.mark.parametrize("sigma_mm", [0.8, 1.2])
def test_the_blur_of_an_edge_is_measured(sigma_mm):
    found = measured(sigma_mm, noise_hu=15.0)
    assert found.profiles > 60
    # A sample is the mean over a pixel of 0.7 mm: its variance of 0.7^2 / 12 counts as blur too.
    assert found.sigma_mm == pytest.approx(np.hypot(sigma_mm, 0.2), abs=0.12)
    assert found.overshoot < 0.15


def test_the_noise_is_measured():
    volume, lung = chest_wall(1.0, noise_hu=25.0)
    # Subtracting a mean over 1.7 mm removes a few percent of white noise.
    assert measure_noise(volume, lung, SPACING) == pytest.approx(25.0, rel=0.15)


def test_without_clear_edges_a_standard_kernel_is_assumed():
    volume = np.full((60, 60, 6), -850, dtype=np.float32)
    found = measure_response(
        volume, volume < 0, spacing_mm=SPACING, thickness_mm=None, rng=np.random.default_rng(0)
    )
    assert found.profiles == 0
    assert found.overshoot == 0.0


def block() -> np.ndarray:
    field = np.zeros((63, 63, 42), dtype=np.float32)
    field[21:42, 21:42, 15:27] = 100.0
    return field


def test_the_response_keeps_the_sum_and_overshoots_beside_an_edge():
    response = ScanResponse(0.6, 1.2, 0.5, 0.8, 20.0, 100)
    seen = response.blurred(block(), np.array([0.9, 0.9, 1.2]), np.array([3, 3, 3]))
    assert seen.shape == (21, 21, 14)
    assert float(seen.sum()) == pytest.approx(float(block().sum()) / 27, rel=1e-3)
    assert float(seen.min()) < -3.0


def test_the_response_equals_two_gaussian_filters():
    response = ScanResponse(0.6, 1.2, 0.5, 0.8, 20.0, 100)
    spacing, finer = np.array([0.9, 0.9, 1.2]), np.array([3, 3, 3])
    fine = spacing / finer
    narrow, wide = (
        ndimage.gaussian_filter(block(), np.array([s, s, 0.8]) / fine, truncate=5.0)
        for s in (0.6, 1.2)
    )
    expected = (1.5 * narrow - 0.5 * wide)[1::3, 1::3, 1::3]
    seen = response.blurred(block(), spacing, finer)
    np.testing.assert_allclose(seen, expected, atol=0.3)  # of 100


def test_all_widths_of_a_response_are_narrowed_by_one_factor():
    narrow = ScanResponse(0.6, 1.2, 0.5, 0.8, 20.0, 100).narrowed(0.5)
    assert narrow == ScanResponse(0.3, 0.6, 0.5, 0.4, 20.0, 100)
