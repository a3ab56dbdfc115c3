"""Coarse samples of a scan in anatomical axis order, on which the lungs are found.

Axis 0 of a sampled array runs to the patient's left, axis 1 to the back and axis 2 to the head, as
nearly as the grid of the scan allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from medkd.geometry import AxisOrder, VoxelGrid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medkd.types import Scan

_COARSE_MM = (4.0, 4.0, 4.0)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Every n-th voxel of a scan.

    Args:
        hu: [x, y, z] int16 HU in anatomical order.
        grid: the grid of `hu` in LPS mm.
        order: from the axes of the scan to those of `hu`.
        stored_grid: the grid of the same samples in the axis order of the scan.
        step: (3,) voxels of the scan per sample along the axes of the scan.
    """

    hu: NDArray[np.int16]
    grid: VoxelGrid
    order: AxisOrder
    stored_grid: VoxelGrid
    step: NDArray[np.int64]

    @property
    def litres(self) -> float:
        """Volume of one sample."""
        return float(np.prod(self.grid.spacing_mm)) / 1e6


def sample_coarsely(scan: Scan) -> Samples:
    """Return the samples on which the lungs are found, about 4 mm apart."""
    samples = sample_scan(scan, _COARSE_MM)
    # Everything that follows reads them many times.
    return replace(samples, hu=np.ascontiguousarray(samples.hu))


def sample_scan(scan: Scan, apart_mm: tuple[float, float, float]) -> Samples:
    """Return every n-th voxel of a scan, the first one included.

    Args:
        scan: HU on any grid.
        apart_mm: approximate distance of the samples in mm: left, back, head.

    Returns:
        The samples as a view of the scan.
    """
    order = AxisOrder.to_lps(scan.grid)
    wanted_mm = np.asarray(apart_mm)[np.argsort(order.axes)]
    step = np.maximum(np.round(wanted_mm / scan.grid.spacing_mm), 1).astype(np.int64)
    stored = scan.voxels_hu[:: step[0], :: step[1], :: step[2]]
    affine = scan.grid.affine_lps_mm.copy()
    affine[:3, :3] *= step
    i, j, k = stored.shape
    stored_grid = VoxelGrid((i, j, k), affine)
    grid = stored_grid.reordered(order.axes, order.flipped)
    return Samples(order.apply(stored), grid, order, stored_grid, step)


def matching_index(source: VoxelGrid, target: VoxelGrid, axis: int) -> NDArray[np.int64]:
    """Return for each index of `source` along an axis the nearest index of `target`.

    Args:
        source: a grid.
        target: a grid with parallel axes; indices outside it are clipped.
        axis: 0, 1 or 2.
    """
    index = np.zeros((source.shape[axis], 3))
    index[:, axis] = np.arange(source.shape[axis])
    found = target.world_to_voxel(source.voxel_to_world(index))[:, axis]
    return np.clip(np.rint(found), 0, target.shape[axis] - 1).astype(np.int64)
