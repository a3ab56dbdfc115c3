"""The attributes of DICOM images that are read, and what kind of value each is.

The list is closed: what is not on it is not read. Values become plain Python: tuples of texts or
of finite numbers.
"""

from __future__ import annotations

import math
import struct
from enum import Enum
from functools import lru_cache
from typing import Any

from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import UID

Value = tuple[str, ...] | tuple[float, ...]


class Kind(Enum):
    """How an attribute's bytes are read."""

    TEXT = "text"
    NUMBER = "numbers as text"
    SHORT = "16-bit number without sign"
    NESTED = "sequence"


NESTED = Kind.NESTED

_BINARY = {
    "FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q",
}  # fmt: skip
"""VR to the letter by which `struct` knows it."""

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
"""Tag to keyword and kind."""

KEYWORDS = [keyword for keyword, _ in TAGS.values()]

OPTIONAL = ("SliceThickness", "KVP", "InstanceNumber", "SliceLocation", "ContrastBolusVolume")
"""Numbers without which a slice is read as well: what is none counts as absent."""

PIXEL_DATA = 0x7FE00010
_SHOWN = 16
"""Characters of a text in the place of a number that are shown; no name of a patient is there."""


def uid_of(text: str) -> UID:
    """Take a text for a UID, without pydicom's warning if it is none."""
    return UID(text, IGNORE)


def value_of(kind: Kind, raw: Any, *, vr: str, little: bool) -> Value | str | None:  # noqa: ANN401  # pydicom's
    """Turn the bytes of an attribute into a value.

    Args:
        kind: what the attribute means.
        raw: its bytes.
        vr: as the file states it; empty where it states none.
        little: whether numbers are little endian.

    Returns:
        The value, None if there is none, or what is wrong with it as a text.
    """
    if raw is None:
        return None
    if not isinstance(raw, bytes):
        return "is a sequence, expected a value"
    return _value_of(kind, raw, vr, little)


def wrong_vr(keyword: str, vr: str) -> str:
    """Say that an attribute has another VR than the standard's; empty if it has not.

    UN is no fault: it is how a program passes on what it does not know (PS3.5 6.2.2).
    """
    right = dictionary_VR(keyword)
    if vr in ("", "UN", *right.split(" or ")):
        return ""
    return f"{keyword} has VR {vr[:2]}, expected {right}"


def plain_value(element: Any) -> Value | None:  # noqa: ANN401  # pydicom has no types here
    """Turn an element that pydicom has converted into a value; None where it is empty or odd."""
    kind = next(kind for keyword, kind in TAGS.values() if keyword == element.keyword)
    value = element.value
    if kind is NESTED or value is None or value == "":
        return None
    parts = list(value) if element.VM > 1 else [value]
    if kind is Kind.TEXT:
        return tuple(str(part).strip() for part in parts)
    numbers = tuple(float(part) for part in parts)
    return numbers if all(map(math.isfinite, numbers)) else None


def text_of(header: Any, name: str) -> str:  # noqa: ANN401  # pydicom's Dataset
    """Return one value of a header as text without padding; empty where missing or broken."""
    try:
        value = header.get(name)
    except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError):
        return ""
    if isinstance(value, bytes):  # a VR of bytes, where the standard has text
        value = value.decode("latin-1")
    return "" if value is None else str(value).strip(" \0")


@lru_cache(maxsize=4096)  # a series states most values alike in every slice
def _value_of(kind: Kind, raw: bytes, vr: str, little: bool) -> Value | str | None:
    if not raw:
        return None
    binary = _BINARY.get(vr, "")
    if kind is Kind.SHORT:
        return _shorts(raw, vr, little)
    # The bytes of a small number can be a digit: the stated VR decides, as in pydicom.
    if kind is Kind.NUMBER and (unpacked := _unpacked(raw, binary, little)):
        return unpacked
    text = raw.decode("latin-1").strip(" \0")
    if not text:
        return _unpacked(raw, binary, little)
    parts = tuple(part.strip(" \0") for part in text.split("\\"))
    return parts if kind is Kind.TEXT else _numbers(parts)


def _shorts(raw: bytes, vr: str, little: bool) -> Value | str | None:
    """Read a 16-bit number, or what a file with another VR has in its place."""
    if vr in _NUMBERS_AS_TEXT:
        numbers = _numbers(tuple(raw.decode("latin-1").strip(" \0").split("\\")))
        if not isinstance(numbers, str):
            return numbers
    if len(raw) == 2:
        return (float(int.from_bytes(raw, "little" if little else "big")),)
    return _unpacked(raw, _BINARY.get(vr, ""), little) or f"has {len(raw)} bytes, expected 2"


def _unpacked(raw: bytes, letter: str, little: bool) -> tuple[float, ...] | None:
    """Read the numbers of a binary VR; None if the bytes are none."""
    if not letter or len(raw) % struct.calcsize(f"={letter}"):
        return None
    count = len(raw) // struct.calcsize(f"={letter}")
    numbers = struct.unpack(f"{'<' if little else '>'}{count}{letter}", raw)
    return tuple(map(float, numbers)) if all(map(math.isfinite, numbers)) else None


def _numbers(parts: tuple[str, ...]) -> tuple[float, ...] | str:
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        numbers = (math.nan,)
    # Python takes 1_0 for 10; DICOM does not (PS3.5 6.2).
    if any("_" in part for part in parts) or not all(map(math.isfinite, numbers)):
        got = "\\".join(parts)[:_SHOWN]
        return f"is no number: got {got!r}, expected digits with a decimal point"
    return numbers
