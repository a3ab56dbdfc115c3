"""The tables of a store of decisions, and how stores of earlier versions are migrated."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from medkd.errors import SeriesError
from medkd.review.chain import HASHED, Link, hash_row
from medkd.review.databases import Database

DECISIONS = sa.table(
    "decisions",
    *(sa.column(name, sa.Text) for name in ("decided_at", "reader", "case_id", "mark_id")),
    *(sa.column(name, sa.Text) for name in ("verdict", "note", "medkd_version", "hash")),
    sa.column("read", sa.Text),
    *(sa.column(name, sa.Float) for name in ("score", "x_mm", "y_mm", "z_mm", "diameter_mm")),
    *(sa.column(name, sa.Integer) for name in ("number", "undoes")),
)
"""Columns of the current schema; `MIGRATIONS` creates them."""

HEAD = sa.table(
    "decisions_head",
    *(sa.column(name, sa.Integer) for name in ("one", "number")),
    sa.column("hash", sa.Text),
)
"""One row: the number and the hash of the last decision."""


def prepare(engine: sa.Engine, database: Database) -> None:
    """Create the tables of a new store, or migrate an older one, in one transaction.

    Raises:
        SeriesError: if the store was written by a newer medkd.
    """
    with engine.begin() as connection:
        if _version_of(connection, database) == len(MIGRATIONS):
            return  # no lock: a reader must not wait for a writer
        database.lock(connection)
        for step in MIGRATIONS[_version_of(connection, database) :]:  # again under the lock
            step(connection)
        for statement in database.triggers():
            connection.exec_driver_sql(statement)
        database.write_version(connection, len(MIGRATIONS))


def read_head(connection: sa.Connection) -> Link | None:
    """Return the number and the hash of the last decision; None if their row is missing."""
    row = connection.execute(sa.select(HEAD.c.number, HEAD.c.hash)).one_or_none()
    return None if row is None else Link(row.number, row.hash)


def _version_of(connection: sa.Connection, database: Database) -> int:
    """Return the schema version of a store, 0 for a new one; refuse one of a newer medkd."""
    version = database.read_version(connection)
    if version > len(MIGRATIONS):
        reason = f"expected schema version {len(MIGRATIONS)}, got {version}: update medkd"
        headline = f"{database.name}: decisions of a newer medkd, left as they are"
        raise SeriesError(headline, [reason])
    return version


def _is_sqlite(connection: sa.Connection) -> bool:
    return connection.dialect.name == "sqlite"


def _create_table(connection: sa.Connection) -> None:
    key = "INTEGER PRIMARY KEY AUTOINCREMENT" if _is_sqlite(connection) else "BIGINT PRIMARY KEY"
    connection.exec_driver_sql(
        f"CREATE TABLE IF NOT EXISTS decisions (number {key} NOT NULL, "
        "decided_at TEXT NOT NULL, reader TEXT NOT NULL, case_id TEXT NOT NULL, "
        "mark_id TEXT NOT NULL, verdict TEXT NOT NULL, note TEXT NOT NULL, score FLOAT, "
        "x_mm FLOAT, y_mm FLOAT, z_mm FLOAT, medkd_version TEXT NOT NULL)"
    )
    connection.exec_driver_sql(
        "CREATE INDEX IF NOT EXISTS decisions_by_case ON decisions (case_id, mark_id, reader)"
    )


def _add_chain(connection: sa.Connection) -> None:
    """Add diameters, undo and the hash chain; the chain is computed for the rows that exist."""
    if _is_sqlite(connection):
        connection.exec_driver_sql("DROP TRIGGER IF EXISTS decisions_no_update")
    for column in ("diameter_mm FLOAT", "undoes BIGINT", "hash TEXT DEFAULT '' NOT NULL"):
        connection.exec_driver_sql(f"ALTER TABLE decisions ADD COLUMN {column}")
    connection.exec_driver_sql(
        "CREATE TABLE decisions_head (one INTEGER PRIMARY KEY CHECK (one = 1), "
        "number BIGINT NOT NULL, hash TEXT NOT NULL)"
    )
    table, last = DECISIONS.c, Link()
    columns = [table[name] for name in HASHED]
    rows = connection.execute(sa.select(*columns).order_by(table.number)).mappings().all()
    for row in rows:
        last = Link(row["number"], hash_row(dict(row), last.hash))
        of_row = DECISIONS.update().where(table.number == last.number)
        connection.execute(of_row.values(hash=last.hash))
    connection.execute(HEAD.insert().values(one=1, number=last.number, hash=last.hash))


def _add_read(connection: sa.Connection) -> None:
    """Add the read to which a decision belongs; an earlier medkd must not write past a lock."""
    connection.exec_driver_sql("ALTER TABLE decisions ADD COLUMN read TEXT DEFAULT '' NOT NULL")


MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_create_table, _add_chain, _add_read)
"""Step n migrates a store from schema n to n + 1; a new schema is a new step at the end.

Steps are never edited, because stores of every version are migrated by them. A step that changes
rows must drop the triggers first; they are created again after the last step.
"""
