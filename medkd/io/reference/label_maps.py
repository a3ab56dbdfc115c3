"""Nodules as label maps (.nrrd, .nii, .mhd ...), each on its own grid.

A label map need not have the grid of its series: its regions are measured in LPS mm. The settings
or the file's name determine its series, never its geometry.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from medkd.errors import SeriesError
from medkd.io.reference.places import ArchiveLookup
from medkd.io.reference.regions import regions_of
from medkd.io.reference.rows import ReferenceRows, RowCollector
from medkd.io.reference.source import AnnotationSource, CountsAs
from medkd.io.volume import ROUNDED, read_volume, volume_suffix
from medkd.types import Nodule, Scan


class LabelMapAnnotations(AnnotationSource):
    """Label maps (.nrrd, .nii, .mhd ...), each on its own grid; voxels other than 0 are labels."""

    kind: Literal["label_map"]
    path: Path = Field(description="A volume, or a folder of them.")
    seriesuid: str | None = Field(
        None,
        description="Series of a single label map; none: the series whose UID or name is the "
        "beginning of the file's name.",
    )
    values: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Values that are nodules; none: all except 0."
    )
    split: Literal["components", "values"] = Field(
        "components", description="Unit of one nodule: a connected component or a whole value."
    )
    counts_as: CountsAs = "included"


def read_label_maps(settings: LabelMapAnnotations, archive: ArchiveLookup) -> ReferenceRows:
    """Read the label maps of a file or folder.

    Args:
        settings: path, series, and which values are nodules.
        archive: the series that can be annotated.

    Returns:
        A nodule for each component (or value). A file is unmatched if it has no series, is
        unreadable, or has no nodule.

    Raises:
        SeriesError: if the path does not exist or has no label map.
    """
    rows = RowCollector("label_map", archive)
    for number, path in enumerate(_files(settings.path), start=1):
        row = f"file {number}"
        seriesuid = settings.seriesuid or _series_named(path, archive)
        if seriesuid is None:
            reason = "its name does not begin with the name of a series of the archive"
            rows.refuse(row, reason, path.name)
            continue
        try:
            drawn = read_volume(path)
        except SeriesError as error:
            # A reason may quote the path, which may contain a patient's name.
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


def _series_named(path: Path, archive: ArchiveLookup) -> str | None:
    """Return the longest series name with which the file's name begins; None if there is none."""
    stem = path.name[: -len(volume_suffix(path)) or None]
    beginning = [
        uid
        for uid in archive.seriesuids()
        # 1.2.34 and 1.2.3.4 do not count as beginning with 1.2.3: they are other series.
        if stem.startswith(uid) and not stem[len(uid) : len(uid) + 1].replace(".", "0").isalnum()
    ]
    return max(beginning, key=len, default=None)
