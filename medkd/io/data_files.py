"""Data files that a header names, and how to find them on the disk.

Names may be encoded differently in the header and on the disk: as UTF-8 in either Unicode
normal form (NFC, NFD), or as Latin-1. Only files in or below the header's folder are read.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath

from medkd.io.dicom.codes import Fault

_COUNTER = re.compile(r"%0?([0-9]{0,2})d")

MOST_FILES = 1 << 16
"""Limit on the files of one volume: more slices than any volume has."""


def header_text(content: bytes) -> str:
    r"""Decode a header; bytes that are not valid UTF-8 can be encoded back without loss.

    Example:
        >>> header_text("Größe.raw".encode("latin-1")).encode("utf-8", "surrogateescape")
        b'Gr\xf6\xdfe.raw'
    """
    return content.decode("utf-8", "surrogateescape")


def count_fault(names: Sequence[str], slices: int, *, stated: str) -> Fault | None:
    """Return a fault if a header names fewer or more files than slices, or a file twice.

    Args:
        names: the files that the header names.
        slices: the number of slices that the header states.
        stated: the header's field that states it.
    """
    repeated = [name for name, count in Counter(map(PurePosixPath, names)).items() if count > 1]
    if len(names) == slices:
        text = "the header names one file for several slices"
        return Fault("damaged_pixels", f"{text}: {repeated[0].name!r}") if repeated else None
    code = "truncated_pixels" if len(names) < slices else "damaged_pixels"
    text = f"{stated} states {slices} slices, but the header names {len(names)} files"
    return Fault(code, text)


def _is_inside(name: str) -> bool:
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor:
        return False
    return ".." not in (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)


def find_data_files(folder: Path, names: Sequence[str] | Fault) -> tuple[Path, ...] | Fault:
    """Return the paths of the files that a header names, spelled as on the disk.

    Args:
        folder: folder of the header.
        names: the names as `header_text` decoded them, or the fault of a header without names.

    Returns:
        Existing files; for a missing file, the path with the name as spelled in the header. A
        fault if there are no names, or if one of them is not below the folder.
    """
    if isinstance(names, Fault):
        return names
    outside = next((name for name in names if not _is_inside(name)), None)
    if outside is not None:
        text = f"the voxel file {outside!r} is not below the header's folder: move it there"
        return Fault("unreadable", text)
    return tuple(
        next((p for s in _spellings(name) if (p := folder / s).is_file()), folder / name)
        for name in names
    )


def _spellings(name: str) -> Iterator[str]:
    yield name
    content = name.encode("utf-8", "surrogateescape")
    texts = [content.decode("latin-1")]
    with suppress(UnicodeDecodeError):
        texts.insert(0, content.decode("utf-8"))
    for text in texts:
        yield unicodedata.normalize("NFC", text)
        yield unicodedata.normalize("NFD", text)
    with suppress(UnicodeEncodeError):
        yield header_text(unicodedata.normalize("NFC", texts[0]).encode("latin-1"))


def is_pattern(name: str) -> bool:
    """Return whether a name is a pattern of numbered files, such as slice%03d.raw."""
    return len(_COUNTER.findall(name)) == 1


def numbered_names(pattern: str, first: int, last: int, step: int) -> list[str] | None:
    """Return the file names of a pattern, from first to last.

    Returns:
        The names; None if the step is 0 or the names are more than `MOST_FILES`.
    """
    if step == 0 or abs((last - first) // step) >= MOST_FILES:
        return None
    width = _COUNTER.findall(pattern)[0]
    zeros = "0" if _COUNTER.search(pattern)[0].startswith("%0") else ""  # type: ignore[index]
    spec = f"{zeros}{width}d" if width else "d"
    numbers = range(first, last + (1 if step > 0 else -1), step)
    return [_COUNTER.sub(format(number, spec), pattern) for number in numbers]
