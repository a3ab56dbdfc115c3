"""Recognise DICOM files by content, parse one up to its pixels, and locate the pixels.

File names are ignored. Preamble and file meta (PS3.10 7.1) are optional: many old archives and
planning systems omit them. A file without a transfer syntax is read as implicit VR little endian,
the standard's default, unless its first element has a VR. Deviations that pydicom tolerates (a
wrong VR, implicit elements under an explicit syntax) are tolerated here too, with a note.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from pydicom.filereader import data_element_generator
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR

from medkd.io.dicom.tags import (
    OPTIONAL,
    PIXEL_DATA,
    TAGS,
    Kind,
    Value,
    decode_value,
    uid_of,
    wrong_vr,
)

DICOMDIR = ("1.2.840.10008.1.3.10",)
"""SOP class of a directory of files (PS3.3 F). It is not an image, so it is skipped."""

HEAD_BYTES = 1024
"""Number of bytes at the start of a file that `looks_like_dicom` examines."""

_PREAMBLE = 132
_META_MARKS = (b"DICM\x02\x00", b"\x02\x00\x00\x00UL\x04\x00")
_CLASS_MARK = b"1.2.840.10008.5.1.4.1.1."
"""Prefix of the UIDs of all storage classes (PS3.4 B.5)."""

_FIRST_GROUPS = (0x0002, 0x0008)
_SECOND_BELOW = 0x00200000
"""The second element is in group 2, 8 or 10 (hex): SOPClassUID of an image is in group 8."""

_LARGEST_FIRST = 256
"""Upper limit for the first element: a group length, character set or image type, all short."""

_LONG_VRS = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)
"""Value representations whose length field has four bytes (PS3.5 7.1.2); the others' has two."""
_VRS = frozenset(vr.encode() for vr in STANDARD_VR)

