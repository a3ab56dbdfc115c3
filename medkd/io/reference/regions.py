"""Measurement of drawn regions: components of a mask, and closed planar outlines in LPS mm.

Areas of outlines are computed by the shoelace formula in their own plane, which may have any
orientation. An outline inside another one in the same plane is a hole. Duplicates of an outline
count once, whatever their first point and direction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.geometry import VoxelGrid
from medkd.io.reference.places import SeriesPlaces, to_point
from medkd.types import Point

Float64 = NDArray[np.float64]

_SAME_PLANE_MM = 0.01
_PLANAR_MM = 0.5
"""Largest accepted range of an outline's points along the normal of its plane."""
_SAME_MM = 0.01
_SAME_AREA = 1e-3
"""Largest relative difference of the areas of two copies of an outline; `_SAME_MM` applies to
their bounding boxes and centroids."""
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
    filled = np.argwhere(drawn)
    if not len(filled):
        return []
    low, high = filled.min(axis=0), filled.max(axis=0) + 1
    # Only the bounding box is labelled: labels of a whole volume need gigabytes.
    box = drawn[tuple(map(slice, low, high))]
    labels: Any = ndimage.label(box, structure=_TOUCHING)[0] if split else box.astype(np.uint8)
    voxel_mm3 = abs(float(np.linalg.det(grid.affine_lps_mm[:3, :3])))
    regions = []
    for number, part in enumerate(ndimage.find_objects(labels), start=1):
        inside = np.argwhere(labels[part] == number) + low + [axis.start for axis in part]
        center_mm = to_point(grid.voxel_to_world(inside.mean(axis=0)))
        regions.append(Region(center_mm, sphere_diameter_mm(len(inside) * voxel_mm3)))
    return regions


def sphere_diameter_mm(volume_mm3: float) -> float:
    """Return the diameter in mm of a sphere with this volume."""
    return math.cbrt(6 * volume_mm3 / math.pi)


@dataclass(frozen=True, slots=True)
class OutlinedRegion:
    """The region enclosed by outlines: the sum of their areas, its centre, and their planes.

    `step_mm` is the distance between neighbouring planes; for a single plane it is the slice
    distance of the series along the normal. `repeated` counts duplicate outlines.
    """

    area_mm2: float
    center_mm: Point
    planes: int
    step_mm: float
    repeated: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Contour:
    """A closed contour: points [N, 2] mm within the plane, and the plane's distance from 0."""

    points: Float64
    along_mm: float

    def area_and_moment(self) -> tuple[float, Float64]:
        """Return the area (positive in either direction) and area times centroid (shoelace)."""
        x, y = (self.points - self.points[0]).T
        cross = x * np.roll(y, -1) - np.roll(x, -1) * y
        area = float(cross.sum()) / 2
        moment = np.asarray(
            [((x + np.roll(x, -1)) * cross).sum(), ((y + np.roll(y, -1)) * cross).sum()]
        )
        sign = -1.0 if area < 0 else 1.0
        return sign * area, sign * (moment / 6 + area * self.points[0])

    def repeats(self, other: _Contour) -> bool:
        """Return whether plane, bounding box, area and centroid of two contours are equal."""
        if abs(self.along_mm - other.along_mm) > _SAME_PLANE_MM:
            return False
        for corner in (np.min, np.max):
            gap = corner(self.points, axis=0) - corner(other.points, axis=0)
            if np.abs(gap).max() > _SAME_MM:
                return False
        (area, moment), (other_area, other_moment) = (
            contour.area_and_moment() for contour in (self, other)
        )
        if abs(area - other_area) > _SAME_AREA * max(area, other_area):
            return False
        return bool(np.abs(moment - other_moment).max() <= _SAME_MM * max(area, other_area))


