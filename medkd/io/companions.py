"""Companion files: the voxel files that a volume's header names and cannot be read without."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

from medkd.io import metaimage_header, nrrd_header
from medkd.io.data_files import find_data_file, outside_fault
from medkd.io.dicom.codes import Fault
from medkd.io.file_ref import FileRef
from medkd.io.metaimage_header import MetaHeader, read_metaimage_header
from medkd.io.nrrd_header import read_nrrd_header

_NRRD_LIMIT_BYTES = 1 << 22


def metaimage_header_of(ref: FileRef, head: bytes) -> MetaHeader:
    """Read the header of an .mhd or .mha.

    Args:
        ref: the file; it is opened only if `head` does not contain the whole header.
        head: the first bytes of the file.
    """
    header = read_metaimage_header(io.BytesIO(head))
    if not header.is_list and "elementdatafile" in header.values:
        return header
    with ref.open() as stream:
        return read_metaimage_header(stream)


def metaimage_companions(ref: FileRef, header: MetaHeader) -> tuple[str, ...]:
    """Return the voxel files of an .mhd, spelled as on the disk.

    Args:
        ref: the header file.
        header: its parsed text.

    Returns:
        Names relative to the header's folder; the files need not exist. If the header names its
        files in an unsupported way, its own text is returned.
    """
    names = metaimage_header.data_names(header)
    stated = header.listed or (header.values.get("elementdatafile", ""),)
    return _spelled(ref, names, stated)


def nrrd_companions(ref: FileRef, head: bytes) -> tuple[str, ...]:
    """Return the voxel files of a .nrrd or .nhdr; see `metaimage_companions`.

    Args:
        ref: the file.
        head: its first bytes.
    """
    text, end, _ = head.partition(b"\n\n")
    if end and b"data" not in text.lower():
        return ()
    with ref.open() as stream:
        header = read_nrrd_header(stream.read(_NRRD_LIMIT_BYTES))
    stated = header.listed or (header.fields.get("data file", ""),)
    return _spelled(ref, nrrd_header.data_names(header), stated)


def _spelled(ref: FileRef, names: list[str] | Fault, stated: Iterable[str]) -> tuple[str, ...]:
    if isinstance(names, Fault):
        names = [name for name in dict.fromkeys(stated) if name]
    if ref.member is not None or outside_fault(names):
        return tuple(names)
    folder = ref.path.parent
    return tuple(_relative(find_data_file(folder, name), folder) for name in names)


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
