"""The voxel grid that a phantom is painted on, and its position in the patient.

All positions are in chest millimetres: x to the patient's left, y to the back, z to the head, zero
in the middle of the chest. A canvas is a regular grid with axes parallel to those of the chest;
`turn` and `offset_mm` convert chest mm to LPS mm, so an oblique patient is painted like any other.
A canvas holds no densities: parts, slabs and coarser canvases of the same place can be painted
separately and show the same chest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from medkd.geometry import VoxelGrid

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Whole = NDArray[np.int64]
Bools = NDArray[np.bool_]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """A regular grid of voxels in chest mm.

    Args:
        shape: number of voxels along (i, j, k).
        spacing_mm: (3,) mm.
        first_mm: (3,) chest mm of the centre of voxel (0, 0, 0).
        offset_mm: (3,) LPS mm of the chest's zero.
        turn: [3, 3] rotation, LPS = turn x chest + offset; the identity if the patient is straight.
    """

    shape: tuple[int, int, int]
    spacing_mm: Float64
    first_mm: Float64
    offset_mm: Float64
    turn: Float64 = field(default_factory=lambda: np.eye(3))

    @property
    def grid(self) -> VoxelGrid:
        """The same grid in LPS mm."""
        origin = np.round(self.to_lps(self.first_mm[None])[0], 6)
        return VoxelGrid.from_parts(
            self.shape, spacing_mm=self.spacing_mm, origin_mm=origin, direction=self.turn
        )

    @property
    def edge_mm(self) -> float:
        """Width of a soft edge in mm: the side of a cube with the volume of a voxel."""
        return cube_root(float(self.spacing_mm[0] * self.spacing_mm[1] * self.spacing_mm[2]))

    @property
    def low_mm(self) -> Float64:
        """(3,) chest mm of the box's lower corner, half a voxel before the first centre."""
        return np.asarray(self.first_mm - self.spacing_mm / 2.0)

    @property
    def high_mm(self) -> Float64:
        """(3,) chest mm of the box's upper corner."""
        return np.asarray(self.low_mm + self.spacing_mm * np.asarray(self.shape))

    def line_mm(self, axis: int) -> Float64:
        """Return the chest mm [n] of the voxel centres along one axis."""
        return np.asarray(self.first_mm[axis] + self.spacing_mm[axis] * np.arange(self.shape[axis]))

    def points_mm(self, index_vox: Float64 | Whole) -> Float64:
        """Convert continuous indices [N, 3] to chest mm [N, 3]."""
        return np.asarray(self.first_mm + index_vox * self.spacing_mm)

    def index_vox(self, points_mm: Float64) -> Float64:
        """Convert points [N, 3] in chest mm to continuous indices [N, 3]; may be outside."""
        return np.asarray((points_mm - self.first_mm) / self.spacing_mm)

    def to_lps(self, points_mm: Float64) -> Float64:
        """Convert points [N, 3] in chest mm to LPS mm [N, 3]."""
        x, y, z = points_mm.T  # written out, because the order of sums in BLAS may differ
        rows = [a * x + b * y + c * z for a, b, c in self.turn]
        return np.asarray(np.stack(rows, axis=1) + self.offset_mm)

    def contains(self, points_mm: Float64, *, margin_mm: float = 0.0) -> Bools:
        """Mark the points [N, 3] in the box that are at least `margin_mm` from its faces."""
        inside = points_mm >= self.low_mm + margin_mm
        inside &= points_mm <= self.high_mm - margin_mm
        return np.asarray(inside.all(axis=1))

    def sample(self, field: Float32, points_mm: Float64) -> Float64:
        """Interpolate a field [i, j, k] linearly at points [N, 3] in chest mm.

        Outside the canvas the values at its edge are repeated.
        """
        places = self.index_vox(points_mm)
        low = np.floor(places).astype(np.int64)
        part = places - low
        upper = np.asarray(self.shape) - 1
        total = np.zeros(len(points_mm))
        for corner in np.ndindex(2, 2, 2):
            index = np.clip(low + corner, 0, upper)
            share = np.where(np.asarray(corner) == 1, part, 1.0 - part)
            weight = share[:, 0] * share[:, 1] * share[:, 2]
            total += weight * field[index[:, 0], index[:, 1], index[:, 2]]
        return total

    def part(self, box: Box) -> Canvas:
        """Return the canvas of a box of whole voxels; slices without a bound go to its end."""
        bounds = [part.indices(size) for part, size in zip(box, self.shape, strict=True)]
        starts, stops = [b[0] for b in bounds], [b[1] for b in bounds]
        i, j, k = (stop - start for start, stop in zip(starts, stops, strict=True))
        first = self.first_mm + np.asarray(starts) * self.spacing_mm
        return replace(self, shape=(i, j, k), first_mm=first)

    def slabs(self, slices: int) -> Iterator[tuple[slice, Canvas]]:
        """Cut the canvas along k into slabs of `slices` slices; the last may have fewer.

        Yields:
            The range of slices in this canvas, and their canvas.
        """
        for start in range(0, self.shape[2], slices):
            along = slice(start, min(start + slices, self.shape[2]))
            yield along, self.part((slice(None), slice(None), along))

    def coarse(self, spacing_mm: float, *, margin_mm: float) -> Canvas:
        """Return a cubic lattice that covers this canvas.

        Its voxel centres are at whole multiples of the spacing in chest mm, so values computed on
        it are the same for every slab and region.

        Args:
            spacing_mm: spacing of the lattice along all axes.
            margin_mm: least distance of its outer voxel centres from those of this canvas.
        """
        last = self.first_mm + (np.asarray(self.shape) - 1) * self.spacing_mm
        low = np.floor((self.first_mm - margin_mm) / spacing_mm).astype(np.int64)
        high = np.ceil((last + margin_mm) / spacing_mm).astype(np.int64)
        i, j, k = (int(size) for size in high - low + 1)
        spacing = np.full(3, float(spacing_mm))
        return replace(self, shape=(i, j, k), spacing_mm=spacing, first_mm=low * spacing)


def cube_root(value: float) -> float:
    """Return the cube root of a positive number, with the same bits on every machine."""
    root = 1.0
    for _ in range(60):
        root = (2.0 * root + value / (root * root)) / 3.0
    return root
