"""Tubes with partial volume, from which vessels and airways are painted.

A tube is a straight piece with round ends whose radius changes linearly. It is drawn as a coverage,
0..1: the share of a voxel that is filled. Tubes wider than a voxel are drawn from the distance to
their axis, with an edge one voxel wide. Thinner ones are drawn as points along their axis, each
with its share of the volume, spread over the eight voxels around it (cloud in cell: Hockney and
Eastwood 1988, section 5-3), so even vessels far thinner than a voxel keep their volume. Nothing
here is random, and a slab of a canvas shows the same tubes as the whole canvas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64, Whole

_PIECE_MM = 4.0
_CHUNK = 600_000
_THIN = 0.5
"""Radius in voxel edges below which a tube is drawn as points."""
_STEP = 0.5
"""Distance between these points in voxels."""


@dataclass(frozen=True, slots=True, eq=False)
class Tubes:
    """Straight tubes with round ends whose radius changes linearly from start to end.

    Args:
        start_mm: [N, 3] chest mm.
        end_mm: [N, 3] chest mm.
        start_radius_mm: [N] radius at the start.
        end_radius_mm: [N] radius at the end.
    """

    start_mm: Float64
    end_mm: Float64
    start_radius_mm: Float64
    end_radius_mm: Float64

    def __len__(self) -> int:
        """Return the number of tubes."""
        return len(self.start_mm)

    @classmethod
    def along(cls, points_mm: Float64, radius_mm: float | Float64) -> Tubes:
        """Chain tubes through points [N, 3] with one radius, or one radius per point."""
        radii = np.broadcast_to(np.asarray(radius_mm, dtype=np.float64), (len(points_mm),))
        return cls(points_mm[:-1], points_mm[1:], radii[:-1], radii[1:])

    @classmethod
    def joined(cls, parts: Sequence[Tubes]) -> Tubes:
        """Join several sets into one."""
        columns = ([getattr(part, f.name) for part in parts] for f in fields(cls))
        return cls(*map(np.concatenate, columns))

    def chosen(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Tubes:
        """Return some tubes, by mask or index."""
        return Tubes(*(getattr(self, f.name)[which] for f in fields(self)))

    def near(self, canvas: Canvas) -> Tubes:
        """Return the tubes that can touch a canvas."""
        radius = np.maximum(self.start_radius_mm, self.end_radius_mm)[:, None]
        reach = radius + 2.0 * canvas.spacing_mm + canvas.edge_mm
        low = np.minimum(self.start_mm, self.end_mm) - reach
        high = np.maximum(self.start_mm, self.end_mm) + reach
        near = ((high > canvas.low_mm) & (low < canvas.high_mm)).all(axis=1)
        return self.chosen(np.asarray(near, dtype=np.bool_))


def draw_tubes(canvas: Canvas, tubes: Tubes) -> Float32:
    """Draw tubes with partial volume; where thick ones overlap, the largest coverage counts.

    Args:
        canvas: voxel grid.
        tubes: tubes in chest mm; those outside the canvas cost little.

    Returns:
        Coverage [i, j, k], 0..1. Without overlaps its sum times the volume of a voxel is the volume
        of the tubes.
    """
    pieces = _chop(tubes.near(canvas))
    middle = (pieces.start_radius_mm + pieces.end_radius_mm) / 2.0
    thin = middle < _THIN * canvas.edge_mm
    coverage = np.zeros(canvas.shape, dtype=np.float32)
    _add_thin(canvas, coverage, pieces.chosen(thin))
    np.minimum(coverage, np.float32(1.0), out=coverage)
    _draw_thick(canvas, coverage, pieces.chosen(~thin))
    return coverage


def _chop(tubes: Tubes) -> Tubes:
    """Cut tubes into pieces of at most `_PIECE_MM`, so that each fits a small box."""
    along = tubes.end_mm - tubes.start_mm
    length = np.sqrt((along * along).sum(axis=1))
    counts = np.maximum(np.ceil(length / _PIECE_MM), 1).astype(np.int64)
    owner, number = parts_of(counts)
    begin, end = number / counts[owner], (number + 1) / counts[owner]
    widening = (tubes.end_radius_mm - tubes.start_radius_mm)[owner]
    return Tubes(
        tubes.start_mm[owner] + begin[:, None] * along[owner],
        tubes.start_mm[owner] + end[:, None] * along[owner],
        tubes.start_radius_mm[owner] + begin * widening,
        tubes.start_radius_mm[owner] + end * widening,
    )


def parts_of(counts: Whole) -> tuple[Whole, Whole]:
    """Return owner and number within the owner of each part, if owner n has counts[n] parts."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)


