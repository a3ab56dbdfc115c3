"""The decisions of readers: an append-only table that survives a killed process.

Decisions are only inserted. The latest one of each (case, mark, reader) counts; older ones are kept
as history. A reader changes one field at a time, based on the latest row, so two browser tabs never
undo each other's work. A hash chain over the rows (`chain.py`) shows changes that were made outside
medkd; it is checked when a store is opened. The database is an SQLite file or PostgreSQL
(`databases.py`): a decision is on disk when a method that saves it returns. It contains case ids,
never a patient's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa

from medkd import __version__
from medkd.errors import SeriesError
from medkd.files import write_text
from medkd.review.chain import Link, find_fault, hash_row
from medkd.review.databases import Database, SqliteFile, choose_database, refusing
from medkd.review.decision import ADDED_PREFIX as ADDED_PREFIX
from medkd.review.decision import FIRST_READ as FIRST_READ
from medkd.review.decision import WHOLE_CASE as WHOLE_CASE
from medkd.review.decision import Decision as Decision
from medkd.review.decision import Field as Field
from medkd.review.decision import Read, Value, check_decision
from medkd.review.decision import Verdict as Verdict
from medkd.review.decision import new_mark_id as new_mark_id
from medkd.review.export import decisions_csv as decisions_csv
from medkd.review.first_read import find_lock, locked_marks
from medkd.review.history import open_decisions
from medkd.review.schema import DECISIONS, HEAD, prepare, read_head
from medkd.types import Point

NOT_SAVED = "the decision was not saved"

_NO_SAVING = "decisions cannot be saved here"
_PLAIN_COLUMNS = ("case_id", "mark_id", "reader", "verdict", "note", "score", "diameter_mm",
                  "undoes")  # fmt: skip
_GIVEN_COLUMNS = ("number", "decided_at", "medkd_version", "hash", "read")
_checked: dict[str, Link] = {}
"""How far this process has checked the chain of each store, by its name."""


@dataclass(frozen=True, slots=True)
class Change:
    """Result of a change: the decision that counts now, and whether the change was saved."""

    newest: Decision
    saved: bool


@dataclass(frozen=True, slots=True)
class ChainReport:
    """Result of a check of the chain; `fault` names the first bad row (empty: none).

    `decisions` is the number of rows that were checked, `last` the last row and `head` its hash.
    """

    decisions: int
    last: int
    head: str
    fault: str


@dataclass(frozen=True, slots=True, eq=False)
class ReviewStore:
    """An open store of decisions; build it with `open_store`.

    `two_reads`: each case is read first without marks and then with them. Whatever `two_reads` is,
    a first read that was finished stays locked.
    """

    database: Database
    engine: sa.Engine
    two_reads: bool = False

    @property
    def name(self) -> str:
        """The path of the store, or its URL without the password."""
        return self.database.name

    def add(self, decision: Decision) -> Decision:
        """Append a decision; it is on disk when this returns.

        Returns:
            The decision with its number, time and hash.

        Raises:
            ValueError: if the decision is not valid (`check_decision`).
            SeriesError: if it could not be written; then nothing is saved.
        """
        check_decision(decision)
        with self._writing() as connection:
            return self._append(connection, decision)

    def add_nodule(self, nodule: Decision) -> Decision:
        """Append a nodule that the reader added, unless this `mark_id` was saved before.

        Args:
            nodule: its case, reader, `mark_id` from `new_mark_id`, place (LPS mm), diameter (mm)
                and note; the verdict becomes "added". A click that arrives twice brings the same
                `mark_id` twice.

        Returns:
            The decision that counts now.

        Raises:
            ValueError: as `add`.
            SeriesError: if it could not be written; then nothing is saved.
        """
        nodule = replace(nodule, verdict="added")
        check_decision(nodule)
        with self._writing() as connection:
            known = _newest(connection, nodule)
            return known if known.number else self._append(connection, nodule)

    def change(self, seen: Decision, field: Field, value: Value) -> Change:
        """Change one field of a decision, based on the latest row; the other fields are kept.

        Args:
            seen: the decision as the reader saw it. Its score is saved too, and so are its place
                and diameter if the latest row has none.
            field: the field to change.
            value: its new value: a text, a place in LPS mm or a diameter in mm.

        Returns:
            The decision that counts now. The change is not saved if `field` got another value
            after `seen` was read: the reader has not seen that value and must decide again.

        Raises:
            ValueError: as `add`.
            SeriesError: if it could not be written; then nothing is saved.
        """
        check_decision(_with_field(seen, field, value))
        with self._writing() as connection:
            newest = _newest(connection, seen)
            on_screen = replace(
                newest,
                score=seen.score,
                center_mm=newest.center_mm or seen.center_mm,
                diameter_mm=newest.diameter_mm or seen.diameter_mm,
            )
            if getattr(on_screen, field) not in {getattr(seen, field), value}:
                return Change(newest, saved=False)
            wanted = replace(_with_field(on_screen, field, value), undoes=None)
            check_decision(wanted)
            return Change(self._append(connection, wanted), saved=True)

    def finish_first_read(self, case_id: str, reader: str) -> Decision:
        """Lock a reader's first read of a case; if it is locked, nothing is saved.

        From then on no decision belongs to the first read any more, and the nodules that were added
        in it cannot be changed, undone or withdrawn.

        Returns:
            The row that locks it.

        Raises:
            ValueError: if the store was not opened for two reads, or as `add`.
            SeriesError: if it could not be written; then nothing is saved.
        """
        if not self.two_reads:
            raise ValueError("expected a store that was opened for two reads")
        lock = Decision(case_id, FIRST_READ, reader, "finished")
        check_decision(lock)
        with self._writing() as connection:
            known = find_lock(_select(connection, reader=reader, case_id=case_id))
            return known or self._append(connection, lock)

    def undo(self, case_id: str, reader: str, *, seen: int | None = None) -> Change | None:
        """Take back this reader's latest decision on a case that was not taken back before.

        The state before that decision is appended as a new row, which names the undone one. Undo
        again takes back the decision before it.

        Args:
            case_id: the case.
            reader: the reader.
            seen: the number of the decision that the reader wants to take back. If another one is
                the latest by now, nothing is saved, and that one is returned.

        Returns:
            The decision that counts now for that mark; None: there is nothing to take back.

        Raises:
            SeriesError: if it could not be written; then nothing is saved.
        """
        with self._writing() as connection:
            rows = _select(connection, reader=reader, case_id=case_id)
            open_rows = open_decisions(rows)
            if not open_rows:
                return None
            last = open_rows[-1]
            if seen not in (None, last.number):
                return Change(last, saved=False)
            of_mark = [r for r in rows if r.mark_id == last.mark_id and r.number < last.number]
            before = of_mark[-1] if of_mark else _undecided(last)
            restored = replace(before, undoes=last.number)
            return Change(self._append(connection, restored), saved=True)

    def history(self, *, case_id: str | None = None, reader: str | None = None) -> list[Decision]:
        """Return every decision ever made, oldest first.

        Args:
            case_id: only decisions on this case.
            reader: only decisions of this reader.
        """
        with self._reading() as connection:
            return _select(connection, reader=reader, case_id=case_id)

    def latest(self, *, reader: str | None = None, case_id: str | None = None) -> list[Decision]:
        """Return the decisions that count: the latest one of each (case, mark, reader).

        Args:
            reader: only decisions of this reader.
            case_id: only decisions on this case.
        """
        with self._reading() as connection:
            return _select(connection, reader=reader, case_id=case_id, newest=True)

    def finished_cases(self, reader: str) -> frozenset[str]:
        """Return the ids of the cases whose first read this reader has finished."""
        table = DECISIONS.c
        query = sa.select(table.case_id).where(table.reader == reader, table.mark_id == FIRST_READ)
        with self._reading() as connection:
            return frozenset(connection.execute(query).scalars())

    def check_chain(self, since: Link | None = None) -> ChainReport:
        """Check the hash chain over all rows, or only over the rows after one.

        Args:
            since: the row from which on is checked; None: from the first.

        Raises:
            SeriesError: if the store cannot be read.
        """
        start = since or Link()
        # One statement sees one state of the database, whatever others write meanwhile.
        query = sa.select(DECISIONS, HEAD.c.number.label("_number"), HEAD.c.hash.label("_hash"))
        on = DECISIONS.c.number > start.number
        query = query.select_from(HEAD.outerjoin(DECISIONS, on)).order_by(DECISIONS.c.number)
        with self._reading() as connection:
            rows = connection.execute(query).mappings().all()
        head = Link(rows[0]["_number"], rows[0]["_hash"]) if rows else None
        found = [cast("dict[str, object]", row) for row in rows if row["number"] is not None]
        fault = find_fault(found, head, start)
        last = head or Link()
        return ChainReport(len(found), last.number, last.hash, fault)

    def has_link(self, link: Link) -> bool:
        """Return whether the row of a link is still there with its hash."""
        query = sa.select(DECISIONS.c.hash).where(DECISIONS.c.number == link.number)
        with self._reading() as connection:
            return bool(connection.execute(query).scalar_one_or_none() == link.hash)

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        what = "the decisions cannot be read"
        with refusing(self.database, what), self.engine.connect() as opened:
            yield opened

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """Open a transaction; no row can be added between its reading and its writing."""
        with refusing(self.database, NOT_SAVED), self.engine.begin() as connection:
            self.database.lock(connection)
            yield connection

    def _append(self, connection: sa.Connection, decision: Decision) -> Decision:
        head = read_head(connection)
        if head is None:
            raise _tampered(self.name, "the record of the last row is missing")
        read = self._read_of(connection, decision)
        row: dict[str, Any] = {name: getattr(decision, name) for name in _PLAIN_COLUMNS}
        x_mm, y_mm, z_mm = decision.center_mm or (None, None, None)
        row |= {"x_mm": x_mm, "y_mm": y_mm, "z_mm": z_mm}
        for name in ("score", "x_mm", "y_mm", "z_mm", "diameter_mm"):
            row[name] = None if row[name] is None else float(row[name])
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        row |= {"number": head.number + 1, "decided_at": now, "medkd_version": __version__}
        row["read"] = read
        row["hash"] = hash_row(row, head.hash)
        connection.execute(DECISIONS.insert().values(**row))
        connection.execute(HEAD.update().values(number=row["number"], hash=row["hash"]))
        return _decision(row)

    def _read_of(self, connection: sa.Connection, decision: Decision) -> Read:
        """Return the read to which a new decision belongs, unless the first read locks its mark."""
        rows = _select(connection, reader=decision.reader, case_id=decision.case_id)
        if decision.mark_id in locked_marks(rows):
            reason = (
                f"{decision.case_id}: {decision.reader} has finished the first read, which locked "
                "its nodules; a nodule can be added in the second read"
            )
            raise SeriesError(f"{self.name}: {NOT_SAVED}", [reason])
        if find_lock(rows):
            return "second"
        return "first" if self.two_reads else ""

    def close(self) -> None:
        """Close all connections; the store is kept."""
        self.engine.dispose()


def _undecided(first: Decision) -> Decision:
    """Return the state before the first decision on a mark: place and diameter are the model's."""
    if first.is_added:
        return replace(first, verdict="undecided", note="")
    return replace(first, verdict="undecided", note="", center_mm=None, diameter_mm=None)


