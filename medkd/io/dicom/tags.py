"""The DICOM attributes that medkd reads, and the kind of value of each.

Attributes that are not in this list are never read. Values become plain Python tuples of strings or
of finite numbers.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import Any

from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import UID

Value = tuple[str, ...] | tuple[float, ...]


class Kind(Enum):
    """How the bytes of an attribute are decoded."""

    TEXT = "text"
    NUMBER = "numbers as text"
    SHORT = "unsigned 16-bit number"
    NESTED = "sequence"


_BINARY = {
    "FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q",
}  # fmt: skip
"""Maps a VR to its format character in `struct`."""

_NUMBERS_AS_TEXT = ("AE", "CS", "DS", "IS", "LO", "LT", "SH", "ST", "UC", "UT")

_KEYWORDS: dict[Kind, tuple[str, ...]] = {
    Kind.TEXT: (
        "MediaStorageSOPClassUID", "TransferSyntaxUID", "ImageType", "SOPClassUID",
        "SOPInstanceUID", "Modality", "Manufacturer", "StudyDescription", "SeriesDescription",
        "PatientID", "SoftwareVersions", "DerivationDescription",
        "PatientSpeciesDescription", "BodyPartExamined", "ScanOptions", "ProtocolName",
        "ConvolutionKernel", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
        "PhotometricInterpretation", "RescaleType", "LossyImageCompression",
        "ContrastBolusAgent", "ContrastBolusStartTime", "ContrastBolusAgentPhase",
        "ContrastBolusRoute", "ContrastBolusAgentAdministered",
    ),
    Kind.NUMBER: (
        "SliceThickness", "KVP", "InstanceNumber", "ImagePositionPatient",
        "ImageOrientationPatient", "SliceLocation", "PixelSpacing", "NumberOfFrames",
        "RescaleIntercept", "RescaleSlope", "AcquisitionNumber", "FrameAcquisitionNumber",
        "ContrastBolusVolume",
    ),
    Kind.SHORT: (
        "SamplesPerPixel", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
        "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    ),
    Kind.NESTED: (
        "AnatomicRegionSequence", "PatientSpeciesCodeSequence", "ModalityLUTSequence",
        "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
        "ContrastBolusAgentSequence",
    ),
}  # fmt: skip

TAGS: dict[int, tuple[str, Kind]] = {
    int(tag_for_keyword(keyword) or 0): (keyword, kind)
    for kind, keywords in _KEYWORDS.items()
    for keyword in keywords
}
"""Maps a tag to its keyword and kind."""

KEYWORDS = [keyword for keyword, _ in TAGS.values()]

OPTIONAL = ("SliceThickness", "KVP", "InstanceNumber", "SliceLocation", "ContrastBolusVolume")
"""Numbers that a slice can be read without: an invalid one is treated as missing."""

PIXEL_DATA = 0x7FE00010
_SHOWN_CHARACTERS = 16
"""Messages show this many characters of an invalid number. Numeric attributes hold no names."""


def uid_of(text: str) -> UID:
    """Convert a string to a pydicom UID without the warning for invalid ones."""
    return UID(text, IGNORE)


def hashed_uid(text: str) -> str:
    """Derive a UID under the root 2.25 from a text (PS3.5 B.2)."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def decode_value(kind: Kind, raw: Any, *, vr: str, little: bool) -> Value | str | None:  # noqa: ANN401  # pydicom's
    """Decode the bytes of an attribute.

    Args:
        kind: the kind of value that the attribute holds.
        raw: its bytes.
        vr: the VR in the file; empty if the file has none.
        little: whether numbers are little endian.

    Returns:
        The value, None if it is empty, or a string that describes what is wrong with it.
    """
    if raw is None:
        return None
    if not isinstance(raw, bytes):
        return "is a sequence, expected a value"
    return _decoded(kind, raw, vr, little)


