from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from medkd.errors import SeriesError
from medkd.io.dicom.series import read_dicom_folder
from medkd.io.reference import ReferenceRows, SeriesPlaces, read_reference_source
from medkd.io.reference.points import PointsAnnotations
from tests.io.reference.oblique import (
    CENTER_VOX,
    SERIESUID,
    oblique_places,
    off_by_vox,
    write_oblique_series,
)

COL, ROW, SLICE = CENTER_VOX
FROM_TOP = 23 - SLICE


def read(folder: Path, places: SeriesPlaces, text: str, **settings: Any) -> ReferenceRows:
    (folder / "points.csv").write_text(text, encoding="utf-8")
    chosen = {"diameter_mm": 5.0, **settings}
    parsed = PointsAnnotations(kind="points", path=folder / "points.csv", **chosen)
    return read_reference_source(parsed, {places.seriesuid: places})


def voxel(axes: str, origin: int, **more: str) -> dict[str, Any]:
    place = {"given_as": "voxel", "columns": ("a", "b", "c"), "axes": axes, "origin": origin}
    return {"place": {**place, **more}}


ON_SLICE = {"column": "col", "row": "row"}


@pytest.mark.parametrize(
    ("settings", "header", "cells"),
    [
        ({"place": {"given_as": "lps_mm"}}, "seriesuid,coordX,coordY,coordZ", "{uid},{x},{y},{z}"),
        (voxel("ijk", 0), "seriesuid,a,b,c", f"{{uid}},{COL},{ROW},{SLICE}"),
        (voxel("zyx", 1), "seriesuid,a,b,c", f"{{uid}},{SLICE + 1},{ROW + 1},{COL + 1}"),
        (
            voxel("jik", 0, slice_order="descending"),
            "seriesuid,a,b,c",
            f"{{uid}},{ROW},{COL},{FROM_TOP}",
        ),
        (
            {"place": {"given_as": "sop_uid", "sop_uid": "image", **ON_SLICE, "origin": 1}},
            "image,row,col",
            f"{{sop}},{ROW + 1},{COL + 1}",
        ),
        (
            {"place": {"given_as": "instance_number", "instance_number": "n", **ON_SLICE,
                       "origin": 0}},
            "seriesuid,n,col,row",
            f"{{uid}},{{number}},{COL},{ROW}",
        ),
    ],
    ids=["lps_mm", "ijk", "zyx from 1", "jik descending", "sop_uid", "instance_number"],
)  # fmt: skip
def test_a_point_lies_on_the_bright_sphere_however_its_place_is_given(
    tmp_path: Path, settings: dict[str, Any], header: str, cells: str
) -> None:
    places = write_oblique_series(tmp_path / "series")
    x, y, z = places.grid.voxel_to_world(CENTER_VOX).tolist()
    row = cells.format(
        uid=SERIESUID,
        x=x,
        y=y,
        z=z,
        sop=places.sop_uids[SLICE],
        number=places.instance_numbers[SLICE],
    )
    found = read(tmp_path, places, f"{header}\n{row}\n", **settings)
    (nodule,) = found.nodules
    assert off_by_vox(places, nodule.center_mm) < 0.01
    scan = read_dicom_folder(tmp_path / "series")
    at = scan.grid.world_to_voxel(nodule.center_mm).round().astype(int)
    assert scan.voxels_hu[tuple(at)] == 40


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16"])
def test_a_table_is_read_in_the_encoding_that_it_has(tmp_path: Path, encoding: str) -> None:
    text = f"seriesuid,a,b,c,größe\n{SERIESUID},1,2,3,7\n"
    (tmp_path / "points.csv").write_bytes(text.encode(encoding))
    settings = PointsAnnotations(
        kind="points",
        path=tmp_path / "points.csv",
        encoding=encoding,
        diameter=("größe",),
        **voxel("ijk", 0),
    )
    places = oblique_places()
    (nodule,) = read_reference_source(settings, {SERIESUID: places}).nodules
    assert nodule.diameter_mm == 7


