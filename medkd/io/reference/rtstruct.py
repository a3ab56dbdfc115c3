"""Nodules drawn as regions of a DICOM RTSTRUCT (PS3.3 C.8.8.5, C.8.8.6): closed planar contours.

Contours are in LPS mm, so a region is measured in the world: area by the shoelace formula in the
contours' own plane, volume as areas times the distance between planes. A contour inside another
one of its plane is a hole. One region is one nodule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkd.io.file_ref import FileRef
from medkd.io.reference.objects import (
    Dataset,
    first_code,
    is_meant,
    object_refs,
    read_objects,
    sequence,
)
from medkd.io.reference.places import PlaceFinder, SeriesPlaces
from medkd.io.reference.regions import Region, sphere_diameter_mm
from medkd.io.reference.rows import ReferenceRows, RowCollector
from medkd.io.reference.settings import RtstructAnnotations
from medkd.types import Nodule

Float64 = NDArray[np.float64]

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_SAME_PLANE_MM = 0.01
_PLANAR_MM = 0.5
"""How far a contour's points may lie off its plane."""


@dataclass(frozen=True, slots=True, eq=False)
class _Contour:
    """A closed contour: points [N, 2] mm within the plane, and the plane's distance from 0."""

    points: Float64
    along_mm: float

    def area_and_moment(self) -> tuple[float, Float64]:
        """Return the area, and area times centroid, by the shoelace formula."""
        x, y = (self.points - self.points[0]).T
        cross = x * np.roll(y, -1) - np.roll(x, -1) * y
        area = float(cross.sum()) / 2
        moment = np.asarray(
            [((x + np.roll(x, -1)) * cross).sum(), ((y + np.roll(y, -1)) * cross).sum()]
        )
        sign = -1.0 if area < 0 else 1.0
        return sign * area, sign * (moment / 6 + area * self.points[0])


def read_rtstruct(
    settings: RtstructAnnotations, finder: PlaceFinder, found: Sequence[FileRef]
) -> ReferenceRows:
    """Read structure sets.

    Args:
        settings: where they are and which regions are nodules.
        finder: the archive's series.
        found: structure sets in the archive, read where the settings name no path.

    Returns:
        A nodule for each region in each series that it is drawn in.

    Raises:
        SeriesError: if the path of the settings leads nowhere.
    """

    def read(dataset: Dataset, rows: RowCollector) -> None:
        named = {int(item.ROINumber): item for item in sequence(dataset, "StructureSetROISequence")}
        drawn = {
            int(item.ReferencedROINumber): item for item in sequence(dataset, "ROIContourSequence")
        }
        codes = _codes(dataset)
        for number, roi in named.items():
            row = f"region {number}"
            if not is_meant(settings.findings, str(roi.get("ROIName", "")), *codes.get(number, ())):
                rows.refuse(row, "its name is none of the findings asked for")
                continue
            contours = list(sequence(drawn.get(number, {}), "ContourSequence"))
            _add(roi, contours, rows, row=row, settings=settings, dataset=dataset)

    return read_objects(
        "rtstruct", object_refs("rtstruct", settings.path, found), finder, read=read
    )


def _add(
    roi: Dataset,
    contours: Sequence[Dataset],
    rows: RowCollector,
    *,
    row: str,
    settings: RtstructAnnotations,
    dataset: Dataset,
) -> None:
    kinds = {str(contour.get("ContourGeometricType", "")) for contour in contours}
    if not contours or not kinds <= set(_CLOSED):
        reason = "expected closed planar contours, got " + (", ".join(sorted(kinds)) or "none")
        rows.refuse(row, reason)
        return
    drawn_in = _series_of(roi, contours, dataset, rows.finder)
    if not drawn_in:
        rows.refuse(row, "none of the series or frames that it names is in the archive")
    for series in drawn_in:
        region = _measured(contours, series)
        if isinstance(region, str):
            rows.refuse(row, region, series.seriesuid)
            continue
        nodule = Nodule(series.seriesuid, region.center_mm, region.diameter_mm, settings.counts_as)
        rows.add(nodule, row)


