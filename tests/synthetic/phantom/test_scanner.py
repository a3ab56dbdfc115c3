"""The scanner of a phantom site: its voxel grid, and its scan of a painted chest."""

from dataclasses import replace

import numpy as np
import pytest

from medkd.synthetic.phantom.canvas import Canvas
from medkd.synthetic.phantom.kernel import Kernel, SliceProfile
from medkd.synthetic.phantom.scanner import clip_to_stored, draw_canvas, scan_volume
from medkd.synthetic.phantom.styles import STYLES, Protocol, draw_protocol
from tests.synthetic.phantom.chests import axis_mm

KERNEL = Kernel("standard", cutoff=0.5, rise=0.2, order=2.2, aperture=1.0)
QUIET = Protocol((40, 36, 30), 0.8, 1.2, SliceProfile(2.5, 0.8), KERNEL, 0.0, 0.5, 0.0)
NOISY = replace(QUIET, shape=(64, 64, 12), noise_hu=30.0)


def water(canvas: Canvas) -> np.ndarray:
    """A cylinder of water, 260 mm across."""
    x, y, z = (axis_mm(canvas, axis) for axis in range(3))
    radius = np.sqrt(x**2 + y**2) + 0 * z
    return np.clip((130.0 - radius) / canvas.edge_mm + 0.5, 0, 1) * 1000 - 1000


def waves(canvas: Canvas) -> np.ndarray:
    x, y, z = (axis_mm(canvas, axis) for axis in range(3))
    return (300 * np.sin(x / 3) * np.sin(y / 4) * np.sin(z / 2) - 500).astype(np.float32)


def scanned(protocol: Protocol, paint, *, seed: int = 0, canvas: Canvas | None = None):
    rng = np.random.default_rng(seed)
    if canvas is None:
        canvas = draw_canvas(protocol, "region", middle_mm=np.zeros(3), rng=rng)
    return clip_to_stored(scan_volume(canvas, protocol, paint, rng=rng))


@pytest.mark.parametrize("site", "abc")
@pytest.mark.parametrize("seed", range(8))
def test_full_scans_cover_the_lungs_with_at_least_300_slices(site, seed):
    protocol = draw_protocol(STYLES[site], "full", np.random.default_rng(seed))
    assert protocol.shape[:2] == (512, 512)
    assert protocol.shape[2] >= 300
    assert 350 <= protocol.shape[2] * protocol.slice_spacing_mm <= 400
    assert 359 <= 512 * protocol.pixel_mm <= 421


@pytest.mark.parametrize("site", "abc")
def test_slices_are_spaced_by_six_tenths_to_three_millimetres_without_gaps(site):
    drawn = [draw_protocol(STYLES[site], "region", np.random.default_rng(n)) for n in range(50)]
    assert {protocol.shape for protocol in drawn} == {(112, 112, 64)}
    assert all(0.6 <= p.slice_spacing_mm <= p.profile.thickness_mm <= 3.5 for p in drawn)
    assert all(p.slice_spacing_mm <= 3.0 for p in drawn)


def test_small_scans_show_a_whole_chest_on_two_millimetre_pixels():
    protocol = draw_protocol(STYLES["b"], "small", np.random.default_rng(1))
    canvas = draw_canvas(protocol, "small", middle_mm=np.zeros(3), rng=np.random.default_rng(1))
    extent = np.asarray(canvas.shape) * canvas.spacing_mm
    assert np.allclose(extent, [340, 260, 300], atol=2.5)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    first, again, other = (scanned(NOISY, water, seed=seed).tobytes() for seed in (1, 1, 2))
    assert first == again != other


def test_the_voxels_of_a_scan_are_contiguous_by_slice():
    assert scanned(QUIET, water).transpose(2, 1, 0).flags["C_CONTIGUOUS"]


def test_some_slices_of_a_scan_equal_those_of_the_whole_scan():
    rng = np.random.default_rng(0)
    canvas = draw_canvas(QUIET, "region", middle_mm=np.zeros(3), rng=rng)
    part = canvas.part((slice(None), slice(None), slice(7, 26)))
    whole = scanned(QUIET, waves, canvas=canvas)
    assert np.array_equal(scanned(QUIET, waves, canvas=part), whole[:, :, 7:26])


def test_a_region_equals_that_part_of_a_larger_scan():
    rng = np.random.default_rng(0)
    canvas = draw_canvas(QUIET, "region", middle_mm=np.zeros(3), rng=rng)
    part = canvas.part((slice(4, 36), slice(2, 34), slice(None)))
    whole = scanned(QUIET, waves, canvas=canvas)[4:36, 2:34]
    apart = np.abs(scanned(QUIET, waves, canvas=part).astype(int) - whole)
    # A region repeats its edge beyond its sides, which changes some pixels near them.
    assert apart[8:-8, 8:-8].max() <= 1


def test_a_round_field_of_view_is_empty_in_the_corners():
    seen = scanned(replace(NOISY, circle=True), water)
    assert (seen[0, 0] == -1024).all()
    assert (seen[32, 1:63] > -1024).all()


def test_every_slice_is_painted_once():
    asked: list[Canvas] = []
    scanned(QUIET, lambda canvas: [asked.append(canvas), waves(canvas)][1])
    heights = np.concatenate([canvas.line_mm(2) for canvas in asked[1:]])
    assert np.allclose(np.diff(heights), QUIET.slice_spacing_mm)


def test_widely_spaced_slices_are_painted_at_intermediate_steps():
    asked: list[Canvas] = []
    sparse = replace(QUIET, slice_spacing_mm=3.0, profile=SliceProfile(3.0, 0.8))
    seen = scanned(sparse, lambda canvas: [asked.append(canvas), waves(canvas)][1])
    assert seen.shape == QUIET.shape
    assert asked[1].spacing_mm[2] == pytest.approx(1.5)


def test_noise_in_the_middle_of_the_water_has_the_stated_deviation():
    seen = scanned(NOISY, water).astype(np.float64)
    assert seen.std() == pytest.approx(30.0, rel=0.06)
    assert seen.mean() == pytest.approx(0.0, abs=1.0)


def test_a_thin_plate_is_blurred_over_the_slice_thickness():
    protocol = replace(QUIET, slice_spacing_mm=0.5, profile=SliceProfile(3.0, 0.5))

    def plate(canvas: Canvas) -> np.ndarray:
        filled = np.clip(0.5 + (0.25 - np.abs(axis_mm(canvas, 2))) / 0.5, 0, 1)
        return np.broadcast_to(filled * 1000, canvas.shape).astype(np.float32)

    line = scanned(protocol, plate)[20, 18].astype(np.float64)
    # The profile's full width at half maximum is the stated thickness.
    assert (line > line.max() / 2).sum() * 0.5 == pytest.approx(3.0, abs=0.5)


def test_densities_are_clipped_to_what_scanners_store():
    seen = scanned(QUIET, lambda canvas: np.full(canvas.shape, 9000, dtype=np.float32))
    assert seen.dtype == np.int16
    assert seen.max() == 3071
