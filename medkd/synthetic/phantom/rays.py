"""Rays through a body on a coarse lattice: sums along them, and spreading back over the slices.

The lattice lies in chest mm at fixed places whatever canvas is scanned, and covers the whole body
across, since what lies beside a field of view attenuates too. Rays are parallel; a fan's rays are
the same ones in another order. Arrays are [i, j, k] as painted, maps for slices [k, j, i].
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medkd.synthetic.phantom.canvas import Canvas

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_HALF_MM = (252.0, 180.0)
_DEPTH_MM = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """Places `step_mm` apart in the slice and 8 mm along the patient, around one canvas.

    Args:
        shape: places along (i, j, k).
        first_mm: (3,) chest mm of place (0, 0, 0).
        step_mm: (3,) mm.
    """

    shape: tuple[int, int, int]
    first_mm: Float64
    step_mm: Float64

    @classmethod
    def around(cls, canvas: Canvas, step_mm: float) -> Lattice:
        """Cover the body across, and the canvas along the patient."""
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
    """Parallel rays through a lattice from evenly spread directions over half a turn.

    `offset_mm` [S] is how far from chest zero the rays of a view run; all views have as many.
    `turns` holds the direction in which a view's rays lie side by side, in rad from x to y.
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
        """Sum a volume [i, j, k] along the rays of a view, in units times mm: [S, k]."""
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
        """Give each place [i, j, k] the value of the ray [S, k] of a view that crosses it."""
        low, part = self._low[number], self._part[number][:, None]
        spread = rays[low] * (1.0 - part)
        spread += rays[low + 1] * part
        return np.asarray(spread.reshape(self._shape))


class Stretch:
    """Reads maps [k, j, i] of a lattice on the pixels of a canvas, linearly, slice by slice."""

    def __init__(self, lattice: Lattice, canvas: Canvas) -> None:
        self._axes = []
        for axis in range(3):
            line = canvas.first_mm[axis] + canvas.spacing_mm[axis] * np.arange(canvas.shape[axis])
            place = (line - lattice.first_mm[axis]) / lattice.step_mm[axis]
            place = np.clip(place, 0.0, lattice.shape[axis] - 1.000001)
            low = np.floor(place).astype(np.intp)
            self._axes.append((low, (place - low).astype(np.float32)))

    def plane(self, values: Float32, number: int) -> Float32:
        """Return [j, i] of a map at the canvas's slice `number`."""
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
    """Turn [i, j, k] into float32 [k, j, i]."""
    return np.ascontiguousarray(maps.transpose(2, 1, 0), dtype=np.float32)
