"""Small axial pictures of places in a scan, in the lung window."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.types import Point, Scan

SIDE_PX = 128
PIXEL_MM = 0.5

_LUNG_WINDOW_HU = (-1350.0, 150.0)
_OUTSIDE_HU = -2000


def axial_picture(scan: Scan, center_mm: Point) -> NDArray[np.uint8]:
    """Draw the stored slice nearest to a point, the point in the middle.

    Args:
        scan: HU on a grid whose k runs along the body, as all readers return it.
        center_mm: LPS mm.

    Returns:
        [row, column] grey values; columns run to the left of the patient, rows to the back.
    """
    center = scan.grid.world_to_voxel(np.asarray(center_mm, dtype=np.float64))
    k = int(np.clip(np.rint(center[2]), 0, scan.grid.shape[2] - 1))
    # The axis of the slice that runs mostly to the left gives the columns.
    cosines = scan.grid.direction[:2, :2]
    across = int(abs(cosines[0, 1]) > abs(cosines[0, 0]))
    down = 1 - across
    steps_mm = (np.arange(SIDE_PX) - (SIDE_PX - 1) / 2) * PIXEL_MM
    places = np.empty((2, SIDE_PX, SIDE_PX))
    for axis, world, shape in ((across, 0, (1, -1)), (down, 1, (-1, 1))):
        sign = -1.0 if cosines[world, axis] < 0 else 1.0
        line = center[axis] + sign * steps_mm / scan.grid.spacing_mm[axis]
        places[axis] = line.reshape(shape)
    hu = ndimage.map_coordinates(
        scan.voxels_hu[:, :, k], places, output=np.float32, order=1, cval=_OUTSIDE_HU
    )
    low, high = _LUNG_WINDOW_HU
    return np.asarray(np.clip((hu - low) / (high - low), 0, 1) * 255, dtype=np.uint8)