def measure_outlines(outlines: Sequence[Float64], series: SeriesPlaces) -> OutlinedRegion | str:
    """Measure closed outlines in parallel planes.

    Args:
        outlines: each [N, 3] LPS mm; outlines of fewer than three points are ignored.
        series: series in which they are drawn; it gives the thickness of a single plane.

    Returns:
        The enclosed region, or the reason why it cannot be measured.
    """
    closed = [outline for outline in outlines if len(outline) >= 3]
    normals = [np.cross(o - o[0], np.roll(o, -1, axis=0) - o[0]).sum(axis=0) for o in closed]
    lengths = [float(np.linalg.norm(normal)) for normal in normals]
    if not lengths or max(lengths) <= 0:
        return "its outlines enclose no area"
    normal = normals[int(np.argmax(lengths))] / max(lengths)
    across, down = _axes_in_plane(normal)
    planes = []
    for outline in closed:
        along = outline @ normal
        if float(np.ptp(along)) > _PLANAR_MM:
            return "expected outlines in parallel planes, but one leaves its plane"
        in_plane = np.stack([outline @ across, outline @ down], axis=1)
        planes.append(_Contour(in_plane, float(along.mean())))
    distinct = _without_duplicates(planes)
    steps_mm = _steps_mm(distinct)
    step_mm = float(np.median(steps_mm)) if len(steps_mm) else _slice_step_mm(normal, series)
    total, moment = _summed(distinct)
    if total <= 0:
        return "its outlines enclose no area"
    center_mm = (moment[0] * across + moment[1] * down + moment[2] * normal) / total
    repeated = len(planes) - len(distinct)
    return OutlinedRegion(total, to_point(center_mm), len(steps_mm) + 1, step_mm, repeated)


def _without_duplicates(contours: Sequence[_Contour]) -> list[_Contour]:
    """Return the contours without later duplicates."""
    kept: list[_Contour] = []
    for contour in contours:
        if not any(contour.repeats(other) for other in kept):
            kept.append(contour)
    return kept


def _axes_in_plane(normal: Float64) -> tuple[Float64, Float64]:
    """Return two unit vectors perpendicular to a normal and to each other."""
    aside = np.eye(3)[int(np.argmin(np.abs(normal)))]
    across = np.cross(normal, aside)
    across /= np.linalg.norm(across)
    return across, np.cross(normal, across)


def _steps_mm(planes: Sequence[_Contour]) -> Float64:
    """Return the distances between neighbouring planes; empty for a single plane."""
    steps = np.diff(np.sort([plane.along_mm for plane in planes]))
    return np.asarray(steps[steps > _SAME_PLANE_MM])


def _slice_step_mm(normal: Float64, series: SeriesPlaces) -> float:
    """Return the series' spacing along the axis that is nearest to a normal."""
    along = np.abs(normal @ series.grid.direction)
    return float(series.grid.spacing_mm[int(np.argmax(along))])


def _summed(planes: Sequence[_Contour]) -> tuple[float, Float64]:
    """Return the sum of the areas, and the sum of area times centroid (two in plane, one along).

    An outline inside an odd number of others of its plane is a hole and is subtracted.
    """
    total, moment = 0.0, np.zeros(3)
    for contour in planes:
        around = sum(
            _inside(contour.points[0], other.points)
            for other in planes
            if other is not contour and abs(other.along_mm - contour.along_mm) <= _SAME_PLANE_MM
        )
        sign = -1.0 if around % 2 else 1.0
        area, in_plane = contour.area_and_moment()
        total += sign * area
        moment += sign * np.asarray([*in_plane, area * contour.along_mm])
    return total, moment


def _inside(point: Float64, polygon: Float64) -> bool:
    """Return whether a point lies in a polygon, by the even-odd rule."""
    x, y = point
    x0, y0 = polygon.T
    x1, y1 = np.roll(polygon, -1, axis=0).T
    crossing = (y0 > y) != (y1 > y)
    left = x < x0 + (y - y0) * (x1 - x0) / np.where(crossing, y1 - y0, 1.0)
    return bool((crossing & left).sum() % 2)
