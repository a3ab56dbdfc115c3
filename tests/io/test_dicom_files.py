"""DICOM files that are unusual but readable, and files beside them that are not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.dicom.gate import GateSettings
from medkd.io.dicom.series import read_dicom_folder, read_series
from medkd.io.file_ref import FileRef
from medkd.types import Scan
from tests.io.dicom_helper import write_ct_series, write_encoded_series
from tests.io.volume_helper import make_scan, oblique_grid

GRID = oblique_grid((12, 10, 24))
SCAN = make_scan(GRID)
GATE = GateSettings()
WITHOUT_META = "no file meta: read as {}"


def series(folder: Path, syntax: str = ExplicitVRLittleEndian) -> list[Path]:
    """Write a series; return its files in order of k."""
    return write_ct_series(folder, SCAN.voxels_hu, GRID, syntax=syntax)


def read(folder: Path) -> Scan:
    scan = read_dicom_folder(folder, gate=GATE)
    np.testing.assert_array_equal(scan.voxels_hu, SCAN.voxels_hu)
    np.testing.assert_allclose(scan.grid.affine_lps_mm, GRID.affine_lps_mm, atol=1e-5)
    return scan


def reasons_of(folder: Path) -> tuple[str, ...]:
    with pytest.raises(SeriesError) as refusal:
        read_dicom_folder(folder, gate=GATE)
    return refusal.value.reasons


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def without_preamble(content: bytes) -> bytes:
    return content[132:]


def without_meta(content: bytes) -> bytes:
    (size,) = struct.unpack("<L", content[140:144])
    return content[144 + size :]


def without_meta_but_preamble(content: bytes) -> bytes:
    return content[:132] + without_meta(content)


STRIPPED = [without_preamble, without_meta, without_meta_but_preamble]
WHICH = {"first": slice(1), "middle": slice(10, 11), "last": slice(23, None), "all": slice(None)}


@pytest.mark.parametrize("strip", STRIPPED)
@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_slices_without_preamble_or_file_meta_are_read(
    tmp_path: Path, syntax, which: str, strip
) -> None:
    paths = series(tmp_path, syntax)[WHICH[which]]
    for path in paths:
        rewrite(path, strip)
    notes = read(tmp_path).notes
    has_meta = strip is without_preamble
    words = "" if has_meta else WITHOUT_META.format(syntax.name)
    assert [note.partition(": ")[2] for note in notes] == ([] if has_meta else [words])


def test_big_endian_slices_without_file_meta_are_read(tmp_path: Path) -> None:
    for path in series(tmp_path):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        pixels = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        dataset.PixelData = pixels
        pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=False)
        rewrite(path, without_meta)
    assert "Explicit VR Big Endian" in read(tmp_path).notes[0]


def test_compressed_pixels_without_file_meta_are_refused_by_name(tmp_path: Path) -> None:
    paths = write_encoded_series(SCAN, tmp_path, syntax="jpegls")
    rewrite(paths[-1], without_meta)
    assert reasons_of(tmp_path) == (
        f"unreadable: {paths[-1].name}: its pixels are compressed, but it has no file meta that "
        "says how",
    )


@pytest.mark.parametrize("which", ["middle", "last"])
@pytest.mark.parametrize("strip", [*STRIPPED, lambda content: content])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_slice_refuses_its_series(
    tmp_path: Path, which: str, strip, kept: float
) -> None:
    (path,) = series(tmp_path)[WHICH[which]]
    rewrite(path, lambda content: strip(content)[: int(kept * len(strip(content)))])
    assert any(path.name in reason for reason in reasons_of(tmp_path))


@pytest.mark.parametrize("name", ["slice.dcm", "slice.DCM", "slice.IMA"])
@pytest.mark.parametrize("content", [b"garbage" * 500, bytes(4096), b""])
def test_a_slice_of_garbage_refuses_its_series(tmp_path: Path, name: str, content: bytes) -> None:
    path = series(tmp_path)[-1]
    path.unlink()
    (tmp_path / name).write_bytes(content)
    (reason,) = reasons_of(tmp_path)
    assert reason.startswith(f"unreadable: {name}: ")


@pytest.mark.parametrize("name", ["x.dcm", "1.2.840.113619.7", "IM000001"])
def test_an_empty_file_that_may_be_a_slice_refuses_its_series(tmp_path: Path, name: str) -> None:
    series(tmp_path)
    (tmp_path / name).write_bytes(b"")
    assert reasons_of(tmp_path) == (f"unreadable: {name}: the file is empty",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"text"),
        ("empty.txt", b""),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0" + bytes(3000)),
        ("mask.nii.gz", b"\x1f\x8b\x08\0\0\0\0\0"),
        ("voxels.raw", bytes(9000)),
        ("header.mhd", b"ObjectType = Image\n"),
        ("LICENSE", b"Permission is granted to"),
    ],
)
def test_other_files_beside_the_slices_hide_nothing(
    tmp_path: Path, name: str, content: bytes
) -> None:
    series(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert read(tmp_path).notes == ("1 files that are not DICOM were left out",)


def element(tag: str, vr: bytes, value: bytes, *, implicit: bool) -> bytes:
    group, number = (int(part, 16) for part in tag.split(","))
    head = struct.pack("<HH", group, number)
    if implicit:
        return head + struct.pack("<L", len(value)) + value
    if vr in (b"OB", b"OW", b"SQ", b"UN"):
        return head + vr + b"\0\0" + struct.pack("<L", len(value)) + value
    return head + vr + struct.pack("<H", len(value)) + value


TAILS = {
    "padding": lambda implicit: element("FFFC,FFFC", b"OB", bytes(300), implicit=implicit),
    "private group": lambda implicit: (
        element("7FE1,0010", b"LO", b"VENDOR", implicit=implicit)
        + element("7FE1,1010", b"OB", b"\1\2\3\4", implicit=implicit)
    ),
    "signature": lambda implicit: (
        element("FFFA,FFFA", b"SQ", b"", implicit=implicit)[:-4]
        + b"\xff\xff\xff\xff\xfe\xff\xdd\xe0\0\0\0\0"
    ),
    "zeros": lambda implicit: bytes(517),
    "private group and zeros": lambda implicit: (
        element("7FE1,0010", b"LO", b"VENDOR", implicit=implicit) + bytes(64)
    ),
}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("tail", TAILS)
def test_elements_and_zeros_behind_the_pixels_are_legal(tmp_path: Path, syntax, tail) -> None:
    more = TAILS[tail](syntax == ImplicitVRLittleEndian)
    for path in series(tmp_path, syntax)[::2]:
        rewrite(path, lambda content: content + more)
    assert read(tmp_path).notes == ()


@pytest.mark.parametrize(
    "more",
    [b"\1\2", b"\1" * 40, bytes(8) + b"\1", TAILS["padding"](False)[:-2]],
)
def test_other_bytes_behind_the_pixels_are_refused(tmp_path: Path, more: bytes) -> None:
    path = series(tmp_path)[3]
    rewrite(path, lambda content: content + more)
    assert reasons_of(tmp_path) == (_beyond(path, len(more)),)


def test_an_element_that_is_cut_short_behind_the_pixels_is_refused(tmp_path: Path) -> None:
    path = series(tmp_path)[3]
    rewrite(path, lambda content: content + TAILS["private group"](False)[:-2])
    assert reasons_of(tmp_path) == (_beyond(path, 12 + 4 - 2),)  # the second element


def _beyond(path: Path, count: int) -> str:
    expected = f"{count} bytes that are not padding follow its pixels: export it again"
    return f"unreadable: {path.name}: {expected}"


def longer_pixels(path: Path, padding: bytes) -> None:
    dataset = pydicom.dcmread(path)
    dataset.PixelData += padding
    dataset.save_as(path)


SLICE_BYTES = 240


@pytest.mark.parametrize("byte", [b"\0", b"\xff", b" "])
@pytest.mark.parametrize("count", [2, 16, 24, 26, SLICE_BYTES - 2])
def test_padding_within_the_pixels_element_is_left_out_and_noted(
    tmp_path: Path, byte: bytes, count: int
) -> None:
    path = series(tmp_path)[3]
    longer_pixels(path, byte * count)
    assert read(tmp_path).notes == (
        f"{path.name}: {count} bytes of padding after its pixels were ignored",
    )


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("byte", [b"\xff", b" "])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 64, SLICE_BYTES - 1])
def test_padding_at_the_end_of_a_file_is_left_out_and_noted(
    tmp_path: Path, syntax, byte: bytes, count: int
) -> None:
    path = series(tmp_path, syntax)[3]
    rewrite(path, lambda content: content + byte * count)
    assert read(tmp_path).notes == (
        f"{path.name}: {count} bytes of padding after its pixels were ignored",
    )


@pytest.mark.parametrize(
    "padding",
    [b"\1\0", b"\xff\xfe", b"\0" * 8 + b"\xff\xff", bytes(SLICE_BYTES), b"\xff" * SLICE_BYTES,
     bytes(2000)],
)  # fmt: skip
def test_more_pixels_than_the_size_states_are_refused(tmp_path: Path, padding: bytes) -> None:
    path = series(tmp_path)[3]
    longer_pixels(path, padding)
    assert reasons_of(tmp_path) == (_beyond(path, len(padding)),)


@pytest.mark.parametrize("more", [b"\xff" * SLICE_BYTES, b" " * 999, b"\xff\xff "])
def test_a_whole_slice_behind_the_pixels_is_no_padding(tmp_path: Path, more: bytes) -> None:
    path = series(tmp_path)[3]
    rewrite(path, lambda content: content + more)
    assert reasons_of(tmp_path) == (_beyond(path, len(more)),)


def with_vr(content: bytes, tag: str, vr: bytes, value: bytes) -> bytes:
    """Give an element of an explicit file another VR and value."""
    group, number = (int(part, 16) for part in tag.split(","))
    start = content.index(struct.pack("<HH", group, number), 132)
    (length,) = struct.unpack("<H", content[start + 6 : start + 8])
    return content[:start] + element(tag, vr, value, implicit=False) + content[start + 8 + length :]


WRONG_VRS = [
    ("RescaleSlope", "0028,1053", b"FD", struct.pack("<d", 1.0)),
    ("RescaleIntercept", "0028,1052", b"SS", struct.pack("<h", -1024)),
    ("RescaleIntercept", "0028,1052", b"FL", struct.pack("<f", -1024.0)),
    ("RescaleIntercept", "0028,1052", b"LO", b"-1024 "),
    ("SliceThickness", "0018,0050", b"FD", struct.pack("<d", 2.5)),
    ("Rows", "0028,0010", b"UL", struct.pack("<L", 10)),
    ("Rows", "0028,0010", b"IS", b"10"),
    ("Columns", "0028,0011", b"SS", struct.pack("<h", 12)),
    ("ImageOrientationPatient", "0020,0037", b"FD",
     np.asarray(GRID.direction[:, :2].T, "<f8").tobytes()),
    ("InstanceNumber", "0020,0013", b"US", struct.pack("<H", 5)),
    ("BodyPartExamined", "0018,0015", b"LO", b"CHEST "),
]  # fmt: skip


@pytest.mark.parametrize(("name", "tag", "vr", "value"), WRONG_VRS)
def test_a_value_with_a_wrong_vr_is_read_and_noted(
    tmp_path: Path, name: str, tag: str, vr: bytes, value: bytes
) -> None:
    for path in series(tmp_path):
        rewrite(path, lambda content: with_vr(content, tag, vr, value))
    (note,) = read(tmp_path).notes
    assert f": {name} has VR {vr.decode()}, expected " in note


@pytest.mark.parametrize("hu", [*range(48, 58), 32, 0x3030, -1, 0])
def test_a_binary_number_whose_bytes_look_like_text_is_read_as_pydicom_reads_it(
    tmp_path: Path, hu: int
) -> None:
    paths = series(tmp_path)
    for path in paths:
        number = struct.pack("<h", hu)
        path.write_bytes(with_vr(path.read_bytes(), "0028,1052", b"SS", number))
    assert pydicom.dcmread(paths[0]).RescaleIntercept == hu
    scan = read_dicom_folder(tmp_path)
    np.testing.assert_array_equal(scan.voxels_hu, SCAN.voxels_hu + 1024 + hu)
    (note,) = scan.notes
    assert note.endswith(": RescaleIntercept has VR SS, expected DS")


@pytest.mark.parametrize(("vr", "form"), [(b"SL", "<3i"), (b"SS", "<3h"), (b"FL", "<3f")])
def test_places_stored_as_binary_numbers_are_those_of_pydicom(
    tmp_path: Path, vr: bytes, form: str
) -> None:
    grid = VoxelGrid((12, 10, 24), np.diag([1.0, 1.0, 2.0, 1.0]))
    paths = write_ct_series(tmp_path, SCAN.voxels_hu, grid)
    for k, path in enumerate(paths):
        place = struct.pack(form, 0, 0, 10 + 2 * k)  # 48 to 57 are the digits of ASCII
        path.write_bytes(with_vr(path.read_bytes(), "0020,0032", vr, place))
    scan = read_dicom_folder(tmp_path)
    np.testing.assert_allclose(scan.grid.origin_mm, [0, 0, 10])
    np.testing.assert_array_equal(scan.voxels_hu, SCAN.voxels_hu)


@pytest.mark.parametrize("vr", [b"UN", b"OB"])
@pytest.mark.parametrize(
    ("name", "tag", "text"),
    [("RescaleIntercept", "0028,1052", b"-1024 "), ("RescaleSlope", "0028,1053", b"1 "),
     ("SliceThickness", "0018,0050", b"2.5 ")],
)  # fmt: skip
def test_numbers_as_text_under_a_vr_of_bytes_are_read(
    tmp_path: Path, vr: bytes, name: str, tag: str, text: bytes
) -> None:
    for path in series(tmp_path):
        rewrite(path, lambda content: with_vr(content, tag, vr, text))
    scan = read(tmp_path)
    assert scan.acquisition.slice_thickness_mm == 2.5
    assert len(scan.notes) == (vr == b"OB")


def test_an_unknown_vr_is_no_wrong_one(tmp_path: Path) -> None:
    for path in series(tmp_path):
        rewrite(path, lambda content: with_vr(content, "0018,0015", b"UN", b"CHEST "))
    assert read(tmp_path).notes == ()


@pytest.mark.parametrize("value", [b"abc ", b"\1\2\3"])
def test_a_value_that_no_vr_explains_is_refused(tmp_path: Path, value: bytes) -> None:
    path = series(tmp_path)[4]
    rewrite(path, lambda content: with_vr(content, "0028,1053", b"FD", value))
    (reason,) = reasons_of(tmp_path)
    assert reason.startswith(f"unreadable: {path.name}: RescaleSlope is not a number: got ")


NEEDED = [("RescaleSlope", "0028,1053"), ("RescaleIntercept", "0028,1052"),
          ("PixelSpacing", "0028,0030"), ("ImagePositionPatient", "0020,0032"),
          ("AcquisitionNumber", "0020,0012")]  # fmt: skip


@pytest.mark.parametrize(("name", "tag"), NEEDED)
@pytest.mark.parametrize(
    ("value", "shown"),
    [(b"1,0 ", "'1,0'"), (b"n/a ", "'n/a'"), (b"2\\1,5\\3", r"'2\\1,5\\3'"),
     (b"nan ", "'nan'"), (b"x" * 40, "'" + "x" * 16 + "'")],
)  # fmt: skip
def test_a_number_that_is_needed_and_none_is_shown_with_a_remedy(
    tmp_path: Path, name: str, tag: str, value: bytes, shown: str
) -> None:
    path = write_ct_series(
        tmp_path, SCAN.voxels_hu, GRID, edit=lambda d, k: setattr(d, "AcquisitionNumber", "1")
    )[4]
    rewrite(path, lambda content: with_vr(content, tag, b"DS", value))
    expected = f"got {shown}, expected digits with a decimal point: correct it, or export it again"
    assert f"unreadable: {path.name}: {name} is not a number: {expected}" in reasons_of(tmp_path)


OPTIONAL = [("KVP", "0018,0060", b"DS"), ("SliceThickness", "0018,0050", b"DS"),
            ("InstanceNumber", "0020,0013", b"IS"),
            ("SliceLocation", "0020,1041", b"DS")]  # fmt: skip


@pytest.mark.parametrize(("name", "tag", "vr"), OPTIONAL)
@pytest.mark.parametrize("value", [b"n/a ", b"2,0 "])
def test_a_number_that_is_not_needed_and_none_counts_as_missing(
    tmp_path: Path, name: str, tag: str, vr: bytes, value: bytes
) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.KVP, dataset.SliceLocation = "120", str(k)

    for path in write_ct_series(tmp_path, SCAN.voxels_hu, GRID, edit=edit):
        rewrite(path, lambda content: with_vr(content, tag, vr, value))
    scan = read(tmp_path)
    (note,) = scan.notes
    shown = value.decode().strip()
    assert note.endswith(
        f": {name} is not a number: got {shown!r}, expected digits with a decimal point: treated "
        "as missing"
    )
    assert (scan.acquisition.kvp is None) == (name == "KVP")
    assert (scan.acquisition.slice_thickness_mm is None) == (name == "SliceThickness")


@pytest.mark.parametrize("empty", [True, False])
def test_a_class_that_the_file_meta_alone_states_is_used_and_noted(
    tmp_path: Path, empty: bool
) -> None:
    for path in series(tmp_path):
        dataset = pydicom.dcmread(path)
        del dataset.SOPClassUID
        if empty:
            dataset.SOPClassUID = ""
        dataset.save_as(path)
    (note,) = read(tmp_path).notes
    assert note.endswith(": no SOPClassUID: the one of its file meta is used")


def test_another_class_in_the_file_meta_alone_is_refused(tmp_path: Path) -> None:
    path = series(tmp_path)[5]
    dataset = pydicom.dcmread(path)
    del dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.save_as(path)
    (reason,) = reasons_of(tmp_path)
    assert (
        reason
        == f"not_ct: {path.name}: expected SOPClassUID CT Image Storage, got MR Image Storage"
    )


def test_implicit_elements_under_an_explicit_syntax_are_read_and_noted(tmp_path: Path) -> None:
    implicit, explicit = (uid.encode() for uid in (ImplicitVRLittleEndian, ExplicitVRLittleEndian))
    series(tmp_path, ImplicitVRLittleEndian)
    # The shorter UID is padded with zeros, and so is the longer one's file meta.
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        content = path.read_bytes()
        meta = pydicom.filebase.DicomBytesIO()
        dataset.file_meta.TransferSyntaxUID = explicit.decode()
        pydicom.filewriter.write_file_meta_info(meta, dataset.file_meta)
        path.write_bytes(content[:132] + meta.getvalue() + without_meta(content))
    assert implicit != explicit
    (note,) = read(tmp_path).notes
    assert note.endswith(": implicit VR, although its file meta states explicit VR")


def test_no_reason_holds_a_text_of_the_header(tmp_path: Path, monkeypatch) -> None:
    series(tmp_path)

    def odd(*args: object, **values: object) -> None:
        raise RecursionError("Doe^Jane")

    monkeypatch.setattr("medkd.io.dicom.header.parse_file", odd)
    reasons = [reason for reason in reasons_of(tmp_path) if reason.startswith("unreadable: ")]
    assert len(reasons) == 24
    assert {reason.partition(": ")[2][7:] for reason in reasons} == {
        "its DICOM header cannot be read (RecursionError)"
    }


def test_explicit_elements_under_an_implicit_syntax_are_read_and_noted(tmp_path: Path) -> None:
    series(tmp_path)
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        meta = pydicom.dcmread(path).file_meta
        meta.TransferSyntaxUID = ImplicitVRLittleEndian
        written = pydicom.filebase.DicomBytesIO()
        pydicom.filewriter.write_file_meta_info(written, meta)
        path.write_bytes(content[:132] + written.getvalue() + without_meta(content))
    (note,) = read(tmp_path).notes
    assert note.endswith(": explicit VR, although its file meta states implicit VR")


@pytest.mark.parametrize("content", [b"\x08\x00", b"a text\n", bytes(2000), b"\x89PNG\r\n\x1a\n"])
def test_a_file_of_a_series_that_is_not_dicom_refuses_it(tmp_path: Path, content: bytes) -> None:
    paths = series(tmp_path)
    refs = [FileRef(path) for path in paths]
    assert read_series(refs, gate=None)
    max(paths).write_bytes(content)
    with pytest.raises(SeriesError, match="unreadable: "):
        read_series(refs, gate=None)
