"""Patches in NODE21's layout in an archive: one case for each pair, with the nodule of its mask."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from medkd.archive.check import check_index
from medkd.archive.masks import add_masks
from medkd.archive.split import SplitSettings, freeze_split
from medkd.errors import SeriesError
from medkd.index.case_store import open_scan
from medkd.index.table import ArchiveIndex
from medkd.io.reference.regions import Region
from medkd.types import Nodule
from tests.archive.archives import index_of, read_unmatched, write_patient
from tests.archive.patches import (
    CENTER_MM,
    CENTER_VOX,
    SIZE,
    ball,
    write_findings,
    write_image,
    write_mha,
    write_patch,
)

UID = "1.3.6.1.4.100"
BALL_MM = (6 * int(ball().sum()) / math.pi) ** (1 / 3)
"""Diameter of a sphere with the volume of the ball's voxels of 1 mm3."""


def luna(tmp_path: Path, *rows: tuple[str, tuple[float, float, float], float]) -> dict[str, object]:
    path = write_findings(tmp_path / "annotations.csv", *rows)
    return {"kind": "luna16", "annotations": str(path)}


def patients(tmp_path: Path, *rows: tuple[str, str]) -> dict[str, object]:
    path = tmp_path / "patients.csv"
    path.write_text("\n".join(map(",".join, [("seriesuid", "patient_id"), *rows])) + "\n")
    return {"kind": "patients", "path": str(path)}


def indexed(tmp_path: Path, *annotations: object, **settings: object) -> ArchiveIndex:
    out = tmp_path / "work" / "index.csv"
    given = {"identity": "keep", "annotations": list(annotations), **settings}
    return index_of(tmp_path / "in", out, **given)


def test_a_pair_is_one_ready_case_whose_nodule_is_measured_on_its_mask(tmp_path: Path) -> None:
    write_patch(tmp_path / "in", UID, 3)
    index = indexed(tmp_path)
    (case,) = index.cases
    assert (case.case_id, case.kind, case.extent) == (f"{UID}_3", "scan", "patch")
    assert (case.status, case.reasons) == ("ready", ())
    (nodule,) = index.nodules
    assert (nodule.seriesuid, nodule.sources) == (case.case_id, ("mask",))
    assert nodule.center_mm == pytest.approx(CENTER_MM)
    assert nodule.diameter_mm == pytest.approx(BALL_MM)


def test_a_patch_is_opened_as_a_scan_with_the_nodule_at_its_place(tmp_path: Path) -> None:
    write_patch(tmp_path / "in", UID)
    (case,) = indexed(tmp_path).cases
    scan = open_scan(tmp_path / "work" / "index.csv", case.case_id)
    assert scan.voxels_hu.shape == (SIZE, SIZE, SIZE)
    assert scan.voxels_hu[CENTER_VOX] == 40
    np.testing.assert_allclose(scan.grid.world_to_voxel(CENTER_MM), CENTER_VOX, atol=1e-9)


def test_the_nearest_annotation_gives_the_diameter_and_the_mask_the_place(tmp_path: Path) -> None:
    write_patch(tmp_path / "in", UID)
    near, nearer, beyond = (5.9, 0.0, 0.0), (0.0, 0.0, 1.5), (0.0, 6.1, 0.0)
    table = luna(tmp_path, (UID, near, 9.0), (UID, nearer, 7.5), ("1.2.3", nearer, 5.0))
    index = indexed(tmp_path, table)
    own, other = sorted(index.nodules, key=lambda n: n.diameter_mm)
    assert own.center_mm == pytest.approx(CENTER_MM)
    assert (own.diameter_mm, own.sources) == (7.5, ("mask", "luna16"))
    assert other.diameter_mm == 9.0
    assert [row.row for row in read_unmatched(tmp_path / "work" / "index.csv")] == [
        "annotations, nodule 3: 1.2.3"
    ]
    only = indexed(tmp_path, luna(tmp_path, (UID, beyond, 3.0)))
    assert sorted(n.diameter_mm for n in only.nodules) == pytest.approx([3.0, BALL_MM])
    assert any("1 of 1 segmented nodules have no annotated nodule" in n for n in only.notes)


