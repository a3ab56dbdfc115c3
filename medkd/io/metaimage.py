"""MetaImage files (.mhd with separate voxel files, .mha in one file), the format of LUNA16.

Keys follow MetaIO, their meaning follows ITK: row a of `TransformMatrix` is the LPS direction of
index axis a (the transpose of ITK's direction matrix), `Offset` is the centre of voxel (0, 0, 0),
and `AnatomicalOrientation` names the side from which each axis starts (RAI for axes along LPS).
Refused: text voxels, compressed slices, several values per voxel, an intensity function. The
bytes of written files depend only on the scan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from medkd.files import replacing
from medkd.io.data_files import (
    count_fault,
    find_data_files,
    header_text,
    is_pattern,
    numbered_names,
)
from medkd.io.dicom.codes import Fault
from medkd.io.foreign import foreign_faults
from medkd.io.volume_header import (
    Float64,
    VolumeHeader,
    no_placement,
    no_spacing,
    not_numbers,
    numbers_in,
    unit_fault,
    whole_numbers_in,
)
from medkd.io.voxel_data import VoxelData, data_faults

if TYPE_CHECKING:
    from pathlib import Path

    from medkd.types import Scan

ELEMENTS = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
"""NumPy's name of each scalar type; LONG has 4 bytes in MetaIO on every machine."""

_SIDES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "I": (2, 1), "S": (2, -1)}
"""Letter of `AnatomicalOrientation` to LPS axis and sign of an index axis that starts there."""

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
        contradictory: keys that occur twice with different values.
    """

    values: dict[str, str]
    length_bytes: int
    listed: tuple[str, ...] = ()
    contradictory: tuple[str, ...] = ()

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return the numbers of a key; empty if it is absent or has another content."""
        return numbers_in(self.values.get(key, "")) or ()

    def flag(self, key: str) -> bool | None:
        """Return a key's value as a bool; None if it is absent or neither True nor False."""
        return {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}.get(
            self.values.get(key, "").lower()
        )

    @property
    def element(self) -> str:
        """NumPy's name of the voxel type, without byte order; u1 if the type is not known."""
        return ELEMENTS.get(self.values.get("elementtype", "").upper(), "u1")

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
    contradictory = []
    length = 0
    while length < _HEADER_LIMIT_BYTES:
        line = stream.readline(_HEADER_LIMIT_BYTES)
        length += len(line)
        key, found, value = header_text(line).partition("=")
        name = key.strip().lower()
        name = _ALIASES.get(name, name)
        if found and values.setdefault(name, value.strip()) != value.strip():
            contradictory.append(key.strip())
        if not line or name == "elementdatafile":
            break
    header = MetaHeader(values, length, contradictory=tuple(contradictory))
    if not header.is_list:
        return header
    lines = header_text(stream.read(_LIST_LIMIT_BYTES)).splitlines()
    listed = tuple(line.strip() for line in lines if line.strip())
    return MetaHeader(values, length, listed, header.contradictory)


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
    stated = [n for (n,) in numbers]
    first = stated[0] if stated else 1
    last = stated[1] if stated[1:] else first + slices - 1
    return numbered_names(pattern, first, last, stated[2] if stated[2:] else 1)


def read_metaimage(path: Path) -> VolumeHeader:
    """Read the header of an .mhd or .mha.

    Args:
        path: the file; separate voxel files are not opened.
    """
    with path.open("rb") as stream:
        header = read_metaimage_header(stream)
    faults = [*_text_faults(header), *_layout_faults(header)]
    sizes = whole_numbers_in(header.values.get("dimsize", "")) or ()
    spacing, spacing_faults = _spacing(header)
    origin, direction, placement_faults = _placement(header)
    data, files_faults = _data(path, header, sizes)
    if data and faults:
        data = replace(data, countable=False)
    return VolumeHeader(
        sizes=sizes if len(sizes) == 3 and min(sizes) > 0 else (),
        spacing_mm=spacing,
        origin_mm=origin,
        direction=direction,
        data=data,
        faults=(*faults, *spacing_faults, *placement_faults, *files_faults),
        notes=(*_orientation_notes(header, direction), *_byte_order_notes(header)),
    )


