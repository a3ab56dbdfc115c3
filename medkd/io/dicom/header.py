"""Headers of DICOM images, read without their pixels: plain values and where the pixels begin.

One `SliceHeader` for each single-frame file and for each frame of an enhanced one, so that what
follows (`structure.py`, `gate.py`, `pixels.py`) knows no difference. Values are
read from the bytes that the file states, by the meaning of the attribute and not by its VR, and
only those named in `tags.py`: never a name, a birth date or an accession number. A value
that is no number where one is expected is a fault of the header, and the value counts as absent.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pydicom
from pydicom.errors import BytesLengthException
from pydicom.filereader import data_element_generator
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from medkd.io.dicom.quiet import quiet_dicom
from medkd.io.dicom.tags import (
    KEYWORDS,
    NESTED,
    PIXEL_DATA,
    TAGS,
    Value,
    plain_value,
    uid_of,
    value_of,
)
from medkd.io.file_ref import FileRef

UNREADABLE = (
    OSError, EOFError, ValueError, AttributeError, KeyError, IndexError, TypeError, RuntimeError,
    AssertionError, OverflowError, MemoryError, NotImplementedError, struct.error, zlib.error,
    zipfile.BadZipFile, BytesLengthException,
)  # fmt: skip
"""What pydicom and its codecs raise for files that are broken."""

_WANTED = [Tag(tag) for tag in TAGS]
_MAGIC_AT, _MAGIC = 128, b"DICM"
_META_MARKS = (b"DICM\x02\x00", b"\x02\x00\x00\x00UL\x04\x00")
_DICOMDIR = ("1.2.840.10008.1.3.10",)
"""A table of contents (PS3.3 F): no image, and nothing that a series lacks."""

_LARGEST_INFLATED = 1 << 30
_UNDEFINED_LENGTH = 0xFFFFFFFF
_LONG_VR = (b"OB", b"OW", b"UN")
_PIXEL_TAGS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")
_AFTER_PIXELS = (b"\xfc\xff\xfc\xff", b"\xfa\xff\xfa\xff")
_DECODED_WHOLE = (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """One slice: the header of a single-frame image, or of one frame.

    Args:
        ref: its file.
        values: keyword to value, as `tags.TAGS` says; absent where the header has none.
        syntax: UID of the transfer syntax.
        frame: number of the frame in its file, from 0.
        frames: number of frames in the file.
        has_pixels: whether the file holds pixels at all.
        is_raw: whether they can be read as they stand, 16 bit little-endian.
        pixel_start: byte at which they begin: this frame's if raw, else the first item.
        pixel_bytes: bytes of this frame that are there, if raw.
        faults: what is wrong with values of the header.
    """

    ref: FileRef
    values: Mapping[str, Value]
    syntax: str = ""
    frame: int = 0
    frames: int = 1
    has_pixels: bool = True
    is_raw: bool = False
    pixel_start: int = 0
    pixel_bytes: int = 0
    faults: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What messages call the slice."""
        return self.ref.name if self.frames == 1 else f"{self.ref.name} frame {self.frame + 1}"

    def text(self, keyword: str) -> str:
        """Return a value as one text, several parted by a backslash; empty where absent."""
        return "\\".join(self.texts(keyword))

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return a value of several texts."""
        return tuple(map(str, self.values.get(keyword, ())))

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """Return a value of several numbers; empty where absent."""
        return tuple(map(float, self.values.get(keyword, ())))

    def number(self, keyword: str) -> float | None:
        """Return the first number of a value, None where absent."""
        return next(iter(self.numbers(keyword)), None)

    def whole(self, keyword: str) -> int | None:
        """Return a whole number, None where absent or not whole."""
        number = self.number(keyword)
        return int(number) if number is not None and number.is_integer() else None


@dataclass(frozen=True, slots=True)
class HeaderSet:
    """What reading the headers of files gave.

    Args:
        headers: of the files that are DICOM, frames one by one.
        reasons: "code: text" for each file that cannot be read.
        strangers: files that are not DICOM at all, and DICOMDIR.
    """

    headers: tuple[SliceHeader, ...]
    reasons: tuple[str, ...] = ()
    strangers: tuple[FileRef, ...] = ()


@dataclass(slots=True)
class _Parsed:
    """The elements of one file up to its pixels."""

    values: dict[str, Value] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    nested: bool = False


def read_headers(refs: Sequence[FileRef]) -> HeaderSet:
    """Read the headers of files, of one series or of several.

    Args:
        refs: files in any order, whatever they are.

    Returns:
        Headers in the order of `refs`, what cannot be read with its reason, and the strangers.
    """
    headers: list[SliceHeader] = []
    reasons: list[str] = []
    strangers: list[FileRef] = []
    with quiet_dicom():
        for ref in refs:
            try:
                found = _read_file(ref)
            except EOFError:
                reasons.append(f"unreadable: {ref.name}: the file ends within its DICOM header")
                continue
            except UNREADABLE as error:
                kind = type(error).__name__
                reasons.append(f"unreadable: {ref.name}: its DICOM header cannot be read ({kind})")
                continue
            if found is None:
                strangers.append(ref)
            elif isinstance(found, str):
                reasons.append(f"unreadable: {ref.name}: {found}")
            else:
                headers += found
    return HeaderSet(tuple(headers), tuple(reasons), tuple(strangers))


def _read_file(ref: FileRef) -> list[SliceHeader] | str | None:
    """Return the slices of a file, why it cannot be read, or None if it is not DICOM."""
    with ref.open() as stream:
        start = stream.read(1024)
        if start[_MAGIC_AT : _MAGIC_AT + 4] != _MAGIC:
            return _damaged_or_stranger(start)
        stream.seek(_MAGIC_AT + 4)
        meta = _elements(stream, little=True, stop=lambda tag: tag >> 16 != 2)
        if meta.values.get("MediaStorageSOPClassUID") == _DICOMDIR:
            return None
        name = str(meta.values.get("TransferSyntaxUID", ("",))[0])
        uid = uid_of(name)
        if not name:
            return "its file meta states no TransferSyntaxUID"
        if not uid.is_transfer_syntax:
            return "its file meta states a transfer syntax that is none of DICOM's"
        if uid == DeflatedExplicitVRLittleEndian:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            stream = io.BytesIO(inflater.decompress(stream.read(), _LARGEST_INFLATED))
            if not inflater.eof:
                return "its deflated content is cut short, or larger than 1 GiB"
        little = uid != ExplicitVRBigEndian
        parsed = _elements(
            stream, implicit=uid.is_implicit_VR, little=little, stop=lambda tag: tag == PIXEL_DATA
        )
        place = _pixel_place(stream, uid)
    header = SliceHeader(
        ref,
        parsed.values,
        syntax=name,
        has_pixels=place.there,
        is_raw=place.is_raw,
        pixel_start=place.start,
        pixel_bytes=place.size,
        faults=(*parsed.faults, *([place.fault] if place.fault else [])),
    )
    return _with_nested(header) if parsed.nested else [header]


def _damaged_or_stranger(start: bytes) -> str | None:
    """Tell a DICOM file with a damaged beginning from a file that is something else."""
    if not start:
        return "the file is empty"
    if any(mark in start for mark in _META_MARKS) or not any(start[:_MAGIC_AT]):
        return "its beginning is damaged or cut short: expected DICM after 128 bytes"
    return None


def _elements(
    stream: BinaryIO, *, little: bool, stop: Callable[[int], bool], implicit: bool = False
) -> _Parsed:
    """Read the wanted elements from where the stream stands; leave it where `stop` held."""
    parsed = _Parsed()
    found = data_element_generator(
        stream,
        is_implicit_VR=implicit,
        is_little_endian=little,
        stop_when=lambda tag, vr, length: stop(int(tag)),
        specific_tags=_WANTED,
    )
    for element in found:
        if int(element.tag) not in TAGS:  # pydicom adds the character set
            continue
        keyword, kind = TAGS[int(element.tag)]
        if kind is NESTED:
            parsed.nested = True
            continue
        if isinstance(element.value, bytes) and len(element.value) < element.length:
            raise EOFError
        value = value_of(kind, element.value, little=little)
        if isinstance(value, str):
            parsed.faults.append(f"{keyword} {value}")
        elif value is not None:
            parsed.values[keyword] = value
    place = stream.tell()
    if place > stream.seek(0, io.SEEK_END):  # an element was skipped that is not all there
        raise EOFError
    stream.seek(place)
    return parsed


@dataclass(frozen=True, slots=True)
class _PixelPlace:
    """Where the value of a file's pixels begins, its bytes if it stands there as it is."""

    there: bool = False
    is_raw: bool = False
    start: int = 0
    size: int = 0
    fault: str = ""


