"""The voxels that a phantom is painted on, and where they lie in the patient.

Everything is placed in chest millimetres: x to the patient's left, y to the back, z to the head,
zero in the middle of the chest. A canvas is a regular grid in that frame, its axes parallel to
the chest's; `turn` and `offset_mm` carry the chest into LPS, so that a turned patient is painted
like any other. A canvas holds no densities: parts, slabs and coarser canvases of the same place
can be painted one by one and show the same chest.
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

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """A regular grid of voxels in chest mm.

    Args:
        shape: voxels along (i, j, k).
        spacing_mm: (3,) mm.
        first_mm: (3,) chest mm of the centre of voxel (0, 0, 0).
        offset_mm: (3,) LPS mm of the chest's zero.
        turn: [3, 3] rotation; LPS = turn x chest + offset. Without it the patient lies straight.
    """

    shape: tuple[int, int, int]
    spacing_mm: Float64
    first_mm: Float64
    offset_mm: Float64
    turn: Float64 = field(default_factory=lambda: np.eye(3))

    @property
    def grid(self) -> VoxelGrid:
        """The same voxels in LPS mm."""
        origin = np.round(self.to_lps(self.first_mm[None])[0], 6)
        return VoxelGrid.from_parts(
            self.shape, spacing_mm=self.spacing_mm, origin_mm=origin, direction=self.turn
        )

    @property
    def edge_mm(self) -> float:
        """Width of a soft edge in mm: the side of a cube of a voxel's volume."""
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
        """[n] chest mm of the voxel centres along one axis, in float64."""
        return np.asarray(self.first_mm[axis] + self.spacing_mm[axis] * np.arange(self.shape[axis]))

    def axis_mm(self, axis: int) -> Float32:
        """Chest mm of the voxel centres along one axis, shaped to broadcast over [i, j, k]."""
        wide = [1, 1, 1]
        wide[axis] = self.shape[axis]
        return np.asarray(self.line_mm(axis).reshape(wide), dtype=np.float32)

    def points_mm(self, index_vox: Float64 | Whole) -> Float64:
        """Chest mm [N, 3] of continuous indices [N, 3]."""
        return np.asarray(self.first_mm + index_vox * self.spacing_mm)

    def index_vox(self, points_mm: Float64) -> Float64:
        """Continuous indices [N, 3] of points [N, 3] in chest mm; may lie outside."""
        return np.asarray((points_mm - self.first_mm) / self.spacing_mm)

    def to_lps(self, points_mm: Float64) -> Float64:
        """LPS mm [N, 3] of points [N, 3] in chest mm."""
        return np.asarray(_turned(self.turn, points_mm) + self.offset_mm)

    def contains(self, points_mm: Float64, *, margin_mm: float = 0.0) -> NDArray[np.bool_]:
        """Say which points [N, 3] lie in the box, at least `margin_mm` from its faces."""
        inside = points_mm >= self.low_mm + margin_mm
        inside &= points_mm <= self.high_mm - margin_mm
        return np.asarray(inside.all(axis=1))

    def sample(self, field: Float32, points_mm: Float64) -> Float64:
        """Read a field at points by trilinear interpolation; outside, its edge is repeated.

        Args:
            field: [i, j, k].
            points_mm: [N, 3] chest mm.

        Returns:
            [N].
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
        """Return the canvas of a box of whole voxels.

        Args:
            box: one slice an axis, without steps; a missing end means the canvas's own.
        """
        bounds = [part.indices(size) for part, size in zip(box, self.shape, strict=True)]
        starts, stops = [b[0] for b in bounds], [b[1] for b in bounds]
        i, j, k = (stop - start for start, stop in zip(starts, stops, strict=True))
        first = self.first_mm + np.asarray(starts) * self.spacing_mm
        return replace(self, shape=(i, j, k), first_mm=first)

    def slabs(self, slices: int) -> Iterator[tuple[slice, Canvas]]:
        """Cut the canvas along k.

        Args:
            slices: slices a slab; the last may have fewer.

        Yields:
            Which slices of this canvas, and the canvas of these.
        """
        depth = self.shape[2]
        for start in range(0, depth, slices):
            stop = min(start + slices, depth)
            first = self.first_mm + np.array([0.0, 0.0, start * self.spacing_mm[2]])
            shape = (self.shape[0], self.shape[1], stop - start)
            yield slice(start, stop), replace(self, shape=shape, first_mm=first)

    def coarse(self, spacing_mm: float, *, margin_mm: float) -> Canvas:
        """Return a cubic lattice that covers this canvas.

        Its voxel centres lie at whole multiples of the spacing in chest mm, whatever canvas it
        covers: what is worked out on it is the same for every slab and region.

        Args:
            spacing_mm: of the lattice along all axes.
            margin_mm: how far it reaches beyond this canvas's outer voxel centres.
        """
        last = self.first_mm + (np.asarray(self.shape) - 1) * self.spacing_mm
        low = np.floor((self.first_mm - margin_mm) / spacing_mm).astype(np.int64)
        high = np.ceil((last + margin_mm) / spacing_mm).astype(np.int64)
        i, j, k = (int(size) for size in high - low + 1)
        spacing = np.full(3, float(spacing_mm))
        return replace(self, shape=(i, j, k), spacing_mm=spacing, first_mm=low * spacing)


def cube_root(value: float) -> float:
    """Cube root of a positive number by Newton's method, whose bits hang on no library."""
    root = 1.0
    for _ in range(60):
        root = (2.0 * root + value / (root * root)) / 3.0
    return root


def _turned(turn: Float64, points: Float64) -> Float64:
    """Rotate points [N, 3], written out so that the sums' order does not depend on BLAS."""
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    rows = [turn[row, 0] * x + turn[row, 1] * y + turn[row, 2] * z for row in range(3)]
    return np.stack(rows, axis=1)
