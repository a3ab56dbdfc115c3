"""The decisions of readers: an append-only table that survives a killed process.

Decisions are only inserted. The latest one of each (case, mark, reader) counts; older ones are kept
as history. A reader changes one field at a time, based on the latest row, so two browser tabs never
undo each other's work. Triggers of the table refuse UPDATE, DELETE and replacement. Each review has
one SQLite file with a write-ahead log and `synchronous=FULL`: a decision is on disk when `add` or
`change` returns. The file contains case ids, never a patient's name. It is not protected against
programs that write the file directly.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

import sqlalchemy as sa

from medkd import __version__
from medkd.errors import SeriesError
from medkd.files import write_text
from medkd.types import Point

Verdict = Literal["accept", "reject", "undecided", "reviewed"]
"""accept, reject: a mark or an image; undecided: no verdict (any more); reviewed: a whole case."""

Field = Literal["verdict", "note"]
"""The field that a change of a decision concerns."""

WHOLE_CASE = "case"
"""The `mark_id` of a decision on the case itself."""

NOT_SAVED = "the decision was not saved"

BUSY_SECONDS = 10
"""How long a change waits for another program that writes the file."""
_TO_WRITE = (
    "the file and its folder must be writable: ask for the right to write in {folder}, or copy "
    "the whole folder to a folder of your own and review it there"
)
_REMEDIES = {
    "SQLITE_BUSY": "another program has held the file for {seconds} s: close it (a database "
    "browser, a backup) and try again",
    "SQLITE_LOCKED": "another program holds the file: close it and try again",
    "SQLITE_READONLY": _TO_WRITE,
    "SQLITE_CANTOPEN": _TO_WRITE,
    "SQLITE_PERM": _TO_WRITE,
    "SQLITE_FULL": "the disk is full: free space in {folder} and try again",
    "SQLITE_IOERR": "the disk is full or fails: free space in {folder} and try again",
    "SQLITE_NOTADB": "the file is not a store of medkd: move it to another folder and try again",
    "SQLITE_CORRUPT": "the file is damaged: keep a copy, restore it from a backup, and try again",
}
"""Remedies, by the prefix of SQLite's name of the fault."""

_VERDICTS = frozenset(get_args(Verdict))
_SPREADSHEET_CODE = ("=", "+", "-", "@", "\t", "\r")

_DECISIONS = sa.table(
    "decisions",
    *(sa.column(name, sa.Text) for name in ("decided_at", "reader", "case_id", "mark_id")),
    *(sa.column(name, sa.Text) for name in ("verdict", "note", "medkd_version")),
    *(sa.column(name, sa.Float) for name in ("score", "x_mm", "y_mm", "z_mm")),
    sa.column("number", sa.Integer),
)
"""Columns of the current schema; `MIGRATIONS` creates them."""

# INSERT OR REPLACE deletes a row without firing a delete trigger, hence the third one.
_TRIGGERS = tuple(
    f"CREATE TRIGGER IF NOT EXISTS {name} BEFORE {event} BEGIN "
    "SELECT RAISE(ABORT, 'decisions are append-only'); END"
    for name, event in (
        ("decisions_no_update", "UPDATE ON decisions"),
        ("decisions_no_delete", "DELETE ON decisions"),
        (
            "decisions_no_replace",
            "INSERT ON decisions WHEN EXISTS (SELECT 1 FROM decisions WHERE number = NEW.number)",
        ),
    )
)


