"""Faults of the SQLite file with the decisions: what they mean and what a reader can do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from medkd.errors import SeriesError

BUSY_SECONDS = 10
"""How long a change waits for another program that writes the file."""


@contextmanager
def refusing(path: Path, what: str) -> Iterator[None]:
    """Turn a fault of the database into a refusal that says what was not done."""
    try:
        yield
    except sa.exc.DatabaseError as error:
        name = getattr(error.orig, "sqlite_errorname", "")
        remedy = next((words for code, words in _REMEDIES.items() if name.startswith(code)), "")
        remedy = remedy.format(folder=path.resolve().parent, seconds=BUSY_SECONDS)
        reasons = [str(error.orig), remedy or "see that the disk and the folder are in order"]
        raise SeriesError(f"{path}: {what}", reasons) from error


_TO_WRITE = (
    "the file and its folder must be writable: ask for the right to write in {folder}, or copy "
    "the whole folder to a place of your own and review it there"
)
_REMEDIES = {
    "SQLITE_BUSY": "another program has held the file for {seconds} s: close it (a database "
    "browser, a backup) and try again",
    "SQLITE_LOCKED": "another program holds the file: close it and try again",
    "SQLITE_READONLY": _TO_WRITE,
    "SQLITE_CANTOPEN": _TO_WRITE,
    "SQLITE_PERM": _TO_WRITE,
    "SQLITE_FULL": "the disk is full: make room in {folder} and try again",
    "SQLITE_IOERR": "the disk is full or fails: make room in {folder} and try again",
    "SQLITE_NOTADB": "the file is no store of medkd: move it to another place, keep it, and try "
    "again",
    "SQLITE_CORRUPT": "the file is damaged: keep a copy, restore it from a backup, and try again",
}
"""What to do, by the prefix of SQLite's name of the fault."""
