"""The noise of a scan: its texture slice by slice, and how strong it is where.

Texture: white coefficients in the frequency domain, a stream of its own for each slice, mixed
across slices as the slice profiles overlap and shaped by `kernel.noise_filters`. Strength: the
variance of filtered back-projection in a pixel is the mean over all directions of the variance of
the rays through it, and a ray's grows exponentially with the water that it crosses (Riederer, Pelc
and Chesler, Phys. Med. Biol. 23 (1978) 446). Rays that cross more body leave more noise across
them: the streaky look between shoulders and below the skin. The path lengths are those of this
very body, worked out on a coarse lattice that reaches beyond the canvas.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from medkd.synthetic.phantom.kernel import Kernel, noise_filters
from medkd.synthetic.phantom.rays import Lattice, Views, as_slices

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Complex64 = NDArray[np.complex64]

_ATTENUATION = 0.014
"""1/mm. Water's at 70 keV is .019 (NIST); scatter and hardening flatten the rise of the noise:
this value gives a real scan's own ratio between lung, fat and contrast-filled heart."""

_BOWTIE = 0.3
_BOWTIE_RADIUS_MM = 180.0
_REFERENCE_MM = 260.0
_ANGLES = 16
Strength = tuple[Float32, Float32, Float32]

_SHIFT = 4096
"""Keeps the numbers of slices before a canvas's first one positive."""


def find_strength(lattice: Lattice, body_hu: Float32, *, modulation: float) -> Strength:
    """Work out the noise's strength from a body's densities.

    Args:
        lattice: of the body.
        body_hu: [i, j, k] HU.
        modulation: share of the thickest ray's attenuation that the tube current makes up for in
            each direction and slice. 0: constant current; .5: the square root of the attenuation,
            as is best for the dose (Gies et al., Med. Phys. 26 (1999) 2235).

    Returns:
        Three maps [k, j, i], by which the three parts of `NoiseTexture` are to be multiplied. The
        deviation of their sum is 1 where all rays see 260 mm of water in the middle of the beam.
    """
    views = Views(lattice, _ANGLES)
    water = np.clip(1.0 + body_hu.astype(np.float64) / 1000.0, 0.0, 2.2)
    chord = 2.0 * np.sqrt(np.maximum(_BOWTIE_RADIUS_MM**2 - views.offset_mm**2, 0.0))
    bowtie = _BOWTIE * (2.0 * _BOWTIE_RADIUS_MM - chord)[:, None]
    mean, cosine, sine = (np.zeros(lattice.shape) for _ in range(3))
    for number in range(_ANGLES):
        path = views.project(water, number)
        excess = path + bowtie - modulation * path.max(axis=0)
        variance = np.exp(_ATTENUATION * (excess - (1.0 - modulation) * _REFERENCE_MM)) / _ANGLES
        spread = views.spread(variance, number)
        turn = 2.0 * views.turns[number]
        mean += spread
        cosine += spread * np.cos(turn)
        sine += spread * np.sin(turn)
    return _amplitudes(mean, cosine, sine)


def _amplitudes(mean: Float64, cosine: Float64, sine: Float64) -> Strength:
    """Turn a variance over directions into the amplitude s (1 + q cos 2(phi - phi0)).

    Its square has the mean s^2 (1 + q^2 / 2) and the second harmonic 2 q s^2.

    Args:
        mean: mean of the variance over the directions.
        cosine: mean of variance times cos 2 phi.
        sine: mean of variance times sin 2 phi.
    """
    harmonic = 2.0 * np.sqrt(cosine**2 + sine**2)
    share = np.minimum(harmonic / mean, 1.35)
    tilt = 2.0 * share / (2.0 + np.sqrt(4.0 - 2.0 * share**2))
    sigma = np.sqrt(mean / (1.0 + tilt**2 / 2.0))
    each = 2.0 * sigma * tilt / np.maximum(harmonic, 1e-12)
    return as_slices(sigma), as_slices(each * cosine), as_slices(each * sine)


class NoiseTexture:
    """Noise of standard deviation 1, slice after slice in order; the same for every start.

    Args:
        shape: pixels (rows, columns) of the slices to give out.
        kernel: of the scan.
        taps: how neighbouring slices share noise, `SliceProfile.noise_taps`.
        pixel_mm: side of a pixel.
        seed: of all slices' streams.
    """

    def __init__(
        self, shape: tuple[int, int], kernel: Kernel, *, taps: Float64, pixel_mm: float, seed: int
    ) -> None:
        rows, columns = (scipy.fft.next_fast_len(size, real=True) for size in shape)
        self._shape, self._inside = (rows, columns), (slice(shape[0]), slice(shape[1]))
        self._filters = noise_filters((rows, columns), kernel, pixel_mm=pixel_mm)
        self._taps = [np.float32(tap) for tap in taps]
        self._seed = seed

    def slices(self, first: int, count: int) -> Iterator[Float32]:
        """Yield [3, rows, columns] a slice: even in all directions, times cos and sin 2 phi."""
        half = len(self._taps) // 2
        waiting = [self._white(number) for number in range(first - half, first + half)]
        for number in range(first, first + count):
            waiting.append(self._white(number + half))
            mixed = waiting[0] * self._taps[0]
            for tap, white in zip(self._taps[1:], waiting[1:], strict=True):
                mixed += white * tap
            waiting.pop(0)
            shaped = mixed * self._filters
            parts = scipy.fft.irfft2(shaped, s=self._shape, overwrite_x=True)
            yield parts[:, self._inside[0], self._inside[1]]

    def _white(self, number: int) -> Complex64:
        """Coefficients whose two parts have variance 1.

        A pixel sums thousands of them, so it is normal whatever their own distribution: bytes
        are quick, and exact on every machine.
        """
        seed = np.random.SeedSequence(self._seed, spawn_key=(number + _SHIFT,))
        rng = np.random.Generator(np.random.PCG64(seed))
        rows, columns = self._shape
        drawn = rng.integers(0, 256, (rows, columns // 2 + 1, 2), dtype=np.uint8)
        parts = (drawn.astype(np.float32) - np.float32(127.5)) * np.float32(1.0 / 73.9)
        return np.asarray(parts.view(np.complex64)[..., 0])
