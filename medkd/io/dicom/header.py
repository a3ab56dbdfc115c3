"""Headers of DICOM images, read without their pixels: plain values and where the pixels begin.

One `SliceHeader` for each single-frame file and for each frame of an enhanced one, so that what
follows (`structure.py`, `gate.py`, `pixels.py`) knows no difference. Only the attributes named in
`tags.py` are read: never a name, a birth date or an accession number. A number whose VR is a binary
one is read by it, as pydicom does, everything else as what the attribute means; a wrong VR is
noted. What is no number either way counts as absent, and is a fault of the header unless a slice
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
from medkd.io.foreign import worded

_SLICE_SUFFIXES = (".dcm", ".dicom", ".ima")
"""What only slices are called: another content under such a name is damage."""


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
        notes: what is not as the standard asks, and was read all the same.
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


def read_headers(refs: Sequence[FileRef]) -> HeaderSet:
    """Read the headers of files, of one series or of several.

    Args:
        refs: files in any order, whatever they are.

    Returns:
        Headers in the order of `refs`, what cannot be read with its reason, and the strangers. A
        file that is not DICOM but has the name of a slice may have been one: it cannot be read.
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
            except Exception as error:  # noqa: BLE001  # pydicom raises whatever it likes
                kind = worded(error, show_text=False)  # its texts may hold values of the header
                reasons.append(f"unreadable: {ref.name}: its DICOM header cannot be read ({kind})")
            else:
                headers += found
                strangers += [] if found else [ref]
    return HeaderSet(tuple(headers), tuple(reasons), tuple(strangers))


def _read_file(ref: FileRef) -> list[SliceHeader]:
    """Return the slices of a file; none if it is not DICOM."""
    name = PurePath(ref.member or ref.path.name)
    with ref.open() as stream:
        if name.name.startswith(".") and not looks_like_dicom(stream.read(HEAD_BYTES)):
            return []  # what systems keep for themselves, as ._IM1.dcm
        stream.seek(0)
        parsed = parse_file(stream)
        is_empty = stream.seek(0, io.SEEK_END) == 0
    if parsed is None:
        suffix = name.suffix.lower()
        if is_empty and (suffix in _SLICE_SUFFIXES or not suffix or suffix[1:].isdigit()):
            raise HeaderError("the file is empty")
        if suffix in _SLICE_SUFFIXES:
            raise HeaderError("its content is not DICOM, as its name says: restore or remove it")
        return []
    return _slices(ref, parsed)


def _slices(ref: FileRef, parsed: Parsed) -> list[SliceHeader]:
    """Make one slice of a file, or one of each of its frames."""
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