def open_store(place: Path | str, *, check: bool = True, two_reads: bool = False) -> ReviewStore:
    """Open a store of decisions; a missing SQLite file, and missing tables, are created.

    A store of an earlier medkd is migrated to the current schema in one transaction, and every
    decision is kept. A store of a newer medkd is refused and not changed. The hash chain is checked
    over all rows when a process opens a store for the first time, later over the new rows.

    Args:
        place: the SQLite file, for example `RUN/review.sqlite`, or a URL like
            postgresql://USER@HOST/DATABASE.
        check: whether to refuse a store with a broken chain.
        two_reads: whether each case is read first without marks and then with them.

    Raises:
        SettingsError: if it is a URL that cannot be used.
        SeriesError: if it cannot be written, is not a store, is newer, or was changed outside
            medkd; then the first bad row is named.

    Example:
        >>> import tempfile
        >>> store = open_store(Path(tempfile.mkdtemp()) / "review.sqlite")
        >>> _ = store.add(Decision("scan-1", WHOLE_CASE, "anna", "reviewed"))
        >>> [decision.verdict for decision in store.latest(reader="anna")]
        ['reviewed']
        >>> store.close()
    """
    database = choose_database(place)
    engine = database.connect()
    with refusing(database, _NO_SAVING):
        prepare(engine, database)
    store = ReviewStore(database, engine, two_reads)
    if check:
        _check_once(store)
    return store


