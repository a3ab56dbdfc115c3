"""Spheres drawn into voxel grids."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medkd.geometry import VoxelGrid


def sphere_mask(grid: VoxelGrid, center_mm: ArrayLike, diameter_mm: float) -> NDArray[np.bool_]:
    """Mark the voxels whose centre lies strictly inside a sphere.

    Args:
        grid: voxels to mark.
        center_mm: (3,) LPS mm.
        diameter_mm: positive mm.

    Returns:
        [i, j, k] bool.
    """
    center = np.asarray(center_mm, dtype=np.float64)
    axes = [np.arange(size, dtype=np.float64) for size in grid.shape]
    columns = grid.affine_lps_mm[:3, :3]
    offset = grid.affine_lps_mm[:3, 3] - center
    distance_squared = np.zeros(grid.shape)
    for row in range(3):
        along = (
            columns[row, 0] * axes[0][:, None, None]
            + columns[row, 1] * axes[1][None, :, None]
            + columns[row, 2] * axes[2][None, None, :]
            + offset[row]
        )
        distance_squared += along**2
    return np.asarray(distance_squared < (diameter_mm / 2.0) ** 2)