def _pixel_place(stream: BinaryIO, uid: UID) -> _PixelPlace:
    """Read the head of the pixels' element, at which the stream stands."""
    begin = stream.tell()
    head = stream.read(12)
    end = stream.seek(0, io.SEEK_END)
    if head[:4] not in _PIXEL_TAGS:
        return _PixelPlace()
    is_long = head[4:6] in _LONG_VR
    start = begin + (12 if is_long and not uid.is_implicit_VR else 8)
    stated = head[8:12] if is_long else head[6:8]
    size = int.from_bytes(head[4:8] if uid.is_implicit_VR else stated, "little")
    if uid in _DECODED_WHOLE or uid.is_encapsulated or size == _UNDEFINED_LENGTH:
        return _PixelPlace(there=start < end, start=start)
    stream.seek(start + size)
    tail = stream.read(4)
    # Bytes put in before would push the last pixels out here; padding may follow, and signatures.
    fault = "" if not any(tail) or tail in _AFTER_PIXELS else "its pixels are followed by more"
    size = min(size, end - start)
    return _PixelPlace(size > 0, is_raw=True, start=start, size=size, fault=fault)


def _with_nested(header: SliceHeader) -> list[SliceHeader]:
    """Add what stands in sequences: anatomy and species, and the frames of an enhanced image."""
    with header.ref.open() as stream:
        dataset: Any = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=KEYWORDS)
    top = {**header.values, **_coded(dataset)}
    shared = _groups(dataset, "SharedFunctionalGroupsSequence")
    frames = _groups(dataset, "PerFrameFunctionalGroupsSequence")
    if not shared and not frames:
        return [_replaced(header, top)]
    count = int(dataset.get("NumberOfFrames") or 1)
    if len(frames) != count:
        fault = f"NumberOfFrames {count} disagrees with {len(frames)} items of frames"
        return [_replaced(header, top, faults=(*header.faults, fault))]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        top.pop(keyword, None)  # a frame's place is its own, never the file's
    common = {**top, **(_group_values(shared[0]) if shared else {})}
    size = header.pixel_bytes // count
    return [
        _replaced(
            header,
            {**common, **_group_values(group), "NumberOfFrames": (1.0,)},
            frame=number,
            frames=count,
            pixel_start=header.pixel_start + (number * size if header.is_raw else 0),
            pixel_bytes=size,
        )
        for number, group in enumerate(frames)
    ]


