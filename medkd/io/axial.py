"""Sagittal and coronal storage: the same voxels with their axes in the order of axial slices.

Lungs, candidates and the viewer take k for the axis from foot to head; the gate judges the sizes
of the planes as they are stored. A volume whose k is nearest to another axis is turned, without
resampling: axes are exchanged and counted from the other end, and every voxel keeps its place in
LPS mm. A tilted gantry, or an axial slice that is turned or flipped within its plane, stays as it
is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medkd.geometry import VoxelGrid
    from medkd.types import Scan

T = TypeVar("T", bound=np.generic)

_TIE = 1e-6
"""At 45 degrees slices are as axial as they are not: they stay."""

_PLANES = ("sagittal", "coronal")


def is_axial(grid: VoxelGrid) -> bool:
    """Say whether k is the axis of a grid that is nearest to foot-to-head."""
    along_z = np.abs(grid.direction[2])
    return bool(along_z[2] >= along_z.max() - _TIE)


def axial_grid(grid: VoxelGrid) -> VoxelGrid:
    """Return the grid of the same voxels in the order of axial slices; axial ones unchanged.

    Example:
        >>> from medkd.geometry import VoxelGrid
        >>> sagittal = np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]])
        >>> grid = VoxelGrid.from_parts((4, 5, 6), spacing_mm=[1, 2, 3], origin_mm=[0, 0, 0],
        ...                             direction=sagittal)
        >>> axial_grid(grid).shape
        (6, 4, 5)
    """
    if is_axial(grid):
        return grid
    axes = _axes(grid)
    return grid.reordered(axes, _flips(grid, axes))


def to_axial(scan: Scan) -> Scan:
    """Return a scan with k from foot to head, i to the left and j to the back.

    Args:
        scan: with any axes.

    Returns:
        The scan itself where its slices are axial; else the same voxels in the other order, with
        a note, `stored_grid`, no slice thickness and no `slices`: what a sagittal slice states of
        its own is not that of an axial one.
    """
    if is_axial(scan.grid):
        return scan
    axes = _axes(scan.grid)
    flips = _flips(scan.grid, axes)
    turned = scan.voxels_hu.transpose(axes)[_steps(flips)]
    normal = np.abs(scan.grid.direction[:, 2])
    plane = _PLANES[0 if normal[0] >= normal[1] else 1]
    return replace(
        scan,
        voxels_hu=np.ascontiguousarray(turned.transpose(2, 1, 0)).transpose(2, 1, 0),
        grid=scan.grid.reordered(axes, flips),
        acquisition=replace(scan.acquisition, slice_thickness_mm=None),
        notes=(*scan.notes, f"stored as {plane} slices; read in the order of axial ones"),
        stored_grid=scan.grid,
    )


def in_stored_order(values: NDArray[T], scan: Scan) -> NDArray[T]:
    """Return values of a scan's voxels in the order in which its file stores them.

    Args:
        values: [i, j, k], one a voxel of `scan`.
        scan: as it was read.

    Returns:
        A view [i, j, k] on `scan.stored_grid`; `values` itself where nothing was turned.
    """
    if scan.stored_grid is None:
        return values
    axes = _axes(scan.stored_grid)
    return values[_steps(_flips(scan.stored_grid, axes))].transpose(np.argsort(axes))


def _axes(grid: VoxelGrid) -> tuple[int, int, int]:
    """Find which axis runs from foot to head, and which of the others from right to left."""
    share = np.abs(grid.direction)
    k = int(share[2].argmax())
    one, other = (axis for axis in range(3) if axis != k)
    return (one, other, k) if share[0, one] >= share[0, other] else (other, one, k)


def _flips(grid: VoxelGrid, axes: tuple[int, int, int]) -> tuple[bool, bool, bool]:
    i, j, k = (bool(grid.direction[world, axis] < 0) for world, axis in enumerate(axes))
    return i, j, k


def _steps(flips: tuple[bool, bool, bool]) -> tuple[slice, ...]:
    return tuple(slice(None, None, -1 if flipped else 1) for flipped in flips)
