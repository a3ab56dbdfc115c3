"""The phantom scanner's kernel and slice profile agree with theory."""

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st

from medkd.synthetic.phantom.kernel import Kernel, SliceProfile, noise_filters, signal_filter

GAUSS = Kernel("gauss", cutoff=0.4, rise=0.0, order=2.0, aperture=50.0)
SHARP = Kernel("sharp", cutoff=0.74, rise=1.06, order=3.6, aperture=1.0)


def test_a_gaussian_kernel_transmits_half_at_the_frequency_given_by_its_cutoff():
    # exp(-(f / .4)^2) = 1/2 at f = .4 sqrt(ln 2) = .333.
    assert GAUSS.mtf(np.array([0.333]))[0] == pytest.approx(0.5, abs=0.002)


def test_a_sharp_kernel_enhances_edges_and_falls_to_zero():
    assert SHARP.gain(np.array([0.45]))[0] > 1.1
    assert SHARP.mtf(np.array([2.0]))[0] < 1e-6


def test_a_filtered_slice_keeps_its_mean_density():
    gain = signal_filter((40, 36), SHARP, pixel_mm=0.7, painted_mm=0.8)
    assert gain[0, 0] == 1.0


def test_a_painted_edge_is_filtered_to_the_kernels_transfer_function():
    pixel, size = 0.5, 256
    x = (np.arange(size) - size // 2) * pixel
    line = (np.abs(x)[None] < pixel / 2).repeat(size, axis=0).astype(np.float32)
    gain = signal_filter((size, size), GAUSS, pixel_mm=pixel, painted_mm=pixel)
    seen = scipy.fft.irfft2(scipy.fft.rfft2(line) * gain, s=line.shape)[0]
    # A line one pixel wide is a box blur of a true line, for which the filter compensates.
    transfer = np.abs(scipy.fft.rfft(seen))
    frequency = scipy.fft.rfftfreq(size, pixel)
    boxed = GAUSS.mtf(frequency) / np.sinc(frequency * pixel)
    low = frequency < 0.7
    assert np.allclose(transfer[low], boxed[low], atol=1e-3)


def test_nothing_is_transmitted_well_above_the_nyquist_frequency():
    gain = signal_filter((64, 64), SHARP, pixel_mm=1.0, painted_mm=1.0)
    assert gain[32, 32] == 0.0


@settings(max_examples=30, deadline=None)
@given(st.floats(0.6, 5.0), st.floats(0.0, 1.0), st.floats(0.3, 1.5), st.floats(0.1, 1.0))
def test_slice_weights_sum_to_1_and_add_the_remaining_blur(thickness, slope, step, painted):
    profile = SliceProfile(thickness, slope)
    taps = profile.taps(step, painted_mm=painted)
    places = step * (np.arange(len(taps)) - len(taps) // 2)
    missing = max(profile.variance_mm2 - painted**2 / 12.0, 0.0)
    assert taps.sum() == pytest.approx(1.0)
    assert (taps * places**2).sum() == pytest.approx(missing, abs=1e-6)


def test_slices_twice_as_thick_as_their_spacing_share_half_of_their_noise():
    taps = SliceProfile(2.0, 0.0).noise_taps(1.0)
    shared = np.correlate(taps, taps, "full")
    middle = len(shared) // 2
    # Two boxes of 2 mm, 1 mm apart, overlap by half; 2 mm apart not at all.
    assert shared[middle : middle + 3] == pytest.approx([1.0, 0.5, 0.0], abs=0.02)


def test_triangular_slices_spaced_by_their_thickness_share_a_quarter_of_their_noise():
    taps = SliceProfile(3.0, 1.0).noise_taps(3.0)
    shared = np.correlate(taps, taps, "full")
    assert shared[len(shared) // 2 + 1] == pytest.approx(0.25, abs=0.01)


def test_noise_has_the_spectrum_of_filtered_back_projection():
    plain = noise_filters((64, 64), SHARP, pixel_mm=0.6)[0]
    frequency = scipy.fft.rfftfreq(64, 0.6)[4:20:5]
    expected = np.sqrt(frequency) * SHARP.gain(frequency)
    assert plain[0, 4:20:5] / plain[0, 4] == pytest.approx(expected / expected[0], rel=1e-5)


def test_directional_noise_is_opposite_along_rows_and_columns():
    plain, cosine, sine = noise_filters((64, 64), GAUSS, pixel_mm=0.6)
    assert cosine[0, 5] == pytest.approx(plain[0, 5])
    assert cosine[5, 0] == pytest.approx(-plain[5, 0])
    assert sine[5, 5] == pytest.approx(plain[5, 5])
    assert sine[-5, 5] == pytest.approx(-plain[-5, 5])
