from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.luna16 import check_coordinates, read_luna16
from medkd.io.luna16_tables import write_annotations, write_candidates, write_seriesuids
from medkd.io.volume import read_grid, write_mhd
from medkd.types import LabelledCandidate, Nodule, Scan
from tests.real_data import data_root

UIDS = ("1.1", "1.2", "1.3")


def write_scan(folder: Path, uid: str) -> None:
    grid = VoxelGrid.from_parts((4, 5, 6), spacing_mm=(1, 1, 2), origin_mm=(-10, -20, -30))
    write_mhd(Scan(uid, np.zeros((4, 5, 6), np.int16), grid, uid), folder / f"{uid}.mhd")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three scans in subsets 0 and 7; a nodule in the first, a candidate in each."""
    for uid, subset in zip(UIDS, (0, 0, 7), strict=True):
        write_scan(tmp_path / f"subset{subset}", uid)
    inside = (-9.0, -18.0, -26.0)
    write_annotations(tmp_path / "annotations.csv", [Nodule("1.1", inside, 4.0)])
    write_annotations(tmp_path / "annotations_excluded.csv", [Nodule("1.2", inside, -1.0)])
    for name, label in (("candidates", 0), ("candidates_V2", 1)):
        rows = [LabelledCandidate(uid, inside, label) for uid in UIDS]
        write_candidates(tmp_path / f"{name}.csv", rows)
    write_seriesuids(tmp_path / "seriesuids.csv", UIDS)
    return tmp_path


def reasons_of(root: Path, **options) -> str:
    with pytest.raises(SeriesError) as refusal:
        read_luna16(root, **options)
    return "\n".join(refusal.value.reasons)


def test_the_official_layout_is_read(root):
    luna = read_luna16(root)

    assert luna.seriesuids == UIDS
    assert luna.subset == {"1.1": 0, "1.2": 0, "1.3": 7}
    assert luna.scan_paths["1.3"] == root / "subset7" / "1.3.mhd"
    assert (len(luna.nodules), len(luna.excluded), len(luna.candidates)) == (1, 1, 3)
    assert luna.excluded[0].counts_as == "excluded"
    assert (luna.generator, luna.notes) == ("", ())


def test_either_file_of_candidates_can_be_used(root):
    assert {row.label for row in read_luna16(root).candidates} == {1}
    assert {row.label for row in read_luna16(root, candidates="candidates").candidates} == {0}


@pytest.mark.parametrize("folder", ["CSVFILES", "evaluationScript/annotations"])
def test_tables_may_stand_where_the_official_downloads_put_them(root, folder):
    (root / folder).mkdir(parents=True)
    for table in root.glob("*.csv"):
        table.rename(root / folder / table.name)

    assert len(read_luna16(root).candidates) == 3


def test_a_root_with_a_phantom_file_is_synthetic(root):
    (root / "phantom.json").write_text("{}")

    assert read_luna16(root).generator


def test_a_folder_without_anything_names_all_that_is_missing(tmp_path):
    reasons = reasons_of(tmp_path)

    assert "expected folders subset0 to subset9" in reasons
    for table in ("annotations.csv", "annotations_excluded.csv", "candidates_V2.csv"):
        assert f"{table} is missing" in reasons


def test_a_header_without_its_voxels_is_refused(root):
    (root / "subset0" / "1.2.raw").unlink()

    assert "subset0/1.2.mhd: truncated_pixels: the voxel file '1.2.raw' is missing" in reasons_of(
        root
    )


def test_voxels_of_another_size_than_the_header_says_are_refused(root):
    (root / "subset0" / "1.2.raw").write_bytes(b"short")

    assert "subset0/1.2.mhd:" in reasons_of(root)


def test_a_scan_in_two_subsets_is_refused(root):
    for path in (root / "subset7").glob("1.3.*"):
        shutil.copy(path, root / "subset0" / path.name)

    assert "series 1.3 is in subset0 and subset7" in reasons_of(root)


def test_names_that_do_not_agree_are_all_reported(root):
    write_seriesuids(root / "seriesuids.csv", ["1.1", "1.2", "1.9"])
    write_annotations(root / "annotations.csv", [Nodule("1.8", (0.0, 0.0, 0.0), 4.0)])

    reasons = reasons_of(root)

    assert "scan 1.3 is not in seriesuids.csv" in reasons
    assert "1 series of seriesuids.csv have no scan, the first is 1.9" in reasons
    assert "annotations: series 1.8 is not in seriesuids.csv" in reasons
    assert "candidates: series 1.3 is not in seriesuids.csv" in reasons


def test_a_faulty_table_is_reported_with_the_rest(root):
    (root / "annotations.csv").write_text("seriesuid,coordX\n")
    (root / "subset0" / "1.2.raw").unlink()

    reasons = reasons_of(root)

    assert "annotations.csv: row 1: column 'coordY' is missing" in reasons
    assert "1.2.raw" in reasons


def test_a_partial_copy_is_refused_unless_allowed_and_then_noted(root):
    shutil.rmtree(root / "subset7")

    assert "1 series of seriesuids.csv have no scan" in reasons_of(root)
    luna = read_luna16(root, allow_partial=True)
    assert luna.seriesuids == ("1.1", "1.2")
    assert len(luna.candidates) == 2
    assert luna.notes == (
        "partial copy: 1 of 3 series have no scan here; "
        "left out with them: 0 nodules, 0 excluded findings, 1 candidates",
    )


def test_many_reasons_of_one_kind_are_counted(root):
    write_annotations(
        root / "annotations.csv", [Nodule(f"9.{n}", (0.0, 0.0, 0.0), 4.0) for n in range(30)]
    )

    assert "and 20 more" in reasons_of(root)


def test_the_fingerprint_follows_the_content_and_not_the_place(root, tmp_path_factory):
    moved = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(root, moved)
    before = read_luna16(root).fingerprint

    assert read_luna16(moved).fingerprint == before
    write_annotations(moved / "annotations.csv", [])
    assert read_luna16(moved).fingerprint != before


def test_points_outside_their_volume_are_found(root):
    # The volume reaches half a voxel beyond its centres: x -10.5..-6.5, z -31..-19.
    inside, outside = (-10.4, -20.0, -30.9), (-10.6, -20.0, -30.0)
    write_annotations(
        root / "annotations.csv", [Nodule("1.1", inside, 4.0), Nodule("1.2", outside, 4.0)]
    )
    write_candidates(root / "candidates_V2.csv", [LabelledCandidate("1.3", (0.0, 0.0, 0.0), 1)])
    luna = read_luna16(root)

    reasons = check_coordinates(luna, {uid: read_grid(p) for uid, p in luna.scan_paths.items()})

    assert reasons == [
        "1.2: nodule at (-10.6, -20, -30) mm lies outside the volume",
        "1.3: candidate at (0, 0, 0) mm lies outside the volume",
    ]


def test_the_real_tables_are_read_with_the_scans_that_are_there(tmp_path):
    source = data_root() / "luna16"
    uid = (source / "seriesuids.csv").read_text().split()[0]
    write_scan(tmp_path / "subset0", uid)
    write_candidates(tmp_path / "candidates_V2.csv", [])
    for name in ("annotations", "annotations_excluded", "seriesuids"):
        shutil.copy(source / f"{name}.csv", tmp_path)

    luna = read_luna16(tmp_path, allow_partial=True)

    assert luna.seriesuids == (uid,)
    assert len(luna.nodules) == 2  # as annotations.csv says of this scan
    assert "887 of 888 series" in luna.notes[0]
