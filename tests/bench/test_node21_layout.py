"""Real patches of LUNA16 in NODE21's layout: indexed, they have LUNA16's places and diameters."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from medkd.data.archive_cases import ArchiveData
from medkd.data.cases import read_scan_of
from medkd.errors import SettingsError
from medkd.index.table import ArchiveIndex
from medkd.io.luna16_tables import read_annotations
from tests.archive.archives import index_of
from tests.bench.node21_layout import choose_rows, main, read_rows, write_layout
from tests.real_data import data_root

EXAMPLES = 12
"""Patients; most have several nodules."""

Row = dict[str, str]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    every = read_rows(data_root())
    patients = sorted({row["patient_id"] for row in every})[:: len(every) // 30][:EXAMPLES]
    return choose_rows(every, only=patients)


@pytest.fixture(scope="module")
def folder(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("node21") / "patches"
    write_layout(data_root(), out, rows, compress=True)
    return out


@pytest.fixture(scope="module")
def index(folder: Path) -> ArchiveIndex:
    luna16 = data_root() / "luna16"
    sources = [
        {"kind": "luna16", "annotations": str(luna16 / "annotations.csv"),
         "excluded": str(luna16 / "annotations_excluded.csv")},
        {"kind": "patients", "path": str(folder / "patients.csv")},
    ]  # fmt: skip
    out = folder.parent / "work" / "index.csv"
    return index_of(folder, out, identity="keep", annotations=sources)


def test_every_patch_is_ready_and_has_its_patient(index: ArchiveIndex, rows: list[Row]) -> None:
    known = {case.case_id: (case.patient_id, case.status, case.extent) for case in index.cases}
    assert known == {
        f"{row['seriesuid']}_{row['number']}": (row["patient_id"], "ready", "patch") for row in rows
    }


def test_places_and_diameters_are_those_of_luna16(index: ArchiveIndex, rows: list[Row]) -> None:
    own = {n.seriesuid: n for n in index.nodules if "mask" in n.sources}
    official = read_annotations(data_root() / "luna16" / "annotations.csv")
    matched = [row for row in rows if row["annotation_row"]]
    assert len(matched) > EXAMPLES
    for row in matched:
        nodule = own[f"{row['seriesuid']}_{row['number']}"]
        listed = official[int(row["annotation_row"])]
        assert listed.seriesuid == row["seriesuid"]
        assert math.dist(nodule.center_mm, listed.center_mm) <= 1.5
        assert nodule.diameter_mm == pytest.approx(listed.diameter_mm)


def test_all_findings_lie_inside_their_patch(index: ArchiveIndex, folder: Path) -> None:
    path = folder.parent / "work" / "index.csv"
    cases = ArchiveData(index=str(path), cases="scans").read_cases(folder).by_id()  # type: ignore[arg-type]  # a path as text
    assert sum(nodule.counts_as == "excluded" for nodule in index.nodules) > EXAMPLES
    for case_id, case in cases.items():
        scan = read_scan_of(case)
        assert scan.voxels_hu.shape == (50, 50, 50)
        mine = [n for n in index.nodules if n.seriesuid == case_id]
        assert all(scan.grid.contains_world(nodule.center_mm) for nodule in mine)
        (own,) = [nodule for nodule in mine if "mask" in nodule.sources]
        i, j, k = scan.grid.world_to_voxel(own.center_mm).round().astype(int).tolist()
        # A nodule is denser than lung; axes in another order would mostly show lung here.
        assert scan.voxels_hu[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2].max() > -700


def test_patients_are_left_out_by_name_and_unknown_ones_are_refused() -> None:
    rows = read_rows(data_root())
    kept = choose_rows(rows, leave_out=["LIDC-IDRI-0001", "LIDC-IDRI-0005"])
    assert (len(rows), len(kept)) == (951, 948)
    with pytest.raises(SettingsError, match="LIDC-IDRI-9999"):
        choose_rows(rows, only=["LIDC-IDRI-9999"])


def test_a_folder_with_something_in_it_is_not_replaced(tmp_path: Path) -> None:
    data_root()
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(SettingsError, match="not an empty folder"):
        main([str(tmp_path), "--only", "LIDC-IDRI-0001"])
    assert (tmp_path / "mine.txt").read_text() == "kept"
