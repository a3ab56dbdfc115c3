"""Matching of the file names in label tables with the files of an archive.

A key matches a file if the key's path is the end of the file's path, or the reverse (CheXpert's
tables name folders above the set). If a key has folders, at least one of them must match.
Suffixes of formats are ignored, since sets are often converted from DICOM to PNG. Matching is
case-sensitive.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".mhd", ".mha", ".nii", ".nrrd", ".nhdr", ".gz")
)
"""Suffixes of formats; other text after a dot belongs to the name (UIDs contain dots)."""


class FileNames:
    """Finds the files that match a key of a label table.

    Args:
        names: paths of the archive's files relative to its root; for members of a zip archive
            their paths inside it.

    Example:
        >>> names = FileNames(["train/a/view1.png", "train/b/view1.png", "00000001_000.png"])
        >>> names.find("CheXpert-v1.0/train/b/view1.jpg")
        ('train/b/view1.png',)
        >>> names.find("view1.png")
        ('train/a/view1.png', 'train/b/view1.png')
        >>> names.find("1_000.png")
        ()
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for name in names:
            self._by_stem[_parts(name)[-1]].append(name)

    def find(self, key: str) -> tuple[str, ...]:
        """Return the names that match a key in the most path parts.

        If several match, those with the same suffix as the key are preferred.
        """
        wanted = _parts(key)
        agreeing = [
            (min(len(wanted), len(parts)), name)
            for name in self._by_stem.get(wanted[-1], ())
            if _agree(wanted, parts := _parts(name))
        ]
        best = max((count for count, _ in agreeing), default=0)
        found = tuple(name for count, name in agreeing if count == best)
        exact = tuple(name for name in found if PurePosixPath(name).suffix == _suffix(key))
        return exact if len(found) > 1 and exact else found


def _parts(name: str) -> tuple[str, ...]:
    """Return the parts of a path; the last part is without suffixes of formats."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    last = parts[-1] if parts else ""
    while PurePosixPath(last).suffix.lower() in _SUFFIXES:
        last = PurePosixPath(last).stem
    return (*parts[:-1], last)


def _suffix(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).suffix


def _agree(wanted: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    shared = min(len(wanted), len(parts))
    if shared < min(2, len(wanted)):
        return False
    return wanted[-shared:] == parts[-shared:]