_WANTED = [Tag(tag) for tag in TAGS]
_META_GROUP = b"\x02\x00"
_LARGEST_INFLATED = 1 << 30
_UNDEFINED_LENGTH = 0xFFFFFFFF
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"
_PIXEL_TAGS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")
_DECODED_WHOLE = (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
_PADDING = (0x00, 0x20, 0xFF)
"""Byte values that programs use to pad pixels and files."""
_NO_TAG = 0xFFFFFFFF
_EXTRA_BYTES = "{} bytes that are not padding follow its pixels: export it again"
_OTHER_VR = "{} VR, although its file meta states {} VR"


class HeaderError(ValueError):
    """A DICOM header that cannot be read; the message is written for the user."""


@dataclass(frozen=True, slots=True)
class PixelLocation:
    """The location of pixels in a file.

    Args:
        present: whether the file has pixels.
        is_raw: whether they are stored uncompressed and little endian.
        start: offset of the first pixel if raw; else of the value of PixelData.
        size: bytes of pixels in the file, if raw.
        trailing: bytes at the end of the file that belong to no element; 0 if all of them are 0.
    """

    present: bool = False
    is_raw: bool = False
    start: int = 0
    size: int = 0
    trailing: int = 0

    def of_frame(self, number: int, count: int) -> PixelLocation:
        """Return the location of one of `count` frames; only raw pixels are divided."""
        size = self.size // count
        return replace(self, start=self.start + number * size, size=size)


@dataclass(slots=True)
class Parsed:
    """The elements of one file up to its pixels.

    Args:
        values: maps keywords to values; missing and empty attributes have no key.
        faults: messages on values that cannot be read.
        notes: messages on violations of the standard that were tolerated.
        nested: whether the file has sequences that must be read as well.
        syntax: UID of the transfer syntax, from the file meta or derived from the first element.
        pixels: where the pixels are.
    """

    values: dict[str, Value] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    nested: bool = False
    syntax: str = ""
    pixels: PixelLocation = field(default_factory=PixelLocation)


@dataclass(frozen=True, slots=True)
class _ElementHead:
    """The first fields of a data element (PS3.5 7.1).

    Args:
        tag: group and element number.
        vr: value representation; empty if implicit.
        start: bytes from the start of the element to its value.
        length: bytes of the value.
    """

    tag: int
    vr: bytes
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class _Encoding:
    """How the elements of a data set are encoded.

    Args:
        uid: the transfer syntax.
        implicit: whether the elements have no VR.
        stated: whether the file meta states the transfer syntax.
        note: a deviation from the standard; empty if there is none.
    """

    uid: UID
    implicit: bool
    stated: bool = True
    note: str = ""

    @property
    def little(self) -> bool:
        return bool(self.uid != ExplicitVRBigEndian)


def looks_like_dicom(head: bytes) -> bool:
    """Return whether a file is DICOM: it has a preamble or begins with an element of group 2 or 8.

    Args:
        head: the first `HEAD_BYTES` bytes, or all bytes of a shorter file.
    """
    return _has_preamble(head) or any(_is_data_set(head, little=end) for end in (True, False))


def looks_like_damaged_dicom(head: bytes) -> bool:
    """Return whether a file is probably a DICOM file whose beginning is damaged or cut short.

    Args:
        head: the first `HEAD_BYTES` bytes, or all bytes of a shorter file.
    """
    if looks_like_dicom(head):
        return False
    head = head[:HEAD_BYTES]
    has_mark = any(mark in head for mark in _META_MARKS)
    is_cut = 0 < len(head) < _PREAMBLE and not any(head)
    return has_mark or is_cut or (b"\0" in head and _CLASS_MARK in head)


def parse_file(stream: BinaryIO) -> Parsed | None:
    """Read the elements of a file that `tags.TAGS` lists.

    Args:
        stream: positioned at the first byte of the file.

    Returns:
        Its contents; None if the file is empty, not DICOM, or a DICOMDIR.

    Raises:
        HeaderError: if it is DICOM and cannot be read.
        Exception: any exception that pydicom raises for a damaged file.
    """
    head = stream.read(HEAD_BYTES)
    if not looks_like_dicom(head):
        if looks_like_damaged_dicom(head):
            raise HeaderError(
                "its beginning is damaged or cut short: expected DICM after 128 bytes"
            )
        return None
    start = _PREAMBLE if _has_preamble(head) else 0
    stated, stated_class = None, None
    if head[start : start + 2] == _META_GROUP:
        stream.seek(start)
        encoding = _Encoding(ExplicitVRLittleEndian, implicit=False)
        meta = _elements(stream, encoding, lambda tag: tag >> 16 != 2)
        stated_class = meta.values.get("MediaStorageSOPClassUID")
        if stated_class == DICOMDIR:
            return None
        stated, start = _stated_syntax(meta), stream.tell()
    stream.seek(start)
    if stated == DeflatedExplicitVRLittleEndian:
        stream = _inflated(stream)
    encoding = _encoding_of(stream, stated)
    parsed = _elements(stream, encoding, lambda tag: tag == PIXEL_DATA)
    parsed.syntax = str(encoding.uid)
    parsed.pixels = _locate_pixels(stream, encoding)
    _drop_padding(stream, parsed)
    if stated_class and not any(parsed.values.get("SOPClassUID", ())):
        parsed.values["SOPClassUID"] = stated_class
        parsed.notes.append("no SOPClassUID: the one of its file meta is used")
    parsed.notes += [encoding.note] if encoding.note else []
    return parsed


def _has_preamble(head: bytes) -> bool:
    return head[128:_PREAMBLE] == b"DICM"


def _stated_syntax(meta: Parsed) -> UID:
    name = str(meta.values.get("TransferSyntaxUID", ("",))[0])
    if not name:
        raise HeaderError("its file meta states no TransferSyntaxUID")
    uid = uid_of(name)
    if not uid.is_transfer_syntax:
        raise HeaderError("its file meta states a transfer syntax that DICOM does not define")
    return uid


def _inflated(stream: BinaryIO) -> BinaryIO:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = io.BytesIO(inflater.decompress(stream.read(), _LARGEST_INFLATED))
    if not inflater.eof:
        raise HeaderError("its deflated content is cut short, or larger than 1 GiB")
    return content


def _encoding_of(stream: BinaryIO, stated: UID | None) -> _Encoding:
    """Determine the encoding of a data set from its first element, at the stream's position."""
    begin = stream.tell()
    first = stream.read(6)
    stream.seek(begin)
    explicit = first[4:6] in _VRS
    if stated is None:
        big = explicit and first[0] == 0
        found = ExplicitVRBigEndian if big else ExplicitVRLittleEndian
        uid = found if explicit else ImplicitVRLittleEndian
        note = f"no file meta: read as {uid.name}"
        return _Encoding(uid, not explicit, stated=False, note=note)
    looks_implicit = len(first) == 6 and not first[4:6].isupper()
    if stated.is_implicit_VR and explicit:
        return _Encoding(stated, implicit=False, note=_OTHER_VR.format("explicit", "implicit"))
    if not stated.is_implicit_VR and looks_implicit and stated != ExplicitVRBigEndian:
        return _Encoding(stated, implicit=True, note=_OTHER_VR.format("implicit", "explicit"))
    return _Encoding(stated, implicit=stated.is_implicit_VR)


def _elements(stream: BinaryIO, encoding: _Encoding, stop: Callable[[int], bool]) -> Parsed:
    """Read the elements in `TAGS` from the stream's position to the first tag that `stop` accepts.

    The stream is left at the start of that element.
    """
    parsed = Parsed()
    found = data_element_generator(
        stream,
        is_implicit_VR=encoding.implicit,
        is_little_endian=encoding.little,
        stop_when=lambda tag, vr, length: stop(int(tag)),
        specific_tags=_WANTED,
    )
    for element in found:
        if int(element.tag) not in TAGS:  # pydicom also yields the character set
            continue
        keyword, kind = TAGS[int(element.tag)]
        if kind is Kind.NESTED:
            parsed.nested = True
            continue
        if isinstance(element.value, bytes) and len(element.value) < element.length:
            raise HeaderError("the file ends within its DICOM header")
        value = decode_value(kind, element.value, vr=element.VR or "", little=encoding.little)
        if isinstance(value, str):
            if keyword in OPTIONAL:
                parsed.notes.append(f"{keyword} {value}: treated as missing")
            else:
                parsed.faults.append(f"{keyword} {value}: correct it, or export it again")
        elif value is not None:
            parsed.values[keyword] = value
        if note := wrong_vr(keyword, element.VR or ""):
            parsed.notes.append(note)
    place = stream.tell()
    if place > stream.seek(0, io.SEEK_END):  # the last skipped element is cut short
        raise HeaderError("the file ends within its DICOM header")
    stream.seek(place)
    return parsed


def _locate_pixels(stream: BinaryIO, encoding: _Encoding) -> PixelLocation:
    """Locate the pixels from the head of PixelData, at the stream's position."""
    begin = stream.tell()
    head = stream.read(12)
    end = stream.seek(0, io.SEEK_END)
    if head[:4] not in _PIXEL_TAGS:
        return PixelLocation()
    element = _element_head(head, little=encoding.little, implicit=encoding.implicit)
    start, size = begin + element.start, element.length
    if size == _UNDEFINED_LENGTH and not encoding.stated:
        raise HeaderError("its pixels are compressed, but it has no file meta that says how")
    if encoding.uid in _DECODED_WHOLE or encoding.uid.is_encapsulated or size == _UNDEFINED_LENGTH:
        return PixelLocation(present=start < end, start=start)
    trailing = _count_trailing(stream, start + size, encoding)
    size = min(size, end - start)
    return PixelLocation(size > 0, is_raw=True, start=start, size=size, trailing=trailing)


def _count_trailing(stream: BinaryIO, place: int, encoding: _Encoding) -> int:
    """Count the bytes after the pixels that do not belong to complete elements with higher tags.

    If extra bytes were inserted before or within the pixels, the last pixels are among them.
    Returns 0 if all of these bytes are 0.
    """
    end = stream.seek(0, io.SEEK_END)
    if place >= end:  # pixels that are cut short are reported when they are read
        return 0
    last = PIXEL_DATA
    while place + 8 <= end:
        stream.seek(place)
        element = _element_head(stream.read(12), little=True, implicit=encoding.implicit)
        if (
            element.tag <= last
            or element.tag == _NO_TAG
            or not (encoding.implicit or element.vr in _VRS)
        ):
            break
        size = element.length
        if size == _UNDEFINED_LENGTH:
            size = _length_of_sequence(stream, place + element.start)
        if place + element.start + size > end:
            break
        last = element.tag
        place += element.start + size
    stream.seek(place)
    return end - place if any(stream.read()) else 0


def _length_of_sequence(stream: BinaryIO, place: int) -> int:
    """Return the number of bytes from `place` to the last sequence delimiter in the file.

    The last one is used because sequences may be nested.
    """
    stream.seek(place)
    return stream.read().rfind(_SEQUENCE_END) + len(_SEQUENCE_END)


def _drop_padding(stream: BinaryIO, parsed: Parsed) -> None:
    """Ignore padding after the pixels, inside their element and at the end of the file.

    As many bytes as a slice has, or more, are a fault instead: they could be another image.
    """
    values = parsed.values
    sizes = [values.get(name, (0.0,))[0] for name in ("Rows", "Columns")]
    rows, columns, frames = (int(n) for n in (*sizes, values.get("NumberOfFrames", (1.0,))[0]))
    pixels, slice_bytes = parsed.pixels, 2 * rows * columns
    wanted = slice_bytes * frames
    formats = (("BitsAllocated", 16.0), ("SamplesPerPixel", 1.0))
    is_plain = all(values.get(name, (usual,))[0] == usual for name, usual in formats)
    if not pixels.is_raw or not wanted or not is_plain:
        parsed.faults += [_EXTRA_BYTES.format(pixels.trailing)] if pixels.trailing else []
        return
    within = max(pixels.size - wanted, 0)
    end = stream.seek(0, io.SEEK_END)
    for start, count in ((pixels.start + wanted, within), (end - pixels.trailing, pixels.trailing)):
        if count and count < slice_bytes and _is_padding(stream, start, count):
            parsed.notes.append(f"{count} bytes of padding after its pixels were ignored")
        elif count:
            parsed.faults.append(_EXTRA_BYTES.format(count))
    parsed.pixels = replace(pixels, size=pixels.size - within)


def _is_padding(stream: BinaryIO, start: int, count: int) -> bool:
    stream.seek(start)
    found = stream.read(count)
    return found[0] in _PADDING and found.count(found[0]) == count


def _element_head(head: bytes, *, little: bool, implicit: bool | None = None) -> _ElementHead:
    """Decode tag, VR and length of an element (PS3.5 7.1).

    Args:
        head: the first 8 bytes of the element; 12 if its length may have four bytes.
        little: whether numbers are little endian.
        implicit: whether the element has no VR; None: it has none if bytes 4 and 5 are not a VR.
    """
    vr = head[4:6]
    if implicit is None:
        implicit = vr not in _VRS
    tag = _number(head[:2], little=little) << 16 | _number(head[2:4], little=little)
    if implicit:
        return _ElementHead(tag, b"", 8, _number(head[4:8], little=little))
    if vr in _LONG_VRS:
        return _ElementHead(tag, vr, 12, _number(head[8:12], little=little))
    return _ElementHead(tag, vr, 8, _number(head[6:8], little=little))


def _is_data_set(head: bytes, *, little: bool) -> bool:
    """Return whether `head` starts with an element of group 2 or 8, followed by a higher tag."""
    if len(head) < 8:
        return False
    first = _element_head(head[:12], little=little)
    if first.tag >> 16 not in _FIRST_GROUPS or first.tag & 0xFFFF > 0xFF:
        return False
    if not first.vr and not little:  # DICOM has no implicit big-endian syntax
        return False
    after = head[first.start + first.length :][:12]
    follows = len(after) < 8 or first.tag < _element_head(after, little=little).tag < _SECOND_BELOW
    return first.length <= _LARGEST_FIRST and follows


def _number(few: bytes, *, little: bool) -> int:
    return int.from_bytes(few, "little" if little else "big")
