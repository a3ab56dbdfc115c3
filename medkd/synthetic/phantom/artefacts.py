"""Noise and streaks of a scan, from rays through the body on a coarse lattice.

Noise texture: white coefficients in the frequency domain, with a random stream of its own for each
slice, mixed across slices as the slice profiles overlap and shaped by `kernel.noise_filters`.
Noise strength: the variance of filtered back-projection in a pixel is the mean over all directions
of the variance of the rays through it, and the variance of a ray grows exponentially with the water
that it crosses (Riederer, Pelc and Chesler, Phys. Med. Biol. 23 (1978) 446). Rays that cross more
body leave more noise across them: the streaky look between shoulders and below the skin.

Streaks: rays through much bone lose their soft part, so the measured attenuation falls short by a
term of second order in the bone crossed; scanners correct for water, not for this (Joseph and
Spital, J. Comput. Assist. Tomogr. 2 (1978) 100). The part that is proportional to the bone crossed
only makes bone less dense and is omitted. After filtered back-projection the rest is a dark band
between bones with bright bands beside it. Dense contrast medium has the same effect.

The lattice lies in chest mm at fixed places whatever canvas is scanned, and covers the whole body
across, since tissue beside a field of view attenuates too. Rays are parallel; a fan has the same
rays in another order. Arrays are [i, j, k] as painted, maps for slices [k, j, i].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64
from medkd.synthetic.phantom.kernel import Kernel, noise_filters, weighted_sum

_HALF_MM = (252.0, 180.0)
_DEPTH_MM = 8.0
_STREAK_ANGLES = 60
_BONE_HU = (150.0, 1000.0)
_PER_MM = 0.012
"""Size of the shortfall: mm of water lost per mm2 of dense bone crossed."""
Complex64 = NDArray[np.complex64]
_ATTENUATION = 0.014
"""1/mm. Water has .019 at 70 keV (NIST), but scatter and hardening flatten the rise of the noise;
this value reproduces the ratio between lung, fat and contrast-filled heart in a real scan."""
_BOWTIE = 0.3
_BOWTIE_RADIUS_MM = 180.0
_REFERENCE_MM = 260.0
_NOISE_ANGLES = 16
Strength = tuple[Float32, Float32, Float32]
_SHIFT = 4096
"""Offset that keeps the numbers of slices before the first one positive."""


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """Points `step_mm` apart in the slice and 8 mm along the patient, around one canvas.

    Args:
        shape: number of points along (i, j, k).
        first_mm: (3,) chest mm of point (0, 0, 0).
        step_mm: (3,) mm between points.
    """

    shape: tuple[int, int, int]
    first_mm: Float64
    step_mm: Float64

    @classmethod
    def around(cls, canvas: Canvas, step_mm: float) -> Lattice:
        """Build the lattice that covers the body across, and the canvas along the patient."""
        across = [int(half // step_mm) for half in _HALF_MM]
        low = int(np.floor(canvas.first_mm[2] / _DEPTH_MM))
        last_mm = canvas.first_mm[2] + canvas.spacing_mm[2] * (canvas.shape[2] - 1)
        high = max(int(np.ceil(last_mm / _DEPTH_MM)), low + 1)
        first = np.array([-across[0] * step_mm, -across[1] * step_mm, low * _DEPTH_MM])
        shape = (2 * across[0] + 1, 2 * across[1] + 1, high - low + 1)
        return cls(shape, first, np.array([step_mm, step_mm, _DEPTH_MM]))

    def canvas(self, like: Canvas) -> Canvas:
        """Return the canvas to paint the body on, in the frame of another."""
        return replace(like, shape=self.shape, spacing_mm=self.step_mm, first_mm=self.first_mm)


class Views:
    """Parallel rays through a lattice in evenly spaced directions over half a turn.

    `offset_mm` [S] are the distances of the rays of a view from the chest's zero. `turns` are the
    directions across the rays of each view, in rad from x to y.
    """

    def __init__(self, lattice: Lattice, angles: int) -> None:
        x, y = (
            lattice.first_mm[axis] + lattice.step_mm[axis] * np.arange(lattice.shape[axis])
            for axis in (0, 1)
        )
        self._shape, self._step = lattice.shape, float(lattice.step_mm[0])
        half = int(np.ceil(np.sqrt(x[0] ** 2 + y[0] ** 2) / self._step)) + 1
        self.offset_mm: Float64 = np.asarray(self._step * np.arange(-half, half + 1.0))
        self.turns: Float64 = np.pi * (np.arange(angles) + 0.5) / angles
        self._low: list[NDArray[np.intp]] = []
        self._part: list[Float64] = []
        for turn in self.turns:
            place = (x[:, None] * np.cos(turn) + y[None] * np.sin(turn)).ravel() / self._step + half
            low = np.floor(place).astype(np.intp)
            self._low.append(low)
            self._part.append(place - low)

    def project(self, volume: Float64, number: int) -> Float64:
        """Integrate a volume [i, j, k] along the rays of a view: [S, k], in units times mm."""
        depth = self._shape[2]
        flat = volume.reshape(-1, depth)
        filled = np.flatnonzero(flat.any(axis=1))
        flat, part = flat[filled], self._part[number][filled, None]
        index = (self._low[number][filled, None] * depth + np.arange(depth)).ravel()
        size = (len(self.offset_mm) + 1) * depth
        total = np.bincount(index, (flat * (1.0 - part)).ravel(), size)
        total += np.bincount(index + depth, (flat * part).ravel(), size)
        return np.asarray(total.reshape(-1, depth)[:-1] * self._step)

    def spread(self, rays: Float64, number: int) -> Float64:
        """Back-project the rays [S, k] of a view: each point [i, j, k] gets its ray's value."""
        low, part = self._low[number], self._part[number][:, None]
        spread = rays[low] * (1.0 - part)
        spread += rays[low + 1] * part
        return np.asarray(spread.reshape(self._shape))


