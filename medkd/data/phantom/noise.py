"""The noise of a scan: its texture slice by slice, and how strong it is where.

Texture: white coefficients in the frequency domain, a stream of its own for each slice, mixed
across slices as the slice profiles overlap and shaped by `kernel.noise_filters`. Strength: the
variance of filtered back-projection in a pixel is the mean over all directions of the variance of
the rays through it, and a ray's grows exponentially with the water that it crosses (Riederer, Pelc
and Chesler, Phys. Med. Biol. 23 (1978) 446). Directions that see more body give more noise across
them: the streaky look between shoulders. The path lengths are those of this very body, worked out
on a coarse lattice that reaches beyond the canvas.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from medkd.data.phantom.kernel import Kernel, noise_filters
from medkd.data.phantom.rays import Lattice, Views, as_slices

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Complex64 = NDArray[np.complex64]

_ATTENUATION = 0.014
"""1/mm. Water's at 70 keV is .019 (NIST); scatter and hardening flatten the rise of the noise:
this value gives a real scan's own ratio between lung, fat and contrast-filled heart."""

_BOWTIE = 0.3
_BOWTIE_RADIUS_MM = 180.0
_REFERENCE_MM = 260.0
_ANGLES = 12
_SHIFT = 4096
"""Keeps the numbers of slices before a canvas's first one positive."""


@dataclass(frozen=True, slots=True, eq=False)
class Strength:
    """Where the noise is how strong, on a lattice; both maps [k, j, i] float32.

    Args:
        lattice: where.
        sigma: standard deviation as a share of `noise_hu`.
        tilted: sigma times q, see `kernel.noise_filters`.
    """

    lattice: Lattice
    sigma: Float32
    tilted: Float32


def find_strength(lattice: Lattice, body_hu: Float32, *, modulation: float) -> Strength:
    """Work out the noise's strength from a body's densities.

    Args:
        lattice: of the body.
        body_hu: [i, j, k] HU.
        modulation: share of the thickest ray's attenuation that the tube current makes up for in
            each direction and slice. 0: constant current; .5: the square root of the attenuation,
            as is best for the dose (Gies et al., Med. Phys. 26 (1999) 2235).

    Returns:
        1 where all directions see 260 mm of water at the middle of the beam.
    """
    views = Views(lattice, _ANGLES)
    water = np.clip(1.0 + body_hu.astype(np.float64) / 1000.0, 0.0, 2.2)
    chord = 2.0 * np.sqrt(np.maximum(_BOWTIE_RADIUS_MM**2 - views.offset_mm**2, 0.0))
    bowtie = _BOWTIE * (2.0 * _BOWTIE_RADIUS_MM - chord)[:, None]
    both = np.zeros((2, *lattice.shape))
    for number in range(_ANGLES):
        path = views.project(water, number)
        excess = path + bowtie - modulation * path.max(axis=0)
        excess -= (1.0 - modulation) * _REFERENCE_MM
        along_x, along_y = views.direction(number)
        views.smear(both[0], np.exp(_ATTENUATION * excess) * along_x**2 / _ANGLES, number)
        views.smear(both[1], np.exp(_ATTENUATION * excess) * along_y**2 / _ANGLES, number)
    lateral, frontal = np.sqrt(2.0 * both)
    sigma, tilted = (lateral + frontal) / 2.0, (lateral - frontal) / 2.0
    # The texture's variance is sigma^2 + tilted^2 / 2: brought to that of all rays together.
    scale = np.sqrt((both[0] + both[1]) / (sigma**2 + tilted**2 / 2.0))
    return Strength(lattice, as_slices(sigma * scale), as_slices(tilted * scale))


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

    def slices(self, first: int, count: int) -> Iterator[tuple[Float32, Float32]]:
        """Yield two [rows, columns] a slice: alike in all directions, and times cos 2 phi."""
        half = len(self._taps) // 2
        waiting = [self._white(number) for number in range(first - half, first + half)]
        for number in range(first, first + count):
            waiting.append(self._white(number + half))
            mixed = waiting[0] * self._taps[0]
            for tap, white in zip(self._taps[1:], waiting[1:], strict=True):
                mixed += white * tap
            waiting.pop(0)
            plain, tilted = (
                scipy.fft.irfft2(mixed * gain, s=self._shape)[self._inside]
                for gain in self._filters
            )
            yield plain, tilted

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
