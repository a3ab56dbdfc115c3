"""The text of an NRRD header: its fields, and the names of its voxel files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from medkd.io.data_files import count_fault, counted_names, header_text, is_pattern
from medkd.io.dicom.codes import Fault
from medkd.io.volume_header import whole_numbers_in

_MAGIC = re.compile(r"NRRD000[1-5]")

_IGNORED = {
    "content", "number", "min", "max", "sample units", "axis mins", "axis maxs", "thicknesses",
    "centerings", "labels", "measurement frame",
}  # fmt: skip
"""Fields that affect neither the position nor the value of a voxel."""
_READ = {
    "type", "dimension", "sizes", "encoding", "endian", "space", "space dimension", "space origin",
    "space directions", "space units", "spacings", "units", "kinds", "data file", "line skip",
    "byte skip",
}  # fmt: skip
REFUSED_FIELDS = {"block size", "old min", "old max"}
_ALIASES = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip",
            "centers": "centerings", "sampleunits": "sample units", "axismins": "axis mins",
            "axismaxs": "axis maxs", "oldmin": "old min", "oldmax": "old max",
            "blocksize": "block size"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class NrrdHeader:
    """The text of an NRRD file.

    Args:
        fields: lower-case names to their values.
        length_bytes: length of the text.
        listed: file names below `data file: LIST`.
        faults: what is wrong with the text.
    """

    fields: dict[str, str]
    length_bytes: int
    listed: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


def read_nrrd_header(content: bytes) -> NrrdHeader:
    """Parse the text of a header.

    Args:
        content: the first bytes of the file, at least up to the end of the header.
    """
    fields: dict[str, str] = {}
    texts: list[str] = []
    lines = _lines(content)
    magic, place = next(lines, (b"", 0))
    if not _MAGIC.fullmatch(header_text(magic)):
        fault = Fault("unreadable", "its header cannot be read: it does not begin with NRRD0001-5")
        return NrrdHeader({}, 0, faults=(fault,))
    for number, (line, end) in enumerate(lines, start=2):
        place = end
        text = header_text(line)
        if not text:
            break
        name, found, value = text.partition(":")
        if text.startswith("#") or value.startswith("="):
            continue
        name = _ALIASES.get(name.strip().lower(), name.strip().lower())
        if not found or name not in _READ | _IGNORED | REFUSED_FIELDS:
            # The message does not quote the line, which may contain a patient's name.
            texts.append(f"line {number} of the header is not an NRRD field")
        elif name in fields:
            texts.append(f"{name!r} is stated twice")
        fields[name] = value.strip()
        if name == "data file" and value.upper().split()[:1] == ["LIST"]:
            listed = tuple(t for other, _ in lines if (t := header_text(other).strip()))
            return _with_faults(NrrdHeader(fields, place, listed), texts)
    return _with_faults(NrrdHeader(fields, place), texts)


def _lines(content: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield each line without its line break, and the offset of the next line."""
    place = 0
    while place < len(content):
        end = content.find(b"\n", place)
        end = len(content) if end < 0 else end
        line = content[place:end]
        place = min(end + 1, len(content))
        yield line.removesuffix(b"\r"), place


def _with_faults(header: NrrdHeader, texts: list[str]) -> NrrdHeader:
    missing = [n for n in ("type", "dimension", "sizes", "encoding") if n not in header.fields]
    faults = [Fault("missing_attribute", f"the header has no {name} line") for name in missing]
    faults += [Fault("unreadable", text) for text in texts]
    return NrrdHeader(header.fields, header.length_bytes, header.listed, tuple(faults))


def data_names(header: NrrdHeader) -> list[str] | Fault:
    """Return the names of the voxel files; empty if the voxels follow the header.

    Returns:
        One name, or one per slice; a fault if the header does not name them in a supported way.
    """
    value = header.fields.get("data file")
    if value is None:
        return []
    sizes = whole_numbers_in(header.fields.get("sizes", "")) or (0,)
    word = value.split()[0] if value else ""
    if word.upper() == "LIST":
        if value.split()[1:] not in ([], ["2"]):
            return Fault("unreadable", f"expected one file per slice, got data file: {value}")
        names = list(header.listed)
    elif is_pattern(word) and len(value.split()) > 1:
        counted = _counted(value)
        if counted is None:
            text = f"expected a pattern, first, last and step, got data file: {value}"
            return Fault("unreadable", text)
        names = counted
    else:
        return [value] if value else Fault("missing_attribute", "data file: names no file")
    return count_fault(names, sizes[-1], stated="sizes") or names


def _counted(value: str) -> list[str] | None:
    """Return the names of "slice%03d.raw first last step", with subdimension 2 or none."""
    pattern, *rest = value.split()
    if len(rest) not in (3, 4) or rest[3:] not in ([], ["2"]):
        return None
    if not all(re.fullmatch(r"-?[0-9]{1,9}", part) for part in rest):
        return None
    first, last, step = map(int, rest[:3])
    return counted_names(pattern, first, last, step) if min(first, last) >= 0 else None