def test_other_findings_of_the_series_belong_to_the_patches_that_contain_them(
    tmp_path: Path,
) -> None:
    for number in (0, 1):
        write_patch(tmp_path / "in", UID, number)
    table = luna(tmp_path, (UID, (0, 0, 0), 7.0), (UID, (10, 0, 0), 4.0), (UID, (30, 0, 0), 4.0))
    table["excluded"] = str(write_findings(tmp_path / "rest.csv", (UID, (0, 12, 0), -1.0)))
    index = indexed(tmp_path, table)
    for case in index.cases:
        mine = [n for n in index.nodules if n.seriesuid == case.case_id]
        assert sorted((n.counts_as, n.diameter_mm) for n in mine) == [
            ("excluded", -1.0), ("included", 4.0), ("included", 7.0),
        ]  # fmt: skip
    (row,) = read_unmatched(tmp_path / "work" / "index.csv")
    assert row.reason == "outside all 2 patches of its series"


def test_without_a_table_the_patches_of_a_series_are_one_patient(tmp_path: Path) -> None:
    for uid in (UID, "1.2.3", "1.2.4", "1.2.5"):
        for number in (0, 1):
            write_patch(tmp_path / "in", uid, number)
    index = indexed(tmp_path)
    assert len({case.patient_id for case in index.cases}) == 4
    split = freeze_split(index, SplitSettings())
    parts = {name: {i.rpartition("_")[0] for i in ids} for name, ids in split.groups.items()}
    assert sum(map(len, parts.values())) == 4  # no series is in two parts
    checked = check_index(index)
    assert checked.usable
    assert not checked.leaks
    assert [(n.code, len(n.ids)) for n in checked.warnings] == [("no_patient_id", 8)]


def test_a_table_of_patients_joins_the_series_of_a_patient(tmp_path: Path) -> None:
    for uid in (UID, "1.2.3", "1.2.4"):
        write_patch(tmp_path / "in", uid)
    rows = [(UID, "LIDC-1"), ("1.2.3", "LIDC-1"), ("1.2.4", "LIDC-2"), ("1.2.9", "LIDC-3")]
    index = indexed(tmp_path, patients(tmp_path, *rows))
    assert {c.case_id: c.patient_id for c in index.cases} == {
        f"{UID}_0": "LIDC-1", "1.2.3_0": "LIDC-1", "1.2.4_0": "LIDC-2",
    }  # fmt: skip
    assert all("no_patient_id" not in str(warning) for warning in check_index(index).warnings)
    (row,) = read_unmatched(tmp_path / "work" / "index.csv")
    assert (row.source, row.reason) == ("patients", "no case matches its key")


def test_a_patch_has_the_patient_of_its_whole_scan_in_the_same_archive(tmp_path: Path) -> None:
    (first, *_) = write_patient(tmp_path / "in", 0)
    write_patch(tmp_path / "in", str(dcmread(first).SeriesInstanceUID))
    index = indexed(tmp_path, gate={"allow": ["coarse_voxels"]}, identity="pseudonymise")
    assert sorted(case.extent for case in index.cases) == ["patch", "whole"]
    assert len({case.patient_id for case in index.cases}) == 1


def test_a_patient_in_two_rows_is_refused_without_naming_anyone(tmp_path: Path) -> None:
    write_patch(tmp_path / "in", UID)
    with pytest.raises(SeriesError) as refusal:
        indexed(tmp_path, patients(tmp_path, (UID, "LIDC-1"), (UID, "LIDC-2")))
    assert "rows 2 and 3" in str(refusal.value)
    assert "LIDC" not in str(refusal.value)


def test_a_table_names_the_patient_of_a_series_whose_header_names_none(tmp_path: Path) -> None:
    for number in (0, 1):
        for path in write_patient(tmp_path / "in" / f"p{number}", number):
            dataset = dcmread(path)
            dataset.PatientID = "" if number == 0 else dataset.PatientID
            dataset.SeriesInstanceUID, dataset.StudyInstanceUID = f"1.2.{number}", f"1.3.{number}"
            dataset.save_as(path)
    table = patients(tmp_path, ("1.2.0", "named"), ("1.2.1", "other"))
    index = indexed(tmp_path, table, gate={"allow": ["coarse_voxels"]})
    known = {case.case_id: case.patient_id for case in index.cases}
    assert known["1.2.0"] == "named"
    assert known["1.2.1"] != "other"


