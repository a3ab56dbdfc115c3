"""Atomic file writing: files are written under a temporary name, then renamed.

A disk error always names the intended file, never the temporary one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medkd.errors import WorkerError

_FULL_WORDS = (
    "no space left", "disk is full", "disk full", "disk quota", "file too large",
    "requested and", "failed writing file", "inline_container.cc",
)  # fmt: skip
"""Phrases by which sqlite, numpy, torch and safetensors report a full disk without an errno."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, else delete it.

    The caller creates a file or a directory there. An existing directory is replaced. A device
    or pipe (/dev/stdout) is never replaced: the caller gets `path` itself and writes to it.

    Args:
        path: final path of the file or directory; its parents are created.

    Raises:
        OSError: if writing fails; the error names `path`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> target = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with replacing(target) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    with attribute_errors_to(path):
        if path.exists() and not (path.is_file() or path.is_dir()):
            yield path
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_prefix(path), suffix=".part", dir=path.parent)
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


@contextmanager
def attribute_errors_to(path: Path) -> Iterator[None]:
    """Set the file name of disk errors inside the block to the file that the block writes.

    A full disk that a library reports by an exception of its own becomes an OSError too.

    Raises:
        OSError: with `path` as its file name, unless it already names another permanent file.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None and is_full_disk(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        if error.filename is None or _is_temporary(error.filename):
            error.filename, error.filename2 = str(path), None
        raise
    except WorkerError:  # shared memory was full, not the disk
        raise
    except Exception as error:
        if is_full_disk(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def is_full_disk(error: Exception) -> bool:
    """Return whether an exception of any library means a full disk, quota or file-size limit."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return any(words in str(error).lower() for words in _FULL_WORDS)


def is_sqlite_error(error: BaseException) -> bool:
    """Return whether an exception comes from SQLite, directly or through SQLAlchemy."""
    return type(error).__module__.partition(".")[0] in ("sqlite3", "sqlalchemy")


def sqlite_errno(error: BaseException) -> int:
    """Return the errno of the disk error behind an SQLite error; 0 if there is none."""
    cause = getattr(error, "orig", None) or error  # SQLAlchemy wraps the original error
    name, text = getattr(cause, "sqlite_errorname", "") or "", str(cause).lower()
    for code, words, number in _SQLITE_FAULTS:
        if name.startswith(code) or (not name and words in text):
            return number
    return 0


def disk_fault_of(error: Exception, path: Path) -> OSError | None:
    """Return the disk error behind an SQLite error, or None if there is none.

    Args:
        error: an exception of SQLite, which names no file.
        path: the database file that the returned error names.
    """
    number = sqlite_errno(error)
    return OSError(number, os.strerror(number), str(path)) if number else None


_SQLITE_FAULTS = (
    ("SQLITE_FULL", "disk is full", errno.ENOSPC), ("SQLITE_IOERR", "disk i/o", errno.EIO),
    ("SQLITE_READONLY", "readonly", errno.EROFS), ("SQLITE_PERM", "permission", errno.EACCES),
    ("SQLITE_CANTOPEN", "unable to open", errno.EACCES),
)  # fmt: skip
"""SQLite's error name, the phrase in its message (used if there is no name), and the errno."""


def remove_partial(folder: Path) -> None:
    """Remove the temporary files below a folder that a killed process has not removed.

    A directory whose replacement was interrupted gets its old name back, unless the new
    directory already has that name.
    """
    for old in list(folder.rglob(".*.old")):
        path = old.with_name(old.name[1:].rsplit(".", 2)[0])
        if path.exists():
            _remove(old)
        else:
            old.rename(path)
    for path in list(folder.rglob(".*.part")):
        _remove(path)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _prefix(path: Path) -> str:
    """Return the prefix of a temporary name; a very long file name is shortened to fit."""
    encoded = os.fsencode(path.name)
    return f".{path.name}." if len(encoded) < 230 else f".{os.fsdecode(encoded[:200])}."


def _is_temporary(name: str | bytes | int) -> bool:
    if isinstance(name, int):
        return True
    parts = Path(os.fsdecode(name)).parts
    return any(part.startswith(".") and part.endswith((".part", ".old", ".unfinished"))
               for part in parts)  # fmt: skip


def _swap_directories(fresh: Path, path: Path) -> None:
    old = fresh.with_suffix(".old")
    path.rename(old)
    fresh.rename(path)
    shutil.rmtree(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
