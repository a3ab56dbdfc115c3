"""Scans for the tests of the lung field."""

from dataclasses import replace

import numpy as np

from medkd.geometry import AxisOrder
from medkd.lungs import find_lungs
from medkd.types import Scan

WHOLE = slice(None)


def part(scan: Scan, *cut: slice) -> Scan:
    """Return a box of a scan."""
    voxels = scan.voxels_hu[cut]
    starts = [piece.start or 0 for piece in cut]
    return replace(scan, voxels_hu=voxels, grid=scan.grid.cropped(starts, voxels.shape))


def stored_as(scan: Scan, axes: tuple[int, int, int], flipped: tuple[bool, bool, bool]) -> Scan:
    """Return the same scan with its axes in another order or direction."""
    voxels = AxisOrder(axes, flipped).apply(scan.voxels_hu)
    return replace(scan, voxels_hu=voxels, grid=scan.grid.reordered(axes, flipped))


def covered(scan: Scan, region: np.ndarray) -> float:
    """Return the share of a region [i, j, k] of a scan that is in the lung field."""
    index = np.argwhere(region)[::23]
    return float(find_lungs(scan).contains(scan.grid.voxel_to_world(index)).mean())
