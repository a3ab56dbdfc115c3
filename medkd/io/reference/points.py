"""Nodules as points in a table such as a PACS export; the settings map its columns.

Places are LPS mm, voxel indices, or a column and row on a slice that is named by its
SOPInstanceUID or by series and InstanceNumber. A row that cannot be placed is listed as unmatched
with its reason; only a missing column refuses the whole table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from medkd.io.number_text import Decimal, number_in, why_no_number
from medkd.io.reference.places import ArchiveLookup, SeriesPlaces, to_point
from medkd.io.reference.rows import ReferenceRows, RowCollector
from medkd.io.reference.source import Column, CountsAs, TableSource
from medkd.io.tables import CheckedTable, read_table
from medkd.settings import Settings
from medkd.types import Nodule, Point

Origin = Literal[0, 1]

_MM = {"mm": 1.0, "cm": 10.0}


class WorldPlace(Settings):
    """Places in LPS mm."""

    given_as: Literal["lps_mm"]
    seriesuid: Column = Field("seriesuid", description="Column of the SeriesInstanceUID.")
    columns: tuple[Column, Column, Column] = Field(
        ("coordX", "coordY", "coordZ"), description="Columns of x, y, z."
    )


class VoxelPlace(Settings):
    """Places as indices into the volume."""

    given_as: Literal["voxel"]
    seriesuid: Column = Field("seriesuid", description="Column of the SeriesInstanceUID.")
    columns: tuple[Column, Column, Column] = Field(description="The three columns.")
    axes: str = Field(
        description="Axis of each column, for example ijk or zyx: i or x is the image column, j or "
        "y the image row, k or z the slice."
    )
    origin: Origin = Field(description="Index of the first voxel.")
    slice_order: Literal["ascending", "descending"] = Field(
        "ascending",
        description="Order of slice numbers along the normal (row x column; from feet to head in "
        "an axial scan).",
    )

    @field_validator("axes")
    @classmethod
    def _named(cls, axes: str) -> str:
        if sorted(axes.translate(str.maketrans("xyz", "ijk"))) != ["i", "j", "k"]:
            raise ValueError(f"expected each of i, j, k (or x, y, z) once, got {axes!r}")
        return axes


class ImagePlace(Settings):
    """Places on a slice that is named by its SOPInstanceUID."""

    given_as: Literal["sop_uid"]
    sop_uid: Column = Field(description="Column of the SOPInstanceUID.")
    column: Column = Field(description="Table column with the image column of the place.")
    row: Column = Field(description="Table column with the image row of the place.")
    origin: Origin = Field(description="Number of the first column and row.")


class InstancePlace(Settings):
    """Places on a slice that is named by its series and InstanceNumber."""

    given_as: Literal["instance_number"]
    seriesuid: Column = Field("seriesuid", description="Column of the SeriesInstanceUID.")
    instance_number: Column = Field(description="Column of the InstanceNumber.")
    column: Column = Field(description="Table column with the image column of the place.")
    row: Column = Field(description="Table column with the image row of the place.")
    origin: Origin = Field(description="Number of the first column and row.")


PlaceColumns = Annotated[
    WorldPlace | VoxelPlace | ImagePlace | InstancePlace, Field(discriminator="given_as")
]


class PointsAnnotations(TableSource):
    """Nodules as points in a table, such as a PACS export, with a map of its columns."""

    kind: Literal["points"]
    place: PlaceColumns = Field(description="How places are given, and in which columns.")
    diameter: tuple[Column, ...] = Field(
        (), max_length=2, description="Column of the diameter; two axes are averaged."
    )
    diameter_unit: Literal["mm", "cm"] = Field("mm", description="Unit of those columns.")
    diameter_mm: float | None = Field(
        None,
        gt=0,
        description="Diameter of rows without one; none: such rows are unmatched.",
    )
    decimal: Literal[".", ","] | None = Field(
        None,
        description="Decimal mark of the table's numbers; none: it is detected.",
    )
    counts_as: CountsAs = "included"

    @model_validator(mode="after")
    def _some_diameter(self) -> PointsAnnotations:
        if not self.diameter and self.diameter_mm is None:
            raise ValueError("give the column of the diameter, or diameter_mm")
        if self.decimal and self.decimal == self.separator:
            raise ValueError(f"{self.decimal!r} cannot be both separator and decimal mark")
        return self


@dataclass(frozen=True, slots=True)
class Cells:
    """The mapped cells of one row, and the decimal mark of its table."""

    texts: dict[str, str]
    decimal: Decimal

    def __getitem__(self, name: str) -> str:
        return self.texts[name]

    def number(self, name: str) -> float:
        """Return a cell's number; errors do not quote the cell, which may name a patient."""
        text = self.texts[name]
        value = number_in(text, self.decimal)
        if value is None:
            why = why_no_number(text, self.decimal)
            fault = f"is not a finite number with decimal {self.decimal!r}" if text else "is blank"
            raise _RowError(f"{name} {fault}" + (f": {why}" if why else ""))
        return value