class MapInterpolator:
    """Interpolates maps [k, j, i] of a lattice linearly at the pixels of a canvas, by slice."""

    def __init__(self, lattice: Lattice, canvas: Canvas) -> None:
        self._axes = []
        for axis in range(3):
            line = canvas.first_mm[axis] + canvas.spacing_mm[axis] * np.arange(canvas.shape[axis])
            place = (line - lattice.first_mm[axis]) / lattice.step_mm[axis]
            place = np.clip(place, 0.0, lattice.shape[axis] - 1.000001)
            low = np.floor(place).astype(np.intp)
            self._axes.append((low, (place - low).astype(np.float32)))

    def plane(self, values: Float32, number: int) -> Float32:
        """Interpolate a map [k, j, i] at the pixels [j, i] of slice `number` of the canvas."""
        low, part = self._axes[2]
        plane = _between(values, low[number : number + 1], part[number : number + 1])[0]
        rows = _between(plane, *self._axes[1])
        columns = _between(np.ascontiguousarray(rows.T), *self._axes[0])
        return np.ascontiguousarray(columns.T)


def _between(values: Float32, low: NDArray[np.intp], part: Float32) -> Float32:
    """Interpolate along the first axis."""
    part = part.reshape(-1, *[1] * (values.ndim - 1))
    start = values[low]
    return np.asarray(start + (values[low + 1] - start) * part)


def as_slices(maps: Float64) -> Float32:
    """Transpose [i, j, k] to float32 [k, j, i]."""
    return np.ascontiguousarray(maps.transpose(2, 1, 0), dtype=np.float32)


def find_streaks(lattice: Lattice, body_hu: Float32, *, strength: float) -> Float32:
    """Return the HU that streaks add to a scan.

    Args:
        lattice: lattice of the body.
        body_hu: [i, j, k] HU of the body.
        strength: 0 (none) to about 2; at 1 the bands between the shoulders are about 20 HU darker.

    Returns:
        HU [k, j, i], with a mean of about zero in each slice.
    """
    bone = np.clip((body_hu.astype(np.float64) - _BONE_HU[0]) / _BONE_HU[1], 0.0, 1.5)
    views = Views(lattice, _STREAK_ANGLES)
    paths = np.stack([views.project(bone, number) for number in range(_STREAK_ANGLES)])
    squared = paths**2
    linear = (squared * paths).sum(axis=(0, 1)) / np.maximum(squared.sum(axis=(0, 1)), 1e-9)
    short = (squared - linear * paths) * (_PER_MM * strength)
    total = np.zeros(lattice.shape)
    for number in range(_STREAK_ANGLES):
        total += views.spread(_ramped(-short[number], float(lattice.step_mm[0])), number)
    return as_slices(total * (1000.0 * np.pi / _STREAK_ANGLES))


def _ramped(rays: Float64, step_mm: float) -> Float64:
    """Filter rays [S, k] for back-projection: a ramp |f| with a cosine roll-off."""
    size = scipy.fft.next_fast_len(2 * len(rays), real=True)
    frequency = scipy.fft.rfftfreq(size, step_mm)
    ramp = frequency * np.cos(np.pi * frequency * step_mm) ** 2
    spectrum = scipy.fft.rfft(rays, size, axis=0) * ramp[:, None]
    return np.asarray(scipy.fft.irfft(spectrum, size, axis=0)[: len(rays)])


