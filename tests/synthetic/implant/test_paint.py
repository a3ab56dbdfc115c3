"""One nodule in the voxels of a scan."""

from dataclasses import replace

import numpy as np
import pytest

from medkd.synthetic.implant.paint import Place, Tag, Tissue, clean_hu, draw_patch
from medkd.synthetic.implant.response import ScanResponse
from medkd.synthetic.phantom.forms import AnalyticForm

RESPONSE = ScanResponse(0.5, 1.0, 0.0, 0.7, 20.0, 100)
SOLID = Tissue(40.0, 1.0, 0.0, 0.0, 0.0)
SPACING = np.array([0.7, 0.7, 1.5])


def ball(diameter_mm: float) -> AnalyticForm:
    none = np.zeros((0, 3))
    return AnalyticForm(
        np.full(3, diameter_mm / 2), np.eye(3), none, np.zeros(0), np.zeros(0, dtype=np.int64)
    )


def patch_of(volume, tissue=SOLID, **place):
    where = Place(np.array([30.2, 29.7, 15.1]), np.diag(SPACING), None, **place)
    return draw_patch(
        volume, ball(8.0), tissue, place=where, response=RESPONSE, rng=np.random.default_rng(0)
    )


def lung() -> np.ndarray:
    return np.full((60, 60, 30), -860, dtype=np.int16)


def test_a_nodule_adds_its_volume_times_its_contrast():
    patch = patch_of(lung())
    added = float(patch.added_hu.sum()) * float(np.prod(SPACING))
    assert added == pytest.approx(np.pi / 6 * 8.0**3 * 900.0, rel=0.02)


def test_a_nodule_is_at_its_stated_position():
    patch = patch_of(lung())
    weight = patch.added_hu / patch.added_hu.sum()
    start = [s.start for s in patch.box]
    middle = [float((weight * grid).sum()) for grid in np.indices(weight.shape)]
    assert np.add(start, middle) == pytest.approx([30.2, 29.7, 15.1], abs=0.05)


def test_denser_tissue_is_not_changed_by_a_nodule():
    volume = lung()
    volume[28:33, :, 12:19] = 150
    patch = patch_of(volume)
    assert (
        int(np.abs(patch.added_hu[30 - patch.box[0].start, :, 15 - patch.box[2].start]).max()) < 5
    )


def test_ground_glass_is_fainter_than_solid():
    faint = patch_of(lung(), Tissue(40.0, 0.4, 0.0, 0.0, 1.0))
    assert int(faint.added_hu.max()) == pytest.approx(0.4 * 900, abs=15)


def test_a_nodule_that_fades_is_about_as_large_and_densest_in_its_middle():
    whole, fading = patch_of(lung()), patch_of(lung(), replace(SOLID, fade=0.4, fade_mm=2.0))
    middle = tuple(n // 2 for n in whole.added_hu.shape)
    assert fading.added_hu[middle] == pytest.approx(whole.added_hu[middle], abs=5)
    half = 0.5 * float(whole.added_hu[middle])
    seen = [(patch.added_hu > half).sum() for patch in (fading, whole)]
    assert 0.91 < (seen[0] / seen[1]) ** (1 / 3) <= 1.0
    assert float(fading.added_hu.sum()) < 0.85 * float(whole.added_hu.sum())


def test_a_vessel_reaches_beyond_the_nodule():
    tag = Tag((1.0, 0.0, 0.0), (0.0, 0.0, 0.0), 10.0, 1.5)
    patch = patch_of(lung(), tags=(tag,))
    at = [30 + 10 - patch.box[0].start, 30 - patch.box[1].start, 15 - patch.box[2].start]
    assert int(patch.added_hu[tuple(at)]) > 150  # 7 mm from the middle, 3 mm outside the ball


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_kept_inside_a_nodule(seed: int):
    """This also holds where noise is stronger than in the scan's quietest places."""
    noise = np.random.default_rng(seed).normal(0.0, 1.3 * RESPONSE.noise_hu, (60, 60, 30))
    noise = np.rint(noise).astype(np.int16)
    patch, clean = patch_of(lung() + noise), patch_of(lung())
    left = noise[patch.box] + patch.added_hu - clean.added_hu
    inside = clean.added_hu > 890
    assert float(left[inside].std()) > 0.945 * float(noise[patch.box][inside].std())


def test_cleaning_removes_noise_and_keeps_structure():
    rng = np.random.default_rng(0)
    noisy = (-860 + rng.normal(0, 20, (60, 60, 8))).astype(np.float32)
    assert float(clean_hu(noisy, SPACING, 20.0).std()) < 10.0
    noisy[30] += 600.0
    assert float(clean_hu(noisy, SPACING, 20.0)[30].mean()) > -330.0
