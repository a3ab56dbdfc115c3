"""The resolution of a scanner: the kernel in the slice, and the profile across slices.

In the slice the spectrum of the chest is multiplied by a modulation transfer function (MTF) with
two factors: the `Kernel` that the reconstruction applies, and the aperture of focal spot and
detector. Noise passes only the kernel, so its spectrum is the ramp of filtered back-projection
times the square of the kernel (Riederer, Pelc and Chesler, Phys. Med. Biol. 23 (1978) 446). Both
are cut off smoothly before the pixels' Nyquist frequency to avoid aliasing. The blur of painting is
compensated.

Frequencies are in 1/mm. Filters are computed in float64 and stored in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from medkd.synthetic.phantom.canvas import Float32, Float64

_Plane = TypeVar("_Plane", NDArray[np.float32], NDArray[np.complex64])

_MOST_GAIN = 2.2
"""Largest gain by which the blur of painting is compensated at any frequency."""

_ROLL_OFF = (0.82, 1.12)
"""Where filters begin to fall and where they reach zero, as shares of the Nyquist frequency."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A reconstruction kernel: (1 + rise (f / cutoff)^2) exp(-(f / cutoff)^order), and its name.

    Two were fitted to the noise spectra of real scans. Siemens B70f, a sharp lung kernel: cutoff
    .74, rise 1.06, order 3.6, aperture 1.0. A soft-tissue kernel: cutoff .30, rise 0, order 1.43.

    Args:
        name: name of the kernel in a header.
        cutoff: cutoff frequency in 1/mm.
        rise: edge enhancement; 0 for none.
        order: steepness of the fall.
        aperture: frequency in 1/mm at which focal spot and detector transmit half.
    """

    name: str
    cutoff: float
    rise: float
    order: float
    aperture: float

    def gain(self, frequency: Float64) -> Float64:
        """Return the gain of the reconstruction for noise and signal at frequencies in 1/mm."""
        share = np.asarray(frequency, dtype=np.float64) / self.cutoff
        return np.asarray((1.0 + self.rise * share**2) * np.exp(-(share**self.order)))

    def mtf(self, frequency: Float64) -> Float64:
        """Return the MTF of the whole scanner at frequencies in 1/mm; 1 at frequency 0."""
        share = np.asarray(frequency, dtype=np.float64) / self.aperture
        return np.asarray(self.gain(frequency) * np.exp(-np.log(2.0) * share**2))


@dataclass(frozen=True, slots=True)
class SliceProfile:
    """The slice sensitivity profile: a trapezoid.

    It is a box of the slice thickness blurred by a shorter box, because a spiral scan interpolates
    between rotations (Polacin, Kalender and Marchal, Radiology 185 (1992) 29). Its full width at
    half maximum is the thickness, and its slopes are `slope` times the thickness wide.

    Args:
        thickness_mm: slice thickness in the header; it may exceed the slice spacing.
        slope: 0 (a box) to 1 (a triangle).
    """

    thickness_mm: float
    slope: float

    @property
    def variance_mm2(self) -> float:
        """Second moment of the profile."""
        return self.thickness_mm**2 * (1.0 + self.slope**2) / 12.0

    def taps(self, step_mm: float, *, painted_mm: float) -> Float64:
        """Return weights [2 n + 1] of samples `step_mm` apart; their sum is 1.

        Args:
            step_mm: distance between painted samples.
            painted_mm: width of the box by which painting has already blurred; the weights add the
                remaining blur, so the second moments agree.
        """
        wanted = self.variance_mm2 - painted_mm**2 / 12.0
        low, high = 0.0, 2.0 * self.thickness_mm + 4.0 * step_mm
        for _ in range(40):
            width = (low + high) / 2.0
            taps = _binned(width, width * self.slope, step_mm)
            wide = _second_moment(taps, step_mm) > wanted
            low, high = (low, width) if wide else (width, high)
        return _trimmed(_binned(low, low * self.slope, step_mm), 1e-9)

    def noise_taps(self, spacing_mm: float) -> Float64:
        """Return weights [2 n + 1] that correlate white noise like slices at this spacing.

        The correlation of two slices is the overlap of their profiles. The weights are its
        spectral square root; the sum of their squares is 1.
        """
        fine = spacing_mm / 32.0
        profile = _binned(self.thickness_mm, self.thickness_mm * self.slope, fine)
        reach = int(np.ceil(self.thickness_mm * (1.0 + self.slope) / spacing_mm))
        whole = np.convolve(profile, profile)
        middle = len(whole) // 2
        places = middle + 32 * np.arange(-reach, reach + 1)
        within = (places >= 0) & (places < len(whole))
        overlap = np.where(within, whole[np.clip(places, 0, len(whole) - 1)], 0.0)
        taps = _trimmed(_spectral_root(overlap / whole[middle]), 0.004)
        return np.asarray(taps / np.sqrt((taps**2).sum()))


def weighted_sum(planes: Sequence[_Plane], weights: Sequence[np.float32]) -> _Plane:
    """Sum planes of the same shape with one weight each."""
    total = planes[0] * weights[0]
    for weight, plane in zip(weights[1:], planes[1:], strict=True):
        total += plane * weight
    return total


def signal_filter(
    shape: tuple[int, int], kernel: Kernel, *, pixel_mm: float, painted_mm: float
) -> Float32:
    """Return the filter of the spectrum of a painted slice.

    Args:
        shape: pixels (rows, columns).
        kernel: kernel of the scan.
        pixel_mm: side of a pixel.
        painted_mm: width of the soft edges in the painting: a box, so its MTF is a sinc.

    Returns:
        Filter [rows, columns // 2 + 1] for `scipy.fft.rfft2`; 1 at frequency 0.
    """
    _, _, frequency = _plane(shape, pixel_mm)
    painted = np.sinc(np.minimum(frequency * painted_mm, 0.95))
    gain = kernel.mtf(frequency) / np.maximum(painted, 1.0 / _MOST_GAIN)
    return np.asarray(gain * _window(frequency, pixel_mm), dtype=np.float32)


def noise_filters(shape: tuple[int, int], kernel: Kernel, *, pixel_mm: float) -> Float32:
    """Return filters that turn white complex coefficients into noise of standard deviation 1.

    Returns:
        Filters [3, rows, columns // 2 + 1]. The first makes isotropic noise; the others are the
        first times cos 2 phi and sin 2 phi, where phi is the direction of the frequency, from the
        columns' axis to the rows'. Together they make noise that depends on direction.
    """
    rows, columns, frequency = _plane(shape, pixel_mm)
    gain = np.sqrt(frequency) * kernel.gain(frequency) * _window(frequency, pixel_mm)
    # The inverse transform keeps only half the power of these two columns.
    counted = np.full(gain.shape[1], 2.0)
    for column in (0, -1) if shape[1] % 2 == 0 else (0,):
        gain[:, column] *= np.sqrt(2.0)
        counted[column] = 0.5
    power = 2.0 * float((gain**2 * counted).sum())
    gain *= shape[0] * shape[1] / np.sqrt(power)
    squared = np.maximum(frequency**2, 1e-12)
    cosine, sine = (columns**2 - rows**2) / squared, 2.0 * rows * columns / squared
    return np.stack([gain, gain * cosine, gain * sine]).astype(np.float32)


def _plane(shape: tuple[int, int], pixel_mm: float) -> tuple[Float64, Float64, Float64]:
    """Return frequencies along the row index and the column index, and their length."""
    rows = scipy.fft.fftfreq(shape[0], pixel_mm)[:, None]
    columns = scipy.fft.rfftfreq(shape[1], pixel_mm)[None]
    return rows, columns, np.asarray(np.sqrt(rows**2 + columns**2))


def _window(frequency: Float64, pixel_mm: float) -> Float64:
    """Return 1 up to near the Nyquist frequency, then a raised cosine down to 0."""
    share = frequency * 2.0 * pixel_mm
    fall = np.clip((share - _ROLL_OFF[0]) / (_ROLL_OFF[1] - _ROLL_OFF[0]), 0.0, 1.0)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * fall))


def _binned(width: float, slope: float, step: float) -> Float64:
    """Integrate a centred trapezoid of unit area over bins of width `step`."""
    reach = int(np.ceil((width + slope) / 2.0 / step + 0.5))
    edges = np.asarray((np.arange(-reach, reach + 2) - 0.5) * step, dtype=np.float64)
    taps = np.diff(_trapezoid_area(edges, width, slope))
    return np.asarray(taps / taps.sum())


def _second_moment(taps: Float64, step: float) -> float:
    places = (np.arange(len(taps)) - len(taps) // 2) * step
    return float((taps * places**2).sum())


def _trapezoid_area(places: Float64, width: float, slope: float) -> Float64:
    """Return the trapezoid's area to the left of `places`: the mean of a box's cumulative area."""
    if slope <= 1e-6 * width:
        return np.clip(places / max(width, 1e-9) + 0.5, 0.0, 1.0)
    upper = _ramp_area(places + slope / 2.0, width)
    return np.asarray((upper - _ramp_area(places - slope / 2.0, width)) / slope)


def _ramp_area(places: Float64, width: float) -> Float64:
    """Integrate clip(x / width + 1/2, 0, 1)."""
    inside = np.clip(places, -width / 2.0, width / 2.0)
    beyond = np.maximum(places - width / 2.0, 0.0)
    return np.asarray((inside + width / 2.0) ** 2 / (2.0 * width) + beyond)


def _spectral_root(overlap: Float64) -> Float64:
    """Return symmetric weights whose autocorrelation is `overlap` [2 n + 1]."""
    reach = len(overlap) // 2
    size = 16 * (reach + 1)
    circle = np.zeros(size)
    circle[np.arange(-reach, reach + 1)] = overlap
    root = scipy.fft.ifft(np.sqrt(np.maximum(scipy.fft.fft(circle).real, 0.0))).real
    return np.asarray(root[np.arange(-reach, reach + 1)])


def _trimmed(taps: Float64, least: float) -> Float64:
    """Drop symmetric pairs of weights at the ends that are not above `least`."""
    middle = len(taps) // 2
    heavy = np.flatnonzero(np.abs(taps) > least)
    reach = int(np.abs(heavy - middle).max())
    return taps[middle - reach : middle + reach + 1]
