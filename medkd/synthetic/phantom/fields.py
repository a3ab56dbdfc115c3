"""Smooth fields on canvases: signed distances, soft edges, random fields, upsampling.

Shapes are signed distances in mm, negative inside. They are computed on a coarse lattice and
interpolated linearly; edges are then drawn at the fine voxels. The arithmetic is float32 with only
+ - * / and sqrt, for which IEEE 754 defines every bit, so the bytes do not depend on the processor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64

_SPLINE_GAIN = 3.02
"""Factor by which a cubic B-spline of unit white noise gets a standard deviation of about one."""

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class SmoothField:
    """A random field of mean 0 and standard deviation about 1, the same on every canvas.

    It is a periodic cubic B-spline over white noise at knots.

    Args:
        knots: [a, b, c] values at the knots.
        knot_mm: spacing of the knots in chest mm; details have about this size.
    """

    knots: Float32
    knot_mm: float

    @classmethod
    def drawn(
        cls, rng: np.random.Generator, knot_mm: float, *, period_mm: float = 480.0
    ) -> SmoothField:
        """Draw random knots, `knot_mm` apart; the field repeats after at least `period_mm`."""
        count = max(int(np.ceil(period_mm / knot_mm)), 4)
        knots = rng.standard_normal((count, count, count)).astype(np.float32)
        return cls(knots * np.float32(_SPLINE_GAIN), knot_mm)

    def on(self, canvas: Canvas) -> Float32:
        """Return the field [i, j, k] at the voxel centres of a canvas."""
        field = self.knots
        for axis in range(3):
            field = _stretch(field, axis, canvas.line_mm(axis) / self.knot_mm)
        return field


def _stretch(field: Float32, axis: int, places: Float64) -> Float32:
    """Evaluate a periodic cubic B-spline along one axis at places in units of knots."""
    first = np.floor(places).astype(np.int64)
    t = places - first
    taps = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    wide = [1, 1, 1]
    wide[axis] = len(places)
    total = np.zeros(1, dtype=np.float32)
    for number, tap in enumerate(taps):
        index = (first + number) % field.shape[axis]
        weight = np.asarray(tap / 6.0, dtype=np.float32).reshape(wide)
        total = total + field.take(index, axis=axis) * weight
    return np.asarray(total, dtype=np.float32)


def soft_step(distance_mm: Float32, width_mm: float) -> Float32:
    """Convert a signed distance (negative inside) to a coverage with an edge of this width."""
    cover = distance_mm * np.float32(-1.0 / width_mm)
    cover += np.float32(0.5)
    # Faster than `np.clip`, whose overhead dominates on small planes.
    np.maximum(cover, np.float32(0.0), out=cover)
    np.minimum(cover, np.float32(1.0), out=cover)
    return np.asarray(cover, dtype=np.float32)


def paint(volume_hu: Float32, coverage: Float32, value_hu: float | np.float32 | Float32) -> None:
    """Blend a value into a volume in place, weighted by coverage."""
    change = np.asarray(value_hu, dtype=np.float32) - volume_hu
    change *= coverage
    volume_hu += change


def smooth_max(first: Float32, second: Float32, *, blend_mm: float) -> Float32:
    """Return the maximum of two fields with a rounded edge (Quilez's polynomial smooth maximum)."""
    apart = first - second
    share = apart * np.float32(0.5 / blend_mm)
    share += np.float32(0.5)
    np.clip(share, 0.0, 1.0, out=share)
    rounded = share * (np.float32(1.0) - share)
    rounded *= np.float32(blend_mm)
    apart *= share
    apart += second
    apart += rounded
    return np.asarray(apart, dtype=np.float32)


def smooth_min(first: Float32, second: Float32, *, blend_mm: float) -> Float32:
    """Return the minimum of two fields with a rounded edge."""
    return -smooth_max(-first, -second, blend_mm=blend_mm)


def upsampled(fields: Sequence[Float32], coarse: Canvas, fine: Canvas) -> Iterator[list[Plane]]:
    """Interpolate fields of a lattice at the voxels of a canvas inside it, plane by plane.

    A plane fits the processor's cache, so painting planes is much faster than painting volumes.

    Args:
        fields: fields [i, j, k] on `coarse`.
        coarse: their lattice; it must cover all voxel centres of `fine`.
        fine: the wanted voxels.

    Yields:
        For each i of `fine` a list with one plane [j, k] per field. The next step overwrites them.
    """
    readers = [_Reader(field, coarse, fine) for field in fields]
    low, part = _places(0, coarse, fine)
    for i in range(fine.shape[0]):
        yield [reader.plane(int(low[i]), part[i]) for reader in readers]


def upsample(field: Float32, coarse: Canvas, fine: Canvas) -> Float32:
    """Interpolate a field of a lattice at all voxels [i, j, k] of a canvas inside it."""
    out = np.empty(fine.shape, dtype=np.float32)
    for i, planes in enumerate(upsampled([field], coarse, fine)):
        out[i] = planes[0]
    return out


def _places(axis: int, coarse: Canvas, fine: Canvas) -> tuple[NDArray[np.int64], Float32]:
    """Return the lattice index below each voxel along an axis, and its fraction (0..1)."""
    places = (fine.line_mm(axis) - coarse.first_mm[axis]) / coarse.spacing_mm[axis]
    low = np.clip(np.floor(places).astype(np.int64), 0, coarse.shape[axis] - 2)
    return low, np.clip(places - low, 0.0, 1.0).astype(np.float32)


class _Reader:
    """Interpolates one field of a lattice plane by plane; caches the two nearest lattice planes."""

    def __init__(self, field: Float32, coarse: Canvas, fine: Canvas) -> None:
        self._field = field
        self._rows, self._row_parts = _places(1, coarse, fine)
        self._columns, self._column_parts = _places(2, coarse, fine)
        self._row_parts = self._row_parts[:, None]
        self._here = -2
        self._first = np.empty(fine.shape[1:], np.float32)
        self._second, self._slope, self._out = (np.empty_like(self._first) for _ in range(3))

    def plane(self, here: int, part: np.float32) -> Plane:
        """Return the plane `part` of the way from lattice plane `here` to the next."""
        if here != self._here:
            if here == self._here + 1:
                self._first, self._second = self._second, self._first
            else:
                self._stretch(here, self._first)
            self._stretch(here + 1, self._second)
            np.subtract(self._second, self._first, out=self._slope)
            self._here = here
        np.multiply(self._slope, part, out=self._out)
        self._out += self._first
        return self._out

    def _stretch(self, number: int, out: Plane) -> None:
        lattice = self._field[number]
        first = lattice.take(self._columns, axis=1)
        along = lattice.take(self._columns + 1, axis=1)
        along -= first
        along *= self._column_parts
        along += first
        np.take(along, self._rows + 1, axis=0, out=out, mode="clip")
        lower = along.take(self._rows, axis=0)
        out -= lower
        out *= self._row_parts
        out += lower
