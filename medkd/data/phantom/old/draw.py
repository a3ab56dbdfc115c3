"""Drawing for phantoms: smooth random fields, tubes and blobs with partial volume.

Everything is placed in chest millimetres: x to the patient's left, y to the back, z to the head,
zero in the middle of the chest (LPS up to a shift, see `Canvas.offset_mm`). Sizes are in mm
whatever the voxels are. What is drawn is a coverage, 0..1: the share of a voxel that is filled.
Randomness comes from the generator passed in; there is no matrix product of BLAS here, so that
the bytes do not depend on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medkd.geometry import VoxelGrid

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Whole = NDArray[np.int64]
T = TypeVar("T", bound=np.generic)

_PIECE_MM = 3.0
_BINS_MM = (1.2, 2.5, 4.5, 8.0, 14.0, 40.0)
_CHUNK = 1_500_000
_SPLINE_GAIN = 3.02
"""Brings a cubic B-spline of unit white noise back to a standard deviation of about one."""


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """The voxels of a phantom in chest mm, axes parallel to the patient's.

    Args:
        shape: voxels along (i, j, k).
        spacing_mm: (3,) mm.
        first_mm: (3,) chest mm of the centre of voxel (0, 0, 0).
        offset_mm: (3,) what turns chest mm into LPS mm by addition.
    """

    shape: tuple[int, int, int]
    spacing_mm: Float64
    first_mm: Float64
    offset_mm: Float64

    @property
    def grid(self) -> VoxelGrid:
        """The same voxels in LPS mm."""
        origin = np.round(self.first_mm + self.offset_mm, 6)
        return VoxelGrid.from_parts(self.shape, spacing_mm=self.spacing_mm, origin_mm=origin)

    @property
    def edge_mm(self) -> float:
        """Width of a soft edge in mm: the side of a cube of a voxel's volume."""
        return float(np.prod(self.spacing_mm) ** (1.0 / 3.0))

    def axis_mm(self, axis: int) -> Float32:
        """Chest mm of the voxel centres along one axis, shaped to broadcast over [i, j, k]."""
        line = self.first_mm[axis] + self.spacing_mm[axis] * np.arange(self.shape[axis])
        wide = [1, 1, 1]
        wide[axis] = self.shape[axis]
        return np.asarray(line.reshape(wide), dtype=np.float32)

    def sample(self, field: Float32, points_mm: Float64) -> Float64:
        """Read a field at points by trilinear interpolation; outside, its edge is repeated.

        Args:
            field: [i, j, k].
            points_mm: [N, 3] chest mm.

        Returns:
            [N].
        """
        places = (points_mm - self.first_mm) / self.spacing_mm
        low = np.floor(places).astype(np.int64)
        part = places - low
        upper = np.asarray(self.shape) - 1
        total = np.zeros(len(points_mm))
        for corner in np.ndindex(2, 2, 2):
            index = np.clip(low + corner, 0, upper)
            share = np.where(np.asarray(corner) == 1, part, 1.0 - part).prod(axis=1)
            total += share * field[index[:, 0], index[:, 1], index[:, 2]]
        return total


@dataclass(frozen=True, slots=True, eq=False)
class Tubes:
    """Straight tubes with round ends whose radius changes linearly from start to end.

    Args:
        start_mm: [N, 3] chest mm.
        end_mm: [N, 3] chest mm.
        start_radius_mm: [N].
        end_radius_mm: [N].
    """

    start_mm: Float64
    end_mm: Float64
    start_radius_mm: Float64
    end_radius_mm: Float64

    @classmethod
    def along(cls, points_mm: Float64, radius_mm: float | Float64) -> Tubes:
        """Chain tubes through points [N, 3] with one radius, or one a point."""
        radii = np.broadcast_to(np.asarray(radius_mm, dtype=np.float64), (len(points_mm),))
        return cls(points_mm[:-1], points_mm[1:], radii[:-1], radii[1:])

    @classmethod
    def joined(cls, parts: list[Tubes]) -> Tubes:
        """Put several sets into one."""
        return cls(
            np.concatenate([p.start_mm for p in parts]),
            np.concatenate([p.end_mm for p in parts]),
            np.concatenate([p.start_radius_mm for p in parts]),
            np.concatenate([p.end_radius_mm for p in parts]),
        )

    def scaled(self, factor: float) -> Tubes:
        """Return the same axes with other radii."""
        return Tubes(
            self.start_mm, self.end_mm, self.start_radius_mm * factor, self.end_radius_mm * factor
        )

    def shrunk(self, by_mm: float) -> Tubes:
        """Return the same axes with smaller radii; tubes that vanish are left out."""
        start, end = self.start_radius_mm - by_mm, self.end_radius_mm - by_mm
        keep = (start > 0.1) & (end > 0.1)
        return Tubes(self.start_mm[keep], self.end_mm[keep], start[keep], end[keep])