def find_strength(lattice: Lattice, body_hu: Float32, *, modulation: float) -> Strength:
    """Compute the strength of the noise from the densities of a body.

    Args:
        lattice: lattice of the body.
        body_hu: [i, j, k] HU of the body.
        modulation: share of the thickest ray's attenuation for which the tube current compensates
            in each direction and slice. 0: constant current; .5: the square root of the
            attenuation, which is best for the dose (Gies et al., Med. Phys. 26 (1999) 2235).

    Returns:
        Three maps [k, j, i], factors of the three parts of `NoiseTexture`. Their sum has a standard
        deviation of 1 where all rays cross 260 mm of water in the middle of the beam.
    """
    views = Views(lattice, _NOISE_ANGLES)
    water = np.clip(1.0 + body_hu.astype(np.float64) / 1000.0, 0.0, 2.2)
    chord = 2.0 * np.sqrt(np.maximum(_BOWTIE_RADIUS_MM**2 - views.offset_mm**2, 0.0))
    bowtie = _BOWTIE * (2.0 * _BOWTIE_RADIUS_MM - chord)[:, None]
    mean, cosine, sine = (np.zeros(lattice.shape) for _ in range(3))
    for number in range(_NOISE_ANGLES):
        path = views.project(water, number)
        excess = path + bowtie - modulation * path.max(axis=0)
        variance = (
            np.exp(_ATTENUATION * (excess - (1.0 - modulation) * _REFERENCE_MM)) / _NOISE_ANGLES
        )
        spread = views.spread(variance, number)
        turn = 2.0 * views.turns[number]
        mean += spread
        cosine += spread * np.cos(turn)
        sine += spread * np.sin(turn)
    return _amplitudes(mean, cosine, sine)


def _amplitudes(mean: Float64, cosine: Float64, sine: Float64) -> Strength:
    """Compute the amplitude s (1 + q cos 2(phi - phi0)) from a variance over directions phi.

    Its square has the mean s^2 (1 + q^2 / 2) and the second harmonic 2 q s^2. The arguments are the
    means of the variance, of variance times cos 2 phi, and of variance times sin 2 phi.
    """
    harmonic = 2.0 * np.sqrt(cosine**2 + sine**2)
    share = np.minimum(harmonic / mean, 1.35)
    tilt = 2.0 * share / (2.0 + np.sqrt(4.0 - 2.0 * share**2))
    sigma = np.sqrt(mean / (1.0 + tilt**2 / 2.0))
    each = 2.0 * sigma * tilt / np.maximum(harmonic, 1e-12)
    return as_slices(sigma), as_slices(each * cosine), as_slices(each * sine)


class NoiseTexture:
    """Noise of standard deviation 1, slice by slice.

    The noise of a slice is the same whichever slice is generated first.

    Args:
        shape: pixels (rows, columns) of a slice.
        kernel: kernel of the scan.
        taps: correlation of neighbouring slices, from `SliceProfile.noise_taps`.
        pixel_mm: side of a pixel.
        seed: seed of the random generators, one per slice.
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
        """Yield [3, rows, columns] per slice: isotropic noise, and noise times cos, sin 2 phi."""
        half = len(self._taps) // 2
        waiting = [self._white(number) for number in range(first - half, first + half)]
        for number in range(first, first + count):
            waiting.append(self._white(number + half))
            shaped = weighted_sum(waiting, self._taps) * self._filters
            waiting.pop(0)
            parts = scipy.fft.irfft2(shaped, s=self._shape, overwrite_x=True)
            yield parts[:, self._inside[0], self._inside[1]]

    def _white(self, number: int) -> Complex64:
        """Draw coefficients whose real and imaginary parts have variance 1.

        A pixel sums thousands of them, so it is normal whatever their distribution is. Random
        bytes are fast, and exact on every machine.
        """
        seed = np.random.SeedSequence(self._seed, spawn_key=(number + _SHIFT,))
        rng = np.random.Generator(np.random.PCG64(seed))
        rows, columns = self._shape
        drawn = rng.integers(0, 256, (rows, columns // 2 + 1, 2), dtype=np.uint8)
        parts = (drawn.astype(np.float32) - np.float32(127.5)) * np.float32(1.0 / 73.9)
        return np.asarray(parts.view(np.complex64)[..., 0])
