"""What readers decided: an append-only table that survives a killed process.

A decision is only ever inserted; the latest one of each (case, mark, reader) counts, the older
ones stay as history. A reader changes one field at a time, on top of the latest row, so two
browser tabs never undo each other's work. The table refuses UPDATE, DELETE and replacement by its
own triggers. One SQLite file a run, write-ahead log with `synchronous=FULL`: what `add` or
`change` returned is on the disk. Holds pseudonymous case ids, never a patient's name. It does not
guard against somebody who may write the file itself.
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
from medkd.review.store_faults import BUSY_SECONDS, refusing
from medkd.types import Point

Verdict = Literal["accept", "reject", "undecided", "reviewed"]
"""accept / reject a mark or an image; undecided = taken back; reviewed = a whole case is done."""

Field = Literal["verdict", "note"]
"""What one change of a decision is about."""

WHOLE_CASE = "case"
"""The `mark_id` of a decision on the case itself."""

NOT_SAVED = "the decision was not saved"

_VERDICTS = frozenset(get_args(Verdict))
_SPREADSHEET_CODE = ("=", "+", "-", "@", "\t", "\r")

_DECISIONS = sa.table(
    "decisions",
    *(sa.column(name, sa.Text) for name in ("decided_at", "reader", "case_id", "mark_id")),
    *(sa.column(name, sa.Text) for name in ("verdict", "note", "medkd_version")),
    *(sa.column(name, sa.Float) for name in ("score", "x_mm", "y_mm", "z_mm")),
    sa.column("number", sa.Integer),
)
"""Columns of the present schema; `MIGRATIONS` makes them."""

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


@dataclass(frozen=True, slots=True)
class Decision:
    """What one reader says of one mark (or of the whole case) at one time.

    `score` and `center_mm` (LPS mm) repeat what was on the screen, so that the decision stays
    meaningful after the model ran again. `number`, `decided_at` (UTC) and `medkd_version` are given
    by the store.
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
    """What became of a change: the decision that counts now, and whether it holds the change."""

    newest: Decision
    saved: bool


@dataclass(frozen=True, slots=True, eq=False)
class ReviewStore:
    """An open store of decisions; build it with `open_store`."""

    path: Path
    engine: sa.Engine

    def add(self, decision: Decision) -> Decision:
        """Append a decision; it is on the disk when this returns.

        Returns:
            The decision with its number and time.

        Raises:
            ValueError: if reader, case or mark is empty, or the verdict is none of the four.
            SeriesError: if it could not be written; then it is not saved at all.
        """
        _check(decision)
        with refusing(self.path, NOT_SAVED), self.engine.begin() as connection:
            return _insert(connection, decision)

    def change(self, seen: Decision, field: Field, value: str) -> Change:
        """Change one field of a decision, on top of the latest row; the other field stays.

        Args:
            seen: the decision as it was on the screen. Its score and place are saved with it.
            field: what changes.
            value: what it changes to.

        Returns:
            The decision that counts now. It is not saved if `field` got another value since
            `seen` was read: the reader has not seen that value and must decide again.

        Raises:
            ValueError: as `add`.
            SeriesError: if it could not be written; then it is not saved at all.
        """
        wanted = _with_field(seen, field, value)
        _check(wanted)
        with refusing(self.path, NOT_SAVED), self.engine.begin() as connection:
            # Takes the right to write first, so that no row appears between reading and writing.
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
        """Return the decisions that count: the latest of each (case, mark, reader).

        Args:
            reader: only of this reader.
            case_id: only of this case.
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
        with refusing(self.path, "the decisions cannot be read"), self.engine.connect() as opened:
            yield opened

    def close(self) -> None:
        """Close all connections; the file stays."""
        self.engine.dispose()


_PLAIN_COLUMNS = ("case_id", "mark_id", "reader", "verdict", "note", "score")
_GIVEN_COLUMNS = ("number", "decided_at", "medkd_version")


def open_store(path: Path) -> ReviewStore:
    """Open a store of decisions; a missing file is made.

    Args:
        path: the SQLite file, `RUN/review.sqlite`.

    A store that an earlier medkd wrote is brought to the present schema, in one transaction and
    with every decision kept. One of a newer medkd is refused and left as it is.

    Raises:
        SeriesError: if the folder cannot be written, or the file is no store or a newer one.

    Example:
        >>> import tempfile
        >>> store = open_store(Path(tempfile.mkdtemp()) / "review.sqlite")
        >>> _ = store.add(Decision("scan-1", WHOLE_CASE, "anna", "reviewed"))
        >>> [decision.verdict for decision in store.latest(reader="anna")]
        ['reviewed']
        >>> store.close()
    """
    url = sa.URL.create("sqlite", database=str(path))
    # No pool: each decision opens the file that stands at `path` now, never one that was replaced.
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    sa.event.listen(engine, "connect", _set_pragmas)
    with refusing(path, "decisions cannot be kept here"):
        _prepare(engine, path)
    return ReviewStore(path, engine)


def check_writable(path: Path) -> None:
    """Open a store as for writing, so that readers learn before they decide that they cannot.

    Raises:
        SeriesError: if decisions cannot be kept there, with the remedy.
    """
    store = open_store(path)
    with refusing(path, "decisions cannot be kept here"), store.engine.begin() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    store.close()


def decisions_csv(decisions: Iterable[Decision]) -> str:
    """Write decisions as CSV text; `counts` is 1 for the latest of each (case, mark, reader).

    A text that a spreadsheet would run as a formula (it begins with = + - @ or a tab) is led by
    an apostrophe.

    Args:
        decisions: oldest first, as `ReviewStore.history` gives them.
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
    """Write the whole history of a store as CSV, whole or not at all.

    Args:
        path: the store; where there is none, nobody decided anything and only a header is left.
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
    """Make an acknowledged commit survive kill -9 and a power cut."""
    cursor = connection.cursor()
    busy = f"busy_timeout = {BUSY_SECONDS * 1000}"
    for pragma in (busy, "journal_mode = WAL", "synchronous = FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _prepare(engine: sa.Engine, path: Path) -> None:
    """Bring a store to the present schema, step by step; all steps or none are kept."""
    with engine.begin() as connection:
        if _version_of(connection, path) == len(MIGRATIONS):
            return  # reading must not wait for somebody who writes
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        for step in MIGRATIONS[_version_of(connection, path) :]:  # somebody may have done some
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
"""Step n brings a store from schema n to n + 1; a new schema is one more step at the end.

A step never changes: stores of every version must pass through it. One that changes rows drops the
triggers first; they are made again after the last step.
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
    """Return the latest decision on what `seen` is about, or an undecided one."""
    table = _DECISIONS.c
    same = (table.case_id == seen.case_id, table.mark_id == seen.mark_id)
    query = sa.select(_DECISIONS).where(*same, table.reader == seen.reader)
    query = query.order_by(table.number.desc()).limit(1)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return Decision(seen.case_id, seen.mark_id, seen.reader, "undecided")
    return _decision(row)


def _with_field(decision: Decision, field: Field, value: str) -> Decision:
    if field == "note":
        return replace(decision, note=value)
    return replace(decision, verdict=cast("Verdict", value))


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