def test_a_broken_pair_is_refused_with_its_reason_and_the_others_are_kept(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_patch(root, UID)
    write_image(root, "1.2.1")
    write_mha(root / "1.2.2_seg_0.mha", ball())
    for number, mask in enumerate((ball() * 0, ball()[:20], ball() * 2 + np.roll(ball(), 9))):
        write_image(root, "1.2.3", number)
        write_mha(root / f"1.2.3_seg_{number}.mha", mask)
    write_image(root, "1.2.4")
    write_mha(root / "1.2.4_seg_0.mha", ball(), origin_mm=(0.0, 0.0, 0.0))
    index = indexed(tmp_path)
    found = {case.case_id: case.reasons for case in index.cases}
    assert found.pop(f"{UID}_0") == ()
    (without_mask,), (without_image,) = found.pop("1.2.1_0"), found.pop("1.2.2_0")
    assert without_mask.startswith("incomplete_patch: expected one segmentation (UID_seg_N.mha)")
    assert without_image.startswith("incomplete_patch: expected one image (UID_dcm_N.mha)")
    words = {
        "1.2.3_0": "no voxel is marked", "1.2.3_1": "got (24, 24, 20)",
        "1.2.3_2": "expected one value besides 0", "1.2.4_0": "origin or directions",
    }  # fmt: skip
    for case_id, expected in words.items():
        (reason,) = found.pop(case_id)
        assert reason.startswith("bad_mask: ")
        assert expected in reason
    assert not found
    assert {n.seriesuid for n in index.nodules} == {f"{UID}_0"}


def test_a_pair_that_becomes_whole_is_assessed_again(tmp_path: Path) -> None:
    write_image(tmp_path / "in", UID)
    assert indexed(tmp_path).cases[0].status == "not_analysed"
    write_patch(tmp_path / "in", UID)
    assert indexed(tmp_path).cases[0].status == "ready"


def test_the_other_checks_of_the_gate_apply_to_patches(tmp_path: Path) -> None:
    write_patch(tmp_path / "in", UID)
    write_mha(tmp_path / "in" / "1.2.3_dcm_0.mha", ball().astype(np.int16))
    write_mha(tmp_path / "in" / "1.2.3_seg_0.mha", ball())
    gate = {"max_slice_thickness_mm": 0.9}
    strict = {case.case_id: str(case.reasons) for case in indexed(tmp_path, gate=gate).cases}
    assert "slice_thickness: the slices are 1 mm apart" in strict[f"{UID}_0"]
    assert "not_ct: the lowest value is 0" in strict["1.2.3_0"]


def test_a_pseudonymised_index_shows_no_uid(tmp_path: Path) -> None:
    write_patch(tmp_path / "in", UID)
    write_image(tmp_path / "in", "1.2.3.4.5.6")
    index = indexed(tmp_path, patients(tmp_path, (UID, "LIDC-1")), identity="pseudonymise")
    public = "".join(p.read_text() for p in (tmp_path / "work").iterdir() if p.is_file())
    assert UID not in public + str(index.cases)
    assert "1.2.3.4.5.6" not in public
    assert "LIDC-1" not in public
    ready = next(case for case in index.cases if case.status == "ready")
    assert open_scan(tmp_path / "work" / "index.csv", ready.case_id).seriesuid == ready.case_id


def test_excluded_findings_near_a_mask_neither_move_nor_give_a_diameter() -> None:
    mask = {"a": Region((0.0, 0.0, 0.0), 8.0)}
    finding = Nodule("a", (1.0, 0.0, 0.0), 3.0, "excluded")
    masked = add_masks([("luna16", [finding])], mask)
    assert masked.found == [
        ("mask", [Nodule("a", (0.0, 0.0, 0.0), 8.0)]), ("luna16", [finding]),
    ]  # fmt: skip
    twin = replace(finding, counts_as="included")
    assert add_masks([("luna16", [twin])], mask).found[0][1][0].diameter_mm == -1.0


def test_an_index_row_states_the_extent(tmp_path: Path) -> None:
    write_patch(tmp_path / "in", UID)
    indexed(tmp_path)
    with (tmp_path / "work" / "index.csv").open(newline="") as stream:
        assert [row["extent"] for row in csv.DictReader(stream)] == ["patch"]
