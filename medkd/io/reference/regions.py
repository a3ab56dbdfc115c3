"""Centre of mass and volume-equivalent diameter of drawn regions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.geometry import VoxelGrid
from medkd.types import Point

_TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""Voxels that share a face, an edge or a corner are one component."""


@dataclass(frozen=True, slots=True)
class Region:
    """A drawn region in LPS mm."""

    center_mm: Point
    diameter_mm: float


def regions_of(drawn: NDArray[np.bool_], grid: VoxelGrid, *, split: bool) -> list[Region]:
    """Measure the drawn regions of a mask.

    Args:
        drawn: [i, j, k] bool on `grid`.
        grid: grid of the mask.
        split: if True, each connected component is a region; else all drawn voxels are one.

    Returns:
        Regions in the order of their first voxel; empty if nothing is drawn.
    """
    return [
        Region(_point(grid.voxel_to_world(places.mean(axis=0))), _diameter_mm(len(places), grid))
        for places in _places_vox(drawn, split=split)
    ]


def sphere_diameter_mm(volume_mm3: float) -> float:
    """Return the diameter in mm of a sphere with this volume."""
    return math.cbrt(6 * volume_mm3 / math.pi)


def _places_vox(drawn: NDArray[np.bool_], *, split: bool) -> Iterator[NDArray[np.intp]]:
    """Yield the voxels [N, 3] of each region."""
    filled = np.nonzero(drawn)
    if not len(filled[0]):
        return
    start = np.asarray([axis.min() for axis in filled])
    if not split:
        yield np.stack(filled, axis=1)
        return
    # Only the bounding box is labelled: labels of a whole volume need gigabytes.
    box = tuple(slice(axis.min(), axis.max() + 1) for axis in filled)
    labels: Any = ndimage.label(drawn[box], structure=_TOUCHING)[0]
    for number, part in enumerate(ndimage.find_objects(labels), start=1):
        inside = np.argwhere(labels[part] == number)
        yield inside + start + [piece.start for piece in part]


def _diameter_mm(voxels: int, grid: VoxelGrid) -> float:
    return sphere_diameter_mm(voxels * abs(float(np.linalg.det(grid.affine_lps_mm[:3, :3]))))


def _point(place_mm: NDArray[np.float64]) -> Point:
    x, y, z = place_mm.tolist()
    return x, y, z
