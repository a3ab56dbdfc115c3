"""What a file is shows in its bytes: every form, whatever its name; broken ones get a reason."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medkd.io.file_kind import FileKind, kind_of_file
from medkd.io.file_ref import FileRef

STORAGE = "1.2.840.10008.5.1.4.1.1."
CT, CR, SC, SEG, SR, DOSE, PR, MR = (
    STORAGE + kind for kind in ("2", "1", "7", "66.4", "88.33", "88.67", "11.1", "4")
)


def kind(content: bytes, tmp_path: Path, name: str = "file") -> FileKind:
    path = tmp_path / name
    path.write_bytes(content)
    return kind_of_file(FileRef(path), len(content))


def dicom(sop_class: str, **values: str) -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID = sop_class, "1.2", "1.3"
    dataset.PatientID, dataset.PatientName = "17", "Doe^Jane"
    for name, value in values.items():
        setattr(dataset, name, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("sop_class", "values", "form"),
    [
        (CT, {}, "series"), (MR, {}, "series"), (CR, {"Modality": "CR"}, "image"),
        (SC, {"Modality": "DX"}, "image"), (SC, {"Modality": "CT"}, "series"),
        (SEG, {}, "annotation"), (SR, {}, "annotation"), (DOSE, {}, "other"), (PR, {}, "other"),
        ("1.2.840.10008.3.1.2.3.3", {}, "other"), (CT, {"SeriesInstanceUID": ""}, "unreadable"),
    ],
)  # fmt: skip
def test_dicom_is_told_by_its_class(
    tmp_path: Path, sop_class: str, values: dict[str, str], form: str
) -> None:
    found = kind(dicom(sop_class, **values), tmp_path, "no_suffix")
    assert found.form == form
    assert bool(found.reason) == (form not in ("series", "image"))


def test_a_dose_report_is_named(tmp_path: Path) -> None:
    assert kind(dicom(DOSE), tmp_path).reason.startswith("dose_report: ")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_dicom_without_preamble_is_known(tmp_path: Path, syntax: str) -> None:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID = CT, "1.2", "1.3"
    stream = io.BytesIO()
    implicit = syntax == ImplicitVRLittleEndian
    dataset.save_as(stream, implicit_vr=implicit, little_endian=True)
    assert kind(stream.getvalue(), tmp_path).form == "series"


def test_a_head_holds_identities_and_does_not_show_them(tmp_path: Path) -> None:
    head = kind(dicom(CT, AccessionNumber="A77"), tmp_path).head
    assert head is not None
    assert set(head.identity) == {"17", "Doe^Jane", "A77"}
    assert "Doe" not in repr(head)


def picture(form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(stream, form)
    return stream.getvalue()


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a", "b")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("x", picture("PNG"), "image"), ("x.dat", picture("JPEG"), "image"),
        ("x", picture("TIFF"), "other"), ("x", zipped(), "container"),
        ("x.nrrd", b"NRRD0004\ntype: short\n", "volume"), ("x", b"NRRD0004\n", "other"),
        ("x.mhd", b"NDims = 3\nElementDataFile = x.raw\n", "volume"),
        ("x.mha", b"hello", "unreadable"),
        ("x.nii", bytes(344) + b"n+1\0" + bytes(10), "volume"), ("x.nii", b"abc", "unreadable"),
        ("x.nii.gz", gzip.compress(bytes(344) + b"n+1\0" + bytes(10), mtime=0), "volume"),
        ("x.nii.gz", b"abc", "unreadable"), ("x.csv", b"a,b\n", "table"),
        ("x.db", b"SQLite format 3\0", "table"), ("x.txt", b"text", "other"),
        ("x.npy", b"\x93NUMPY", "other"), ("x.dcm", b"text", "unreadable"),
        ("x.png", b"text", "unreadable"), ("x", b"", "unreadable"), ("x", bytes(500), "other"),
    ],
)  # fmt: skip
def test_files_that_are_no_dicom_are_told_by_their_first_bytes(
    tmp_path: Path, name: str, content: bytes, form: str
) -> None:
    found = kind(content, tmp_path, name)
    assert found.form == form
    assert bool(found.reason) == (form not in ("image", "volume"))


def test_a_metaimage_names_the_file_of_its_voxels(tmp_path: Path) -> None:
    header = b"NDims = 3\nElementDataFile = voxels.zraw\n"
    assert kind(header, tmp_path, "x.mhd").companion == "voxels.zraw"
    local = header.replace(b"voxels.zraw", b"LOCAL")
    assert kind(local, tmp_path, "x.mha").companion == ""


def test_a_member_of_a_zip_archive_is_told_like_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sub/slice", dicom(CT))
        archive.writestr("film", picture("PNG"))
    assert kind_of_file(FileRef(path, "sub/slice"), 400).form == "series"
    assert kind_of_file(FileRef(path, "film"), 80).form == "image"


@pytest.mark.parametrize("length", range(132, 420, 7))
def test_a_header_cut_anywhere_never_crashes(tmp_path: Path, length: int) -> None:
    found = kind(dicom(CT)[:length], tmp_path)
    assert found.form == "series" or found.reason


def test_a_file_that_may_not_be_read_gets_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path, mode: str) -> BinaryIO:
        raise PermissionError(mode)

    path = tmp_path / "locked"
    path.write_bytes(b"x")
    monkeypatch.setattr(Path, "open", refuse)  # modes do not bind root
    assert kind_of_file(FileRef(path), 1).form == "unreadable"


def test_no_damaged_byte_of_a_head_ends_the_reading(tmp_path: Path) -> None:
    whole = dicom(CT, Modality="CT", StudyDate="20200101")
    for place in range(128, len(whole)):
        for value in (whole[place] ^ 1, whole[place] ^ 2, whole[place] ^ 128, 0, 255):
            changed = whole[:place] + bytes([value]) + whole[place + 1 :]
            assert kind(changed, tmp_path).form in ("series", "image", "other", "unreadable")