def _replaced(header: SliceHeader, values: dict[str, Value], **changed: Any) -> SliceHeader:  # noqa: ANN401  # fields
    known = {name: getattr(header, name) for name in SliceHeader.__slots__}
    return SliceHeader(**{**known, "values": values, **changed})


def _groups(dataset: Any, keyword: str) -> list[Any]:  # noqa: ANN401  # pydicom has no types here
    return list(dataset.get(keyword) or [])


def _group_values(group: Any) -> dict[str, Value]:  # noqa: ANN401
    """Collect the wanted values of all macros of a functional group (PS3.3 C.7.6.16)."""
    values: dict[str, Value] = {}
    for macro in group:
        if macro.VR == "SQ" and macro.value:
            item = macro.value[0]
            values |= {
                element.keyword: value
                for element in item
                if element.keyword in KEYWORDS and (value := plain_value(element)) is not None
            }
            values |= _coded(item)
    return values


def _coded(dataset: Any) -> dict[str, Value]:  # noqa: ANN401
    """Take the meaning of coded anatomy and species."""
    found: dict[str, Value] = {}
    for keyword in ("AnatomicRegionSequence", "PatientSpeciesCodeSequence"):
        items = dataset.get(keyword) or []
        meanings = tuple(str(item.get("CodeMeaning", "")) for item in items)
        if any(meanings):
            found[keyword] = meanings
    return found
