"""Read the headers of DICOM images without their pixels.

There is one `SliceHeader` for each single-frame file and for each frame of an enhanced one; the
gate and the decoding of pixels treat both alike. Only the attributes listed in `tags.py` are read,
never a name, a birth date or an accession number. The functional groups of enhanced CT (PS3.3
C.7.6.16) are flattened: a frame has the values of the file, overridden by those of the shared
groups, overridden by its own.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

import pydicom

from medkd.io.dicom.dataset import (
    HEAD_BYTES,
    HeaderError,
    Parsed,
    PixelLocation,
    looks_like_dicom,
    parse_file,
)
from medkd.io.dicom.quiet import quiet_dicom
from medkd.io.dicom.tags import KEYWORDS, Value, plain_value, uid_of
from medkd.io.file_ref import FileRef
from medkd.io.foreign import describe_error

_SLICE_SUFFIXES = (".dcm", ".dicom", ".ima")
"""Suffixes that only DICOM files have: other content under such a name means a damaged file."""

_OF_A_FRAME = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
"""A frame never inherits these from the top level of the file."""


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """The header of one slice: of a single-frame image, or of one frame.

    Args:
        ref: its file.
        values: maps the keywords of `tags.TAGS` to values; missing attributes have no key.
        syntax: UID of the transfer syntax.
        frame: number of the frame in its file, from 0.
        frames: number of frames in the file.
        pixels: location of the pixels: of this frame if they are raw, else of all frames.
        faults: messages on values that cannot be read.
        notes: messages on violations of the standard that were tolerated.
    """

    ref: FileRef
    values: Mapping[str, Value]
    syntax: str = ""
    frame: int = 0
    frames: int = 1
    pixels: PixelLocation = field(default_factory=PixelLocation)
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the slice in messages."""
        return self.ref.name if self.frames == 1 else f"{self.ref.name} frame {self.frame + 1}"

    def text(self, keyword: str) -> str:
        """Return a value as text, with multiple values joined by backslashes; empty if missing."""
        return "\\".join(self.texts(keyword))

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return the values of an attribute as strings; empty if missing."""
        return tuple(map(str, self.values.get(keyword, ())))

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """Return the values of an attribute as numbers; empty if missing."""
        return tuple(map(float, self.values.get(keyword, ())))

    def number(self, keyword: str) -> float | None:
        """Return the first number of an attribute; None if missing."""
        return next(iter(self.numbers(keyword)), None)

    def whole(self, keyword: str) -> int | None:
        """Return the first number as an integer; None if missing or not an integer."""
        number = self.number(keyword)
        return int(number) if number is not None and number.is_integer() else None

    def has_uid(self, keyword: str) -> bool:
        """Return whether an attribute holds a valid UID (PS3.5 9.1)."""
        return bool(uid_of(self.text(keyword)).is_valid)


@dataclass(frozen=True, slots=True)
class HeaderSet:
    """The result of reading the headers of several files.

    Args:
        headers: of the DICOM files, one for each frame.
        reasons: "code: text" for each file that cannot be read.
        not_dicom: files that are not DICOM, and DICOMDIR files.
    """

    headers: tuple[SliceHeader, ...]
    reasons: tuple[str, ...] = ()
    not_dicom: tuple[FileRef, ...] = ()


def read_headers(refs: Sequence[FileRef]) -> HeaderSet:
    """Read the headers of files, which may belong to several series.

    Args:
        refs: files of any kind, in any order.

    Returns:
        The headers in the order of `refs`, a reason for each file that cannot be read, and the
        files that are not DICOM. A file that is not DICOM but has the suffix of a slice counts as
        unreadable, since it may be a damaged slice.
    """
    headers: list[SliceHeader] = []
    reasons: list[str] = []
    not_dicom: list[FileRef] = []
    with quiet_dicom():
        for ref in refs:
            try:
                found = _read_file(ref)
            except HeaderError as error:
                reasons.append(f"unreadable: {ref.name}: {error}")
            except EOFError:
                reasons.append(f"unreadable: {ref.name}: the file ends within its DICOM header")
            except Exception as error:  # noqa: BLE001  # pydicom can raise any exception
                kind = describe_error(error, show_text=False)  # its messages may show header values
                reasons.append(f"unreadable: {ref.name}: its DICOM header cannot be read ({kind})")
            else:
                headers += found
                not_dicom += [] if found else [ref]
    return HeaderSet(tuple(headers), tuple(reasons), tuple(not_dicom))


def _read_file(ref: FileRef) -> list[SliceHeader]:
    """Return the slices of a file; empty if it is not DICOM."""
    name = PurePath(ref.member or ref.path.name)
    with ref.open() as stream:
        if name.name.startswith(".") and not looks_like_dicom(stream.read(HEAD_BYTES)):
            return []  # files of the operating system, such as ._IM1.dcm
        stream.seek(0)
        parsed = parse_file(stream)
        is_empty = stream.seek(0, io.SEEK_END) == 0
    if parsed is None:
        suffix = name.suffix.lower()
        if is_empty and (suffix in _SLICE_SUFFIXES or not suffix or suffix[1:].isdigit()):
            raise HeaderError("the file is empty")
        if suffix in _SLICE_SUFFIXES:
            text = f"its suffix is {suffix}, but its content is not DICOM: restore or remove it"
            raise HeaderError(text)
        return []
    return _slices(ref, parsed)


def _slices(ref: FileRef, parsed: Parsed) -> list[SliceHeader]:
    header = SliceHeader(
        ref,
        parsed.values,
        syntax=parsed.syntax,
        pixels=parsed.pixels,
        faults=tuple(parsed.faults),
        notes=tuple(parsed.notes),
    )
    if not parsed.nested:
        return [header]
    with ref.open() as stream:
        dataset = pydicom.dcmread(
            stream, stop_before_pixels=True, specific_tags=KEYWORDS, force=True
        )
    values = {**parsed.values, **_sequence_values(dataset)}
    if _items(dataset, "ModalityLUTSequence"):
        values["ModalityLUTSequence"] = ("present",)
    header = replace(header, values=values)
    shared = _items(dataset, "SharedFunctionalGroupsSequence")
    groups = _items(dataset, "PerFrameFunctionalGroupsSequence")
    if not shared and not groups:
        return [header]
    count = int(dataset.get("NumberOfFrames") or 1)
    if len(groups) != count:
        fault = f"NumberOfFrames is {count}, but {len(groups)} frames have functional groups"
        return [replace(header, faults=(*header.faults, fault))]
    common = {name: value for name, value in values.items() if name not in _OF_A_FRAME}
    common |= _group_values(shared[0]) if shared else {}
    return [
        replace(
            header,
            values={**common, **_group_values(group), "NumberOfFrames": (1.0,)},
            frame=number,
            frames=count,
            pixels=parsed.pixels.of_frame(number, count),
        )
        for number, group in enumerate(groups)
    ]


def _items(dataset: Any, keyword: str) -> list[Any]:  # noqa: ANN401  # pydicom has no types here
    return list(dataset.get(keyword) or [])


def _group_values(group: Any) -> dict[str, Value]:  # noqa: ANN401
    """Return the values of `KEYWORDS` from the sequences of a functional group (PS3.3 C.7.6.16).

    Each sequence is one functional group macro. Only its first item is read, except for contrast
    agents.
    """
    values: dict[str, Value] = {}
    for macro in group:
        if macro.VR != "SQ" or not macro.value:
            continue
        item = macro.value[0]
        values |= {
            element.keyword: value
            for element in item
            if element.keyword in KEYWORDS and (value := plain_value(element)) is not None
        }
        values |= _sequence_values(item)
        if macro.keyword == "ContrastBolusUsageSequence":
            values |= _usage(macro.value)
    return values


def _usage(agents: Sequence[Any]) -> dict[str, Value]:
    """Return whether and in which phase a frame's agents were given (PS3.3 C.8.15.3.12)."""
    found: dict[str, Value] = {}
    for keyword in ("ContrastBolusAgentAdministered", "ContrastBolusAgentPhase"):
        texts = tuple(str(agent.get(keyword) or "") for agent in agents)
        if any(texts):
            found[keyword] = texts
    return found


def _sequence_values(dataset: Any) -> dict[str, Value]:  # noqa: ANN401
    """Return the values that medkd uses of the sequences in `tags.TAGS`."""
    found: dict[str, Value] = {}
    if agents := _items(dataset, "ContrastBolusAgentSequence"):
        found["ContrastBolusAgentSequence"] = tuple(map(_agent, agents))
    for keyword in ("AnatomicRegionSequence", "PatientSpeciesCodeSequence"):
        items = _items(dataset, keyword)
        meanings = tuple(str(item.get("CodeMeaning", "")) for item in items)
        if any(meanings):
            found[keyword] = meanings
    return found


def _agent(item: Any) -> str:  # noqa: ANN401
    """Return the code of a contrast agent; "present" if the item cannot be read."""
    if not isinstance(item, pydicom.Dataset):
        return "present"
    return " ".join(
        str(item.get(name, "")) for name in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")
    )