def data_reasons(path: Path) -> tuple[str, ...]:
    """Return why the voxels of an .mhd cannot be read, by its header and the sizes of its files.

    The reasons are missing or invalid keys of the header, and voxel files that are missing or have
    another size than the header states; empty if there are none. Voxel files are not opened.

    Raises:
        SeriesError: if the header cannot be read, or a voxel file cannot be accessed.
    """
    with foreign_faults(path, prefix="unreadable: "):
        header = read_metaimage(path)
        faults = [] if header.data is None else data_faults(header.data)
    codes = ("truncated_pixels", "damaged_pixels", "unreadable", "missing_attribute")
    return tuple(str(f) for f in (*header.faults, *faults) if f.code in codes)


def _text_faults(header: MetaHeader) -> list[Fault]:
    """Return the faults of missing, duplicate or contradictory keys, except geometry."""
    faults = [
        Fault("missing_attribute", f"the header has no {label} line")
        for label in ("NDims", "DimSize", "ElementType", "ElementDataFile")
        if label.lower() not in header.values
    ]
    faults += [Fault("unreadable", f"{key} is stated twice") for key in header.contradictory]
    values = header.values
    sizes = whole_numbers_in(values.get("dimsize", ""))
    dimensions = header.numbers("ndims")
    if dimensions != (3.0,) and "ndims" in values:
        faults.append(
            Fault("pixel_format", f"expected 3 dimensions, got NDims = {values['ndims']}")
        )
    if "dimsize" in values and (not sizes or min(sizes) < 1):
        text = f"expected positive whole sizes, got DimSize = {values['dimsize']}"
        faults.append(Fault("unreadable", text))
    elif sizes and dimensions and len(sizes) != dimensions[0]:
        text = f"NDims = {values['ndims']} but DimSize has {len(sizes)} numbers"
        faults.append(Fault("unreadable", text))
    return faults


def _layout_faults(header: MetaHeader) -> list[Fault]:
    """Return a fault for each unsupported way of storing voxels in the header."""
    values = header.values
    texts = []
    if (kind := values.get("objecttype", "Image")).lower() != "image":
        texts.append(f"expected ObjectType = Image, got {kind!r}")
    element = values.get("elementtype", "").upper()
    if element and element.removesuffix("_ARRAY") not in ELEMENTS:
        known = ", ".join(ELEMENTS)
        texts.append(f"unknown ElementType {values['elementtype']!r}; known: {known}")
    channels = values.get("elementnumberofchannels", "1")
    if channels != "1" or element.endswith("_ARRAY"):
        texts.append(f"expected one value per voxel, got {channels}")
    if values.get("binarydata", "True").lower() != "true":
        texts.append("its voxels are text (BinaryData): convert it to binary voxels")
    texts += [
        f"expected True or False, got {key} = {values[key.lower()]}"
        for key in ("CompressedData", "BinaryDataByteOrderMSB")
        if key.lower() in values and header.flag(key.lower()) is None
    ]
    for key, plain in (("slope", 1.0), ("offset", 0.0)):
        name = f"elementtointensityfunction{key}"
        if name in values and header.numbers(name) != (plain,):
            texts.append(f"it has an intensity function ({key} {values[name]}): store HU")
    if header.numbers("headersizeperslice") not in ((), (0.0,), (-1.0,)):
        texts.append("expected no HeaderSizePerSlice: convert it to plain voxels")
    return [Fault("pixel_format", text) for text in texts]


def _spacing(header: MetaHeader) -> tuple[tuple[float, ...] | None, list[Fault]]:
    # MetaIO uses ElementSize as the spacing only if ElementSpacing is absent.
    label = "ElementSpacing" if "elementspacing" in header.values else "ElementSize"
    if label.lower() not in header.values:
        return None, [no_spacing("ElementSpacing")]
    factor, faults = _unit(header)
    numbers, odd = _numbers(header, label, 3)
    return None if odd else tuple(n * factor for n in numbers), [*faults, *odd]