def check_writable(place: Path | str) -> None:
    """Check that decisions can be written, before a reader makes one.

    Raises:
        SeriesError: if they cannot be saved there, with the remedy.
    """
    store = open_store(place)
    with refusing(store.database, _NO_SAVING), store.engine.begin() as connection:
        store.database.lock(connection)
    store.close()


def verify_store(place: Path | str, *, noted: str = "") -> ChainReport:
    """Check the whole hash chain of an existing store, also a broken one.

    Args:
        place: the store.
        noted: the head of the chain at an earlier check (empty: none was noted).

    Raises:
        SeriesError: if there is no store, or it cannot be read.
    """
    database = choose_database(place)
    if _is_missing(database):
        reason = "nobody has decided anything there, or it was moved: give its path"
        raise SeriesError(f"{database.name}: no store of decisions", [reason])
    store = open_store(place, check=False)
    report = store.check_chain()
    if noted and not report.fault and noted not in {d.hash for d in store.history()}:
        fault = f"no row has the hash {noted}, which was noted: all rows may have been replaced"
        report = replace(report, fault=fault)
    store.close()
    return report


def name_of_store(place: Path | str) -> str:
    """Return the name of a store for messages: its path, or its URL without the password."""
    return choose_database(place).name


def read_history(place: Path | str) -> list[Decision]:
    """Return every decision of a store, oldest first; none if the file does not exist.

    Raises:
        SeriesError: as `open_store`.
    """
    if _is_missing(choose_database(place)):
        return []
    store = open_store(place)
    history = store.history()
    store.close()
    return history


