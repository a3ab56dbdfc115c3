"""Reordering of sagittal and coronal volumes into axial order, without resampling.

Lung search, candidate search and the viewer expect k to run from foot to head; the gate checks
the sizes of the planes as stored. If another axis is nearest to foot-to-head, axes are permuted
and reversed; every voxel keeps its place in LPS mm. Axial volumes are not changed, even with a
tilted gantry or with slices that are rotated or flipped within their plane.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from medkd.geometry import AxisOrder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medkd.geometry import VoxelGrid
    from medkd.types import Scan

T = TypeVar("T", bound=np.generic)

_TIE = 1e-6
"""Tolerance for slices at 45 degrees, which count as axial."""

_PLANES = ("sagittal", "coronal")


def is_axial(grid: VoxelGrid) -> bool:
    """Return whether k is the axis of a grid that is nearest to foot-to-head."""
    along_z = np.abs(grid.direction[2])
    return bool(along_z[2] >= along_z.max() - _TIE)


def axial_grid(grid: VoxelGrid) -> VoxelGrid:
    """Return the grid of the same voxels in axial order; an axial grid is returned unchanged.

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
    order = AxisOrder.to_lps(grid)
    return grid.reordered(order.axes, order.flipped)


def to_axial(scan: Scan) -> Scan:
    """Return a scan with k from foot to head, i to the left and j to the back.

    Args:
        scan: a scan with axes in any order.

    Returns:
        The scan itself if its slices are axial. Else the same voxels in axial order, with a note
        and `stored_grid`, but without slice thickness: the thickness of a sagittal or coronal
        slice does not apply to an axial one.
    """
    if is_axial(scan.grid):
        return scan
    order = AxisOrder.to_lps(scan.grid)
    turned = order.apply(scan.voxels_hu)
    normal = np.abs(scan.grid.direction[:, 2])
    plane = _PLANES[0 if normal[0] >= normal[1] else 1]
    return replace(
        scan,
        voxels_hu=np.ascontiguousarray(turned.transpose(2, 1, 0)).transpose(2, 1, 0),
        grid=scan.grid.reordered(order.axes, order.flipped),
        acquisition=replace(scan.acquisition, slice_thickness_mm=None),
        notes=(*scan.notes, f"stored as {plane} slices; read in axial order"),
        stored_grid=scan.grid,
    )


def in_stored_order(values: NDArray[T], scan: Scan) -> NDArray[T]:
    """Return voxel values of a scan in the order in which its file stores them.

    Args:
        values: [i, j, k], one value per voxel of `scan`.
        scan: the scan as `to_axial` returned it.

    Returns:
        A view [i, j, k] on `scan.stored_grid`; `values` itself if the scan was not reordered.
    """
    if scan.stored_grid is None:
        return values
    return AxisOrder.to_lps(scan.stored_grid).undo(values)
