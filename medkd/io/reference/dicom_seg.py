"""Nodules as segments of a DICOM SEG (PS3.3 C.8.20): binary, fractional or label map.

The planes of a segmentation need not be those of the series. highdicom places its frames in the
world, and regions are measured on this grid in LPS mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from medkd.geometry import VoxelGrid
from medkd.io.reference.objects import Dataset, ObjectSource, first_code, read_objects, sequence
from medkd.io.reference.places import ArchiveLookup, SeriesPlaces
from medkd.io.reference.regions import Region, regions_of
from medkd.io.reference.rows import ReferenceRows, RowCollector
from medkd.types import Nodule

OpenSegmentation = Any  # highdicom's Segmentation, which is imported only when one is read

_BACKGROUND = 0
"""Segment number of the background of a label map (PS3.3 C.8.20.2.3.3)."""

_PARALLEL = 1e-3
_WHOLE = 0.02
"""Largest deviation of a distance between planes from a whole number of slice steps."""


class SegAnnotations(ObjectSource):
    """DICOM SEG: segments of nodules."""

    kind: Literal["seg"]
    split: Literal["components", "segments"] = Field(
        "components", description="Unit of one nodule: a connected component or a whole segment."
    )
    threshold: float = Field(
        0.5, gt=0, le=1, description="Least fraction of a voxel inside a fractional segment."
    )


def read_dicom_seg(settings: SegAnnotations, archive: ArchiveLookup) -> ReferenceRows:
    """Read segmentations.

    Args:
        settings: path, which segments are nodules, and whether a component or a segment is one.
        archive: the series that can be annotated, and its segmentations.

    Returns:
        A nodule for each component (or segment) in each series on which it was drawn.

    Raises:
        SeriesError: if the path of the settings does not exist.
    """
    from highdicom.seg import Segmentation

    def read(dataset: Dataset, rows: RowCollector) -> None:
        drawn_on = _series_of(dataset, rows.archive)
        if not drawn_on:
            reason = "none of its referenced series and frames is in the archive"
            rows.refuse("object", reason, next(iter(_referenced_series(dataset)), ""))
            return
        wanted = []
        _add_slice_spacing(dataset, drawn_on[0])
        segmentation = Segmentation.from_dataset(dataset, copy=False)
        for item in sequence(dataset, "SegmentSequence"):
            number = int(item.SegmentNumber)
            if number == _BACKGROUND:
                continue
            terms = first_code(item, "SegmentedPropertyTypeCodeSequence")[:2]
            if settings.is_nodule(str(item.get("SegmentLabel", "")), *terms):
                wanted.append(number)
            else:
                rows.refuse(f"segment {number}", "it is not one of the findings in the settings")
        for number in wanted:
            _add(segmentation, number, drawn_on, rows=rows, settings=settings)

    return read_objects(settings, archive, read)


def _add(
    segmentation: OpenSegmentation,
    number: int,
    drawn_on: Sequence[SeriesPlaces],
    *,
    rows: RowCollector,
    settings: SegAnnotations,
) -> None:
    regions = _regions(segmentation, number, settings)
    if not regions:
        rows.refuse(f"segment {number}", "it is empty")
    for count, region in enumerate(regions, start=1):
        for series in drawn_on:
            nodule = Nodule(
                series.seriesuid, region.center_mm, region.diameter_mm, settings.counts_as
            )
            rows.add(nodule, f"segment {number}, region {count}")


def _regions(segmentation: OpenSegmentation, number: int, settings: SegAnnotations) -> list[Region]:
    volume = segmentation.get_volume(
        segment_numbers=[number], rescale_fractional=True, skip_overlap_checks=True
    )
    # The axes are (slice, row, column, segment); the affine has their directions.
    drawn = np.asarray(volume.array)[..., 0]
    inside = drawn >= settings.threshold if drawn.dtype.kind == "f" else drawn > 0
    slices, rows, columns = inside.shape
    grid = VoxelGrid((slices, rows, columns), np.asarray(volume.affine))
    return regions_of(inside, grid, split=settings.split == "components")


def _add_slice_spacing(dataset: Dataset, series: SeriesPlaces) -> None:
    """Add the distance between planes to an object that does not state it.

    A SEG may omit empty frames, so a gap between frames can mean thick slices or omitted frames.
    If all planes are on slices of the series, the slice distance of the series is used.
    """
    shared = next(sequence(dataset, "SharedFunctionalGroupsSequence"), None)
    measures = next(sequence(shared, "PixelMeasuresSequence"), None) if shared else None
    if shared is None or measures is None or "SpacingBetweenSlices" in measures:
        return
    plane = next(sequence(shared, "PlaneOrientationSequence"), None)
    if plane is None:
        return
    cosines = np.asarray(plane.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    normal = np.cross(cosines[0], cosines[1])
    step_mm = float(series.grid.spacing_mm[2])
    along = [
        float(normal @ np.asarray(place.ImagePositionPatient, dtype=np.float64))
        for frame in sequence(dataset, "PerFrameFunctionalGroupsSequence")
        for place in sequence(frame, "PlanePositionSequence")
    ]
    steps = np.diff(np.sort(along)) / step_mm
    parallel = abs(abs(float(normal @ series.grid.direction[:, 2])) - 1) < _PARALLEL
    if parallel and np.abs(steps - np.rint(steps)).max(initial=0) < _WHOLE:
        measures.SpacingBetweenSlices = step_mm


def _series_of(dataset: Dataset, archive: ArchiveLookup) -> tuple[SeriesPlaces, ...]:
    """Return the series that the object references, or else all of its frame of reference."""
    named = tuple(series for uid in _referenced_series(dataset) if (series := archive.series(uid)))
    return named or archive.sharing_frame(str(dataset.get("FrameOfReferenceUID", "")))


def _referenced_series(dataset: Dataset) -> list[str]:
    return [str(s.SeriesInstanceUID) for s in sequence(dataset, "ReferencedSeriesSequence")]