@contextmanager
def _refusing(path: Path, what: str) -> Iterator[None]:
    """Convert a fault of the database to a refusal with its remedy; `what` was not possible."""
    try:
        yield
    except sa.exc.DatabaseError as error:
        name = getattr(error.orig, "sqlite_errorname", "")
        remedy = next((words for code, words in _REMEDIES.items() if name.startswith(code)), "")
        remedy = remedy.format(folder=path.resolve().parent, seconds=BUSY_SECONDS)
        reasons = [str(error.orig), remedy or "see that the disk and the folder are in order"]
        raise SeriesError(f"{path}: {what}", reasons) from error


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision of one reader on one mark, or on the whole case, at one time.

    `score` and `center_mm` (LPS mm) are copies of what the reader saw, so the decision can still
    be understood after the model ran again. The store sets `number`, `decided_at` (UTC) and
    `medkd_version`.
    """

    case_id: str
    mark_id: str
    reader: str
    verdict: Verdict
    note: str = ""
    score: float | None = None
    center_mm: Point | None = None
    medkd_version: str = ""
    decided_at: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """Result of a change: the decision that counts now, and whether the change was saved."""

    newest: Decision
    saved: bool


@dataclass(frozen=True, slots=True, eq=False)
class ReviewStore:
    """An open store of decisions; build it with `open_store`."""

    path: Path
    engine: sa.Engine

    def add(self, decision: Decision) -> Decision:
        """Append a decision; it is on disk when this returns.

        Returns:
            The decision with its number and time.

        Raises:
            ValueError: if reader, case or mark is empty, or the verdict is not one of the four.
            SeriesError: if it could not be written; then nothing is saved.
        """
        _check(decision)
        with _refusing(self.path, NOT_SAVED), self.engine.begin() as connection:
            return _insert(connection, decision)

    def change(self, seen: Decision, field: Field, value: str) -> Change:
        """Change one field of a decision, based on the latest row; the other field is kept.

        Args:
            seen: the decision as the reader saw it. Its score and place are saved too.
            field: the field to change.
            value: its new value.

        Returns:
            The decision that counts now. The change is not saved if `field` got another value
            after `seen` was read: the reader has not seen that value and must decide again.

        Raises:
            ValueError: as `add`.
            SeriesError: if it could not be written; then nothing is saved.
        """
        wanted = _with_field(seen, field, value)
        _check(wanted)
        with _refusing(self.path, NOT_SAVED), self.engine.begin() as connection:
            # The file is locked first, so no row can be added between reading and writing.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            newest = _newest(connection, seen)
            if getattr(newest, field) not in {getattr(seen, field), value}:
                return Change(newest, saved=False)
            on_screen = replace(newest, score=seen.score, center_mm=seen.center_mm)
            return Change(_insert(connection, _with_field(on_screen, field, value)), saved=True)

    def history(self) -> list[Decision]:
        """Return every decision ever made, oldest first."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(_DECISIONS).order_by(_DECISIONS.c.number))
            return [_decision(row) for row in rows.mappings()]

    def latest(self, *, reader: str | None = None, case_id: str | None = None) -> list[Decision]:
        """Return the decisions that count: the latest one of each (case, mark, reader).

        Args:
            reader: only decisions of this reader.
            case_id: only decisions on this case.
        """
        table = _DECISIONS.c
        newest = sa.select(sa.func.max(table.number)).group_by(
            table.case_id, table.mark_id, table.reader
        )
        query = sa.select(_DECISIONS).where(table.number.in_(newest)).order_by(table.number)
        if reader is not None:
            query = query.where(table.reader == reader)
        if case_id is not None:
            query = query.where(table.case_id == case_id)
        with self._reading() as connection:
            return [_decision(row) for row in connection.execute(query).mappings()]

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with _refusing(self.path, "the decisions cannot be read"), self.engine.connect() as opened:
            yield opened

    def close(self) -> None:
        """Close all connections; the file is kept."""
        self.engine.dispose()


_PLAIN_COLUMNS = ("case_id", "mark_id", "reader", "verdict", "note", "score")
_GIVEN_COLUMNS = ("number", "decided_at", "medkd_version")


def open_store(path: Path) -> ReviewStore:
    """Open a store of decisions; a missing file is created.

    A store of an earlier medkd is migrated to the current schema in one transaction, and every
    decision is kept. A store of a newer medkd is refused and not changed.

    Args:
        path: the SQLite file, for example `RUN/review.sqlite`.

    Raises:
        SeriesError: if the folder is not writable, or the file is not a store or is newer.

    Example:
        >>> import tempfile
        >>> store = open_store(Path(tempfile.mkdtemp()) / "review.sqlite")
        >>> _ = store.add(Decision("scan-1", WHOLE_CASE, "anna", "reviewed"))
        >>> [decision.verdict for decision in store.latest(reader="anna")]
        ['reviewed']
        >>> store.close()
    """
    url = sa.URL.create("sqlite", database=str(path))
    # No pool: each decision opens the file that is at `path` now, never one that was replaced.
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    sa.event.listen(engine, "connect", _set_pragmas)
    with _refusing(path, "decisions cannot be saved here"):
        _prepare(engine, path)
    return ReviewStore(path, engine)


def check_writable(path: Path) -> None:
    """Check that decisions can be written, before a reader makes one.

    Raises:
        SeriesError: if they cannot be saved there, with the remedy.
    """
    store = open_store(path)
    with _refusing(path, "decisions cannot be saved here"), store.engine.begin() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    store.close()


def decisions_csv(decisions: Iterable[Decision]) -> str:
    """Return decisions as CSV text; `counts` is 1 for the latest of each (case, mark, reader).

    Texts that a spreadsheet would run as a formula (they begin with = + - @ or a tab) are prefixed
    with an apostrophe.

    Args:
        decisions: oldest first, as `ReviewStore.history` returns them.
    """
    history = list(decisions)
    newest = {(d.case_id, d.mark_id, d.reader): d.number for d in history}
    names = [field.name for field in fields(Decision) if field.name not in {"number", "center_mm"}]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["number", *names, "x_mm", "y_mm", "z_mm", "counts"])
    for decision in history:
        counts = int(newest[decision.case_id, decision.mark_id, decision.reader] == decision.number)
        texts = [_cell(getattr(decision, name)) for name in names]
        place = decision.center_mm or ("", "", "")
        writer.writerow([decision.number, *texts, *place, counts])
    return stream.getvalue()