def _add_thin(canvas: Canvas, coverage: Float32, tubes: Tubes) -> None:
    """Distribute points along the tubes' axes over the voxels, each with its share of volume."""
    if not len(tubes):
        return
    along = tubes.end_mm - tubes.start_mm
    length = np.sqrt((along * along).sum(axis=1))
    steps = np.abs(along / canvas.spacing_mm).max(axis=1) / _STEP
    counts = np.maximum(np.ceil(steps), 1).astype(np.int64)
    owner, number = parts_of(counts)
    share = (number + 0.5) / counts[owner]
    wide, narrow = tubes.start_radius_mm, tubes.end_radius_mm
    radius = wide[owner] + share * (narrow - wide)[owner]
    # A truncated cone has the volume pi h (a^2 + a b + b^2) / 3 = pi h (m^2 + d^2 / 3) with the
    # radius m in its middle and m +- d at its ends.
    half = ((narrow - wide) / counts / 2.0)[owner]
    area = np.pi * (radius * radius + half * half / 3.0)
    spacing = canvas.spacing_mm
    volume = area * (length / counts)[owner] / (spacing[0] * spacing[1] * spacing[2])
    places = canvas.index_vox(tubes.start_mm[owner] + share[:, None] * along[owner])
    _add_points(coverage, places, volume)


def _add_points(coverage: Float32, places_vox: Float64, volume: Float64) -> None:
    """Add points [N, 3] with volumes [N], in voxels, to the eight voxels around each."""
    low = np.floor(places_vox).astype(np.int64)
    upper = np.asarray(coverage.shape) - 1
    near = ((low >= -1) & (low <= upper)).all(axis=1)
    low, volume = low[near], volume[near]
    part = places_vox[near] - low
    flat = coverage.reshape(-1)
    for corner in np.ndindex(2, 2, 2):
        i, j, k = (low + corner).T
        a, b, c = (part[:, axis] if corner[axis] else 1.0 - part[:, axis] for axis in range(3))
        inside = (i >= 0) & (j >= 0) & (k >= 0)
        inside &= (i <= upper[0]) & (j <= upper[1]) & (k <= upper[2])
        index = (i * coverage.shape[1] + j) * coverage.shape[2] + k
        np.add.at(flat, index[inside], (a * b * c * volume)[inside].astype(np.float32))


