"""The scanner: its voxel grid, and the scan of a chest.

A `Protocol` holds the settings of one scan, drawn from a style. `scan_volume` has the chest painted
slab by slab and passes each slice through slice profile, kernel, noise and streaks (`kernel.py`,
`artefacts.py`). Apart from the result only a few slices are in memory at any time. A slice does not
depend on how the slabs are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from medkd.synthetic.phantom.artefacts import (
    Lattice,
    MapInterpolator,
    NoiseTexture,
    find_streaks,
    find_strength,
)
from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64
from medkd.synthetic.phantom.kernel import signal_filter, weighted_sum
from medkd.synthetic.phantom.styles import Protocol, Size

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
    """Place the voxel grid of a scan in the chest.

    Args:
        protocol: settings of the scan.
        size: small: a whole chest; region: 112x112x64 voxels; full: 512x512 pixels.
        middle_mm: (3,) chest mm of the grid's centre, to which a shift of up to a few mm is added
            (region: half a voxel).
        rng: source of the shift and of the scanner's origin.
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
        canvas: voxel grid of the scan.
        protocol: settings of the scan.
        paint: returns the noise-free HU [i, j, k] of a canvas. It is called for slabs of this
            canvas in order, each slice once, and for a few slices beyond its ends.
        rng: source of the noise.
        body: the same without detail, for the coarse lattice on which path lengths are computed;
            defaults to `paint`.

    Returns:
        HU [i, j, k] as int16, before `clip_to_stored`; a view of memory in which k varies slowest.
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
    """Add the effect of a change of the chest to a scan, in place; the noise is not changed.

    Args:
        voxels_hu: [i, j, k] voxels of a finished scan, or of a box of it.
        canvas: grid of these voxels.
        protocol: settings of the scan.
        paint: returns the change of noise-free HU [i, j, k] of slabs, as for `scan_volume`; it must
            be zero near the faces of the box.
    """
    for number, seen in enumerate(_Optics(canvas, protocol).slices(paint)):
        plane = voxels_hu[:, :, number]
        changed = plane + np.rint(seen).T
        plane[:] = np.clip(changed, *_INT16)


def clip_to_stored(voxels_hu: NDArray[np.int16]) -> NDArray[np.int16]:
    """Clip voxels in place to the range that scanners store, -1024 to 3071 HU; return them."""
    return np.clip(voxels_hu, np.int16(_LOWEST_HU), np.int16(_HIGHEST_HU), out=voxels_hu)


class _Optics:
    """Applies slice profile and kernel: turns painted samples into blurred slices [j, i]."""

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
        """Yield blurred slices [j, i] of what `paint` draws, in order along k, without noise."""
        waiting: list[Float32] = []
        for sample in self._painted(paint):
            waiting.append(sample)
            if len(waiting) == len(self._taps):
                yield self._through_kernel(weighted_sum(waiting, self._taps))
                del waiting[: self._finer]

    def _samples(self, inner: Canvas, canvas: Canvas, step: float) -> Canvas:
        """Return the canvas of the samples along k that the slices need, beyond their ends too."""
        half = len(self._taps) // 2
        count = (canvas.shape[2] - 1) * self._finer + 1 + 2 * half
        first = canvas.first_mm - np.array([0.0, 0.0, half * step])
        return replace(inner, shape=(*canvas.shape[:2], count), first_mm=first)

    def _painted(self, paint: Painter) -> Iterator[Float32]:
        columns, rows, _ = self._canvas.shape
        for _, slab in self._canvas.slabs(max(8, _SLAB_VOXELS // (columns * rows))):
            yield from np.ascontiguousarray(paint(slab).transpose(2, 1, 0))

    def _through_kernel(self, plane: Float32) -> Float32:
        """Filter a slice; its edge values are repeated beyond the field of view."""
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
        self._maps = MapInterpolator(lattice, canvas)
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
        """Add noise and streaks to slice `number` in place and crop it; call it in slice order."""
        for part, strength in zip(next(self._texture), self._strength, strict=True):
            part *= self._maps.plane(strength, number)
            seen += part
        if self._streaks is not None:
            seen += self._maps.plane(self._streaks, number)
        if self._beyond is not None:
            seen[self._beyond] = _LOWEST_HU


def _beyond_circle(columns: int, rows: int) -> NDArray[np.bool_]:
    """Mark the pixels [j, i] outside the circle that touches the sides of the image."""
    across = (np.arange(columns) - (columns - 1) / 2.0) / columns
    down = (np.arange(rows) - (rows - 1) / 2.0) / rows
    return np.asarray(across[None] ** 2 + down[:, None] ** 2 > 0.25)
