"""Volumes in an archive: their files are one case, and what was accepted is recorded."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from medkd.errors import SeriesError
from medkd.index.case_store import locate_case, open_scan
from medkd.index.table import ArchiveIndex, read_indexed_files
from medkd.types import Scan
from tests.archive.archives import index_of

SHAPE = (40, 40, 40)
GATE = {"allow": ["lungs_not_in_view", "coarse_voxels"]}


def voxels() -> np.ndarray:
    values = np.random.default_rng(3).integers(-900, -700, SHAPE).astype(np.int16)
    values[10:20, 10:20, 10:20] = 40
    return values


def header(stated: str, *left_out: str) -> str:
    lines = [
        "NDims = 3", "BinaryDataByteOrderMSB = False", "TransformMatrix = 1 0 0 0 1 0 0 0 1",
        "Offset = 0 0 0", "ElementSpacing = 1 1 1", "DimSize = 40 40 40",
        "ElementType = MET_SHORT", f"ElementDataFile = {stated}",
    ]  # fmt: skip
    return "\n".join(line for line in lines if not line.startswith(left_out or "#")) + "\n"


def write_slices(root: Path, name: str) -> str:
    """Write one file a slice under a name with a number; return what names them."""
    names = [name.format(k) for k in range(SHAPE[2])]
    for k, file in enumerate(names):
        (root / file).write_bytes(voxels()[:, :, k].T.tobytes())
    return "LIST\n" + "\n".join(names)


def indexed(root: Path, tmp_path: Path, **settings: object) -> tuple[ArchiveIndex, Path]:
    out = tmp_path / "work" / "index.csv"
    return index_of(root, out, **{"gate": GATE, **settings}), out


def check_read(index: ArchiveIndex, out: Path) -> Scan:
    (case,) = index.cases
    assert case.status == "ready", case.reasons
    scan = open_scan(out, case.case_id)
    assert isinstance(scan, Scan)
    np.testing.assert_array_equal(scan.voxels_hu, voxels())
    return scan


@pytest.mark.parametrize("name", ["slice{:02d}.raw", "Schicht ä {:02d}.raw", "s" * 120 + "{}.raw"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_list_of_slices_is_one_case(tmp_path: Path, name: str, encoding: str) -> None:
    root = tmp_path / "archive"
    root.mkdir()
    (root / "a.mhd").write_bytes(header(write_slices(root, name)).encode(encoding))
    index, out = indexed(root, tmp_path)
    check_read(index, out)
    assert len(locate_case(out, index.cases[0].case_id).refs) == 1 + SHAPE[2]
    assert {row.became for row in read_indexed_files(out)} == {"case"}


@pytest.mark.parametrize(("on_disk", "stated"), [
    ("Müller.zraw".encode(), "latin-1"), ("Müller.zraw".encode("latin-1"), "utf-8"),
    ("Müller.zraw".encode("latin-1"), "latin-1"), (b"a b.zraw", "utf-8"),
])  # fmt: skip
def test_compressed_voxels_under_any_name_are_one_case(
    tmp_path: Path, on_disk: bytes, stated: str
) -> None:
    root = tmp_path / "archive"
    root.mkdir()
    (root / os.fsdecode(on_disk)).write_bytes(zlib.compress(voxels().T.tobytes()))
    name = "a b.zraw" if on_disk.startswith(b"a") else "Müller.zraw"
    text = "CompressedData = True\n" + header(name)
    (root / "a.mhd").write_bytes(text.encode(stated))
    index, out = indexed(root, tmp_path)
    check_read(index, out)
    assert len(locate_case(out, index.cases[0].case_id).refs) == 2


def test_a_list_in_a_zip_archive_is_unpacked_with_its_slices(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    root.mkdir()
    (root / "a.mhd").write_text(header(write_slices(root, "s{:02d}.raw")))
    with zipfile.ZipFile(tmp_path / "archive" / "a.zip", "w") as packed:
        for path in sorted(root.iterdir()):
            if path.suffix != ".zip":
                packed.write(path, f"inner/{path.name}")
                path.unlink()
    check_read(*indexed(root, tmp_path))


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "A.NHDR"])
def test_a_detached_nrrd_is_one_case(tmp_path: Path, name: str) -> None:
    root = tmp_path / "archive"
    root.mkdir()
    (root / "v.dat").write_bytes(voxels().T.tobytes())
    (root / name).write_text(
        "NRRD0004\ntype: short\ndimension: 3\nspace: LPS\nsizes: 40 40 40\nendian: little\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nencoding: raw\n"
        "data file: v.dat\n"
    )
    index, out = indexed(root, tmp_path)
    check_read(index, out)
    assert len(locate_case(out, index.cases[0].case_id).refs) == 2


def test_a_header_without_spacing_is_refused_or_recorded_as_accepted(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    root.mkdir()
    (root / "a.raw").write_bytes(voxels().T.tobytes())
    (root / "a.mhd").write_text(header("a.raw", "ElementSpacing"))
    index, out = indexed(root, tmp_path)
    (reason,) = index.cases[0].reasons
    assert reason.startswith("spacing_not_stated: the header states no spacing (ElementSpacing)")
    gate = {"allow": [*GATE["allow"], "spacing_not_stated"]}
    index, out = indexed(root, tmp_path, gate=gate)
    scan = check_read(index, out)
    assert [a for a in index.cases[0].allowed if a.startswith("spacing_not_stated: ")]
    assert [n for n in scan.notes if n.startswith("allowed: spacing_not_stated: ")]


@pytest.mark.parametrize("stated", [
    "/data/Doe^Jane.raw", "../Doe^Jane.raw", "Doe^Jane.raw", "Doe^Jane%d.raw 0 4 0",
    "LIST\nDoe^Jane.raw", "LIST 3\nDoe^Jane.raw", "LIST\n" + "Doe^Jane.raw\n" * 40,
])  # fmt: skip
def test_no_name_in_a_header_is_shown_by_a_pseudonymised_index(tmp_path: Path, stated: str) -> None:
    root = tmp_path / "archive"
    root.mkdir()
    (root / "a.mhd").write_text(header(stated))
    index, out = indexed(root, tmp_path, identity="pseudonymise")
    assert index.cases[0].status == "not_analysed"
    assert "Doe" not in str(index.cases) + out.read_text()
    with pytest.raises(SeriesError) as refusal:
        open_scan(out, index.cases[0].case_id)
    assert "Doe" not in str(refusal.value)


@pytest.mark.parametrize("name", [
    b"Doe\nJane", b"Doe\\Jane", b"Doe\xefJane", b"Doe's Jane", b"Doe 'n \"Jane\"", b"Doe\tJane",
    b"Doe\x7fJane", b"Doe(Jane", "Döe".encode(),
])  # fmt: skip
@pytest.mark.parametrize("suffix", [b".nii", b".nrrd", b".mha"])
def test_a_damaged_volume_with_an_odd_name_keeps_its_reason_and_hides_its_name(
    tmp_path: Path, name: bytes, suffix: bytes
) -> None:
    root = tmp_path / "archive"
    root.mkdir()
    content = {b".nii": bytes(344) + b"n+1\0", b".nrrd": b"NRRD0004\ntype: short\n",
               b".mha": b"NDims = 3\nElementDataFile = LOCAL\n"}  # fmt: skip
    (root / os.fsdecode(name + suffix)).write_bytes(content[suffix])
    for identity in ("keep", "pseudonymise"):
        index, out = indexed(root, tmp_path / identity, identity=identity)
        (case,) = index.cases
        assert "error on reading it" not in str(case.reasons)
        shown = str(index.cases) + out.read_text()
        assert identity == "keep" or not any(part in shown for part in ("Doe", "Döe", "Jane"))
