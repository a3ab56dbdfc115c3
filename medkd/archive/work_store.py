"""The state of indexing on disk: after a kill at any moment, the next run continues from it.

`work.sqlite` in the private folder of an INDEX stores every file with its size, time, form and
group (series, image or volume), and the facts of every group. If a file is new, changed or
deleted, its groups are assessed again; nothing else is repeated. Paths are stored as bytes, because
a file name need not be valid text.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from medkd.errors import SeriesError
from medkd.files import disk_fault_of
from medkd.io.file_kind import DicomHead
from medkd.io.file_ref import shown_name
from medkd.io.walk import FoundFile

WORK_FILE = "work.sqlite"
VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL, member TEXT NOT NULL, size INTEGER NOT NULL,
    changed INTEGER NOT NULL, seen INTEGER NOT NULL, form TEXT NOT NULL, reason TEXT NOT NULL,
    key TEXT NOT NULL, companion TEXT NOT NULL, UNIQUE (path, member)
);
CREATE INDEX IF NOT EXISTS files_by_key ON files (key, id);
CREATE TABLE IF NOT EXISTS heads (key TEXT PRIMARY KEY, head TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (
    key TEXT PRIMARY KEY, facts TEXT NOT NULL, again INTEGER NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file in the store; `key` names its group and is empty if it belongs to none."""

    number: int
    path: Path
    member: str
    form: str
    reason: str
    key: str

    @property
    def place(self) -> str:
        """Its path below the root of the archive, as text; use `path` to open it."""
        return place_of(self.path, self.member)


@dataclass(frozen=True, slots=True)
class ClassifiedFile:
    """A file and its classification."""

    found: FoundFile
    form: str
    reason: str = ""
    key: str = ""
    companion: str = ""
    head: DicomHead | None = None


def place_of(path: Path, member: str) -> str:
    """Return the path of a file as text; bytes that are not valid UTF-8 are escaped."""
    where = path.as_posix()
    return shown_name(f"{where}/{member}" if member else where)