def export_csv(path: Path, out: Path) -> int:
    """Write the whole history of a store as CSV, atomically.

    Args:
        path: the store; if it does not exist, only the header is written.
        out: the CSV file.

    Returns:
        The number of decisions written.
    """
    history: list[Decision] = []
    if path.is_file():
        store = open_store(path)
        history = store.history()
        store.close()
    write_text(out, decisions_csv(history))
    return len(history)


def _set_pragmas(connection: Any, _record: object) -> None:  # noqa: ANN401  # DBAPI has no type
    """Set options so that a commit survives kill -9 and a power cut."""
    cursor = connection.cursor()
    busy = f"busy_timeout = {BUSY_SECONDS * 1000}"
    for pragma in (busy, "journal_mode = WAL", "synchronous = FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _prepare(engine: sa.Engine, path: Path) -> None:
    """Create the tables of a new store, or migrate an older one, in one transaction."""
    with engine.begin() as connection:
        if _version_of(connection, path) == len(MIGRATIONS):
            return  # no lock: a reader must not wait for a writer
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        for step in MIGRATIONS[_version_of(connection, path) :]:  # read again under the lock
            step(connection)
        for trigger in _TRIGGERS:
            connection.exec_driver_sql(trigger)
        connection.exec_driver_sql(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _version_of(connection: sa.Connection, path: Path) -> int:
    """Return the schema version of a store, 0 for a new one; refuse one of a newer medkd."""
    version = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    if version > len(MIGRATIONS):
        reason = f"expected schema version {len(MIGRATIONS)}, got {version}: update medkd"
        raise SeriesError(f"{path}: decisions of a newer medkd, left as they are", [reason])
    return version


def _create_table(connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "CREATE TABLE IF NOT EXISTS decisions (number INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "
        "decided_at TEXT NOT NULL, reader TEXT NOT NULL, case_id TEXT NOT NULL, "
        "mark_id TEXT NOT NULL, verdict TEXT NOT NULL, note TEXT NOT NULL, score FLOAT, "
        "x_mm FLOAT, y_mm FLOAT, z_mm FLOAT, medkd_version TEXT NOT NULL)"
    )
    connection.exec_driver_sql(
        "CREATE INDEX IF NOT EXISTS decisions_by_case ON decisions (case_id, mark_id, reader)"
    )


MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_create_table,)
"""Step n migrates a store from schema n to n + 1; a new schema is a new step at the end.

Steps are never edited, because stores of every version are migrated by them. A step that changes
rows must drop the triggers first; they are created again after the last step.
"""


def _insert(connection: sa.Connection, decision: Decision) -> Decision:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    x_mm, y_mm, z_mm = decision.center_mm or (None, None, None)
    row = {name: getattr(decision, name) for name in _PLAIN_COLUMNS}
    row |= {"decided_at": now, "x_mm": x_mm, "y_mm": y_mm, "z_mm": z_mm}
    row |= {"medkd_version": __version__}
    query = _DECISIONS.insert().values(**row).returning(_DECISIONS.c.number)
    number = int(connection.execute(query).scalar_one())
    return replace(decision, decided_at=now, number=number, medkd_version=__version__)


def _newest(connection: sa.Connection, seen: Decision) -> Decision:
    """Return the latest decision on the same mark as `seen`, or an undecided one."""
    table = _DECISIONS.c
    same = (table.case_id == seen.case_id, table.mark_id == seen.mark_id)
    query = sa.select(_DECISIONS).where(*same, table.reader == seen.reader)
    query = query.order_by(table.number.desc()).limit(1)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return Decision(seen.case_id, seen.mark_id, seen.reader, "undecided")
    return _decision(row)


def _with_field(decision: Decision, field: Field, value: str) -> Decision:
    values: Any = {field: value}
    return replace(decision, **values)


def _check(decision: Decision) -> None:
    empty = [n for n in ("case_id", "mark_id", "reader") if not getattr(decision, n).strip()]
    if empty:
        raise ValueError(f"a decision needs {', '.join(empty)}, got {decision!r}")
    if decision.verdict not in _VERDICTS:
        raise ValueError(f"a verdict is one of {sorted(_VERDICTS)}, got {decision.verdict!r}")


def _decision(row: sa.RowMapping) -> Decision:
    place = (row["x_mm"], row["y_mm"], row["z_mm"])
    return Decision(
        **{name: row[name] for name in (*_PLAIN_COLUMNS, *_GIVEN_COLUMNS)},
        center_mm=None if None in place else cast("Point", place),
    )


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_SPREADSHEET_CODE):
        return f"'{value}"
    return "" if value is None else value