def _numbers(header: MetaHeader, label: str, count: int) -> tuple[tuple[float, ...], list[Fault]]:
    """Return the numbers of a key, and a fault if it has none."""
    numbers = header.numbers(label.lower())
    text = header.values[label.lower()]
    return numbers, [] if numbers else [not_numbers(label, text, count)]


def _unit(header: MetaHeader) -> tuple[float, list[Fault]]:
    unit = header.values.get("distanceunits", "")
    return (1.0, []) if unit in ("", "?") else unit_fault(unit, where="DistanceUnits")


def _placement(
    header: MetaHeader,
) -> tuple[tuple[float, ...] | None, Float64 | None, list[Fault]]:
    missing = [
        label for label in ("Offset", "TransformMatrix") if label.lower() not in header.values
    ]
    faults = [no_placement(" and ".join(missing))] if missing else []
    origin, direction = None, None
    if "offset" in header.values:
        factor, _ = _unit(header)
        numbers, odd = _numbers(header, "Offset", 3)
        origin = None if odd else tuple(n * factor for n in numbers)
        faults += odd
    if "transformmatrix" in header.values:
        numbers, odd = _numbers(header, "TransformMatrix", 9)
        matrix = np.array(numbers)
        direction = None if odd else matrix.reshape(3, 3).T if matrix.size == 9 else matrix
        faults += odd
    return origin, direction, faults


def _orientation_notes(header: MetaHeader, direction: Float64 | None) -> list[str]:
    """Return a note if `AnatomicalOrientation`, which is not used, contradicts the directions.

    Many writers put RAI into every header, whatever the directions are; "???" means unknown.
    """
    letters = header.values.get("anatomicalorientation", "")
    if direction is None or direction.shape != (3, 3) or set(letters) <= {"?"}:
        return []
    sides = [_SIDES.get(letter) for letter in letters.upper()]
    # An axis far from every body axis may be named after either.
    oblique = np.abs(direction).max(axis=0) <= 0.9
    if len(sides) == 3 and all(
        side is not None and (oblique[axis] or direction[side[0], axis] * side[1] > 0.5)
        for axis, side in enumerate(sides)
    ):
        return []
    return [
        f"AnatomicalOrientation = {letters!r} contradicts TransformMatrix, whose axes start at "
        f"{orientation_of(direction)}: TransformMatrix is used, as ITK does"
    ]


def orientation_of(direction: Float64) -> str:
    """Return the letter of the side at which each index axis starts, as ITK does.

    Args:
        direction: [3, 3]; column a is the LPS direction of index axis a.

    Example:
        >>> orientation_of(np.diag([-1.0, 1.0, 1.0]))
        'LAI'
    """
    free, letters = set(range(3)), {}
    for axis in np.argsort(-np.abs(direction).max(axis=0), kind="stable").tolist():
        row = max(free, key=np.abs(direction[:, axis]).tolist().__getitem__)
        free.remove(row)
        sign = 1 if direction[row, axis] >= 0 else -1
        letters[axis] = next(name for name, side in _SIDES.items() if side == (row, sign))
    return "".join(letters[axis] for axis in range(3))


def _data(
    path: Path, header: MetaHeader, sizes: tuple[int, ...]
) -> tuple[VoxelData | None, list[Fault]]:
    if "elementdatafile" not in header.values:
        return None, []
    files = find_data_files(path.parent, data_names(header))
    if isinstance(files, Fault):
        return None, [files]
    faults = _skip_faults(header, len(files))
    if faults or len(sizes) != 3 or min(sizes) < 1:
        return None, faults
    order = ">" if header.flag("binarydatabyteordermsb") else "<"
    compressed = header.flag("compresseddata") or False
    packed = whole_numbers_in(header.values.get("compresseddatasize", "")) if compressed else None
    skip = int(header.values.get("headersize", "0"))
    return VoxelData(
        shape=(sizes[0], sizes[1], sizes[2]),
        element=np.dtype(order + header.element),
        files=files or (path,),
        packing="zlib" if compressed else "raw",
        skip_bytes=header.length_bytes if header.is_local else skip,
        # In MetaIO 0 means that the size is not stated.
        packed_bytes=packed[0] if packed and packed[0] else None,
    ), []


