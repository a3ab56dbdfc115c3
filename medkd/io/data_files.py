"""Names of data files in the text of a header, and the files that they mean.

A name is stored in the bytes of some encoding, in the header and on the disk: UTF-8 in either
Unicode form, or Latin-1. Only files at or below the header's folder are read.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath

from medkd.io.dicom.codes import Fault

_COUNTER = re.compile(r"%0?([0-9]{0,2})d")

MOST_FILES = 1 << 16
"""More slices than any volume has."""


def header_text(content: bytes) -> str:
    r"""Decode a header so that bytes which are no UTF-8 can be encoded back.

    Example:
        >>> header_text("Größe.raw".encode("latin-1")).encode("utf-8", "surrogateescape")
        b'Gr\xf6\xdfe.raw'
    """
    return content.decode("utf-8", "surrogateescape")


def outside_fault(names: Iterable[str]) -> Fault | None:
    """Refuse names that leave the folder of the header."""
    name = next((name for name in names if not _is_inside(name)), None)
    if name is None:
        return None
    text = f"its voxels' file {name!r} is not below the header's folder: move it there"
    return Fault("unreadable", text)


def count_fault(names: Sequence[str], slices: int, *, stated: str) -> Fault | None:
    """Refuse names of fewer or more files than a header states slices, or of one file twice."""
    doubled = [name for name, count in Counter(map(PurePosixPath, names)).items() if count > 1]
    if len(names) == slices:
        text = "the header names one file for several slices"
        return Fault("damaged_pixels", f"{text}: {doubled[0].name!r}") if doubled else None
    code = "truncated_pixels" if len(names) < slices else "damaged_pixels"
    return Fault(code, f"{stated} promises {slices} slices, the header names {len(names)} files")


def _is_inside(name: str) -> bool:
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor:
        return False
    return ".." not in (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)


def find_data_file(folder: Path, name: str) -> Path:
    """Return the file that a name means, in the spelling that is on the disk.

    Args:
        folder: of the header.
        name: as `header_text` decoded it.

    Returns:
        A file, or the path under the name as it is spelled if there is no such file.
    """
    return next((p for s in _spellings(name) if (p := folder / s).is_file()), folder / name)


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
    """Say whether a name counts files, as slice%03d.raw does."""
    return len(_COUNTER.findall(name)) == 1


def counted_names(pattern: str, first: int, last: int, step: int) -> list[str] | None:
    """Return the names that a pattern means, first to last; None if they are no finite series."""
    if step == 0 or abs((last - first) // step) >= MOST_FILES:
        return None
    width = _COUNTER.findall(pattern)[0]
    zeros = "0" if _COUNTER.search(pattern)[0].startswith("%0") else ""  # type: ignore[index]
    spec = f"{zeros}{width}d" if width else "d"
    numbers = range(first, last + (1 if step > 0 else -1), step)
    return [_COUNTER.sub(format(number, spec), pattern) for number in numbers]
