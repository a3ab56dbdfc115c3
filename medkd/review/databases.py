"""The databases that can hold decisions: an SQLite file, or PostgreSQL by URL.

Both run the same statements of `store.py`. Here is what differs: how to connect so that a commit
is on disk, how to exclude other writers, how to refuse changes of rows, and what to do about a
fault. One file, or one schema of a PostgreSQL database (`schemas.py`), holds the decisions on one
review.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from medkd.errors import ExtraMissingError, SeriesError, SettingsError

BUSY_SECONDS = 10
"""How long a change waits for another program that writes the database."""

SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
"""Names of schemas that need no quotes in SQL."""

_TO_WRITE = (
    "the file and its folder must be writable: ask for the right to write in {folder}, or copy "
    "the whole folder to a folder of your own and review it there"
)
_SQLITE_REMEDIES = {
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
    "SQLITE_CONSTRAINT": "another program added rows: medkd review --verify names the first one",
}
"""Remedies, by the prefix of SQLite's name of the fault."""

_POSTGRES_REMEDIES = {
    "28": "check user name and password (PGPASSWORD, or the file ~/.pgpass)",
    "3F": "the schema does not exist: correct the URL; medkd review REVIEW --store URL creates it",
    "3D": "the database does not exist: create it (createdb), or correct the URL",
    "42501": "the user may not create or write tables there: grant CREATE on the schema",
    "25006": "the server is read-only: connect to the primary server",
    "53100": "the disk of the server is full: free space there and try again",
    "53": "the server has no connections or memory left: try again later",
    "55P03": "another program has held the store for {seconds} s: end it and try again",
    "57": "the server is being stopped or started: try again later",
}
"""Remedies, by the prefix of the SQLSTATE."""


