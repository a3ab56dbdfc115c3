"""Nodules drawn as label maps (.nrrd, .nii, .mhd ...), each on a grid of its own.

A label map need not have the series' grid: its regions are placed through LPS mm. Which series it
belongs to is said by the settings or by the file's name, never guessed from its geometry.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medkd.errors import SeriesError
from medkd.io.reference.places import PlaceFinder
from medkd.io.reference.regions import regions_of
from medkd.io.reference.rows import ReferenceRows, RowCollector
from medkd.io.reference.settings import LabelMapAnnotations
from medkd.io.volume import ROUNDED, read_volume, volume_suffix
from medkd.types import Nodule, Scan


def read_label_maps(settings: LabelMapAnnotations, finder: PlaceFinder) -> ReferenceRows:
    """Read the label maps of a file or folder.

    Args:
        settings: where they are, which values are nodules, and whose they are.
        finder: the archive's series.

    Returns:
        A nodule for each component (or value); a file of no series, or that cannot be read, or
        without a nodule is unmatched.

    Raises:
        SeriesError: if there is no such file or folder, or no label map in it.
    """
    rows = RowCollector("label_map", finder)
    for number, path in enumerate(_files(settings.path), start=1):
        row = f"file {number}"
        seriesuid = settings.seriesuid or _series_named(path, finder)
        if seriesuid is None:
            reason = "its name does not begin with the name of a series of the archive"
            rows.refuse(row, reason, path.name)
            continue
        try:
            drawn = read_volume(path)
        except SeriesError as error:
            # A reader's words may hold the path, which may hold a name.
            rows.refuse(row, "; ".join(error.reasons).replace(str(path), "the file"), path.name)
            continue
        _add(drawn, seriesuid, rows, row=row, settings=settings)
    return rows.collected()


def _add(
    drawn: Scan, seriesuid: str, rows: RowCollector, *, row: str, settings: LabelMapAnnotations
) -> None:
    if ROUNDED in drawn.notes:
        rows.refuse(row, "expected whole numbers as labels, got fractions", seriesuid)
        return
    values = settings.values or np.unique(drawn.voxels_hu[drawn.voxels_hu != 0]).tolist()
    if not values:
        rows.refuse(row, "no voxel is labelled", seriesuid)
    for value in values:
        regions = regions_of(
            drawn.voxels_hu == value, drawn.grid, split=settings.split == "components"
        )
        if not regions:
            rows.refuse(f"{row}, value {value}", "no voxel has this value", seriesuid)
        for number, region in enumerate(regions, start=1):
            nodule = Nodule(seriesuid, region.center_mm, region.diameter_mm, settings.counts_as)
            rows.add(nodule, f"{row}, value {value}, region {number}")


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.is_file() and volume_suffix(p))
    if not found:
        raise SeriesError(f"{path}: no label map", ["expected a volume, or a folder with volumes"])
    return found


def _series_named(path: Path, finder: PlaceFinder) -> str | None:
    """Return the series whose whole name begins the file's; the longest of several."""
    stem = path.name[: -len(volume_suffix(path)) or None]
    beginning = [
        uid
        for uid in finder.seriesuids()
        # 1.2.3 does not begin 1.2.34 or 1.2.3.4: those are other series.
        if stem.startswith(uid) and not stem[len(uid) : len(uid) + 1].replace(".", "0").isalnum()
    ]
    return max(beginning, key=len, default=None)