def _draw_thick(canvas: Canvas, coverage: Float32, pieces: Tubes) -> None:
    """Draw pieces from the distance to their axis; those with boxes of one size go together."""
    along = pieces.end_mm - pieces.start_mm
    radius = np.maximum(pieces.start_radius_mm, pieces.end_radius_mm)
    reach = np.abs(along) / 2.0 + (radius + canvas.edge_mm / 2.0)[:, None]
    half = np.floor(reach / canvas.spacing_mm + 0.5).astype(np.int64)
    for size, members in _groups(half):
        step = max(1, _CHUNK // int(np.prod(2 * size + 1)))
        for begin in range(0, len(members), step):
            _draw_boxes(canvas, coverage, pieces.chosen(members[begin : begin + step]), half=size)


def _groups(half: Whole) -> Iterator[tuple[Whole, NDArray[np.intp]]]:
    """Yield each box size [3] that occurs, and the pieces that have it."""
    if not len(half):
        return
    code = (half[:, 0] * 1000 + half[:, 1]) * 1000 + half[:, 2]
    order = np.argsort(code, kind="stable")
    cuts = np.flatnonzero(np.diff(code[order])) + 1
    for members in np.split(order, cuts):
        yield half[members[0]], members


def _draw_boxes(canvas: Canvas, coverage: Float32, pieces: Tubes, *, half: Whole) -> None:
    """Draw pieces in boxes of 2 half + 1 voxels around their centres."""
    start, along = pieces.start_mm, pieces.end_mm - pieces.start_mm
    middle = np.rint(canvas.index_vox(start + along / 2.0)).astype(np.int64)
    lines = [middle[:, a, None] + np.arange(-half[a], half[a] + 1) for a in range(3)]
    offset = [
        (canvas.first_mm[a] + lines[a] * canvas.spacing_mm[a] - start[:, a, None]).astype(
            np.float32
        )
        for a in range(3)
    ]
    cover = _cover(offset, along, pieces, edge_mm=canvas.edge_mm)
    inside = [(line >= 0) & (line < canvas.shape[a]) for a, line in enumerate(lines)]
    i, j, k = inside
    keep = cover > 0
    keep &= (i[:, :, None] & j[:, None])[..., None] & k[:, None, None]
    strides = (canvas.shape[1] * canvas.shape[2], canvas.shape[2], 1)
    a, b, c = (line * stride for line, stride in zip(lines, strides, strict=True))
    flat = (a[:, :, None] + b[:, None])[..., None] + c[:, None, None]
    np.maximum.at(coverage.reshape(-1), flat[keep], cover[keep])


def _cover(offset: list[Float32], along: Float64, pieces: Tubes, *, edge_mm: float) -> Float32:
    """Return the coverage [N, a, b, c] of boxes of voxels by one piece each.

    `offset` holds, per axis, the distances [N, n] of the voxels from the piece's start in mm;
    `along` [N, 3] runs from its start to its end.
    """
    squared_length = np.maximum((along * along).sum(axis=1), 1e-9)
    step = (along / squared_length[:, None]).astype(np.float32)
    line = along.astype(np.float32)
    a, b, c = (offset[axis] * step[:, axis, None] for axis in range(3))
    t = (a[:, :, None] + b[:, None])[..., None] + c[:, None, None]
    np.clip(t, 0.0, 1.0, out=t)
    squared = np.zeros_like(t)
    for axis in range(3):
        shape = [len(t), 1, 1, 1]
        shape[axis + 1] = -1
        apart = t * line[:, axis, None, None, None]
        np.subtract(offset[axis].reshape(shape), apart, out=apart)
        apart *= apart
        squared += apart
    wide = pieces.start_radius_mm.astype(np.float32)[:, None, None, None]
    narrow = pieces.end_radius_mm.astype(np.float32)[:, None, None, None]
    t *= narrow - wide
    t += wide
    return _soft_disc(np.sqrt(squared, out=squared), t, np.float32(edge_mm))


def _soft_disc(distance: Float32, radius: Float32, edge: np.float32) -> Float32:
    """Return the coverage by a disc with a soft edge whose area is pi r^2.

    The profile clip(.5 + (r - d) / w, 0, 1) integrates over the plane to pi (r^2 + w^2 / 12) if
    r >= w / 2; the radius is reduced to compensate for that.
    """
    squared = radius * radius
    squared -= edge * edge / np.float32(12.0)
    # A taper may end slightly below half a voxel: it is still drawn, as a narrow disc.
    np.maximum(squared, edge * edge / np.float32(8.0), out=squared)
    np.sqrt(squared, out=squared)
    squared -= distance
    squared *= np.float32(1.0) / edge
    squared += np.float32(0.5)
    return np.clip(squared, 0.0, 1.0, out=squared)
