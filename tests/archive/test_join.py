"""Annotations joined to an archive: objects within it, labels by file, rows that may mean two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medkd.geometry import VoxelGrid
from medkd.index.case_store import open_scan
from medkd.index.table import read_indexed_files
from medkd.io.synthetic_mark import unknown_stamp
from medkd.review.consensus import Consensus
from medkd.review.export import consensus_json
from medkd.types import ReviewedMark, Scan
from tests.archive.archives import index_of, read_unmatched, write_picture
from tests.io.reference.oblique import CENTER_VOX, write_oblique_series
from tests.io.reference.test_dicom_seg import segments, sphere

OBLIQUE = {"allow": ["lungs_not_in_view"]}


@pytest.fixture
def oblique(tmp_path: Path) -> Path:
    """An archive of one oblique series and a segmentation of its sphere."""
    root = tmp_path / "archive"
    write_oblique_series(root / "series")
    segments(root / "series", {"nodule": sphere()}).save_as(root / "drawn")
    return root


def test_a_segmentation_within_the_archive_gives_a_nodule_in_its_place(
    oblique: Path, tmp_path: Path
) -> None:
    out = tmp_path / "work" / "index.csv"
    index = index_of(oblique, out, gate=OBLIQUE, annotations=[{"kind": "seg"}])
    scan = open_scan(out, index.cases[0].case_id)
    assert isinstance(scan, Scan)
    (nodule,) = index.nodules
    assert nodule.seriesuid == index.cases[0].case_id
    off_vox = scan.grid.world_to_voxel(nodule.center_mm) - CENTER_VOX
    assert np.abs(off_vox).max() < 0.5
    assert "annotation" in {row.became for row in read_indexed_files(out)}


def test_a_nodule_of_another_source_counts_although_readers_rejected_it(
    oblique: Path, tmp_path: Path
) -> None:
    out, seg = tmp_path / "work" / "index.csv", {"kind": "seg"}
    before = index_of(oblique, out, gate=OBLIQUE, annotations=[seg])
    (nodule,), name = before.nodules, before.cases[0].case_id
    mark = ReviewedMark(name, nodule.center_mm, -1.0, "rejected", ("anna",), "2025-01-01")
    reviews = tmp_path / "reviews.json"
    reviews.write_text(consensus_json(Consensus((mark,), {name: ("anna",)})))
    own = {"kind": "reviews", "path": str(reviews)}
    index = index_of(oblique, out, gate=OBLIQUE, annotations=[seg, own])
    assert (index.nodules, index.labels, len(index.marks)) == (before.nodules, (), 1)
    assert "reviews: 1 rejected marks are on nodules, which count" in index.notes
    assert any("1 scans in which readers found no nodule" in note for note in index.notes)


def test_a_nodule_that_readers_accepted_and_another_source_has_counts_once(
    oblique: Path, tmp_path: Path
) -> None:
    out, seg = tmp_path / "work" / "index.csv", {"kind": "seg"}
    before = index_of(oblique, out, gate=OBLIQUE, annotations=[seg])
    x, y, z = before.nodules[0].center_mm
    mark = ReviewedMark(before.cases[0].case_id, (x + 1, y, z), 5.0, "accepted", ("anna",))
    reviews = tmp_path / "reviews.json"
    reviews.write_text(consensus_json(Consensus((mark,))))
    own = {"kind": "reviews", "path": str(reviews)}
    (nodule,) = index_of(oblique, out, gate=OBLIQUE, annotations=[seg, own]).nodules
    assert (nodule.center_mm, nodule.sources) == ((x, y, z), ("seg", "reviews"))


def test_objects_that_no_source_reads_are_said(oblique: Path, tmp_path: Path) -> None:
    index = index_of(oblique, tmp_path / "work" / "index.csv", gate=OBLIQUE)
    assert index.notes == ("1 SEG objects are not read; --annotations seg reads them",)


def labels(path: Path, *rows: str) -> dict[str, object]:
    path.write_text("\n".join(["file,mass,patient,view", *rows]) + "\n")
    return {"kind": "table", "path": str(path), "key": "file", "labels": {"mass": "mass"},
            "patient": "patient", "view": "view"}  # fmt: skip


def test_a_label_table_gives_labels_patients_and_views(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    for name in "abc":
        write_picture(root / f"{name}.png")
    source = labels(tmp_path / "labels.csv", "a.png,1,17,PA", "b.png,,17,AP", "x.png,0,18,PA")
    out = tmp_path / "work" / "index.csv"
    index = index_of(root, out, identity="keep", annotations=[source])
    cases = index.by_id()
    assert {label.case_id: label.value for label in index.labels} == {"a": 1, "b": None}
    assert [cases[name].patient_id for name in "abc"] == ["17", "17", "c"]
    assert [cases[name].view for name in "abc"] == ["PA", "AP", ""]
    assert "x.png" in read_unmatched(out)[0].row
    assert index.notes == (
        "cases that name no patient: 1; each counts as one, so their leaks cannot be detected",
    )


def test_a_row_that_may_mean_two_files_is_not_guessed(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    for folder in "ab":
        write_picture(root / folder / "film.png")
    source = labels(tmp_path / "labels.csv", "film.png,1,17,PA", "b/film.png,0,18,PA")
    out = tmp_path / "work" / "index.csv"
    index = index_of(root, out, identity="keep", annotations=[source])
    assert [(label.case_id, label.value) for label in index.labels] == [("b__film", 0)]
    assert "2 files of the archive match its key" in read_unmatched(out)[0].reason


def test_a_table_inside_the_archive_is_said_to_be_read(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    write_picture(root / "a.png")
    source = labels(root / "labels.csv", "a.png,1,17,PA")
    index_of(root, tmp_path / "index.csv", identity="keep", annotations=[source])
    found = {row.file: row.reason for row in read_indexed_files(tmp_path / "index.csv")}
    assert found["labels.csv"] == "a table: read as a source of annotations"


def test_a_volume_is_named_by_its_file_for_annotations(tmp_path: Path) -> None:
    from medkd.io.volume import write_mhd

    grid = VoxelGrid.from_parts((30, 30, 24), spacing_mm=[1, 1, 2], origin_mm=[0, 0, 0])
    voxels = np.random.default_rng(0).integers(-1000, 400, grid.shape).astype(np.int16)
    (tmp_path / "archive").mkdir()
    write_mhd(Scan("1.2.3", voxels, grid, "p"), tmp_path / "archive" / "1.2.3.mhd")
    table = tmp_path / "annotations.csv"
    table.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.3,5,5,5,6\n1.2.3,99,5,5,6\n")
    source = {"kind": "luna16", "annotations": str(table)}
    out = tmp_path / "work" / "index.csv"
    index = index_of(tmp_path / "archive", out, gate=OBLIQUE, annotations=[source])
    assert [nodule.center_mm for nodule in index.nodules] == [(5.0, 5.0, 5.0)]
    assert "outside the volume" in read_unmatched(out)[0].reason
    assert not index.cases[0].synthetic
    (tmp_path / "archive" / "phantom.json").write_text("{}")
    again = index_of(tmp_path / "archive", out, gate=OBLIQUE).cases[0]
    assert (again.synthetic, again.generator) == (True, unknown_stamp())
