"""The attributes of DICOM images that are read, and what kind of value each is.

The list is closed: what is not on it is not read. Values become plain Python: tuples of texts or
of finite numbers.
"""

from __future__ import annotations

import math
from enum import Enum
from functools import lru_cache
from typing import Any

from pydicom.config import IGNORE
from pydicom.datadict import tag_for_keyword
from pydicom.uid import UID

Value = tuple[str, ...] | tuple[float, ...]


class Kind(Enum):
    """How an attribute's bytes are read."""

    TEXT = "text"
    NUMBER = "numbers as text"
    SHORT = "16-bit number without sign"
    NESTED = "sequence"


NESTED = Kind.NESTED

_KEYWORDS: dict[Kind, tuple[str, ...]] = {
    Kind.TEXT: (
        "MediaStorageSOPClassUID", "TransferSyntaxUID", "ImageType", "SOPClassUID",
        "SOPInstanceUID", "Modality", "Manufacturer", "StudyDescription", "SeriesDescription",
        "PatientID", "SoftwareVersions", "DerivationDescription",
        "PatientSpeciesDescription", "BodyPartExamined", "ScanOptions", "ProtocolName",
        "ConvolutionKernel", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
        "PhotometricInterpretation", "RescaleType", "LossyImageCompression",
    ),
    Kind.NUMBER: (
        "SliceThickness", "KVP", "InstanceNumber", "ImagePositionPatient",
        "ImageOrientationPatient", "SliceLocation", "PixelSpacing", "NumberOfFrames",
        "RescaleIntercept", "RescaleSlope",
    ),
    Kind.SHORT: (
        "SamplesPerPixel", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
        "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    ),
    Kind.NESTED: (
        "AnatomicRegionSequence", "PatientSpeciesCodeSequence", "ModalityLUTSequence",
        "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    ),
}  # fmt: skip

TAGS: dict[int, tuple[str, Kind]] = {
    int(tag_for_keyword(keyword) or 0): (keyword, kind)
    for kind, keywords in _KEYWORDS.items()
    for keyword in keywords
}
"""Tag to keyword and kind."""

KEYWORDS = [keyword for keyword, _ in TAGS.values()]

PIXEL_DATA = 0x7FE00010


def uid_of(text: str) -> UID:
    """Take a text for a UID, without pydicom's warning if it is none."""
    return UID(text, IGNORE)


def value_of(kind: Kind, raw: Any, *, little: bool) -> Value | str | None:  # noqa: ANN401  # pydicom's
    """Turn the bytes of an attribute into a value.

    Returns:
        The value, None if there is none, or what is wrong with it as a text.
    """
    if raw is None:
        return None
    if not isinstance(raw, bytes):
        return "is a sequence, expected a value"
    return _value_of(kind, raw, little)


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
    return "" if value is None else str(value).strip(" \0")


@lru_cache(maxsize=4096)  # a series states most values alike in every slice
def _value_of(kind: Kind, raw: bytes, little: bool) -> Value | str | None:
    if kind is Kind.SHORT:
        if not raw:
            return None
        order = "little" if little else "big"
        whole = float(int.from_bytes(raw, order))  # type: ignore[arg-type]  # one of the two
        return (whole,) if len(raw) == 2 else f"has {len(raw)} bytes, expected 2"
    text = raw.decode("latin-1").strip(" \0")
    if not text:
        return None
    parts = tuple(part.strip(" \0") for part in text.split("\\"))
    return parts if kind is Kind.TEXT else _numbers(parts)


def _numbers(parts: tuple[str, ...]) -> tuple[float, ...] | str:
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        numbers = (math.nan,)
    # Python takes 1_0 for 10; DICOM does not (PS3.5 6.2).
    if any("_" in part for part in parts) or not all(map(math.isfinite, numbers)):
        return "is no number"
    return numbers