def _codes(dataset: Dataset) -> dict[int, tuple[str, ...]]:
    """Return the coded terms of each region's observations."""
    return {
        int(item.ReferencedROINumber): first_code(item, "RTROIIdentificationCodeSequence")
        for item in sequence(dataset, "RTROIObservationsSequence")
        if "ReferencedROINumber" in item
    }


def _series_of(
    roi: Dataset, contours: Iterable[Dataset], dataset: Dataset, finder: PlaceFinder
) -> tuple[SeriesPlaces, ...]:
    """Return the series of the images drawn on, else those named, else those of the frame."""
    images = [
        str(image.ReferencedSOPInstanceUID)
        for contour in contours
        for image in sequence(contour, "ContourImageSequence")
    ]
    of_images = {s.seriesuid: s for uid in images if (s := finder.of_sop(uid))}
    if of_images:
        return tuple(of_images.values())
    frame = str(roi.get("ReferencedFrameOfReferenceUID", ""))
    named = [
        str(series.SeriesInstanceUID)
        for reference in sequence(dataset, "ReferencedFrameOfReferenceSequence")
        if str(reference.get("FrameOfReferenceUID", "")) == frame
        for study in sequence(reference, "RTReferencedStudySequence")
        for series in sequence(study, "RTReferencedSeriesSequence")
    ]
    here = tuple(s for uid in named if (s := finder.series(uid)))
    return here or finder.sharing_frame(frame)


def _measured(contours: Sequence[Dataset], series: SeriesPlaces) -> Region | str:
    """Measure a region in LPS mm, or say why it cannot be."""
    outlines = [
        np.asarray([float(value) for value in contour.ContourData]).reshape(-1, 3)
        for contour in contours
    ]
    outlines = [outline for outline in outlines if len(outline) >= 3]
    normals = [np.cross(o - o[0], np.roll(o, -1, axis=0) - o[0]).sum(axis=0) for o in outlines]
    lengths = [float(np.linalg.norm(normal)) for normal in normals]
    if not lengths or max(lengths) <= 0:
        return "its contours enclose no area"
    normal = normals[int(np.argmax(lengths))] / max(lengths)
    across, down = _axes_in_plane(normal)
    planes = []
    for outline in outlines:
        along = outline @ normal
        if float(np.ptp(along)) > _PLANAR_MM:
            return "expected contours in parallel planes, but one leaves its plane"
        in_plane = np.stack([outline @ across, outline @ down], axis=1)
        planes.append(_Contour(in_plane, float(along.mean())))
    step_mm = _step_mm(planes, normal, series)
    total, moment = _summed(planes)
    if total <= 0:
        return "its contours enclose no area"
    x, y, z = (moment[0] * across + moment[1] * down + moment[2] * normal).tolist()
    return Region((x / total, y / total, z / total), sphere_diameter_mm(total * step_mm))


def _axes_in_plane(normal: Float64) -> tuple[Float64, Float64]:
    """Return two unit vectors across a normal and each other."""
    aside = np.eye(3)[int(np.argmin(np.abs(normal)))]
    across = np.cross(normal, aside)
    across /= np.linalg.norm(across)
    return across, np.cross(normal, across)


def _step_mm(planes: Sequence[_Contour], normal: Float64, series: SeriesPlaces) -> float:
    """Return the distance between planes; of a single plane, the series' step along it."""
    steps = np.diff(np.sort([plane.along_mm for plane in planes]))
    steps = steps[steps > _SAME_PLANE_MM]
    if len(steps):
        return float(np.median(steps))
    along = np.abs(normal @ series.grid.direction)
    return float(series.grid.spacing_mm[int(np.argmax(along))])


def _summed(planes: Sequence[_Contour]) -> tuple[float, Float64]:
    """Return the sum of areas, and of areas times centroids (in plane, in plane, along)."""
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
    """Say whether a point lies in a polygon, by the even-odd rule."""
    x, y = point
    x0, y0 = polygon.T
    x1, y1 = np.roll(polygon, -1, axis=0).T
    crossing = (y0 > y) != (y1 > y)
    left = x < x0 + (y - y0) * (x1 - x0) / np.where(crossing, y1 - y0, 1.0)
    return bool((crossing & left).sum() % 2)