def smooth_field(rng: np.random.Generator, canvas: Canvas, knot_mm: float) -> Float32:
    """Draw a smooth random field of mean 0 and standard deviation about 1.

    Cubic B-splines over white noise at knots: as smooth as a Gaussian filter, at a tenth of
    its cost.

    Args:
        rng: source of the knots' values.
        canvas: where to draw.
        knot_mm: distance of the knots; details are about this large.
    """
    extent = np.asarray(canvas.shape) * canvas.spacing_mm
    counts = np.ceil(extent / knot_mm).astype(int) + 4
    field = rng.standard_normal(tuple(counts), dtype=np.float32) * np.float32(_SPLINE_GAIN)
    for axis in range(3):
        field = _stretch(field, axis, canvas.shape[axis], canvas.spacing_mm[axis] / knot_mm)
    return field


def draw_tubes(canvas: Canvas, tubes: Tubes) -> Float32:
    """Draw tubes with partial volume; where they overlap the largest coverage counts.

    The soft edge is one voxel wide, and thin tubes keep their cross-section's area.

    Returns:
        [i, j, k] coverage 0..1.
    """
    coverage = np.zeros(canvas.shape, dtype=np.float32)
    pieces = _chop(tubes)
    radius = np.maximum(pieces.start_radius_mm, pieces.end_radius_mm)
    low = 0.0
    for high in _BINS_MM:
        chosen = np.flatnonzero((radius > low) & (radius <= high))
        reach = radius[chosen].max() + _PIECE_MM / 2 if len(chosen) else 0.0
        half = np.ceil((reach + canvas.edge_mm / 2) / canvas.spacing_mm).astype(int)
        step = max(1, _CHUNK // int(np.prod(2 * half + 1)))
        for begin in range(0, len(chosen), step):
            _draw_pieces(canvas, coverage, pieces, chosen[begin : begin + step], half=half)
        low = high
    return coverage


def paint(volume_hu: Float32, coverage: Float32, value_hu: float | np.float32 | Float32) -> None:
    """Mix a value into a volume in place, by coverage."""
    volume_hu += coverage * (value_hu - volume_hu)


def soft_step(distance_mm: Float32, width_mm: float) -> Float32:
    """Turn a signed distance (negative inside) into a coverage with an edge of this width."""
    share = np.float32(0.5) - distance_mm / np.float32(width_mm)
    return np.asarray(np.clip(share, 0.0, 1.0), dtype=np.float32)


def _stretch(field: Float32, axis: int, size: int, step: float) -> Float32:
    """Evaluate a cubic B-spline along one axis at `size` places `step` knots apart."""
    places = np.arange(size) * step
    first = np.floor(places).astype(int)
    t = places - first
    taps = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    wide = [1, 1, 1]
    wide[axis] = size
    weights = [np.asarray(tap / 6.0, dtype=np.float32).reshape(wide) for tap in taps]
    total = field.take(first, axis=axis) * weights[0]
    for number in (1, 2, 3):
        total += field.take(first + number, axis=axis) * weights[number]
    return np.asarray(total, dtype=np.float32)


def _chop(tubes: Tubes) -> Tubes:
    """Cut tubes into pieces of at most `_PIECE_MM`, so that each fits a small box."""
    length = np.linalg.norm(tubes.end_mm - tubes.start_mm, axis=1)
    counts = np.maximum(np.ceil(length / _PIECE_MM), 1).astype(int)
    owner = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    begin, end = number / counts[owner], (number + 1) / counts[owner]
    along = (tubes.end_mm - tubes.start_mm)[owner]
    widening = (tubes.end_radius_mm - tubes.start_radius_mm)[owner]
    return Tubes(
        tubes.start_mm[owner] + begin[:, None] * along,
        tubes.start_mm[owner] + end[:, None] * along,
        tubes.start_radius_mm[owner] + begin * widening,
        tubes.start_radius_mm[owner] + end * widening,
    )


def _draw_pieces(
    canvas: Canvas, coverage: Float32, pieces: Tubes, chosen: NDArray[np.intp], *, half: Whole
) -> None:
    """Draw pieces that fit boxes of the same half width (voxels), all at once."""
    start, along = pieces.start_mm[chosen], pieces.end_mm[chosen] - pieces.start_mm[chosen]
    middle = np.round((start + along / 2 - canvas.first_mm) / canvas.spacing_mm).astype(int)
    index, offset, inside = [], [], []
    for axis in range(3):
        line = middle[:, axis, None] + np.arange(-half[axis], half[axis] + 1)
        index.append(line)
        inside.append((line >= 0) & (line < canvas.shape[axis]))
        place = canvas.first_mm[axis] + line * canvas.spacing_mm[axis] - start[:, axis, None]
        offset.append(place.astype(np.float32))
    cover = _cover(offset, along, pieces, chosen, edge_mm=canvas.edge_mm)
    keep = _outer(inside, np.logical_and) & (cover > 0)
    strides = (canvas.shape[1] * canvas.shape[2], canvas.shape[2], 1)
    flat = _outer([line * stride for line, stride in zip(index, strides, strict=True)], np.add)
    np.maximum.at(coverage.reshape(-1), flat[keep], cover[keep])


def _cover(
    offset: list[Float32],
    along: Float64,
    pieces: Tubes,
    chosen: NDArray[np.intp],
    *,
    edge_mm: float,
) -> Float32:
    """Coverage [N, a, b, c] of boxes of voxels by one piece each."""
    length_squared = np.maximum((along**2).sum(axis=1), 1e-9)
    step = (along / length_squared[:, None]).astype(np.float32)
    t = _outer([offset[a] * step[:, a, None] for a in range(3)], np.add)
    np.clip(t, 0.0, 1.0, out=t)
    line = along.astype(np.float32)
    squared = np.zeros_like(t)
    for axis in range(3):
        shape = [len(t), 1, 1, 1]
        shape[axis + 1] = -1
        apart = offset[axis].reshape(shape) - t * line[:, axis, None, None, None]
        squared += apart * apart
    start = pieces.start_radius_mm[chosen].astype(np.float32)[:, None, None, None]
    end = pieces.end_radius_mm[chosen].astype(np.float32)[:, None, None, None]
    radius = start + t * (end - start)
    cover = soft_step(np.sqrt(squared) - radius, edge_mm)
    return np.asarray(cover * _thinness(radius, edge_mm), dtype=np.float32)


def _thinness(radius: Float32, edge_mm: float) -> Float32:
    """What a soft-edged disc must be multiplied with to keep the area pi r^2.

    The profile clip(.5 + (r - d) / w, 0, 1) integrates over the plane to pi (r^2 + w^2 / 12)
    where r >= w / 2, and to pi (r + w / 2)^3 / (3 w) where it is a cone without plateau.
    """
    thick = radius**2 / (radius**2 + edge_mm**2 / 12.0)
    thin = 3.0 * edge_mm * radius**2 / (radius + edge_mm / 2.0) ** 3
    return np.asarray(np.where(radius >= edge_mm / 2.0, thick, thin), dtype=np.float32)


def _outer(lines: list[NDArray[T]], combine: np.ufunc) -> NDArray[T]:
    """Combine three [N, n] lines into [N, a, b, c]."""
    plane = combine(lines[0][:, :, None, None], lines[1][:, None, :, None])
    return np.asarray(combine(plane, lines[2][:, None, None, :]))
