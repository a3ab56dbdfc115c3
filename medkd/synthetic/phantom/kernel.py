"""How sharply a scanner shows things: the kernel in the slice, the profile across slices.

In the slice a scan is the chest times a modulation transfer (MTF), which here is the product of
two parts: the `Kernel` that the reconstruction applies, and the aperture of focal spot and
detector. Noise passes the kernel alone, so its spectrum is the ramp of filtered back-projection
times the square of the kernel (Riederer, Pelc and Chesler, Phys. Med. Biol. 23 (1978) 446). Both
are cut off smoothly before the pixels' Nyquist frequency, so nothing is aliased. What the painting
of voxels has already blurred is taken out again.

Frequencies are in 1/mm. Filters are worked out in float64 and stored in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_MOST_GAIN = 2.2
"""How much the painting's own blur may be undone at any frequency."""

_ROLL_OFF = (0.82, 1.12)
"""Where filters begin to fall and where they are zero, as shares of the Nyquist frequency."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A reconstruction kernel: (1 + rise (f / cutoff)^2) exp(-(f / cutoff)^order), and its name.

    Two were fitted to the noise spectra of real scans. Siemens B70f, a sharp lung kernel: cutoff
    .74, rise 1.06, order 3.6, aperture 1.0. A soft-tissue kernel: cutoff .30, rise 0, order 1.43.

    Args:
        name: as a header would state it.
        cutoff: 1/mm.
        rise: edge enhancement; 0 for none.
        order: steepness of the fall.
        aperture: 1/mm at which focal spot and detector pass half.
    """

    name: str
    cutoff: float
    rise: float
    order: float
    aperture: float

    def gain(self, frequency: Float64) -> Float64:
        """What the reconstruction lets pass, for noise and signal alike."""
        share = np.asarray(frequency, dtype=np.float64) / self.cutoff
        return np.asarray((1.0 + self.rise * share**2) * np.exp(-(share**self.order)))

    def mtf(self, frequency: Float64) -> Float64:
        """Modulation transfer of the whole scanner; 1 at frequency 0."""
        share = np.asarray(frequency, dtype=np.float64) / self.aperture
        return np.asarray(self.gain(frequency) * np.exp(-np.log(2.0) * share**2))


@dataclass(frozen=True, slots=True)
class SliceProfile:
    """How much of what lies above and below a slice shows in it: a trapezoid.

    A box of the slice's thickness blurred by a shorter box, since a spiral scan interpolates
    between rotations (Polacin, Kalender and Marchal, Radiology 185 (1992) 29). Its full width at
    half maximum is the thickness, and its slopes are `slope` thicknesses wide.

    Args:
        thickness_mm: as the header states it; may exceed the slices' spacing.
        slope: 0 (a box) to 1 (a triangle).
    """

    thickness_mm: float
    slope: float

    @property
    def variance_mm2(self) -> float:
        """Second moment of the profile."""
        return self.thickness_mm**2 * (1.0 + self.slope**2) / 12.0

    def taps(self, step_mm: float, *, painted_mm: float) -> Float64:
        """Weights [2 n + 1] over samples `step_mm` apart, of sum 1.

        Args:
            step_mm: distance of the painted samples.
            painted_mm: width of the box by which the painting itself has blurred already; the
                weights blur by the rest, so that the second moments agree.
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
        """Weights [2 n + 1] that give white noise the correlation of slices so far apart.

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


def signal_filter(
    shape: tuple[int, int], kernel: Kernel, *, pixel_mm: float, painted_mm: float
) -> Float32:
    """What the spectrum of a painted slice must be multiplied with.

    Args:
        shape: pixels (rows, columns).
        kernel: of the scan.
        pixel_mm: side of a pixel.
        painted_mm: width of the painting's soft edges: a box, so its MTF is a sinc.

    Returns:
        [rows, columns // 2 + 1] for `scipy.fft.rfft2`; 1 at frequency 0.
    """
    _, _, frequency = _plane(shape, pixel_mm)
    painted = np.sinc(np.minimum(frequency * painted_mm, 0.95))
    gain = kernel.mtf(frequency) / np.maximum(painted, 1.0 / _MOST_GAIN)
    return np.asarray(gain * _window(frequency, pixel_mm), dtype=np.float32)


def noise_filters(shape: tuple[int, int], kernel: Kernel, *, pixel_mm: float) -> Float32:
    """Turn white complex coefficients of unit parts into noise of standard deviation 1.

    Returns:
        [3, rows, columns // 2 + 1]. The first gives noise alike in all directions; the others are
        it times cos 2 phi and sin 2 phi, phi being the direction of change, from the columns' axis
        to the rows'. Together they make noise that is stronger in some directions.
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
    """Frequencies along rows' index and columns' index, and their length."""
    rows = scipy.fft.fftfreq(shape[0], pixel_mm)[:, None]
    columns = scipy.fft.rfftfreq(shape[1], pixel_mm)[None]
    return rows, columns, np.asarray(np.sqrt(rows**2 + columns**2))


def _window(frequency: Float64, pixel_mm: float) -> Float64:
    """1 up to near the Nyquist frequency, then a raised cosine down to 0."""
    share = frequency * 2.0 * pixel_mm
    fall = np.clip((share - _ROLL_OFF[0]) / (_ROLL_OFF[1] - _ROLL_OFF[0]), 0.0, 1.0)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * fall))


def _binned(width: float, slope: float, step: float) -> Float64:
    """Integrate a trapezoid of unit area over bins of a step, centred on zero."""
    reach = int(np.ceil((width + slope) / 2.0 / step + 0.5))
    edges = np.asarray((np.arange(-reach, reach + 2) - 0.5) * step, dtype=np.float64)
    taps = np.diff(_trapezoid_area(edges, width, slope))
    return np.asarray(taps / taps.sum())


def _second_moment(taps: Float64, step: float) -> float:
    places = (np.arange(len(taps)) - len(taps) // 2) * step
    return float((taps * places**2).sum())


def _trapezoid_area(places: Float64, width: float, slope: float) -> Float64:
    """Area of the trapezoid to the left of places: a box's cumulative area, averaged."""
    if slope <= 1e-6 * width:
        return np.clip(places / max(width, 1e-9) + 0.5, 0.0, 1.0)
    upper = _ramp_area(places + slope / 2.0, width)
    return np.asarray((upper - _ramp_area(places - slope / 2.0, width)) / slope)


def _ramp_area(places: Float64, width: float) -> Float64:
    """Integral of clip(x / width + 1/2, 0, 1)."""
    inside = np.clip(places, -width / 2.0, width / 2.0)
    beyond = np.maximum(places - width / 2.0, 0.0)
    return np.asarray((inside + width / 2.0) ** 2 / (2.0 * width) + beyond)


def _spectral_root(overlap: Float64) -> Float64:
    """Symmetric weights whose correlation with themselves is `overlap` [2 n + 1]."""
    reach = len(overlap) // 2
    size = 16 * (reach + 1)
    circle = np.zeros(size)
    circle[np.arange(-reach, reach + 1)] = overlap
    root = scipy.fft.ifft(np.sqrt(np.maximum(scipy.fft.fft(circle).real, 0.0))).real
    return np.asarray(root[np.arange(-reach, reach + 1)])


def _trimmed(taps: Float64, least: float) -> Float64:
    """Leave out symmetric pairs at the ends that hardly weigh."""
    middle = len(taps) // 2
    heavy = np.flatnonzero(np.abs(taps) > least)
    reach = int(np.abs(heavy - middle).max())
    return taps[middle - reach : middle + reach + 1]