class WorkStore:
    """The store of one INDEX; open it with `opened_store`.

    Args:
        connection: to a database with the tables.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.generation = int(self._setting("generation") or 0)

    def begin(self, root: Path, settings: str, *, kinds: str = "") -> None:
        """Begin a run.

        Args:
            root: the archive; another root than before is refused.
            settings: the settings that facts depend on, as text; a change discards all facts.
            kinds: version of the rules that classify files; a change classifies all again.

        Raises:
            SeriesError: if the store is of another root.
        """
        known = self._setting("root")
        if known is not None and known != os.fsencode(root).hex():
            raise SeriesError(
                f"{root}: not the archive of this index",
                ["it indexes another folder: give another --out, or remove it with its private "
                 "folder"],
            )  # fmt: skip
        with self._connection:
            if self._setting("settings") != settings:
                self._connection.execute("DELETE FROM facts")
            self._connection.execute("DELETE FROM facts WHERE again")
            if self._setting("kinds") != kinds:
                self._connection.execute("UPDATE files SET size = -1")
            self.generation += 1
            values = {"root": os.fsencode(root).hex(), "settings": settings, "kinds": kinds,
                      "generation": str(self.generation)}  # fmt: skip
            self._connection.executemany(
                "INSERT OR REPLACE INTO settings VALUES (?, ?)", values.items()
            )

    def unchanged(self, files: Sequence[FoundFile]) -> set[FoundFile]:
        """Return the files with the same size and time as in the store, and mark them as seen.

        The members of an unchanged zip archive are marked with it. A file that the walk could not
        access or skipped, or that lacked permission before, always counts as changed.
        """
        same = set()
        with self._connection:
            for file in files:
                row = self._connection.execute(
                    "SELECT size, changed, reason, form FROM files WHERE path = ? AND member = ?",
                    (os.fsencode(file.path), file.member),
                ).fetchone()
                # Permissions may have changed, which changes neither size nor time.
                refused = bool(file.form) or (row and row[2].startswith("no_permission"))
                if row is None or refused or row[:2] != (file.size, file.changed):
                    continue
                same.add(file)
                self._connection.execute(
                    "UPDATE files SET seen = ? WHERE path = ?",
                    (self.generation, os.fsencode(file.path)),
                )
        return same

    def add_files(self, files: Iterable[ClassifiedFile]) -> None:
        """Store the forms of files; their previous and their new groups are assessed again."""
        with self._connection:
            for file in files:
                path = os.fsencode(file.found.path)
                self._connection.execute(
                    "DELETE FROM facts WHERE key IN "
                    "(?, (SELECT key FROM files WHERE path = ? AND member = ?))",
                    (file.key, path, file.found.member),
                )
                self._connection.execute(
                    "INSERT INTO files (path, member, size, changed, seen, form, reason, key, "
                    "companion) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (path, member) DO "
                    "UPDATE SET size = excluded.size, changed = excluded.changed, "
                    "seen = excluded.seen, form = excluded.form, reason = excluded.reason, "
                    "key = excluded.key, companion = excluded.companion",
                    (path, file.found.member, file.found.size, file.found.changed,
                     self.generation, file.form, file.reason, file.key,
                     os.fsencode(file.companion) or ""),
                )  # fmt: skip
                if file.head is not None and file.key:
                    self._connection.execute(
                        "INSERT OR REPLACE INTO heads VALUES (?, ?)",
                        (file.key, json.dumps(asdict(file.head))),
                    )

    def end_walk(self) -> None:
        """Delete files that were not seen, and add to volumes the files with their voxels."""
        with self._connection:
            gone = "SELECT key FROM files WHERE seen < ?"
            self._connection.execute(f"DELETE FROM facts WHERE key IN ({gone})", (self.generation,))  # noqa: S608  # no value in it
            self._connection.execute("DELETE FROM files WHERE seen < ?", (self.generation,))
            self._connection.execute("DELETE FROM heads WHERE key NOT IN (SELECT key FROM files)")
            rows = self._connection.execute(
                "SELECT path, member, key, companion FROM files WHERE companion <> ''"
            ).fetchall()
            for path, member, key, names in rows:
                for companion in os.fsdecode(names).split("\n"):
                    self._join_companion(Path(os.fsdecode(path)), member, key, companion)

    def _join_companion(self, path: Path, member: str, key: str, companion: str) -> None:
        if member:
            place = (os.fsencode(path), str(Path(member).parent / companion))
        else:
            place = (os.fsencode(path.parent / companion), "")
        changed = self._connection.execute(
            "UPDATE files SET form = 'volume', reason = '', key = ? "
            "WHERE path = ? AND member = ? AND key <> ? AND form = 'other'",
            (key, *place, key),
        ).rowcount
        if changed:
            self._connection.execute("DELETE FROM facts WHERE key = ?", (key,))

    def count_files(self) -> int:
        """Return the number of files."""
        return int(self._connection.execute("SELECT count(*) FROM files").fetchone()[0])

    def count_groups(self) -> int:
        """Return the number of series, images and volumes."""
        query = "SELECT count(DISTINCT key) FROM files WHERE key <> ''"
        return int(self._connection.execute(query).fetchone()[0])

    def waiting(self) -> list[str]:
        """Return the groups that are not assessed yet, in order of their first file."""
        rows = self._connection.execute(
            "SELECT key FROM files WHERE key <> '' AND key NOT IN (SELECT key FROM facts) "
            "GROUP BY key ORDER BY min(id)"
        )
        return [key for (key,) in rows]

    def groups(self) -> list[str]:
        """Return every group."""
        rows = self._connection.execute("SELECT DISTINCT key FROM files WHERE key <> ''")
        return [key for (key,) in rows]

    def files_of(self, key: str, *, limit: int = -1) -> list[KnownFile]:
        """Return the files of a group in the order in which they were found, headers first."""
        return list(self._files("WHERE key = ? ORDER BY companion = '', id LIMIT ?", key, limit))

    def companions_of(self, key: str) -> tuple[str, ...]:
        """Return the names of files that a group needs, whether they exist or not."""
        rows = self._connection.execute(
            "SELECT companion FROM files WHERE key = ? AND companion <> ''", (key,)
        )
        return tuple(name for (names,) in rows for name in os.fsdecode(names).split("\n"))

    def files(self, form: str | None = None) -> Iterator[KnownFile]:
        """Yield every file, or every file of one form, in the order in which they were found."""
        if form:
            yield from self._files("WHERE form = ? ORDER BY id", form)
        else:
            yield from self._files("ORDER BY id")

    def tables_named(self, name: str) -> Iterator[KnownFile]:
        """Yield the tables of this name."""
        yield from (f for f in self.files("table") if PurePosixPath(f.place).name == name)

    def head_of(self, key: str) -> DicomHead | None:
        """Return the head of one file of a group; None if it is not DICOM."""
        row = self._connection.execute("SELECT head FROM heads WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        values = json.loads(row[0])
        return DicomHead(**{**values, "identity": tuple(values["identity"])})

    def add_facts(self, facts: Iterable[tuple[str, str, bool]]) -> None:
        """Store (group, facts, whether the next run assesses it again)."""
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", facts)

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield (group, facts) for all groups, in order of their first file."""
        yield from self._connection.execute(
            "SELECT facts.key, facts.facts FROM facts JOIN files ON files.key = facts.key "
            "GROUP BY facts.key ORDER BY min(files.id)"
        )

    def _files(self, which: str, *values: object) -> Iterator[KnownFile]:
        query = f"SELECT id, path, member, form, reason, key FROM files {which}"  # noqa: S608  # a constant
        for number, path, *rest in self._connection.execute(query, values):
            yield KnownFile(number, Path(os.fsdecode(path)), *rest)

    def _setting(self, name: str) -> str | None:
        row = self._connection.execute(
            "SELECT value FROM settings WHERE name = ?", (name,)
        ).fetchone()
        return None if row is None else str(row[0])


@contextmanager
def opened_store(private_dir: Path) -> Iterator[WorkStore]:
    """Open the store of an INDEX, for one process at a time.

    Args:
        private_dir: the private folder of the INDEX; it must exist.

    Raises:
        SeriesError: if another process uses it, or it is damaged.
        OSError: if the disk is full or fails; it names the file.
    """
    path = private_dir / WORK_FILE
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(path, timeout=2.0)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        # With a write-ahead log a kill loses nothing, and commits are fast.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
        with connection:
            connection.execute(
                "INSERT OR IGNORE INTO settings VALUES ('version', ?)", (str(VERSION),)
            )
        yield WorkStore(connection)
    except sqlite3.DatabaseError as error:
        if fault := disk_fault_of(error, path):
            raise fault from None
        # The text of the error may contain a value, so only its type is shown.
        locked = "locked" in str(error)
        reason = "another medkd index is using it" if locked else type(error).__name__
        raise SeriesError(f"{path}: cannot be used", [reason]) from None
    finally:
        connection.close()