def wrong_vr(keyword: str, vr: str) -> str:
    """Return a message if the VR of an attribute differs from the standard's; else empty.

    UN is accepted: programs use it for attributes that they do not know (PS3.5 6.2.2).
    """
    right = dictionary_VR(keyword)
    if vr in ("", "UN", *right.split(" or ")):
        return ""
    return f"{keyword} has VR {vr[:2]}, expected {right}"


def plain_value(element: Any) -> Value | None:  # noqa: ANN401  # pydicom has no types here
    """Convert an element parsed by pydicom to a value; None if it is empty or not finite."""
    _, kind = TAGS[int(element.tag)]
    value = element.value
    if kind is Kind.NESTED or value is None or value == "":
        return None
    parts = list(value) if element.VM > 1 else [value]
    if kind is Kind.TEXT:
        return tuple(str(part).strip() for part in parts)
    numbers = tuple(float(part) for part in parts)
    return numbers if all(map(math.isfinite, numbers)) else None


def text_of(header: Any, name: str) -> str:  # noqa: ANN401  # pydicom's Dataset
    """Return a value of a header as text without padding; empty if it is missing or unreadable."""
    value = _value_of(header, name)
    return "" if value is None else str(value).strip(" \0")


def texts_of(header: Any, name: str) -> tuple[str, ...]:  # noqa: ANN401
    """Return all values of an attribute as texts; empty if it is missing or unreadable."""
    value = _value_of(header, name)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(str(part).strip(" \0") for part in value)
    return () if value is None else tuple(part.strip(" \0") for part in str(value).split("\\"))


def _value_of(header: Any, name: str) -> Any:  # noqa: ANN401
    try:
        value = header.get(name)
    except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError):
        return None
    # The file may have a binary VR where the standard requires text.
    return value.decode("latin-1") if isinstance(value, bytes) else value


@lru_cache(maxsize=4096)  # most values are the same in every slice of a series
def _decoded(kind: Kind, raw: bytes, vr: str, little: bool) -> Value | str | None:
    if not raw:
        return None
    binary = _BINARY.get(vr, "")
    if kind is Kind.SHORT:
        return _shorts(raw, vr, little)
    # The bytes of a small binary number can also be an ASCII digit: the VR decides, as in pydicom.
    if kind is Kind.NUMBER and (unpacked := _unpacked(raw, binary, little)):
        return unpacked
    text = raw.decode("latin-1").strip(" \0")
    if not text:
        return _unpacked(raw, binary, little)
    parts = tuple(part.strip(" \0") for part in text.split("\\"))
    return parts if kind is Kind.TEXT else _numbers(parts)


def _shorts(raw: bytes, vr: str, little: bool) -> Value | str | None:
    """Decode a 16-bit number, also from a file that stores it under another VR."""
    if vr in _NUMBERS_AS_TEXT:
        numbers = _numbers(tuple(raw.decode("latin-1").strip(" \0").split("\\")))
        if not isinstance(numbers, str):
            return numbers
    if len(raw) == 2:
        return (float(int.from_bytes(raw, "little" if little else "big")),)
    return _unpacked(raw, _BINARY.get(vr, ""), little) or f"has {len(raw)} bytes, expected 2"


def _unpacked(raw: bytes, letter: str, little: bool) -> tuple[float, ...] | None:
    """Decode the numbers of a binary VR; None if their length or value is invalid."""
    size = struct.calcsize(f"={letter}")
    if not letter or len(raw) % size:
        return None
    numbers = struct.unpack(f"{'<' if little else '>'}{len(raw) // size}{letter}", raw)
    return tuple(map(float, numbers)) if all(map(math.isfinite, numbers)) else None


def _numbers(parts: tuple[str, ...]) -> tuple[float, ...] | str:
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        numbers = (math.nan,)
    # Python parses 1_0 as 10; DICOM does not allow it (PS3.5 6.2).
    if any("_" in part for part in parts) or not all(map(math.isfinite, numbers)):
        got = "\\".join(parts)[:_SHOWN_CHARACTERS]
        return f"is not a number: got {got!r}, expected digits with a decimal point"
    return numbers