class _RowError(Exception):
    """Why one row cannot be placed, and the UID that it names; caught within this module."""

    def __init__(self, reason: str, key: str = "") -> None:
        super().__init__(reason)
        self.reason, self.key = reason, key


def read_points(settings: PointsAnnotations, archive: ArchiveLookup) -> ReferenceRows:
    """Read a table of points.

    Args:
        settings: the table and the map of its columns.
        archive: the series that can be annotated.

    Returns:
        One nodule per row; rows without a series in the archive or outside its volume are
        unmatched.

    Raises:
        SeriesError: if the file is not a table, or a mapped column is missing.
    """
    table = read_table(
        settings.path,
        separator=settings.separator,
        encoding=settings.encoding,
        decimal=settings.decimal,
    )
    rows = RowCollector("points", archive)
    for line, cells in _rows_of(table, settings):
        try:
            series, center_mm = _place(settings.place, cells, archive)
            diameter_mm = _diameter(settings, cells, key=series.seriesuid)
        except _RowError as fault:
            rows.refuse(f"row {line}", fault.reason, fault.key)
            continue
        nodule = Nodule(series.seriesuid, center_mm, diameter_mm, settings.counts_as)
        rows.add(nodule, f"row {line}")
    return rows.collected()


def _rows_of(table: CheckedTable, settings: PointsAnnotations) -> list[tuple[int, Cells]]:
    """Return line number and mapped cells of each row.

    Raises:
        SeriesError: if a mapped column is missing.
    """
    place = settings.place.model_dump(exclude={"given_as", "axes", "origin", "slice_order"})
    names = [name for value in place.values() for name in np.atleast_1d(value).tolist()]
    columns = {name: table.texts(name) for name in dict.fromkeys([*names, *settings.diameter])}
    table.refuse_if_faulty()
    decimal = table.decimal_of([*_numeric(settings.place), *settings.diameter])
    return [
        (
            int(line),
            Cells({name: column[number].strip() for name, column in columns.items()}, decimal),
        )
        for number, line in enumerate(table.lines)
    ]


def _numeric(place: PlaceColumns) -> tuple[str, ...]:
    """Return the columns of a place that contain fractional numbers."""
    if isinstance(place, WorldPlace | VoxelPlace):
        return place.columns
    return place.column, place.row


def _place(place: PlaceColumns, cells: Cells, archive: ArchiveLookup) -> tuple[SeriesPlaces, Point]:
    series = _series(place, cells, archive)
    if isinstance(place, WorldPlace):
        x, y, z = (cells.number(name) for name in place.columns)
        return series, (x, y, z)
    if isinstance(place, VoxelPlace):
        axes = place.axes.translate(str.maketrans("xyz", "ijk"))
        values = [cells.number(name) - place.origin for name in place.columns]
        voxel = dict(zip(axes, values, strict=True))
        if place.slice_order == "descending":
            voxel["k"] = series.grid.shape[2] - 1 - voxel["k"]
        center_vox = [voxel[axis] for axis in "ijk"]
    else:
        column = cells.number(place.column) - place.origin
        row = cells.number(place.row) - place.origin
        center_vox = [column, row, _slice(place, series, cells)]
    return series, to_point(series.grid.voxel_to_world(center_vox))


def _series(place: PlaceColumns, cells: Cells, archive: ArchiveLookup) -> SeriesPlaces:
    by_image = isinstance(place, ImagePlace)
    uid = cells[place.sop_uid] if isinstance(place, ImagePlace) else cells[place.seriesuid]
    if not uid:
        raise _RowError("it names no image" if by_image else "it names no series")
    series = archive.of_sop(uid) if by_image else archive.series(uid)
    if series is None:
        what = "image" if by_image else "series"
        raise _RowError(f"no {what} of the archive has this UID", uid)
    return series


def _slice(place: ImagePlace | InstancePlace, series: SeriesPlaces, cells: Cells) -> int:
    if isinstance(place, ImagePlace):
        found = series.slices_of_sop(cells[place.sop_uid])
        named = "this UID (a multi-frame image)"
    else:
        number = number_in(cells[place.instance_number], cells.decimal)
        if number is None or not number.is_integer():
            raise _RowError(f"{place.instance_number} must be a whole number", series.seriesuid)
        found = series.slices_of_instance(int(number))
        named = f"InstanceNumber {int(number)}"
    if len(found) != 1:
        reason = f"{named} matches {len(found)} slices of the series; expected 1"
        raise _RowError(reason, series.seriesuid)
    return found[0]


def _diameter(settings: PointsAnnotations, cells: Cells, *, key: str) -> float:
    """Return the mean of the row's axes; if it has none, the default of the settings."""
    given = [name for name in settings.diameter if cells[name]]
    if not given:
        if settings.diameter_mm is None:
            raise _RowError(f"{' and '.join(settings.diameter)} is blank", key)
        return settings.diameter_mm
    axes = [cells.number(name) for name in given]
    if min(axes) <= 0:
        raise _RowError(f"expected a diameter above 0, got {min(axes):g}", key)
    return float(np.mean(axes)) * _MM[settings.diameter_unit]
