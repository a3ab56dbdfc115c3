"""Reader of NRRD headers (.nrrd, .nhdr) of one scalar volume, with attached or detached voxels.

Follows the definition of NRRD, version 5 (teem.sourceforge.net/nrrd/format.html). Coordinates are
converted from the stated space to LPS. Refused: text and hexadecimal encodings, non-spatial axes,
quantised values, spaces of unknown handedness or meaning, and, as the definition requires, unknown
fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medkd.io.data_files import (
    count_fault,
    find_data_files,
    header_text,
    is_pattern,
    numbered_names,
)
from medkd.io.dicom.codes import Fault
from medkd.io.volume_header import (
    Float64,
    VolumeHeader,
    mm_per_unit,
    no_placement,
    no_spacing,
    not_numbers,
    numbers_in,
    unit_fault,
    whole_numbers_in,
)
from medkd.io.voxel_data import AT_END, Packing, VoxelData

_LIMIT_BYTES = 1 << 22

_TYPES = {
    "i1": "signed char,int8,int8_t",
    "u1": "uchar,unsigned char,uint8,uint8_t",
    "i2": "short,short int,signed short,signed short int,int16,int16_t",
    "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
    "i4": "int,signed int,int32,int32_t",
    "u4": "uint,unsigned int,uint32,uint32_t",
    "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
    "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
    "f4": "float",
    "f8": "double",
}
_ELEMENTS = {name: kind for kind, names in _TYPES.items() for name in names.split(",")}
_PACKINGS: dict[str, Packing] = {
    "raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2",
}  # fmt: skip

_SPACES = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
"""Space to the signs that convert its coordinates to LPS."""

MOST_SPACING_CONFLICT = 0.01
"""Largest relative difference of `spacings` and the space directions: rounding of a header."""

_SPATIAL_KINDS = ("domain", "space", "???", "none")

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
_REFUSED = {"block size", "old min", "old max"}
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


def read_nrrd_header(stream: BinaryIO) -> NrrdHeader:
    """Read the text of a header from the beginning of a file."""
    fields: dict[str, str] = {}
    listed: tuple[str, ...] = ()
    texts: list[str] = []
    lines = _lines(stream.read(_LIMIT_BYTES))
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
        if not found or name not in _READ | _IGNORED | _REFUSED:
            # The message does not quote the line, which may contain a patient's name.
            texts.append(f"line {number} of the header is not an NRRD field")
        elif name in fields:
            texts.append(f"{name!r} is stated twice")
        fields[name] = value.strip()
        if name == "data file" and value.upper().split()[:1] == ["LIST"]:
            listed = tuple(t for other, _ in lines if (t := header_text(other).strip()))
    missing = [n for n in ("type", "dimension", "sizes", "encoding") if n not in fields]
    faults = [Fault("missing_attribute", f"the header has no {name} line") for name in missing]
    faults += [Fault("unreadable", text) for text in texts]
    return NrrdHeader(fields, place, listed, tuple(faults))


def _lines(content: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield each line without its line break, and the offset of the next line."""
    place = 0
    while place < len(content):
        end = content.find(b"\n", place)
        end = len(content) if end < 0 else end
        line = content[place:end]
        place = min(end + 1, len(content))
        yield line.removesuffix(b"\r"), place


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
    return numbered_names(pattern, first, last, step) if min(first, last) >= 0 else None


