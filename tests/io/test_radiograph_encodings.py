"""DICOM radiographs are shown alike whatever their encoding, and whatever of the file is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLSLossless,
    RLELossless,
)

from medkd.errors import SeriesError
from medkd.io.radiograph.read import read_radiograph, read_radiograph_header
from tests.io.jpeg_helper import encode_jpeg_lossless, put_stream
from tests.io.radiograph_helper import write_dx

RAMP = np.add.outer(np.arange(40) * 50, np.arange(48) * 40).astype(np.uint16)
ENCODINGS = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless,
    DeflatedExplicitVRLittleEndian, JPEGLossless, JPEG2000Lossless, JPEGLSLossless,
)  # fmt: skip


def write(path: Path, stored: np.ndarray, syntax: str, **header: object) -> Path:
    if syntax != JPEGLossless:
        return write_dx(path, stored, syntax=syntax, **header)
    write_dx(path, stored, **header)
    put_stream(path, encode_jpeg_lossless(stored, int(header.get("bits", 12))), syntax)
    return path


@pytest.mark.parametrize("syntax", ENCODINGS)
def test_a_sound_radiograph_has_no_note(tmp_path: Path, syntax: str) -> None:
    film = read_radiograph(write(tmp_path / "a", RAMP, syntax))
    np.testing.assert_allclose(film.pixels, RAMP / 4095, atol=1e-6)
    assert film.notes == ()


@pytest.mark.parametrize("syntax", ENCODINGS)
def test_signed_values_keep_their_sign(tmp_path: Path, syntax: str) -> None:
    stored = RAMP.astype(np.int16) - 2048
    film = read_radiograph(write(tmp_path / "a", stored, syntax))
    np.testing.assert_allclose(film.pixels, RAMP / 4095, atol=1e-6)
    assert film.notes == ()


@pytest.mark.parametrize("syntax", ENCODINGS)
def test_values_above_bits_stored_are_dropped_and_noted(tmp_path: Path, syntax: str) -> None:
    stored = RAMP.copy()
    stored[5, 6] += 1 << 13
    path = write(tmp_path / "a", stored, syntax, bits=14)
    dataset = pydicom.dcmread(path)
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.save_as(path)
    film = read_radiograph(path)
    np.testing.assert_allclose(film.pixels, RAMP / 4095, atol=1e-6)
    assert film.notes[0].startswith("1 pixels have values above the 12 bits")


PARTS = {
    "preamble": lambda content: content[132:],
    "file meta": lambda content: content[at(content) :],
}


def at(content: bytes) -> int:
    """Return where the first element of group 8 begins, little or big endian."""
    marks = (b"\x08\x00\x16\x00", b"\x00\x08\x00\x16")
    return min(place for mark in marks if (place := content.find(mark)) > 0)


@pytest.mark.parametrize("lacks", PARTS)
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_a_file_without_its_beginning_is_read(tmp_path: Path, syntax: str, lacks: str) -> None:
    path = write_dx(tmp_path / "a", RAMP, syntax=syntax)
    path.write_bytes(PARTS[lacks](path.read_bytes()))
    assert read_radiograph_header(path).reasons == ()
    film = read_radiograph(path)
    np.testing.assert_allclose(film.pixels, RAMP / 4095, atol=1e-6)
    noted = f"no file meta: read as {syntax.name}"
    assert film.notes == ((noted,) if lacks == "file meta" else ())


def test_compressed_pixels_need_the_preamble_no_more_than_others(tmp_path: Path) -> None:
    path = write_dx(tmp_path / "a", RAMP, syntax=RLELossless)
    whole = path.read_bytes()
    path.write_bytes(PARTS["preamble"](whole))
    np.testing.assert_allclose(read_radiograph(path).pixels, RAMP / 4095, atol=1e-6)
    path.write_bytes(PARTS["file meta"](whole))
    with pytest.raises(SeriesError, match="compressed, but it has no file meta that says how"):
        read_radiograph(path)


def test_what_is_no_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"plain words, and more of them " * 40)
    with pytest.raises(SeriesError, match="expected DICOM, PNG or JPEG"):
        read_radiograph(tmp_path / "a")
