"""What counts as DICOM by its first bytes."""

from __future__ import annotations

import pytest

from medkd.io.dicom.dataset import looks_like_damaged_dicom, looks_like_dicom

SOP_CLASS = b"1.2.840.10008.5.1.4.1.1.2\0"
HEADLESS = {
    "explicit": b"\x08\0\x05\0CS\x0a\0ISO_IR 100\x08\0\x16\0UI\x1a\0" + SOP_CLASS,
    "implicit": b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100\x08\0\x16\0\x1a\0\0\0" + SOP_CLASS,
    "implicit, group length": b"\x08\0\0\0\x04\0\0\0\x90\x01\0\0\x08\0\x05\0\x0a\0\0\0ISO_IR 100",
    "explicit, group length": b"\x08\0\0\0UL\x04\0\x90\x01\0\0\x08\0\x05\0CS\x0a\0ISO_IR 100",
    "empty first value": b"\x08\0\x05\0CS\0\0\x08\0\x16\0UI\x1a\0" + SOP_CLASS,
    "big endian": b"\0\x08\0\x05CS\0\x0aISO_IR 100\0\x08\0\x16UI\0\x1a" + SOP_CLASS,
    "file meta": b"\x02\0\0\0UL\x04\0\xc0\0\0\0\x02\0\x01\0OB\0\0\x02\0\0\0\0\x01",
    "long form first": b"\x02\0\x01\0OB\0\0\x02\0\0\0\0\x01\x02\0\x02\0UI\x1a\0" + SOP_CLASS,
}
OTHERS = {
    "empty": b"",
    "text": b"Series of Mrs. Smith: 1.2.840.10008.5.1.4.1.1.2\n" * 20,
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff",
    "NIfTI": b"\x5c\x01\0\0" + b"\0" * 340 + b"n+1\0",
    "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500,
    "numbers": b"\x08\0\x05\0\x0a\0\0\0" + b"\x01" * 100,
    "a long first element": b"\x08\0\x05\0\xff\xff\0\0" + b"\x01" * 100,
    "raw voxels that begin with padding": b"\0" * 4096,
    "zip": b"PK\x03\x04" + b"\0" * 100,
}


@pytest.mark.parametrize("name", HEADLESS)
def test_a_data_set_is_dicom_with_and_without_a_preamble(name: str) -> None:
    assert looks_like_dicom(HEADLESS[name])
    assert looks_like_dicom(b"\0" * 128 + b"DICM" + HEADLESS[name])
    assert not looks_like_damaged_dicom(HEADLESS[name])


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_no_dicom(name: str) -> None:
    assert not looks_like_dicom(OTHERS[name])
    assert not looks_like_damaged_dicom(OTHERS[name])


@pytest.mark.parametrize("lost", [1, 60, 127, 130])
def test_a_file_that_lost_a_part_of_its_beginning_is_damaged_dicom(lost: int) -> None:
    whole = b"\0" * 128 + b"DICM" + HEADLESS["file meta"] + b"\x02\0\x02\0UI\x1a\0" + SOP_CLASS
    assert looks_like_damaged_dicom(whole[lost:])


@pytest.mark.parametrize("name", ["explicit", "implicit"])
def test_a_data_set_with_a_damaged_first_element_is_damaged_dicom(name: str) -> None:
    assert looks_like_damaged_dicom(b"\xff" + HEADLESS[name][1:])


@pytest.mark.parametrize("kept", [1, 100, 131])
def test_a_file_that_ends_within_its_preamble_is_damaged_dicom(kept: int) -> None:
    assert looks_like_damaged_dicom(b"\0" * kept)