class Database(Protocol):
    """Where decisions are kept."""

    @property
    def name(self) -> str:
        """Its name in messages: the path, or the URL without its password."""

    def connect(self) -> sa.Engine:
        """Return an engine whose commits survive a killed process and a power cut."""

    def lock(self, connection: sa.Connection) -> None:
        """Begin a transaction that no other writer can interrupt."""

    def read_version(self, connection: sa.Connection) -> int:
        """Return the schema version of the store, 0 for an empty database."""

    def write_version(self, connection: sa.Connection, version: int) -> None:
        """Record the schema version."""

    def triggers(self) -> tuple[str, ...]:
        """Return the statements that make the database refuse to change or delete rows."""

    def remedy(self, fault: BaseException | None) -> str:
        """Return what to do about a fault of the driver; empty if that is not known."""


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """An SQLite file with a write-ahead log and `synchronous=FULL`."""

    path: Path

    @property
    def name(self) -> str:
        """The path of the file."""
        return str(self.path)

    def connect(self) -> sa.Engine:
        """Return an engine that opens the file anew for each transaction."""
        url = sa.URL.create("sqlite", database=str(self.path))
        # No pool: each decision opens the file that is at `path` now, never a replaced one.
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        sa.event.listen(engine, "connect", _set_pragmas)
        return engine

    def lock(self, connection: sa.Connection) -> None:
        """Lock the file for writing; readers go on."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def read_version(self, connection: sa.Connection) -> int:
        """Return the schema version."""
        return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())

    def write_version(self, connection: sa.Connection, version: int) -> None:
        """Record the schema version."""
        connection.exec_driver_sql(f"PRAGMA user_version = {version}")

    def triggers(self) -> tuple[str, ...]:
        """Return the triggers; they refuse rows of an older medkd, which have no hash, too."""
        return _SQLITE_TRIGGERS

    def remedy(self, fault: BaseException | None) -> str:
        """Return what to do about a fault of SQLite."""
        name = getattr(fault, "sqlite_errorname", "")
        words = next((text for code, text in _SQLITE_REMEDIES.items() if name.startswith(code)), "")
        return words.format(folder=self.path.resolve().parent, seconds=BUSY_SECONDS)


# INSERT OR REPLACE deletes a row without firing a delete trigger, hence the third one.
_SQLITE_TRIGGERS = tuple(
    f"CREATE TRIGGER IF NOT EXISTS {name} BEFORE {event} BEGIN SELECT RAISE(ABORT, '{words}'); END"
    for name, event, words in (
        ("decisions_no_update", "UPDATE ON decisions", "decisions are append-only"),
        ("decisions_no_delete", "DELETE ON decisions", "decisions are append-only"),
        (
            "decisions_no_replace",
            "INSERT ON decisions WHEN EXISTS (SELECT 1 FROM decisions WHERE number = NEW.number)",
            "decisions are append-only",
        ),
        (
            "decisions_hashed",
            "INSERT ON decisions WHEN NEW.hash = ''",
            "the store was migrated by a newer medkd: restart this program with it",
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Postgres:
    """A schema of a PostgreSQL database; "" is the first of the user's search path.

    In a URL, `?schema=NAME` names the schema.
    """

    url: sa.URL
    schema: str = ""

    @property
    def name(self) -> str:
        """The URL without its password."""
        query = {"schema": self.schema} if self.schema else {}
        shown = self.url.set(drivername="postgresql", query=query)
        return shown.render_as_string(hide_password=True)

    def connect(self) -> sa.Engine:
        """Return an engine that connects anew for each transaction.

        Raises:
            ExtraMissingError: if the driver is not installed.
        """
        try:
            engine = sa.create_engine(
                self.url.set(drivername="postgresql+psycopg"),
                poolclass=sa.NullPool,
                isolation_level="READ COMMITTED",
                connect_args={"connect_timeout": BUSY_SECONDS, "options": self._options()},
            )
        except ModuleNotFoundError as error:
            raise ExtraMissingError("psycopg", "postgres") from error
        sa.event.listen(engine, "connect", _set_session)
        return engine

    def _options(self) -> str:
        given = self.url.query.get("options", "")
        own = f"-csearch_path={self.schema}" if self.schema else ""
        return " ".join(filter(None, [given if isinstance(given, str) else " ".join(given), own]))

    def lock(self, connection: sa.Connection) -> None:
        """Exclude other writers of medkd until the transaction ends."""
        connection.exec_driver_sql(
            "SELECT pg_advisory_xact_lock(hashtext('medkd ' || current_schema()))"
        )

    def read_version(self, connection: sa.Connection) -> int:
        """Return the schema version."""
        # to_regclass may answer from a cache that is older than the lock; a table does not.
        known = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_catalog.pg_tables "
            "WHERE schemaname = current_schema() AND tablename = 'decisions_schema'"
        ).scalar_one()
        if not known:
            return 0
        return int(connection.exec_driver_sql("SELECT version FROM decisions_schema").scalar_one())

    def write_version(self, connection: sa.Connection, version: int) -> None:
        """Record the schema version."""
        for statement in (
            "CREATE TABLE IF NOT EXISTS decisions_schema (version INTEGER NOT NULL)",
            "DELETE FROM decisions_schema",
            f"INSERT INTO decisions_schema VALUES ({version})",  # noqa: S608  # our own number
        ):
            connection.exec_driver_sql(statement)

    def triggers(self) -> tuple[str, ...]:
        """Return the triggers, and the function that they call."""
        return (
            "CREATE OR REPLACE FUNCTION decisions_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'decisions are append-only'; END $$",
            "DROP TRIGGER IF EXISTS decisions_no_change ON decisions",
            "CREATE TRIGGER decisions_no_change BEFORE UPDATE OR DELETE ON decisions "
            "FOR EACH ROW EXECUTE FUNCTION decisions_refuse()",
            "DROP TRIGGER IF EXISTS decisions_no_truncate ON decisions",
            "CREATE TRIGGER decisions_no_truncate BEFORE TRUNCATE ON decisions "
            "FOR EACH STATEMENT EXECUTE FUNCTION decisions_refuse()",
        )

    def remedy(self, fault: BaseException | None) -> str:
        """Return what to do about a fault of PostgreSQL."""
        state = getattr(fault, "sqlstate", None) or ""
        if not state:
            return "check that the server runs, and host, port, user and database in the URL"
        found = (text for code, text in _POSTGRES_REMEDIES.items() if state.startswith(code))
        return next(found, "").format(seconds=BUSY_SECONDS)


def choose_database(place: Path | str) -> Database:
    """Return the database at a path or URL.

    Args:
        place: the path of an SQLite file, or a URL like postgresql://user@host/database.

    Raises:
        SettingsError: if it is a URL of another kind, or not a complete one.

    Example:
        >>> choose_database("postgresql://anna:secret@db/reviews").name
        'postgresql://anna:***@db/reviews'
    """
    if isinstance(place, Path) or "://" not in place:
        return SqliteFile(Path(place))
    scheme = place.partition("://")[0]
    reason = "expected postgresql://USER@HOST/DATABASE, or the path of an SQLite file"
    refusal = SettingsError(f"a store of decisions by a URL of {scheme}", [reason])
    try:
        url = sa.make_url(place)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise refusal from error
    if scheme == "sqlite" and url.database:
        return SqliteFile(Path(url.database))
    if scheme in {"postgresql", "postgres", "postgresql+psycopg"} and url.database:
        return Postgres(url.difference_update_query(["schema"]), _schema_in(url))
    raise refusal


def _schema_in(url: sa.URL) -> str:
    """Return the schema that a URL names; empty: none."""
    schema = url.query.get("schema", "")
    if schema and not (isinstance(schema, str) and SCHEMA_NAME.fullmatch(schema)):
        reason = "expected small letters, digits and _ after ?schema=, at most 63"
        raise SettingsError(f"a store of decisions in the schema {schema!r}", [reason])
    return str(schema)


@contextmanager
def refusing(database: Database, what: str) -> Iterator[None]:
    """Convert a fault of the database to a refusal with its remedy.

    Args:
        database: the database.
        what: what was not possible.

    Raises:
        SeriesError: for every fault of the database.
    """
    try:
        yield
    except sa.exc.DatabaseError as error:
        remedy = database.remedy(error.orig) or "see that the database is in order, and try again"
        lines = str(error.orig).strip().splitlines()
        raise SeriesError(f"{database.name}: {what}", [*lines, remedy]) from error


def _set_pragmas(connection: Any, _record: object) -> None:  # noqa: ANN401  # DBAPI has no type
    """Set options so that a commit survives kill -9 and a power cut."""
    cursor = connection.cursor()
    busy = f"busy_timeout = {int(BUSY_SECONDS * 1000)}"
    for pragma in (busy, "journal_mode = WAL", "synchronous = FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _set_session(connection: Any, _record: object) -> None:  # noqa: ANN401  # DBAPI has no type
    """Set options so that a commit is on disk when it returns, whatever the server's defaults."""
    cursor = connection.cursor()
    cursor.execute("SET synchronous_commit = on")
    cursor.execute(f"SET lock_timeout = {int(BUSY_SECONDS * 1000)}")
    cursor.close()
    connection.commit()
