"""The text of a MetaImage header: its keys, and the names of its voxel files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from medkd.io.data_files import count_fault, counted_names, header_text, is_pattern
from medkd.io.dicom.codes import Fault
from medkd.io.volume_header import numbers_in, whole_numbers_in

_HEADER_LIMIT_BYTES = 65536
_LIST_LIMIT_BYTES = 1 << 22
_ALIASES = {
    "position": "offset",
    "origin": "offset",
    "rotation": "transformmatrix",
    "orientation": "transformmatrix",
    "elementbyteordermsb": "binarydatabyteordermsb",
}


@dataclass(frozen=True, slots=True)
class MetaHeader:
    """The text part of a MetaImage file.

    Args:
        values: lower-case keys to their values.
        length_bytes: length of the text.
        listed: file names below `ElementDataFile = LIST`.
        doubled: keys that occur twice with different values.
    """

    values: dict[str, str]
    length_bytes: int
    listed: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return the numbers of a key; empty if it is absent or has another content."""
        return numbers_in(self.values.get(key, "")) or ()

    def says(self, key: str) -> bool | None:
        """Return a key's value as a bool; None if it is absent or neither True nor False."""
        return {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}.get(
            self.values.get(key, "").lower()
        )

    @property
    def is_local(self) -> bool:
        """Whether the voxels follow the text in the same file."""
        return self.values.get("elementdatafile", "").upper() == "LOCAL"

    @property
    def is_list(self) -> bool:
        """Whether a list of file names follows, one per slice."""
        return self.values.get("elementdatafile", "").upper().split()[:1] == ["LIST"]


def read_metaimage_header(stream: BinaryIO) -> MetaHeader:
    """Read the header's text up to and including `ElementDataFile`, its last key."""
    values: dict[str, str] = {}
    doubled = []
    length = 0
    while length < _HEADER_LIMIT_BYTES:
        line = stream.readline(_HEADER_LIMIT_BYTES)
        length += len(line)
        key, found, value = header_text(line).partition("=")
        name = key.strip().lower()
        name = _ALIASES.get(name, name)
        if found and values.setdefault(name, value.strip()) != value.strip():
            doubled.append(key.strip())
        if not line or name == "elementdatafile":
            break
    header = MetaHeader(values, length, doubled=tuple(doubled))
    if not header.is_list:
        return header
    lines = header_text(stream.read(_LIST_LIMIT_BYTES)).splitlines()
    listed = tuple(line.strip() for line in lines if line.strip())
    return MetaHeader(values, length, listed, header.doubled)


def data_names(header: MetaHeader) -> list[str] | Fault:
    """Return the names of the voxel files; empty if the voxels follow the header.

    Returns:
        One name, or one per slice; a fault if the header does not name them in a supported way.
    """
    value = header.values.get("elementdatafile", "")
    if header.is_local or not value:
        return [] if value else Fault("missing_attribute", "ElementDataFile names no file")
    slices = (whole_numbers_in(header.values.get("dimsize", "")) or (0,))[-1]
    names: list[str] | None
    if header.is_list:
        names = list(header.listed) if value.split()[1:] in ([], ["2"], ["2D"]) else None
    elif is_pattern(value.split()[0]):
        names = _pattern_names(value, slices)
    else:
        return [value]
    if names is None:
        text = f"expected LIST, or a pattern, first, last and step, got ElementDataFile = {value}"
        return Fault("unreadable", text)
    return count_fault(names, slices, stated="DimSize") or names


def _pattern_names(value: str, slices: int) -> list[str] | None:
    pattern, *rest = value.split()
    numbers = [n for part in rest if (n := whole_numbers_in(part)) is not None]
    if len(numbers) != len(rest) or len(rest) > 3:
        return None
    given = [n for (n,) in numbers]
    first = given[0] if given else 1
    last = given[1] if given[1:] else first + slices - 1
    return counted_names(pattern, first, last, given[2] if given[2:] else 1)
