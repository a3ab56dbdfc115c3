"""Division of the air of the lungs into the right and the left lung, and the closing of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from medkd.lungs.wall import dense_at_wall

if TYPE_CHECKING:
    from numpy.typing import NDArray

RIGHT, LEFT = 1, 2
"""Values of the patient's lungs in an array of sides; 0 is outside."""

_CLOSE_MM = 12.0
_DEEPEST = 5  # erosions of about 4 mm
_STRADDLING = 0.25
"""Least share of a region on the other side of the midline that makes it a region of both lungs."""

_SMALL = 0.01
"""Regions with a smaller share of the air do not decide whether the lungs are divided."""


class ClosedLung(NamedTuple):
    """One lung after closing: [x, y, z] mask and distance in mm to its air."""

    mask: NDArray[np.bool_]
    distance_mm: NDArray[np.float32]


def split_air(air: NDArray[np.bool_], midline: float) -> NDArray[np.uint8]:
    """Divide the air of the lungs into right and left.

    Lungs that touch each other, at the anterior junction for example, are eroded until no connected
    region lies on both sides of the midline. Each voxel then belongs to the nearest region.

    Args:
        air: [x, y, z] in anatomical order.
        midline: index on axis 0 of the middle of the body.

    Returns:
        [x, y, z] 0, `RIGHT` or `LEFT`.
    """
    sides = np.zeros(air.shape, dtype=np.uint8)
    if air.any():
        (box,) = ndimage.find_objects(air.astype(np.uint8))
        sides[box] = _split(air[box], midline - box[0].start)
    return sides


def _split(air: NDArray[np.bool_], midline: float) -> NDArray[np.uint8]:
    for depth in range(_DEEPEST):
        seeds = _seeds(air, midline, depth)
        if seeds is not None:
            return _grown(seeds, air)
    halves = np.where(np.arange(len(air)) < midline, RIGHT, LEFT)
    return np.where(air, halves[:, None, None], 0).astype(np.uint8)


def _grown(seeds: NDArray[np.uint8], air: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Give the side of the nearest seed to all other air."""
    if (seeds > 0)[air].all():
        return seeds
    nearest = ndimage.distance_transform_edt(
        seeds == 0, return_distances=False, return_indices=True
    )
    return np.where(air, seeds[tuple(nearest)], 0).astype(np.uint8)


def _seeds(air: NDArray[np.bool_], midline: float, depth: int) -> NDArray[np.uint8] | None:
    """Return the sides of the air eroded by `depth` voxels; None if a region straddles."""
    core = ndimage.binary_erosion(air, iterations=depth) if depth else air
    labels, count = ndimage.label(core)
    sizes = np.bincount(labels.reshape(-1), minlength=count + 1).astype(np.float64)
    on_right = labels[: max(int(np.ceil(midline)), 0)]
    right = np.bincount(on_right.reshape(-1), minlength=count + 1) / np.maximum(sizes, 1)
    sizes[0] = 0
    large = sizes > _SMALL * sizes.sum()
    if not large.any() or (np.minimum(right, 1 - right)[large] > _STRADDLING).any():
        return None
    side = np.where(right > 0.5, RIGHT, LEFT).astype(np.uint8)
    side[0] = 0
    return np.asarray(side[labels])


def close_lungs(air_sides: NDArray[np.uint8], spacing_mm: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Close each lung, so that vessels, nodules and dense disease at the pleura are included.

    Args:
        air_sides: [x, y, z] 0, `RIGHT` or `LEFT`.
        spacing_mm: (3,) of the array.

    Returns:
        [x, y, z] the sides of the closed lungs; where both claim a voxel, the nearer one.
    """
    right = _closed(air_sides == RIGHT, spacing_mm, lateral=-1)
    left = _closed(air_sides == LEFT, spacing_mm, lateral=1)
    nearer = np.where(right.distance_mm <= left.distance_mm, RIGHT, LEFT)
    both = right.mask & left.mask
    sides = np.where(right.mask, RIGHT, 0) + np.where(left.mask, LEFT, 0)
    return np.where(both, nearer, sides).astype(np.uint8)


def _closed(air: NDArray[np.bool_], spacing_mm: NDArray[np.float64], *, lateral: int) -> ClosedLung:
    """Close gaps up to twice `_CLOSE_MM`, fill holes and to the wall, and dilate by one voxel."""
    mask = np.zeros(air.shape, dtype=np.bool_)
    distance_mm = np.full(air.shape, np.inf, dtype=np.float32)
    if not air.any():
        return ClosedLung(mask, distance_mm)
    (box,) = ndimage.find_objects(air.astype(np.uint8))
    pad = np.ceil(_CLOSE_MM / spacing_mm).astype(int) + 1
    padded = np.pad(air[box], [(int(n), int(n)) for n in pad])
    away_mm = ndimage.distance_transform_edt(~padded, sampling=spacing_mm)
    inner_mm = ndimage.distance_transform_edt(away_mm <= _CLOSE_MM, sampling=spacing_mm)
    dense = dense_at_wall(padded, spacing_mm, lateral=lateral)
    filled = ndimage.binary_fill_holes((inner_mm > _CLOSE_MM) | padded | dense)
    kept = ndimage.binary_dilation(filled)
    # The dilation may leave the box of the air by one voxel, but not the scan.
    low = [max(part.start - 1, 0) for part in box]
    high = [min(part.stop + 1, size) for part, size in zip(box, air.shape, strict=True)]
    outer = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    inner = tuple(
        slice(int(n) - (part.start - a), int(n) + (b - part.start))
        for n, part, a, b in zip(pad, box, low, high, strict=True)
    )
    mask[outer] = kept[inner]
    distance_mm[outer] = away_mm[inner]
    return ClosedLung(mask, distance_mm)
