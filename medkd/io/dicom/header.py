"""Read the headers of DICOM images without their pixels.

There is one `SliceHeader` for each single-frame file and for each frame of an enhanced one:
`structure.py`, `gate.py` and `pixels.py` treat both alike. Only the attributes listed in `tags.py`
are read, never a name, a birth date or an accession number. Numbers with a binary VR are decoded
by that VR, as in pydicom; all other values by what the standard says about the attribute. A wrong
VR is noted. An invalid number is treated as missing. It is a fault of the header unless the slice
can be read without it (`tags.OPTIONAL`).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from medkd.io.dicom.content import HEAD_BYTES, looks_like_dicom
from medkd.io.dicom.dataset import HeaderError, Parsed, parse_file
from medkd.io.dicom.frames import read_nested
from medkd.io.dicom.quiet import quiet_dicom
from medkd.io.dicom.tags import Value
from medkd.io.file_ref import FileRef
from medkd.io.foreign import describe_error

_SLICE_SUFFIXES = (".dcm", ".dicom", ".ima")
"""Suffixes that only DICOM files have: other content under such a name means a damaged file."""


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """The header of one slice: of a single-frame image, or of one frame.

    Args:
        ref: its file.
        values: maps the keywords of `tags.TAGS` to values; missing attributes have no key.
        syntax: UID of the transfer syntax.
        frame: number of the frame in its file, from 0.
        frames: number of frames in the file.
        has_pixels: whether the file has pixels.
        is_raw: whether the pixels are uncompressed 16-bit little-endian.
        pixel_start: byte offset of this frame's pixels if raw, else of the first item.
        pixel_bytes: bytes of this frame's pixels that the file holds, if raw.
        faults: messages on values that cannot be read.
        notes: messages on violations of the standard that were tolerated.
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


@dataclass(frozen=True, slots=True)
class HeaderSet:
    """The result of reading the headers of several files.

    Args:
        headers: of the DICOM files, one for each frame.
        reasons: "code: text" for each file that cannot be read.
        strangers: files that are not DICOM, and DICOMDIR files.
    """

    headers: tuple[SliceHeader, ...]
    reasons: tuple[str, ...] = ()
    strangers: tuple[FileRef, ...] = ()


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
    strangers: list[FileRef] = []
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
                strangers += [] if found else [ref]
    return HeaderSet(tuple(headers), tuple(reasons), tuple(strangers))


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
    """Return one slice for a single-frame file, or one for each frame."""
    pixels = parsed.pixels
    header = SliceHeader(
        ref,
        parsed.values,
        syntax=parsed.syntax,
        has_pixels=pixels.there,
        is_raw=pixels.is_raw,
        pixel_start=pixels.start,
        pixel_bytes=pixels.size,
        faults=tuple(parsed.faults),
        notes=tuple(parsed.notes),
    )
    if not parsed.nested:
        return [header]
    nested = read_nested(ref, header.values)
    if not nested.frames:
        faults = (*header.faults, *([nested.fault] if nested.fault else []))
        return [replace(header, values=nested.top, faults=faults)]
    count = len(nested.frames)
    size = header.pixel_bytes // count
    return [
        replace(
            header,
            values=values,
            frame=number,
            frames=count,
            pixel_start=header.pixel_start + (number * size if header.is_raw else 0),
            pixel_bytes=size,
        )
        for number, values in enumerate(nested.frames)
    ]
