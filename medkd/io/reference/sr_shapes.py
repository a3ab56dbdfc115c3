"""Conversion of graphics in structured reports to LPS mm (DICOM PS3.3 C.18.6 and C.18.9).

SCOORD has columns and rows of one image, from the upper left corner of its first pixel: a pixel's
centre is at .5. SCOORD3D has LPS mm. Circles and ellipses are converted to outlines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkd.io.reference.contours import measure_outlines
from medkd.io.reference.objects import Dataset, sequence
from medkd.io.reference.places import ArchiveLookup, SeriesPlaces
from medkd.io.reference.regions import sphere_diameter_mm
from medkd.types import Point

Float64 = NDArray[np.float64]

_TURN = np.linspace(0, 2 * np.pi, 180, endpoint=False)[:, None]
_CLOSED_MM = 0.01
_PIXEL_CENTRE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A graphic in one series: points [N, 3] LPS mm."""

    points_mm: Float64
    kind: str
    series: SeriesPlaces


@dataclass(frozen=True, slots=True)
class Measured:
    """Centre and diameter of one finding's graphics; points alone have no diameter."""

    center_mm: Point
    diameter_mm: float | None


def shapes_of(item: Dataset, archive: ArchiveLookup, named: Sequence[str]) -> list[Shape] | str:
    """Convert one SCOORD or SCOORD3D item to shapes in LPS mm.

    Args:
        item: the content item.
        archive: the series that can be annotated.
        named: series that the report names as evidence.

    Returns:
        A shape in each series in which the item lies (SCOORD: the series of its image; SCOORD3D:
        those of its frame of reference), or the reason why it cannot be placed.
    """
    values = np.asarray([float(value) for value in item.GraphicData], dtype=np.float64)
    kind = str(item.GraphicType)
    if item.ValueType == "SCOORD3D":
        frame = str(item.get("ReferencedFrameOfReferenceUID", ""))
        series_of_frame = archive.sharing_frame(frame, named)
        if not series_of_frame:
            return "no series of the archive is in its frame of reference"
        return [Shape(_drawn(values.reshape(-1, 3), kind), kind, s) for s in series_of_frame]
    image = _image_of(item)
    if image is None:
        return "its coordinates name no image"
    uid, frame_number = image
    series = archive.of_sop(uid)
    if series is None:
        return "the image on which it is drawn is in no series of the archive"
    slices = series.slices_of_sop(uid, frame_number)
    if len(slices) != 1:
        return f"the image on which it is drawn matches {len(slices)} slices; expected 1"
    pixels = _drawn(values.reshape(-1, 2), kind) - _PIXEL_CENTRE
    places_vox = np.column_stack([pixels, np.full(len(pixels), slices[0])])
    return [Shape(series.grid.voxel_to_world(places_vox), kind, series)]


def measure_shapes(shapes: Sequence[Shape]) -> Measured | str:
    """Return centre and diameter of one finding's graphics, or why they cannot be measured.

    All graphics must be in one series. The first kind that is present decides:

    1. An ellipsoid or outlines on several planes: the volume-equivalent diameter. Outlines on one
       plane: the diameter of a circle of equal area.
    2. Lines: the greatest length; of exactly two lines (long and short axis) the mean length.
    3. Points: their centre, without a diameter.
    """
    solids = [shape.points_mm for shape in shapes if shape.kind == "ELLIPSOID"]
    if solids:
        axes = np.linalg.norm(solids[0][1::2] - solids[0][::2], axis=1)
        return Measured(_point(solids[0].mean(axis=0)), float(np.prod(axes)) ** (1 / 3))
    outlines = [shape.points_mm for shape in shapes if _is_closed(shape)]
    if outlines:
        drawn = measure_outlines(outlines, shapes[0].series)
        if isinstance(drawn, str):
            return drawn
        if drawn.planes > 1:
            diameter = sphere_diameter_mm(drawn.area_mm2 * drawn.step_mm)
        else:
            diameter = 2 * math.sqrt(drawn.area_mm2 / math.pi)
        return Measured(drawn.center_mm, diameter)
    ends = [_ends(shape.points_mm) for shape in shapes if shape.kind == "POLYLINE"]
    if ends:
        lengths = [float(np.linalg.norm(a - b)) for a, b in ends]
        diameter = float(np.mean(lengths)) if len(lengths) == 2 else max(lengths)
        return Measured(_point(np.mean(ends, axis=(0, 1))), diameter)
    points = np.concatenate([shape.points_mm for shape in shapes])
    return Measured(_point(points.mean(axis=0)), None)


def _image_of(item: Dataset) -> tuple[str, int | None] | None:
    """Return SOPInstanceUID and frame of the image on which an SCOORD is drawn, or None."""
    for child in sequence(item, "ContentSequence"):
        for image in sequence(child, "ReferencedSOPSequence"):
            frames = image.get("ReferencedFrameNumber")
            first = frames if isinstance(frames, int | str) else next(iter(frames or ()), None)
            uid = str(image.ReferencedSOPInstanceUID)
            return uid, None if first in (None, "") else int(first)
    return None


def _drawn(points: Float64, kind: str) -> Float64:
    """Convert a circle (centre, rim) or ellipse (ends of its axes) to an outline."""
    if kind == "CIRCLE":
        radius = float(np.linalg.norm(points[1] - points[0]))
        return np.asarray(points[0] + radius * np.hstack([np.cos(_TURN), np.sin(_TURN)]))
    if kind == "ELLIPSE":
        long, short = (points[1] - points[0]) / 2, (points[3] - points[2]) / 2
        return np.asarray(points.mean(axis=0) + np.cos(_TURN) * long + np.sin(_TURN) * short)
    return points


def _is_closed(shape: Shape) -> bool:
    if shape.kind in ("CIRCLE", "ELLIPSE", "POLYGON"):
        return True
    ends_meet = np.linalg.norm(shape.points_mm[0] - shape.points_mm[-1]) < _CLOSED_MM
    return shape.kind == "POLYLINE" and len(shape.points_mm) > 3 and bool(ends_meet)


def _ends(points_mm: Float64) -> tuple[Float64, Float64]:
    """Return the two points of a line that are farthest apart."""
    gaps = np.linalg.norm(points_mm[:, None] - points_mm[None], axis=2)
    first, second = np.unravel_index(int(gaps.argmax()), gaps.shape)
    return points_mm[first], points_mm[second]


def _point(place_mm: Float64) -> Point:
    x, y, z = place_mm.tolist()
    return x, y, z
