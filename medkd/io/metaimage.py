"""MetaImage (.mhd with .raw, .mha) as LUNA16 uses it: what is wrong with a header, and writing.

Reading goes through SimpleITK (`volume.py`), which stops at the first fault and words it for
programmers. This module reads the header's text to name every fault at once, and writes pairs
whose bytes depend on the scan alone. In the file, row a of `TransformMatrix` is the LPS
direction of index axis a (the transpose of ITK's direction matrix).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medkd.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from medkd.types import Scan

ELEMENT_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
    "MET_LONG": 4, "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip
"""Bytes of each scalar element type; LONG is 4 bytes in MetaIO whatever the machine says."""

_HEADER_LIMIT_BYTES = 65536
_ALIASES = {
    "position": "offset",
    "origin": "offset",
    "rotation": "transformmatrix",
    "orientation": "transformmatrix",
}


@dataclass(frozen=True, slots=True)
class MetaHeader:
    """The text part of a MetaImage file: lower-case keys, and where the text ends in bytes."""

    values: dict[str, str]
    length_bytes: int

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return the numbers of a key; empty if it is absent or holds no numbers."""
        try:
            return tuple(float(part) for part in self.values.get(key, "").split())
        except ValueError:
            return ()


def read_metaimage_header(path: Path) -> MetaHeader:
    """Read the header's text up to and with `ElementDataFile`, its last line."""
    values: dict[str, str] = {}
    length = 0
    with path.open("rb") as stream:
        while length < _HEADER_LIMIT_BYTES:
            line = stream.readline(_HEADER_LIMIT_BYTES)
            length += len(line)
            key, found, value = line.decode("latin-1").partition("=")
            name = key.strip().lower()
            if found:
                values[_ALIASES.get(name, name)] = value.strip()
            if not line or name == "elementdatafile":
                break
    return MetaHeader(values, length)


def header_reasons(header: MetaHeader) -> list[str]:
    """Say what the header's text alone gets wrong; geometry is checked by the caller."""
    reasons = [
        f"the header has no {label} line"
        for label in ("NDims", "DimSize", "ElementType", "ElementDataFile")
        if label.lower() not in header.values
    ]
    sizes = header.numbers("dimsize")
    dimensions = header.numbers("ndims")
    if dimensions and dimensions != (3.0,):
        reasons.append(f"expected 3 dimensions, got NDims = {header.values['ndims']}")
    if "dimsize" in header.values and (not sizes or any(n < 1 or n % 1 for n in sizes)):
        reasons.append(f"expected positive whole sizes, got DimSize = {header.values['dimsize']}")
    elif sizes and dimensions and len(sizes) != dimensions[0]:
        reasons.append(f"NDims = {header.values['ndims']} but DimSize has {len(sizes)} numbers")
    element = header.values.get("elementtype")
    if element is not None and element.upper().removesuffix("_ARRAY") not in ELEMENT_BYTES:
        reasons.append(f"unknown ElementType {element!r}; known: {', '.join(ELEMENT_BYTES)}")
    if channel_count(header) != 1:
        reasons.append(f"expected one value a voxel, got {channel_count(header)}")
    return reasons


def channel_count(header: MetaHeader) -> int:
    """Return the values a voxel has (1 where the header does not say)."""
    numbers = header.numbers("elementnumberofchannels")
    return int(numbers[0]) if numbers else 1


def data_reasons(path: Path, header: MetaHeader) -> list[str]:
    """Compare the voxels' file with what the header promises.

    `LIST` and patterned names are left to SimpleITK.
    """
    name = header.values.get("elementdatafile", "")
    if not name or name.upper().startswith("LIST") or "%" in name:
        return []
    local = name.upper() == "LOCAL"
    data = path if local else path.parent / name
    if not data.is_file():
        return [f"its voxels' file {name!r} is missing; it must stand beside the header"]
    expected = _expected_bytes(header)
    skipped = header.numbers("headersize") or (0.0,)
    if expected is None or skipped[0] < 0:
        return []
    start = header.length_bytes if local else int(skipped[0])
    got = data.stat().st_size - start
    if got == expected:
        return []
    return [f"the header promises {expected} bytes of voxels, {name!r} has {got}"]


def _expected_bytes(header: MetaHeader) -> int | None:
    sizes = header.numbers("dimsize")
    element = ELEMENT_BYTES.get(header.values.get("elementtype", "").upper())
    if header.values.get("compresseddata", "false").lower() == "true":
        compressed = header.numbers("compresseddatasize")
        return int(compressed[0]) if compressed else None
    if not sizes or element is None or min(sizes) < 1:
        return None
    return int(math.prod(sizes)) * element * channel_count(header)


def write_mhd(scan: Scan, path: Path) -> None:
    """Write a scan as a pair of header (`.mhd`) and voxels (`.raw` beside it).

    The same scan gives the same bytes. Both files are written under temporary names first; the
    header gets its name last, so that a header never stands without its voxels.

    Args:
        scan: voxels in HU on their grid.
        path: ends in `.mhd`.

    Raises:
        ValueError: if `path` does not end in `.mhd`.
        OSError: if the disk is full or not writable; then nothing is left behind.

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
    slices = np.ascontiguousarray(scan.voxels_hu.transpose(2, 1, 0), dtype="<i2")
    with replacing(path) as header_part, replacing(data) as data_part:
        slices.tofile(data_part)
        header_part.write_text(_header_text(scan, data.name), encoding="ascii")
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
        "AnatomicalOrientation": "RAI",
        "ElementSpacing": _text(grid.spacing_mm),
        "DimSize": " ".join(str(size) for size in grid.shape),
        "ElementType": "MET_SHORT",
        "ElementDataFile": data_name,
    }
    return "".join(f"{key} = {value}\n" for key, value in lines.items())


def _text(numbers: np.ndarray) -> str:
    return " ".join(f"{number + 0.0:.17g}" for number in numbers.tolist())
