"""Writing files so that nothing is ever half-written: to a temporary name, then rename."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it there on success, delete it on failure.

    Works for a file or a directory that the caller creates. An existing directory is replaced.

    Args:
        path: where the finished file or directory shall stand; parents are made.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> target = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with replacing(target) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    temporary.unlink()
    try:
        yield temporary
        if path.is_dir() and temporary.is_dir():
            _swap_directories(temporary, path)
        else:
            temporary.replace(path)
    finally:
        _remove(temporary)


def remove_partial(folder: Path) -> None:
    """Remove the temporary files that a killed process left below a folder."""
    for path in [*folder.rglob(".*.part"), *folder.rglob(".*.old")]:
        _remove(path)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _swap_directories(fresh: Path, path: Path) -> None:
    old = fresh.with_suffix(".old")
    path.rename(old)
    fresh.rename(path)
    shutil.rmtree(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
