"""A site's scanner: which voxels it makes, and what it shows of a chest.

Three styles. a: thin slices, a sharp lung kernel; b: thick overlapping slices, a soft kernel, high
noise; c: a standard kernel, overlapping slices. A `Protocol` is one scan's draw from a style.
`scan_volume` lets the chest be painted slab by slab and passes each slice through the slice
profile, the kernel, noise and streaks (`kernel.py`, `noise.py`, `streaks.py`): besides the result
only a few slices are in memory at any time. What a slice shows does not depend on the slabs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from medkd.synthetic.phantom.canvas import Canvas
from medkd.synthetic.phantom.kernel import signal_filter
from medkd.synthetic.phantom.noise import NoiseTexture, find_strength
from medkd.synthetic.phantom.rays import Lattice, Stretch
from medkd.synthetic.phantom.streaks import find_streaks
from medkd.synthetic.phantom.styles import Protocol, Size

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Painter = Callable[[Canvas], Float32]

_SLAB_VOXELS = 8_400_000
_COARSE_MM = 6.0
_FINE_MM = 4.0
_LONGEST_STEP_MM = 1.5
_MARGIN = 8
_LOWEST_HU, _HIGHEST_HU = -1024.0, 3071.0
_INT16 = (-32768.0, 32767.0)


def draw_canvas(
    protocol: Protocol, size: Size, *, middle_mm: Float64, rng: np.random.Generator
) -> Canvas:
    """Place the voxels of a scan in the chest.

    Args:
        protocol: the scan's settings.
        size: small: a whole chest; region: 112x112x64 voxels; full: 512x512 pixels.
        middle_mm: (3,) chest mm around which they lie, up to a few mm (region: half a voxel).
        rng: source of the place and of the scanner's own zero.
    """
    spacing = np.array([protocol.pixel_mm, protocol.pixel_mm, protocol.slice_spacing_mm])
    reach = {"small": [6.0, 5.0, 6.0], "full": [8.0, 8.0, 2.0], "region": [0.0, 0.0, 0.0]}[size]
    middle = middle_mm + rng.uniform(-1.0, 1.0, 3) * (np.asarray(reach) + spacing / 2.0)
    offset = np.round(rng.uniform([-15.0, -190.0, -320.0], [15.0, -120.0, -60.0]), 3)
    first = np.round(middle - (np.asarray(protocol.shape) - 1) / 2 * spacing, 3)
    return Canvas(protocol.shape, spacing, first, offset)


def scan_volume(
    canvas: Canvas,
    protocol: Protocol,
    paint: Painter,
    *,
    rng: np.random.Generator,
    body: Painter | None = None,
) -> NDArray[np.int16]:
    """Scan a chest.

    Args:
        canvas: voxels of the scan.
        protocol: the scan's settings.
        paint: gives the noise-free HU [i, j, k] of any canvas: of slabs of this one, in order,
            each of its slices once, and a few slices beyond its ends.
        rng: source of the noise.
        body: the same without detail, for the coarse lattice that path lengths need; `paint` if
            left out.

    Returns:
        [i, j, k] int16 HU, not yet `stored`; a view of memory in which k varies slowest.
    """
    seed = int(rng.integers(2**62))
    effects = _Effects(canvas, protocol, body or paint, seed)
    columns, rows, depth = canvas.shape
    out = np.empty((depth, rows, columns), dtype=np.int16)
    optics = _Optics(canvas, protocol)
    for number, seen in enumerate(optics.slices(paint)):
        effects.add(seen, number)
        np.rint(seen, out=seen)
        np.clip(seen, *_INT16, out=seen)
        out[number] = seen
    return out.transpose(2, 1, 0)


def add_to_scan(
    voxels_hu: NDArray[np.int16], canvas: Canvas, protocol: Protocol, paint: Painter
) -> None:
    """Add to a scan, in place, what a change of the chest shows there: the same noise stays.

    Args:
        voxels_hu: [i, j, k] voxels of a finished scan, or of a box of it.
        canvas: these voxels.
        protocol: the scan's settings.
        paint: gives the change of noise-free HU [i, j, k] of slabs, as for `scan_volume`; zero
            near the box's faces.
    """
    for number, seen in enumerate(_Optics(canvas, protocol).slices(paint)):
        plane = voxels_hu[:, :, number]
        changed = plane + np.rint(seen).T
        plane[:] = np.clip(changed, *_INT16)


def stored(voxels_hu: NDArray[np.int16]) -> NDArray[np.int16]:
    """Clip voxels in place to what scanners store, -1024 to 3071 HU, and return them."""
    return np.clip(voxels_hu, np.int16(_LOWEST_HU), np.int16(_HIGHEST_HU), out=voxels_hu)


class _Optics:
    """Slice profile and kernel: painted samples in, blurred slices [j, i] out."""

    def __init__(self, canvas: Canvas, protocol: Protocol) -> None:
        spacing = float(canvas.spacing_mm[2])
        longest = max(_LONGEST_STEP_MM, 1.5 * float(canvas.spacing_mm[0]))
        self._finer = max(1, int(np.ceil(spacing / longest - 1e-9)))
        step = spacing / self._finer
        inner = replace(canvas, spacing_mm=np.array([*canvas.spacing_mm[:2], step]))
        painted = inner.edge_mm
        self._taps = [np.float32(t) for t in protocol.profile.taps(step, painted_mm=painted)]
        self._canvas = self._samples(inner, canvas, step)
        self._shape = (canvas.shape[1], canvas.shape[0])
        self._padded = tuple(
            scipy.fft.next_fast_len(n + 2 * _MARGIN, real=True) for n in self._shape
        )
        self._filter = signal_filter(
            (self._padded[0], self._padded[1]),
            protocol.kernel,
            pixel_mm=float(canvas.spacing_mm[0]),
            painted_mm=painted,
        )

    def slices(self, paint: Painter) -> Iterator[Float32]:
        """Yield one slice after the other."""
        waiting: list[Float32] = []
        for sample in self._painted(paint):
            waiting.append(sample)
            if len(waiting) == len(self._taps):
                yield self._through_kernel(self._mixed(waiting))
                del waiting[: self._finer]

    def _samples(self, inner: Canvas, canvas: Canvas, step: float) -> Canvas:
        """The samples along k that the slices need, `half` beyond the ends."""
        half = len(self._taps) // 2
        count = (canvas.shape[2] - 1) * self._finer + 1 + 2 * half
        first = canvas.first_mm - np.array([0.0, 0.0, half * step])
        return replace(inner, shape=(*canvas.shape[:2], count), first_mm=first)

    def _painted(self, paint: Painter) -> Iterator[Float32]:
        columns, rows, _ = self._canvas.shape
        for _, slab in self._canvas.slabs(max(8, _SLAB_VOXELS // (columns * rows))):
            yield from np.ascontiguousarray(paint(slab).transpose(2, 1, 0))

    def _mixed(self, waiting: list[Float32]) -> Float32:
        mixed = waiting[0] * self._taps[0]
        for tap, sample in zip(self._taps[1:], waiting[1:], strict=True):
            mixed += sample * tap
        return mixed

    def _through_kernel(self, plane: Float32) -> Float32:
        """Filter a slice whose edge goes on unchanged beyond the field of view."""
        rows, columns = self._shape
        beyond = [
            (_MARGIN, whole - size - _MARGIN)
            for whole, size in zip(self._padded, self._shape, strict=True)
        ]
        wide = np.pad(plane, beyond, mode="edge")
        spectrum = scipy.fft.rfft2(wide) * self._filter
        seen = scipy.fft.irfft2(spectrum, s=self._padded, overwrite_x=True)
        return np.ascontiguousarray(seen[_MARGIN : _MARGIN + rows, _MARGIN : _MARGIN + columns])


class _Effects:
    """Noise and streaks of a scan, added slice by slice."""

    def __init__(self, canvas: Canvas, protocol: Protocol, body: Painter, seed: int) -> None:
        fine = protocol.streaks > 0.0 and protocol.pixel_mm < 1.0
        lattice = Lattice.around(canvas, _FINE_MM if fine else _COARSE_MM)
        body_hu = body(lattice.canvas(canvas))
        strength = find_strength(lattice, body_hu, modulation=protocol.modulation)
        self._strength = [part * np.float32(protocol.noise_hu) for part in strength]
        self._streaks = None
        if protocol.streaks:
            self._streaks = find_streaks(lattice, body_hu, strength=protocol.streaks)
        self._stretch = Stretch(lattice, canvas)
        columns, rows, depth = canvas.shape
        self._beyond = _beyond_circle(columns, rows) if protocol.circle else None
        texture = NoiseTexture(
            (rows, columns),
            protocol.kernel,
            taps=protocol.profile.noise_taps(protocol.slice_spacing_mm),
            pixel_mm=protocol.pixel_mm,
            seed=seed,
        )
        self._texture = texture.slices(0, depth)

    def add(self, seen: Float32, number: int) -> None:
        """Add noise and streaks to slice `number` in place, and cut it; slices come in order."""
        for part, strength in zip(next(self._texture), self._strength, strict=True):
            part *= self._stretch.plane(strength, number)
            seen += part
        if self._streaks is not None:
            seen += self._stretch.plane(self._streaks, number)
        if self._beyond is not None:
            seen[self._beyond] = _LOWEST_HU


def _beyond_circle(columns: int, rows: int) -> NDArray[np.bool_]:
    """Say which pixels [j, i] lie outside the circle that touches the sides."""
    across = (np.arange(columns) - (columns - 1) / 2.0) / columns
    down = (np.arange(rows) - (rows - 1) / 2.0) / rows
    return np.asarray(across[None] ** 2 + down[:, None] ** 2 > 0.25)
