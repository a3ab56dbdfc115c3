"""Nodules as regions of a DICOM RTSTRUCT (PS3.3 C.8.8.5, C.8.8.6): closed planar contours.

Contours are in LPS mm, so regions are measured in the world: area by the shoelace formula in the
plane of the contours, volume as the sum of areas times the distance between planes. A contour
inside another one in the same plane is a hole. Points and open lines beside closed contours are
ignored, with a note. Each region is one nodule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from medkd.io.reference.objects import Dataset, ObjectSource, first_code, read_objects, sequence
from medkd.io.reference.places import ArchiveLookup, SeriesPlaces
from medkd.io.reference.regions import measure_outlines, sphere_diameter_mm
from medkd.io.reference.rows import ReferenceRows, RowCollector
from medkd.types import Nodule

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


class RtstructAnnotations(ObjectSource):
    """DICOM RTSTRUCT: regions drawn as closed planar contours."""

    kind: Literal["rtstruct"]
    findings: tuple[str, ...] = Field(
        ("nodule", "gtv", "lesion", "tumor", "tumour"),
        description="Words in a region's name that make it a nodule; [] accepts all regions.",
    )


def read_rtstruct(settings: RtstructAnnotations, archive: ArchiveLookup) -> ReferenceRows:
    """Read structure sets.

    Args:
        settings: path, and which regions are nodules.
        archive: the series that can be annotated, and its structure sets.

    Returns:
        A nodule for each region in each series in which it is drawn.

    Raises:
        SeriesError: if the path of the settings does not exist.
    """

    def read(dataset: Dataset, rows: RowCollector) -> None:
        named = {int(item.ROINumber): item for item in sequence(dataset, "StructureSetROISequence")}
        drawn = {
            int(item.ReferencedROINumber): item for item in sequence(dataset, "ROIContourSequence")
        }
        codes = _codes(dataset)
        for number, roi in named.items():
            row = f"region {number}"
            if not settings.is_nodule(str(roi.get("ROIName", "")), *codes.get(number, ())):
                rows.refuse(row, "its name is not one of the findings in the settings")
                continue
            contours = list(sequence(drawn.get(number, {}), "ContourSequence"))
            _add(roi, contours, rows, row=row, settings=settings, dataset=dataset)

    return read_objects(settings, archive, read)


def _add(
    roi: Dataset,
    contours: Sequence[Dataset],
    rows: RowCollector,
    *,
    row: str,
    settings: RtstructAnnotations,
    dataset: Dataset,
) -> None:
    closed = [contour for contour in contours if _kind_of(contour) in _CLOSED]
    others = {_kind_of(contour) or "no type" for contour in contours} - set(_CLOSED)
    if not closed:
        reason = "expected closed planar contours, got " + (", ".join(sorted(others)) or "none")
        rows.refuse(row, reason)
        return
    if others:
        kinds = ", ".join(sorted(others))
        rows.note(f"contours of type {kinds} beside closed ones enclose nothing and are ignored")
    outlines = [
        np.asarray([float(value) for value in contour.ContourData]).reshape(-1, 3)
        for contour in closed
    ]
    series_of_region = _series_of(roi, closed, dataset, rows.archive)
    if not series_of_region:
        reason = "none of its referenced series and frames is in the archive"
        rows.refuse(row, reason, next(_referenced_series(roi, dataset), ""))
    for series in series_of_region:
        drawn = measure_outlines(outlines, series)
        if isinstance(drawn, str):
            rows.refuse(row, drawn, series.seriesuid)
            continue
        if drawn.repeated:
            rows.note("contours that are drawn twice count once")
        diameter_mm = sphere_diameter_mm(drawn.area_mm2 * drawn.step_mm)
        nodule = Nodule(series.seriesuid, drawn.center_mm, diameter_mm, settings.counts_as)
        rows.add(nodule, row)


def _codes(dataset: Dataset) -> dict[int, tuple[str, ...]]:
    """Return the coded terms of the observations, by region number."""
    return {
        int(item.ReferencedROINumber): first_code(item, "RTROIIdentificationCodeSequence")[:2]
        for item in sequence(dataset, "RTROIObservationsSequence")
        if "ReferencedROINumber" in item
    }


def _series_of(
    roi: Dataset, contours: Iterable[Dataset], dataset: Dataset, archive: ArchiveLookup
) -> tuple[SeriesPlaces, ...]:
    """Return the series of a region.

    In this order: the series of the images on which it is drawn, the referenced series, all series
    of its frame of reference.
    """
    images = [
        str(image.ReferencedSOPInstanceUID)
        for contour in contours
        for image in sequence(contour, "ContourImageSequence")
    ]
    of_images = {s.seriesuid: s for uid in images if (s := archive.of_sop(uid))}
    if of_images:
        return tuple(of_images.values())
    named = tuple(s for uid in _referenced_series(roi, dataset) if (s := archive.series(uid)))
    return named or archive.sharing_frame(str(roi.get("ReferencedFrameOfReferenceUID", "")))


def _referenced_series(roi: Dataset, dataset: Dataset) -> Iterator[str]:
    """Yield the referenced series in the region's frame of reference."""
    frame = str(roi.get("ReferencedFrameOfReferenceUID", ""))
    for reference in sequence(dataset, "ReferencedFrameOfReferenceSequence"):
        if str(reference.get("FrameOfReferenceUID", "")) == frame:
            for study in sequence(reference, "RTReferencedStudySequence"):
                for series in sequence(study, "RTReferencedSeriesSequence"):
                    yield str(series.SeriesInstanceUID)


def _kind_of(contour: Dataset) -> str:
    return str(contour.get("ContourGeometricType") or "").strip().upper()
