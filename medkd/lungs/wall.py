"""Dense disease between the air of a lung and the chest wall.

The chest wall is convex, so the convex hull of a lung's air shows where the wall is. Seen from a
vertical axis through the lung, the wall is described by its distance in each direction and at each
height. Where the outermost air is far from the hull, there is consolidation, tumour or fluid in
between. Directions towards the mediastinum are left out: the lung is concave there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from scipy.spatial import ConvexHull, QhullError

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)

_DIRECTIONS = 72
_GAP_MM = 12.0
"""Gaps up to this are closed anyway, and a normal lung has such gaps to its hull."""

_FROM_LATERAL_DEG = 100.0


class _Polar(NamedTuple):
    """Position of each voxel of a slice around the axis: bin of its direction, and mm to it."""

    direction: NDArray[np.int64]
    away_mm: NDArray[np.float64]
    axis_mm: NDArray[np.float64]


def dense_at_wall(
    air: NDArray[np.bool_], spacing_mm: NDArray[np.float64], *, lateral: int
) -> NDArray[np.bool_]:
    """Mark the tissue between the air of one lung and the chest wall.

    A gap is filled only where the lung reaches the wall both above and below it in the same
    direction: below the lung lies the liver or the spleen.

    Args:
        air: [x, y, z] air of one lung in anatomical order.
        spacing_mm: (3,) of `air`.
        lateral: -1 for a right lung and 1 for a left one: the way from the midline along x.

    Returns:
        [x, y, z]; nothing is marked if the air is flat.
    """
    polar = _around_axis(air, spacing_mm)
    air_mm = np.full((air.shape[2], _DIRECTIONS), -np.inf)
    x, y, z = np.nonzero(air)
    np.maximum.at(air_mm, (z, polar.direction[x, y]), polar.away_mm[x, y])
    try:
        wall_mm = _hull_mm(np.argwhere(air) * spacing_mm, polar.axis_mm,
                           np.arange(air.shape[2]) * spacing_mm[2])  # fmt: skip
    except QhullError:
        return np.zeros_like(air)
    at_wall = np.asarray(wall_mm - air_mm <= _GAP_MM, dtype=np.bool_)
    below, above = _any_before(at_wall), _any_before(at_wall[::-1])[::-1]
    filled = ~at_wall & below & above & _lateral_directions(lateral)
    beyond = polar.away_mm[..., None] > _on_voxels(air_mm, polar)
    within = polar.away_mm[..., None] <= _on_voxels(wall_mm, polar)
    return np.asarray(beyond & within & _on_voxels(filled, polar), dtype=np.bool_)


def _on_voxels(values: NDArray[T], polar: _Polar) -> NDArray[T]:
    """Return [heights, directions] values for the voxels [x, y, z]."""
    return np.moveaxis(values[:, polar.direction], 0, 2)


def _around_axis(air: NDArray[np.bool_], spacing_mm: NDArray[np.float64]) -> _Polar:
    """Return polar coordinates around the vertical axis through the centre of the air."""
    columns = air.sum(axis=2)
    lines = [np.arange(size) * mm for size, mm in zip(columns.shape, spacing_mm[:2], strict=True)]
    axis_mm = np.array([np.average(line, weights=columns.sum(axis=1 - n))
                        for n, line in enumerate(lines)])  # fmt: skip
    x_mm, y_mm = np.meshgrid(lines[0] - axis_mm[0], lines[1] - axis_mm[1], indexing="ij")
    turns = np.arctan2(y_mm, x_mm) / (2 * np.pi)
    direction = np.rint(turns * _DIRECTIONS).astype(np.int64) % _DIRECTIONS
    return _Polar(direction, np.hypot(x_mm, y_mm), axis_mm)


def _hull_mm(
    points_mm: NDArray[np.float64], axis_mm: NDArray[np.float64], heights_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the distance from the axis to the convex hull of points [heights, directions].

    It is negative where the axis at that height is outside the hull.
    """
    normal, offset = np.split(np.unique(ConvexHull(points_mm).equations, axis=0), [3], axis=1)
    angle = np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS
    towards = normal[:, :2] @ np.stack([np.cos(angle), np.sin(angle)])
    # A ray leaves the hull through the first face that it meets from inside.
    inside_mm = -(offset + normal[:, :2] @ axis_mm[:, None] + normal[:, 2:] * heights_mm)
    with np.errstate(divide="ignore", invalid="ignore"):
        exits = np.where(towards[:, None] > 1e-9, inside_mm[:, :, None] / towards[:, None], np.inf)
    return np.asarray(exits.min(axis=0))


def _any_before(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return for each row whether a flag is set in it or in a row before it, column by column."""
    return np.asarray(np.logical_or.accumulate(flags, axis=0), dtype=np.bool_)


def _lateral_directions(lateral: int) -> NDArray[np.bool_]:
    angle = np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS
    return np.asarray(lateral * np.cos(angle) >= np.cos(np.deg2rad(_FROM_LATERAL_DEG)))