def export_csv(place: Path | str, out: Path) -> int:
    """Write the whole history of a store as CSV, atomically.

    Args:
        place: the store; if it does not exist, only the header is written.
        out: the CSV file.

    Returns:
        The number of decisions written.
    """
    history = read_history(place)
    write_text(out, decisions_csv(history))
    return len(history)


def _is_missing(database: Database) -> bool:
    return isinstance(database, SqliteFile) and not database.path.is_file()


def _check_once(store: ReviewStore) -> None:
    """Check the chain from the row on that this process checked before."""
    since = _checked.get(store.name, Link())
    if since.number and not store.has_link(since):
        since = Link()
    report = store.check_chain(since)
    if report.fault:
        _checked.pop(store.name, None)
        raise _tampered(store.name, report.fault)
    _checked[store.name] = Link(report.last, report.head)


def _tampered(name: str, fault: str) -> SeriesError:
    reasons = [
        fault,
        "only medkd may write this store: keep a copy of it as evidence, restore the store from "
        "a backup, and check that one with medkd review --verify",
    ]
    return SeriesError(f"{name}: decisions were changed outside medkd", reasons)


def _select(
    connection: sa.Connection, *, reader: str | None, case_id: str | None, newest: bool = False
) -> list[Decision]:
    """Return decisions by number; `newest`: the latest of each (case, mark, reader)."""
    table = DECISIONS.c
    query = sa.select(DECISIONS).order_by(table.number)
    if newest:
        last = sa.select(sa.func.max(table.number))
        query = query.where(
            table.number.in_(last.group_by(table.case_id, table.mark_id, table.reader))
        )
    if reader is not None:
        query = query.where(table.reader == reader)
    if case_id is not None:
        query = query.where(table.case_id == case_id)
    return [_decision(row) for row in connection.execute(query).mappings()]


def _newest(connection: sa.Connection, seen: Decision) -> Decision:
    """Return the latest decision on the same mark as `seen`, or an undecided one."""
    table = DECISIONS.c
    same = (table.case_id == seen.case_id, table.mark_id == seen.mark_id)
    query = sa.select(DECISIONS).where(*same, table.reader == seen.reader)
    query = query.order_by(table.number.desc()).limit(1)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return Decision(seen.case_id, seen.mark_id, seen.reader, "undecided")
    return _decision(row)


def _with_field(decision: Decision, field: Field, value: Value) -> Decision:
    values: Any = {field: value}
    return replace(decision, **values)


def _decision(row: sa.RowMapping | dict[str, Any]) -> Decision:
    place = (row["x_mm"], row["y_mm"], row["z_mm"])
    return Decision(
        **{name: row[name] for name in (*_PLAIN_COLUMNS, *_GIVEN_COLUMNS)},
        center_mm=None if None in place else cast("Point", place),
    )