def _byte_order_notes(header: MetaHeader) -> list[str]:
    if header.element.endswith("1") or header.flag("binarydatabyteordermsb") is not None:
        return []
    return ["the header states no byte order: read as little endian"]


def _skip_faults(header: MetaHeader, file_count: int) -> list[Fault]:
    compressed = header.flag("compresseddata") or False
    skip = header.values.get("headersize", "0")
    known = skip == "-1" or len(whole_numbers_in(skip) or ()) == 1
    texts = []
    if compressed and file_count > 1:
        texts.append("its slices are separate compressed files: write them as one file")
    if skip != "0" and (not known or header.is_local or (compressed and skip == "-1")):
        texts.append(f"HeaderSize = {skip} cannot be used here to find the voxels")
    size = header.values.get("compresseddatasize", "0")
    if len(whole_numbers_in(size) or ()) != 1:
        texts.append(f"expected a number of bytes, got CompressedDataSize = {size}")
    return [Fault("unreadable", text) for text in texts]


def write_mhd(scan: Scan, path: Path) -> None:
    """Write a scan as a pair of header (`.mhd`) and voxels (`.raw` beside it).

    The same scan always gives the same bytes. Both files are written under temporary names; the
    header is renamed last, so that no header exists without its voxels. The header names the
    voxel file in UTF-8, as ITK does.

    Args:
        scan: voxels in HU on their grid.
        path: ends in `.mhd`.

    Raises:
        ValueError: if `path` does not end in `.mhd`, or if a header cannot contain its name.
        OSError: if the disk is full or not writable; then no partial file remains.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from medkd.geometry import VoxelGrid
        >>> from medkd.io.volume import read_volume
        >>> from medkd.types import Scan
        >>> grid = VoxelGrid.from_parts((2, 3, 4), spacing_mm=[1, 1, 2], origin_mm=[0, 0, 0])
        >>> scan = Scan("1.2.3", np.zeros((2, 3, 4), np.int16), grid, patient_id="p1")
        >>> path = Path(tempfile.mkdtemp()) / "1.2.3.mhd"
        >>> write_mhd(scan, path)
        >>> read_volume(path).voxels_hu.shape
        (2, 3, 4)
    """
    if path.suffix.lower() != ".mhd":
        raise ValueError(f"expected a path that ends in .mhd, got {path.name!r}")
    data = path.with_suffix(".raw")
    if data.name != " ".join(data.name.splitlines()).strip() or is_pattern(data.name.split()[0]):
        raise ValueError(f"a MetaImage header cannot state the file name {data.name!r}")
    slices = np.ascontiguousarray(scan.voxels_hu.transpose(2, 1, 0), dtype="<i2")
    with replacing(path) as header_part, replacing(data) as data_part:
        slices.tofile(data_part)
        header_part.write_text(_header_text(scan, data.name), "utf-8", "surrogateescape")
        path.unlink(missing_ok=True)


def _header_text(scan: Scan, data_name: str) -> str:
    grid = scan.grid
    lines = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": _text(grid.direction.T.ravel()),
        "Offset": _text(grid.origin_mm),
        "CenterOfRotation": "0 0 0",
        "AnatomicalOrientation": orientation_of(grid.direction),
        "ElementSpacing": _text(grid.spacing_mm),
        "DimSize": " ".join(str(size) for size in grid.shape),
        "ElementType": "MET_SHORT",
        "ElementDataFile": data_name,
    }
    return "".join(f"{key} = {value}\n" for key, value in lines.items())


def _text(numbers: np.ndarray) -> str:
    return " ".join(f"{number + 0.0:.17g}" for number in numbers.tolist())
