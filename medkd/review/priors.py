"""Other scans of the same patient: which there are, when they were made, and how they are aligned.

An INDEX records for each case the days since the patient's first study, and no date. Therefore only
the interval between two scans can be told. The alignment is a shift in LPS mm, because patients
lie differently in each examination; nothing is registered or resampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.index.case import Case
from medkd.index.table import ArchiveIndex, is_index
from medkd.lungs import LungField
from medkd.review.opened import Review, pixels_path
from medkd.types import Point, RunCase

Box = tuple[Point, Point]
"""The corners of a box in LPS mm: the lowest and the highest x, y and z."""

_DAYS_A_MONTH = 30.44
_MONTHS_FROM_DAYS = 60


@dataclass(frozen=True, slots=True)
class OtherScan:
    """Another scan of the patient.

    `days_before` says how many days earlier it was made: negative if it is later, None if the INDEX
    does not record when both were made.
    """

    case: Case
    days_before: int | None

    @property
    def is_earlier(self) -> bool:
        """Whether it is known to be earlier, which makes it a prior."""
        return self.days_before is not None and self.days_before > 0

    @property
    def time_words(self) -> str:
        """When it was made, relative to the current scan.

        Example:
            >>> OtherScan(Case("c", "p", "scan"), 365).time_words
            '365 days (12 months) before'
        """
        if self.days_before is None:
            return "time not recorded"
        if self.days_before == 0:
            return "same day"
        days = abs(self.days_before)
        months = f" ({days / _DAYS_A_MONTH:.0f} months)" if days >= _MONTHS_FROM_DAYS else ""
        unit = "day" if days == 1 else "days"
        return f"{days} {unit}{months} {'before' if self.is_earlier else 'after'}"

    @property
    def words(self) -> str:
        """When it was made and how, in order to distinguish several."""
        case = self.case
        slices = f"{case.shape[2]} slices" if len(case.shape) == 3 else ""
        thickness = case.slice_thickness_mm
        parts = [
            self.time_words,
            slices,
            f"{thickness:g} mm" if thickness is not None else "",
            case.kernel,
            "refused" if case.status == "not_analysed" else "",
        ]
        return ", ".join(part for part in parts if part)


def index_of(review: Review, case: RunCase) -> Path | None:
    """Return the INDEX from which the pixels of a case are read; None if they are in files."""
    try:
        place = pixels_path(review, case)
    except SeriesError:
        return None
    return place if is_index(place) else None


def find_other_scans(archive: ArchiveIndex, case_id: str) -> list[OtherScan]:
    """Return the other scans of a patient.

    Scans that were not refused come first; among them earlier ones, the latest first; then those of
    the same day, later ones, and those whose time is not recorded.

    Args:
        archive: the INDEX.
        case_id: the current scan.
    """
    current = archive.by_id().get(case_id)
    if current is None or not current.patient_id:
        return []
    found = [
        OtherScan(case, _days_before(case, current))
        for case in archive.cases
        if case.patient_id == current.patient_id
        and case.case_id != case_id
        and case.kind == "scan"
        and case.extent == "whole"
    ]
    return sorted(found, key=_rank)


def _days_before(case: Case, current: Case) -> int | None:
    if case.day is None or current.day is None:
        return None
    return current.day - case.day


def _rank(scan: OtherScan) -> tuple[bool, int, int, str]:
    days = scan.days_before
    order = 3 if days is None else 0 if days > 0 else 1 if days == 0 else 2
    return scan.case.status == "not_analysed", order, abs(days or 0), scan.case.case_id


@dataclass(frozen=True, slots=True)
class Alignment:
    """Two boxes of which the same relative positions show the same anatomy, about.

    `by` says what they are: the lungs, or the whole scans if lungs were not found in both.
    """

    by: Literal["lungs", "scans"]
    here: Box
    there: Box


def align_scans(
    here: VoxelGrid, there: VoxelGrid, *, lungs: tuple[Box | None, Box | None]
) -> Alignment:
    """Choose the boxes by which another scan is aligned with the current one.

    Args:
        here: the grid of the current scan.
        there: the grid of the other scan.
        lungs: the boxes around the lungs of both, None where none were found.
    """
    if lungs[0] is not None and lungs[1] is not None:
        return Alignment("lungs", lungs[0], lungs[1])
    return Alignment("scans", _box_of_grid(here), _box_of_grid(there))


def lung_box(lungs: LungField | None) -> Box | None:
    """Return the box around the lungs of a scan; None if none were found."""
    if lungs is None:
        return None
    return _box_around(lungs.grid.voxel_to_world(np.argwhere(lungs.mask)))


def start_offset_mm(point_mm: Point, alignment: Alignment) -> Point:
    """Return the shift that brings a point to the same relative position in the other box.

    Beyond the box, the distance to the box counts. `component/js/prior.js` does the same.

    Args:
        point_mm: LPS mm in the current scan.
        alignment: the two boxes.

    Returns:
        What is added to a place in the current scan to get the place in the other one, LPS mm.

    Example:
        >>> lungs = Alignment("lungs", ((0, 0, 0), (10, 10, 200)), ((5, 0, 50), (15, 10, 300)))
        >>> start_offset_mm((5.0, 5.0, 100.0), lungs)
        (5.0, 0.0, 75.0)
    """
    low, high = np.array(alignment.here, dtype=np.float64)
    other_low, other_high = np.array(alignment.there, dtype=np.float64)
    inside = np.clip(point_mm, low, high)
    share = np.divide(inside - low, high - low, out=np.full(3, 0.5), where=high > low)
    x, y, z = (other_low + share * (other_high - other_low) - inside).tolist()
    return x, y, z


def _box_of_grid(grid: VoxelGrid) -> Box:
    corners = np.array(np.meshgrid(*((0, count - 1) for count in grid.shape))).reshape(3, -1).T
    return _box_around(grid.voxel_to_world(corners))


def _box_around(points_mm: ArrayLike) -> Box:
    points = np.asarray(points_mm, dtype=np.float64)
    low, high = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])