def read_nrrd(path: Path) -> VolumeHeader:
    """Read the header of a .nrrd or .nhdr.

    Args:
        path: the file; detached voxel files are not opened.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as stream:
        header = read_nrrd_header(stream)
    faults = [*header.faults, *_form_faults(header)]
    sizes = whole_numbers_in(header.fields.get("sizes", "")) or ()
    if len(sizes) != 3:
        return VolumeHeader(faults=tuple(faults))
    placed = _placed(header)
    data = None
    if not faults:
        data, faults = _data(path, header, (sizes[0], sizes[1], sizes[2]))
    return VolumeHeader(
        sizes=sizes,
        spacing_mm=placed.spacing_mm,
        origin_mm=placed.origin_mm,
        direction=placed.direction,
        data=data,
        faults=(*faults, *placed.faults),
    )


def _form_faults(header: NrrdHeader) -> list[Fault]:
    """Return a fault for each unsupported way of storing voxels in the header."""
    fields = header.fields
    if not fields:
        return []
    faults = _axes_faults(fields)
    kind = fields.get("type", "short").lower()
    if kind not in _ELEMENTS:
        faults.append(Fault("pixel_format", f"expected a type of numbers, got {kind!r}"))
    packing = fields.get("encoding", "raw").lower()
    if packing not in _PACKINGS:
        text = f"expected encoding raw, gzip or bzip2, got {packing!r}: convert it"
        faults.append(Fault("pixel_format", text))
    if strange := sorted(_REFUSED & set(fields)):
        text = f"its values are quantised or in blocks ({', '.join(strange)}): store HU"
        faults.append(Fault("pixel_format", text))
    order = fields.get("endian", "").lower()
    if order not in ("little", "big") and (order or _ELEMENTS.get(kind, "i2")[1] != "1"):
        text = f"expected endian: little or big, got {order or 'none'}: add it"
        faults.append(Fault("missing_attribute", text))
    return faults


def _axes_faults(fields: dict[str, str]) -> list[Fault]:
    if "sizes" not in fields:
        return []
    sizes = whole_numbers_in(fields["sizes"]) or (0,)
    dimension = fields.get("dimension", "3")
    odd = _odd_axis(fields)
    code = "pixel_format"
    if min(sizes) < 1:
        code, text = "unreadable", f"expected positive sizes, got {fields['sizes']!r}"
    elif str(len(sizes)) != dimension:
        code, text = "unreadable", f"dimension: {dimension}, but sizes has {len(sizes)} numbers"
    elif len(sizes) == 4 and 0 <= odd < 4:
        text = f"expected one value per voxel, got {sizes[odd]}"
    elif len(sizes) != 3:
        text = f"expected 3 dimensions, got {len(sizes)}"
    elif odd >= 0:
        text = f"expected three spatial axes, got kinds: {fields['kinds']}"
    else:
        return []
    return [Fault(code, text)]


def _odd_axis(fields: dict[str, str]) -> int:
    """Return the first non-spatial axis; -1 if there is none."""
    kinds = fields.get("kinds", "").lower().split()
    return next((n for n, kind in enumerate(kinds) if kind not in _SPATIAL_KINDS), -1)


def _data(
    path: Path, header: NrrdHeader, shape: tuple[int, int, int]
) -> tuple[VoxelData | None, list[Fault]]:
    fields = header.fields
    files = find_data_files(path.parent, data_names(header))
    if isinstance(files, Fault):
        return None, [files]
    packing = _PACKINGS[fields["encoding"].lower()]
    lines, skip = fields.get("line skip", "0"), fields.get("byte skip", "0")
    known = lines == "0" and (skip == "-1" or len(whole_numbers_in(skip) or ()) == 1)
    plain = packing == "raw"
    if not known or (skip == "-1" and not (plain and files)) or (len(files) > 1 and not plain):
        text = f"line skip: {lines}, byte skip: {skip} of {packing} data in {len(files)} files"
        return None, [Fault("unreadable", f"{text} is not supported: write it as one plain file")]
    start = 0 if files else header.length_bytes
    count = int(skip)
    skipped = AT_END if count < 0 else start + (count if plain else 0)
    order = ">" if fields.get("endian", "").lower() == "big" else "<"
    return VoxelData(
        shape,
        np.dtype(order + _ELEMENTS[fields["type"].lower()]),
        files or (path,),
        packing=packing,
        skip_bytes=skipped,
        skip_unpacked=0 if plain else count,
    ), []


def _placed(header: NrrdHeader) -> VolumeHeader:
    """Return spacing, origin and direction; vectors of an unknown space are not converted."""
    fields = header.fields
    factor, faults = _unit(fields)
    signs = _SPACES.get(fields.get("space", "").lower())
    missing = [name for name in ("space directions", "space origin") if name not in fields]
    if signs is None:
        stated = f"space: {fields['space']}" if "space" in fields else "no space"
        missing.insert(0, stated)
    if missing:
        faults.append(no_placement(f"in the header: {', without '.join(missing)}"))
    vectors, vector_faults = _vectors(fields)
    faults += vector_faults
    turned = np.diag(signs or (1, 1, 1)).astype(float)
    faults += _contradictions(fields, vectors)
    spacing, direction = _spacings(fields, faults), None
    if vectors is not None:
        lengths = np.linalg.norm(vectors, axis=0)
        spacing = tuple((lengths * factor).tolist())
        direction = turned @ (vectors / np.where(lengths > 0, lengths, 1.0))
    elif spacing is not None:
        spacing = tuple(mm * factor for mm in spacing)
    origin, origin_faults = _origin(fields)
    faults += origin_faults
    if origin is not None and len(origin) == 3:
        origin = tuple((turned @ np.array(origin) * factor).tolist())
    return VolumeHeader(
        spacing_mm=spacing, origin_mm=origin, direction=direction, faults=tuple(faults)
    )


def _unit(fields: dict[str, str]) -> tuple[float, list[Fault]]:
    """Return the mm per unit and faults; an empty unit and ??? are ignored."""
    text = f"{fields.get('space units', '')} {fields.get('units', '')}"
    # The definition asks for quotes, but units without quotes occur too.
    stated = {quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|([^\s"]+)', text)}
    units = sorted(stated - {"", "???"})
    if len({mm_per_unit(unit) or unit for unit in units}) > 1:
        return 1.0, [Fault("bad_geometry", f"expected one unit, got {', '.join(units)}")]
    return unit_fault(units[0], where="space units") if units else (1.0, [])


def _contradictions(fields: dict[str, str], vectors: Float64 | None) -> list[Fault]:
    """Return a fault for each unused field that contradicts the geometry in use."""
    texts = []
    dimension = fields.get("space dimension", "3")
    if dimension != "3":
        texts.append(f"space dimension: {dimension}, expected 3 for a volume: correct the header")
    stated = numbers_in(fields["spacings"]) if "spacings" in fields else None
    if vectors is None or "spacings" not in fields:
        pass
    elif stated is None or len(stated) != 3:
        texts.append(
            f"spacings: {fields['spacings']}, expected three numbers as for space directions: "
            "correct or remove it"
        )
    else:
        lengths = np.linalg.norm(vectors, axis=0)
        off = np.abs(np.abs(stated) - lengths) > MOST_SPACING_CONFLICT * lengths
        if off.any():
            texts.append(
                f"spacings: {fields['spacings']}, but the space directions have lengths of "
                f"{' '.join(f'{length:.6g}' for length in lengths)}: correct or remove one of them"
            )
    return [Fault("contradictory_geometry", text) for text in texts]


def _vectors(fields: dict[str, str]) -> tuple[Float64 | None, list[Fault]]:
    """Return the space directions, one per column; None if absent or faulty."""
    text = fields.get("space directions")
    if text is None:
        return None, []
    rows = [numbers_in(row.replace(",", " ")) for row in re.findall(r"\(([^()]*)\)", text)]
    plain = re.fullmatch(r"\s*(\([^()]*\)\s*){3}", text)
    if plain and all(row is not None and len(row) == 3 for row in rows):
        return np.array(rows).T, []
    fault = Fault("bad_geometry", f"expected three space directions of three numbers, got {text}")
    return None, [fault]


def _spacings(fields: dict[str, str], faults: list[Fault]) -> tuple[float, ...] | None:
    """Return `spacings`, unless there are space directions; add a fault if both are absent."""
    if "space directions" in fields:
        return None
    if "spacings" not in fields:
        faults.append(no_spacing("space directions"))
        return None
    if numbers := numbers_in(fields["spacings"]):
        return numbers
    faults.append(not_numbers("spacings", fields["spacings"], 3))
    return None


def _origin(fields: dict[str, str]) -> tuple[tuple[float, ...] | None, list[Fault]]:
    """Return the numbers of the space origin "(x,y,z)", of any count; None if absent or faulty."""
    text = fields.get("space origin")
    if text is None:
        return None, []
    inner = re.fullmatch(r"\(([^()]*)\)", text)
    if inner and (numbers := numbers_in(inner[1].replace(",", " "))):
        return numbers, []
    return None, [not_numbers("space origin", text, 3)]
