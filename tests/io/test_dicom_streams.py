"""Compressed streams and headers that are not what they should be never reach a decoder."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from medkd.io.dicom.header import read_headers
from medkd.io.dicom.streams import (
    StreamError,
    StreamSize,
    check_stream,
    fragments_of,
    join_frames,
)
from medkd.io.dicom.write import write_dicom_series
from medkd.io.file_ref import FileRef
from tests.io.volume_helper import make_scan, oblique_grid

SIZE = StreamSize(rows=36, columns=40)
START, END = b"\xff\xd8", b"\xff\xd9"


def jpeg(rows: int = 36, columns: int = 40, components: int = 1, bits: int = 16) -> bytes:
    """The markers of a JPEG-LS stream without its pixels: SOI, a comment, SOF55, EOI."""
    frame = (
        struct.pack(">BBHBHHB", 0xFF, 0xF7, 8 + 3, bits, rows, columns, components) + b"\1\x11\0"
    )
    return START + b"\xff\xfe\0\4ab" + frame + END


def jpeg2000(rows: int = 36, columns: int = 40) -> bytes:
    size = struct.pack(">HHH8LH", 0xFF51, 41, 0, columns, rows, 0, 0, 64, 64, 0, 0, 1)
    return b"\xff\x4f" + size + b"\x0f\1\1" + END


def rle(*offsets: int, length: int = 200) -> bytes:
    head = struct.pack("<16L", len(offsets), *offsets, *[0] * (15 - len(offsets)))
    return head + bytes(length - 64)


@pytest.mark.parametrize(
    ("syntax", "stream"),
    [
        (JPEGLSLossless, jpeg()),
        (JPEGLosslessSV1, jpeg().replace(b"\xff\xf7", b"\xff\xff\xff\xc3")),
        (JPEGLSLossless, jpeg(bits=12) + b"\0\0"),
        (JPEG2000Lossless, jpeg2000()),
        (JPEG2000Lossless, b"\0\0\0\x0cjP  \r\n\x87\n" + jpeg2000()),
        (RLELossless, rle(64, 100)),
    ],
)
def test_streams_of_the_right_size_pass(syntax, stream: bytes) -> None:
    check_stream(stream, syntax, SIZE)


@pytest.mark.parametrize(
    ("syntax", "stream", "words"),
    [
        (JPEGLSLossless, jpeg()[:-2], "cut short"),
        (JPEGLSLossless, jpeg(rows=35), "got 35 x 40 x 1"),
        (JPEGLSLossless, jpeg(components=3), "got 36 x 40 x 3"),
        (JPEGLSLossless, jpeg(bits=17), "at most 16 bit, got 17"),
        (JPEGLSLossless, START + b"\xff\xfe\0\4ab" + END, "states no size"),
        (JPEG2000Lossless, jpeg2000(columns=41), "got 36 x 41 x 1"),
        (JPEG2000Lossless, b"\xff\x4f\0\0" + END, "states no size"),
        (RLELossless, b"short", "cut short"),
        (RLELossless, rle(64), "not that of one 16-bit image"),
        (RLELossless, rle(66, 100), "not that of one 16-bit image"),
        (RLELossless, rle(64, 300), "not in the stream"),
    ],
)
def test_other_streams_are_refused(syntax, stream: bytes, words: str) -> None:
    with pytest.raises(StreamError, match=words):
        check_stream(stream, syntax, SIZE)


ELEMENT = encapsulate([b"abcd", b"efgh"]) + b"\xfe\xff\xdd\xe0\0\0\0\0"


def test_fragments_are_taken_out_whole_or_not_at_all() -> None:
    assert fragments_of(ELEMENT) == [b"abcd", b"efgh"]
    for lost in (1, 8, 9, 20):
        with pytest.raises(StreamError, match="the file ends within its pixels"):
            fragments_of(ELEMENT[:-lost])
    with pytest.raises(StreamError, match="damaged"):
        fragments_of(b"\1" + ELEMENT[1:])


def test_fragments_are_joined_where_frames_begin() -> None:
    parts = [START + b"a", b"b" + END, START + b"c" + END]
    assert join_frames(parts, 1) == [b"".join(parts)]
    assert join_frames(parts, 3) == parts
    assert join_frames(parts, 2) == [START + b"ab" + END, START + b"c" + END]
    for fragments, frames in ((parts, 5), ([b"a", b"b", b"c"], 2)):
        with pytest.raises(StreamError, match=f"expected {frames} frames, got 3 fragments"):
            join_frames(fragments, frames)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    scan = make_scan(oblique_grid((6, 5, 2)))
    return write_dicom_series(scan, tmp_path / "s", patient_name="A^B", patient_id="1")[0]


@pytest.mark.parametrize(
    ("was", "becomes", "words"),
    [
        (
            b"1.2.840.10008.1.2.1\0",
            b"1.2.840.10008.5.1.1\0",
            "a transfer syntax that DICOM does not define",
        ),
        (b"1.2.840.10008.1.2.1\0", bytes(20), "states no TransferSyntaxUID"),
        (bytes(128) + b"DICM", bytes(120) + b"DICM", "its beginning is damaged"),
        (bytes(128) + b"DICM", b"x" * 128 + b"DUCM", "its beginning is damaged"),
    ],
)
def test_damaged_files_are_not_taken_for_strangers(path, was, becomes, words: str) -> None:
    path.write_bytes(path.read_bytes().replace(was, becomes, 1))
    found = read_headers([FileRef(path, label="f000001")])
    assert found.headers == found.not_dicom == ()
    assert found.reasons[0].startswith("unreadable: f000001: ")
    assert words in found.reasons[0]


def test_other_files_are_strangers(path: Path) -> None:
    path.write_text("Licence text. " * 50)
    assert read_headers([FileRef(path)]).not_dicom == (FileRef(path),)


def test_values_are_plain_and_never_those_of_a_person(path: Path) -> None:
    (header,) = read_headers([FileRef(path)]).headers
    assert header.numbers("PixelSpacing") == (0.8, 0.7)
    assert header.texts("ImageType") == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert (header.whole("Rows"), header.number("KVP"), header.text("Nothing")) == (5, None, "")
    assert "A^B" not in str(header)
