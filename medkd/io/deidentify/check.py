"""Does a shared file still name anybody? Look for every identity string of its original.

The check knows nothing of how the file was made: it reads it back from disk, walks every element,
and searches the raw bytes, pixel streams included (a JPEG's comment can hold a name). A string is
shown in no message; the attribute that it came from is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pydicom
from pydicom.charset import convert_encodings
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from medkd.io.deidentify.rules import (
    COUNTERS,
    DEVICE_TEXTS,
    EMPTIED,
    KEPT,
    OWN_TEXTS,
    PSEUDONYMOUS,
    REPLACED_UIDS,
    SHIFTED_DATES,
    WORDS,
    strangers_in,
    words_of,
)
from medkd.io.dicom.tags import text_of

_STANDARD_UIDS = "1.2.840.10008."
_NUMERIC = {"UI", "IS", "DS", "DA", "TM"}
_TEXTS = {"AE", "LO", "LT", "SH", "ST", "UC", "UR", "UT", "UN", "OB", "CS"}
_PRIVATE = "a private element"
_IDENTIFIERS = ("PatientID", "OtherPatientIDs", "AccessionNumber")
_LEAST = 3
"""Shorter texts are no identity: they would be found everywhere."""

_LEAST_IN_HEADER, _LEAST_IN_PIXELS = 4, 7
"""Bytes that a string must have to be searched raw; seven letters hardly turn up by chance among
pixels: for 50 strings in 100,000 slices of 512 x 512, about one time in 250."""

_LEAST_NUMBER = 6
"""Digits that a number must have: shorter ones are slopes and sizes as well."""

_MOST = 1024
"""Longer values (tables, curves) are searched by their beginning."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What names somebody in one original file: text to the attribute it stands in.

    Args:
        words: single words of names and identifiers, in lower case and as spelled.
        values: whole values: names, identifiers, institutions, free text, private text.
        uids: instance UIDs.
        dates: attribute to its original date.
        encodings: Python codecs in which the file's text may be written.
    """

    words: dict[str, str] = field(repr=False)
    values: dict[str, str] = field(repr=False)
    uids: dict[str, str] = field(repr=False)
    dates: dict[str, str] = field(repr=False)
    encodings: tuple[str, ...] = ("utf-8", "latin-1")


def identity_of(dataset: Dataset) -> Identity:
    """Collect what names somebody in an original, at any depth, private elements included.

    Names and PatientID count word by word, everything else as a whole. Words of the closed list
    that shared files hold anyway are left out.
    """
    found = Identity({}, {}, {}, {}, encodings=_encodings(dataset))
    for element in _elements(dataset):
        _collect(element, found)
    # Vendors repeat the device's name in private elements: that names nobody.
    device = " ".join(text_of(dataset, name) for name in DEVICE_TEXTS).casefold()
    for value in [
        v for v, name in found.values.items() if name == _PRIVATE and v.casefold() in device
    ]:
        del found.values[value]
    return found


def leaks_in(path: Path, identity: Identity) -> list[str]:
    """Say what is left of an identity in a shared file; empty if nothing is.

    Args:
        path: the file as it would be shared.
        identity: of its original.

    Returns:
        One line a finding: which attribute of the original, and where it was found.
    """
    dataset = pydicom.dcmread(path)
    content = path.read_bytes()
    with path.open("rb") as stream:
        pydicom.dcmread(stream, stop_before_pixels=True)
        pixels_at = stream.tell()
    found = [f"{name} is there, which no shared file holds" for name in strangers_in(dataset)]
    found += [f"{name} is not empty" for name in EMPTIED if dataset.get(name) not in ("", None)]
    found += _left_in_elements(dataset, identity)
    header, pixels = content[:pixels_at], content[pixels_at:]
    found += _left_in_bytes(header, identity, least=_LEAST_IN_HEADER, where="the header's bytes")
    found += _left_in_bytes(pixels, identity, least=_LEAST_IN_PIXELS, where="the pixels' bytes")
    if content[:128].strip(b"\0"):
        found.append("the preamble is not empty")
    return sorted(set(found))


def _collect(element: Any, found: Identity) -> None:  # noqa: ANN401  # pydicom's DataElement
    name = _PRIVATE if element.tag.is_private else keyword_for_tag(element.tag)
    name = name or "an unknown element"
    values = _texts(element)
    if element.VR == "UI" and not name.endswith("ClassUID") and name != "TransferSyntaxUID":
        found.uids.update({uid: name for uid in values if _is_instance_uid(uid)})
    if element.VR in ("DA", "DT") and values:
        found.dates[name] = values[0]
    if name == "PatientBirthDate":
        found.values.update(dict.fromkeys(values, name))
    elif element.VR == "PN" or name in _IDENTIFIERS:
        for value in values:
            for text in (value, *re.split(r"[\^=]", value), re.sub(r"[\^=]+", " ", value)):
                _note(text, name, found.values)
            for word in words_of(value):
                _note(word, name, found.words)
    elif element.VR in _TEXTS and (element.tag.is_private or name not in KEPT):
        for value in values:
            _note(value, name, found.values)


def _note(text: str, name: str, into: dict[str, str]) -> None:
    """Keep a text that can name somebody: long enough, not of closed words alone, not our own."""
    spelled = text.strip()
    plain = spelled.casefold()
    least = _LEAST if plain.isascii() else _LEAST - 1
    closed = {word.upper() for word in words_of(plain)} <= WORDS
    if len(plain) >= least and not closed and plain not in OWN_TEXTS:
        into.setdefault(plain, name)
        into.setdefault(spelled, name)


def _left_in_elements(dataset: Dataset, identity: Identity) -> Iterator[str]:
    """Compare every value with the identity: UIDs, dates, whole values, words."""
    for element in _elements(dataset):
        name = keyword_for_tag(element.tag)
        for value in _texts(element):
            if name in REPLACED_UIDS and value in identity.uids:
                yield f"{identity.uids[value]} is left in {name}"
            if name in SHIFTED_DATES and value == identity.dates.get(name):
                yield f"{name} is not shifted"
            if name in PSEUDONYMOUS or (element.VR in _NUMERIC and name not in COUNTERS):
                continue
            plain = value.casefold()
            if plain in identity.values:
                yield f"{identity.values[plain]} is left in {name}"
            for word in words_of(value):
                if word in identity.words:
                    yield f"a word of {identity.words[word]} is left in {name}"


def _left_in_bytes(content: bytes, identity: Identity, *, least: int, where: str) -> Iterator[str]:
    strings = {**identity.uids, **identity.values, **identity.words}
    raw: dict[bytes, str] = {}
    for text, name in strings.items():
        # Accented letters have two codes; those of ASCII are compared in lower case.
        forms = (text[:_MOST], text[:_MOST].upper())
        for codec, form in product(identity.encodings, forms):
            encoded = form.encode(codec, errors="ignore")
            number = re.fullmatch(rb"[0-9]+", encoded) is not None
            if len(encoded) >= (max(least, _LEAST_NUMBER) if number else least):
                raw.setdefault(encoded.lower(), name)
    lower = content.lower()
    for string, name in raw.items():
        # A plain search is many times faster than the expression, and nearly always says no.
        if string in lower and re.search(_pattern(string), lower):
            yield f"{name} is left in {where}"


def _pattern(string: bytes) -> bytes:
    """Match a string; digits not inside longer numbers, short words not inside longer ones."""
    escaped = re.escape(string)
    if re.fullmatch(rb"[0-9.]+", string):
        return rb"(?<![0-9.])" + escaped + rb"(?![0-9.])"
    if len(string) < 6:
        return rb"(?<![0-9A-Za-z])" + escaped + rb"(?![0-9A-Za-z])"
    return escaped


def _elements(dataset: Iterable[Any]) -> Iterator[Any]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)
        else:
            yield element


def _texts(element: Any) -> list[str]:  # noqa: ANN401  # pydicom's DataElement
    """Return an element's values as text; bytes count where they are printable."""
    value = element.value
    if value is None or keyword_for_tag(element.tag) == "PixelData":
        return []
    if isinstance(value, bytes):
        plain = value.strip(b"\0 ")[:_MOST]
        text = plain.decode("latin-1")
        return [text] if plain and all(c.isprintable() or c.isspace() for c in text) else []
    values = value if element.VM > 1 else [value]
    return [text for text in (str(v).strip(" \0") for v in values) if text]


def _is_instance_uid(uid: str) -> bool:
    return not uid.startswith(_STANDARD_UIDS) and len(uid) > 6


def _encodings(dataset: Dataset) -> tuple[str, ...]:
    stated = dataset.get("SpecificCharacterSet")
    try:
        own = convert_encodings(stated) if stated else []
    except (LookupError, ValueError, TypeError):
        own = []
    return tuple(dict.fromkeys(["utf-8", "latin-1", *own]))
