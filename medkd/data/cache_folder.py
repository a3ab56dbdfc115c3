"""A cache: a folder of entries that can be made again, with a size limit.

A CACHEDIR.TAG file (https://bford.info/cachedir) marks it for backup tools. An entry is a folder
that is written completely or not at all. Its modification time is the time of its last use.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from medkd.files import replacing, write_text

logger = logging.getLogger(__name__)

TAG = "CACHEDIR.TAG"
_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55"
_OURS = "# A cache of medkd: `medkd cache FOLDER --clear` empties it."
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One entry: its folder, its size, and when it was last used (seconds since 1970)."""

    path: Path
    size_bytes: int
    used_s: float


@dataclass(frozen=True, slots=True)
class CacheFolder:
    """A cache on disk, whose entries are subfolders.

    Args:
        path: the folder, created with the first entry.
        limit_gib: limit of the total size; above it the least recently used entries are removed,
            but never the one just written.
    """

    path: Path
    limit_gib: float = 100.0

    def entry(self, key: str, write: Callable[[Path], None]) -> Path:
        """Return the folder of an entry; create it with `write` if it is missing.

        Args:
            key: name of the entry.
            write: called with an empty folder, which it fills.
        """
        entry = self.path / key
        if entry.is_dir():
            os.utime(entry)
            return entry
        self._mark()
        with replacing(entry) as folder:
            folder.mkdir(parents=True)
            write(folder)
        self._make_room(entry)
        return entry

    def entries(self) -> list[CacheEntry]:
        """Return the entries, least recently used first."""
        folders = self.path.iterdir() if self.path.is_dir() else ()
        found = []
        for path in folders:
            if path.is_dir() and path.name[0] != ".":
                with contextlib.suppress(FileNotFoundError):  # another process removed it
                    state = path.stat()
                    size = _size_bytes(path, state.st_ino)
                    found.append(CacheEntry(path, size, state.st_mtime))
        return sorted(found, key=lambda entry: entry.used_s)

    def clear(self) -> None:
        """Remove all entries; the folder itself stays marked as a cache."""
        for entry in self.entries():
            shutil.rmtree(entry.path)

    def _mark(self) -> None:
        if not (self.path / TAG).is_file():
            write_text(self.path / TAG, f"{_SIGNATURE}\n{_OURS}\n")

    def _make_room(self, newest: Path) -> None:
        entries = self.entries()
        size = sum(entry.size_bytes for entry in entries)
        for entry in entries:
            if size <= self.limit_gib * _GIB:
                return
            if entry.path != newest:
                logger.warning("cache %s is over its limit: an entry is removed", self.path.name)
                shutil.rmtree(entry.path, ignore_errors=True)
                size -= entry.size_bytes


def find_caches(folder: Path) -> Iterator[CacheFolder]:
    """Find the caches of medkd in a folder and below it.

    Args:
        folder: for example a RUN, or a folder of several RUNs.
    """
    for tag in sorted(folder.rglob(TAG)):
        if tag.is_file() and _OURS in tag.read_text(encoding="utf-8", errors="replace"):
            yield CacheFolder(tag.parent)


@cache  # An entry never changes its size; one that was written again has another inode.
def _size_bytes(path: Path, _inode: int) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