def test_two_axes_are_averaged_and_a_blank_diameter_takes_the_stand_in(tmp_path: Path) -> None:
    text = f"seriesuid,a,b,c,long,short\n{SERIESUID},1,1,1,8,6\n{SERIESUID},1,1,1,,\n"
    found = read(tmp_path, oblique_places(), text, diameter=("long", "short"), **voxel("ijk", 0))
    assert [nodule.diameter_mm for nodule in found.nodules] == [7, 5]


def test_a_diameter_in_cm_becomes_mm(tmp_path: Path) -> None:
    text = f"seriesuid,a,b,c,d\n{SERIESUID},1,1,1,0.8\n"
    settings = {"diameter": ("d",), "diameter_unit": "cm", **voxel("ijk", 0)}
    assert read(tmp_path, oblique_places(), text, **settings).nodules[0].diameter_mm == 8


def test_german_exports_with_semicolons_and_decimal_commas_are_read(tmp_path: Path) -> None:
    text = f"seriesuid;a;b;c;d\n{SERIESUID};1,5;2;3;4,25\n"
    found = read(
        tmp_path,
        oblique_places(),
        text,
        separator=";",
        decimal=",",
        diameter=("d",),
        **voxel("ijk", 0),
    )
    (nodule,) = found.nodules
    assert nodule.diameter_mm == 4.25
    assert oblique_places().grid.world_to_voxel(nodule.center_mm) == pytest.approx([1.5, 2, 3])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (f"{SERIESUID},1,1,24,5", "outside the volume: voxel (1, 1, 24) of (40, 32, 24)"),
        (f"{SERIESUID},-1,1,2,5", "outside the volume: voxel (-1, 1, 2) of (40, 32, 24)"),
        ("1.2.3,1,1,1,5", "no series of the archive has this UID"),
        (",1,1,1,5", "it names no series"),
        (f"{SERIESUID},,1,1,5", "a is blank"),
        (f"{SERIESUID},Doe Jane,1,1,5", "a is not a finite number with decimal '.'"),
        (f"{SERIESUID},1,1,1,0", "expected a diameter above 0, got 0"),
        (f"{SERIESUID},1,1,1,", "d is blank"),
        (f"{SERIESUID},1,1,1,nan", "d is not a finite number with decimal '.'"),
    ],
)
def test_a_row_that_cannot_be_placed_is_listed_and_the_others_are_read(
    tmp_path: Path, row: str, reason: str
) -> None:
    text = f"seriesuid,a,b,c,d\n{row}\n{SERIESUID},3,3,3,5\n"
    found = read(
        tmp_path,
        oblique_places(),
        text,
        diameter=("d",),
        diameter_mm=None,
        **voxel("ijk", 0),
    )
    assert len(found.nodules) == 1
    assert [(row.row, row.reason) for row in found.unmatched] == [("row 2", reason)]


def test_an_instance_number_that_is_not_one_slice_is_listed(tmp_path: Path) -> None:
    place = {"given_as": "instance_number", "instance_number": "n", **ON_SLICE, "origin": 0}
    text = f"seriesuid,n,col,row\n{SERIESUID},999,1,1\n{SERIESUID},1.5,1,1\n"
    found = read(tmp_path, oblique_places(), text, place=place)
    assert [row.reason for row in found.unmatched] == [
        "InstanceNumber 999 matches 0 slices of the series; expected 1",
        "n must be a whole number",
    ]


def test_a_missing_column_refuses_the_table(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match="column 'c' is missing"):
        read(tmp_path, oblique_places(), "seriesuid,a,b\n1,2,3\n", **voxel("ijk", 0))


@pytest.mark.parametrize("axes", ["ij", "iik", "xjj", "IJK", ""])
def test_axes_that_do_not_name_each_axis_once_are_refused(axes: str) -> None:
    with pytest.raises(ValidationError, match="each of i, j, k"):
        PointsAnnotations(kind="points", path="p.csv", diameter_mm=5, **voxel(axes, 0))
