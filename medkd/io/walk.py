"""Iteration over all files below a folder, always in the same order.

No entry is skipped silently: folders that cannot be entered and entries that are not regular files
are returned with a reason. A folder that several links lead to is entered once. Memory grows with
the entries of one folder, not with the archive.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

MOST_MEMBER_BYTES = 8 * 2**30
"""Larger members of a zip archive are not unpacked."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of an archive.

    Args:
        path: path relative to the archive's root.
        member: name inside the zip archive `path`; empty for a file on disk.
        size: size in bytes; for a zip member its unpacked size.
        changed: modification time in ns; for a zip member that of the archive.
        form: "unreadable", or "other" for an ignored entry; empty for a file whose content is
            still to be examined.
        reason: why it has this form; for "unreadable" it is "code: text"
            (`file_kind.UNREADABLE`).
    """

    path: Path
    member: str = ""
    size: int = 0
    changed: int = 0
    form: Literal["", "unreadable", "other"] = ""
    reason: str = ""


def walk_files(root: Path, *, skip: Callable[[Path], bool]) -> Iterator[FoundFile]:
    """Yield every file at any depth; a zip archive is one file.

    Args:
        root: folder of the archive.
        skip: called with an absolute path; returns True for medkd's own files, which are not part
            of the archive.
    """
    top = root.stat()
    entered = {(top.st_dev, top.st_ino)}
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            yield _locked(folder, root, error)
            continue
        deeper = []
        for entry in entries:
            path = Path(entry.path)
            if skip(path):
                continue
            try:
                state = entry.stat()
            except OSError as error:
                if isinstance(error, PermissionError) and not entry.is_symlink():
                    # The folder may be listed, but not entered.
                    yield _locked(folder, root, error)
                    break
                reason = inaccessible_reason(error)
                yield FoundFile(path.relative_to(root), form="unreadable", reason=reason)
                continue
            if stat.S_ISDIR(state.st_mode):
                if entry.name.startswith("."):
                    reason = "a hidden folder: its name begins with a dot"
                    yield FoundFile(path.relative_to(root), form="other", reason=reason)
                elif (state.st_dev, state.st_ino) not in entered:
                    entered.add((state.st_dev, state.st_ino))
                    deeper.append(path)
            else:
                yield _file(path, root, state, linked=entry.is_symlink())
        waiting.extend(reversed(deeper))


def zip_members(root: Path, path: Path) -> Iterator[FoundFile]:
    """Yield the files inside a zip archive.

    Args:
        root: folder of the archive.
        path: the zip file, relative to `root`.

    Raises:
        OSError, zipfile.BadZipFile, ValueError: if the zip file is damaged.
    """
    place = root / path
    changed = place.stat().st_mtime_ns
    with zipfile.ZipFile(place) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            reason = _member_fault(info)
            form: Literal["", "unreadable"] = "unreadable" if reason else ""
            yield FoundFile(path, info.filename, info.file_size, changed, form, reason)


def foreign_zip(root: Path, path: Path) -> str:
    """Return the type of a zip file that is a document, arrays or weights; else an empty text.

    Raises:
        OSError, zipfile.BadZipFile, ValueError: if the zip file is damaged.
    """
    with zipfile.ZipFile(root / path) as archive:
        names = archive.namelist()
    if "[Content_Types].xml" in names or "mimetype" in names:
        return "an office document"
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy archive: its arrays have no geometry"
    if any(PurePosixPath(name).name == "data.pkl" for name in names):
        return "saved weights"
    return ""


def _locked(folder: Path, root: Path, error: OSError) -> FoundFile:
    reason = f"unreadable_folder: it cannot be entered ({_kind(error)})"
    return FoundFile(folder.relative_to(root), form="unreadable", reason=reason)


def _file(path: Path, root: Path, state: os.stat_result, *, linked: bool) -> FoundFile:
    where = path.relative_to(root)
    if not stat.S_ISREG(state.st_mode):
        return FoundFile(where, form="other", reason="not a regular file")
    if linked and path.resolve().is_relative_to(root.resolve()):
        return FoundFile(where, form="other", reason="a link to another file of the archive")
    return FoundFile(where, size=state.st_size, changed=state.st_mtime_ns)


def _member_fault(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & 1:
        return "damaged_zip: the zip archive is encrypted: unpack it"
    too_large = info.file_size > MOST_MEMBER_BYTES
    return "damaged_file: too large to be read from a zip archive: unpack it" if too_large else ""


def inaccessible_reason(error: OSError) -> str:
    """Return why an entry of a folder cannot be accessed, as "code: text".

    Args:
        error: the exception of `stat`; for a broken link `FileNotFoundError`.

    Returns:
        A reason with a code of `file_kind.UNREADABLE`.
    """
    code = "no_permission" if isinstance(error, PermissionError) else "missing_file"
    return f"{code}: it cannot be found or read ({_kind(error)})"


def _kind(error: OSError) -> str:
    return type(error).__name__
