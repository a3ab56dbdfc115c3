"""Many reviews in one PostgreSQL database: each review has a schema of its own.

The schema is chosen when a review is opened with a URL that names none, and its name is noted in
the file `review.schema` in the folder of the review (of an INDEX: `NAME.review`). A folder that is
moved or renamed therefore keeps its decisions. The table `decisions_review` of the schema says
what was reviewed. Earlier versions wrote into the first schema of the search path: that store is
moved into the schema of the first review that has its cases.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from medkd.errors import SeriesError, SettingsError
from medkd.review.databases import SCHEMA_NAME, Postgres, choose_database, refusing
from medkd.review.opened import Review

NAME_FILE = "review.schema"

_NO_SCHEMA = "the schema of this review cannot be created"
_NO_READING = "the decisions cannot be read"
_TABLES = ("decisions", "decisions_head", "decisions_schema")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A review with the store that it has from now on; `note` says what was moved (or is "")."""

    review: Review
    note: str = ""


def claim_store(review: Review, *, finding: str, cases: Collection[str]) -> Claimed:
    """Choose and create the schema of a review whose store is a PostgreSQL database.

    Args:
        review: the opened review; any other store is left as it is.
        finding: what it asks for on X-rays, as `asked_finding` returns it.
        cases: the ids of its cases.

    Raises:
        SeriesError: if the schema cannot be created, with its name and the remedy.
    """
    database = _choosing(review.store)
    if database is None:
        return Claimed(review, note_elsewhere(review))
    if not database.schema:
        database = replace(database, schema=_noted_schema(review) or _note_schema(review))
    default = replace(database, schema="")
    with refusing(database, _NO_SCHEMA):
        engine = default.connect()
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('medkd'))")
                moved = _create(connection, database, default, cases)
                _describe(connection, database.schema, review, finding)
        except sa.exc.ProgrammingError as error:
            if "permission denied for database" not in str(error.orig):
                raise
            raise _right_missing(database, error) from error
    return Claimed(replace(review, store=_url(database)), moved)


def store_of(review: Review) -> Path | str:
    """Return the store of a review, in PostgreSQL with the schema that it claimed before.

    Raises:
        SettingsError: if its decisions are in PostgreSQL, and the URL was not given.
    """
    database = _choosing(review.store)
    if database is None or database.schema:
        schema = _noted_schema(review)
        if not review.store and schema and not Path(review.decisions).is_file():
            raise SettingsError(f"{review.path}: its decisions are {_in_schema(schema)}")
        return review.decisions
    return _url(replace(database, schema=_noted_schema(review)))


def note_elsewhere(review: Review) -> str:
    """Return where a review has decisions besides its file, if no store was named; else ""."""
    schema = "" if review.store else _noted_schema(review)
    return f"other decisions are {_in_schema(schema)}" if schema else ""


def check_named(place: Path | str) -> None:
    """Check that a URL leads to a store: a database may have many, and creates none here.

    Raises:
        SettingsError: if it leads to none, with the URLs of the stores in the database.
    """
    database = choose_database(place)
    if not isinstance(database, Postgres):
        return
    with _reading(database) as connection:
        if database.read_version(connection):
            return
        found = _schemas(connection)
        texts = [f"{replace(database, schema=s).name}: {_about(connection, s)}" for s in found]
    reasons = texts or ["nobody has decided anything there: correct the URL"]
    raise SettingsError(f"{database.name}: no store of decisions, or not this one", reasons)


def read_finding(place: str) -> str:
    """Return the finding that the review of a store in PostgreSQL asks for; empty: unknown."""
    database = choose_database(place)
    if not isinstance(database, Postgres):
        return ""
    with _reading(database) as connection:
        schema = connection.exec_driver_sql("SELECT current_schema()").scalar()
        row = _review_row(connection, str(schema))
    return row.finding if row else ""


@contextmanager
def _reading(database: Postgres) -> Iterator[sa.Connection]:
    with refusing(database, _NO_READING), database.connect().connect() as connection:
        yield connection


def _choosing(store: str) -> Postgres | None:
    """Return the database if a schema is chosen in it: no search path of the URL does."""
    if "://" not in store:
        return None
    database = choose_database(store)
    if not isinstance(database, Postgres) or "search_path" in str(database.url.query):
        return None
    return database


def _noted_schema(review: Review) -> str:
    """Return the schema that a review claimed; empty: none."""
    path = review.home / NAME_FILE
    if not path.is_file():
        return ""
    name = path.read_text(encoding="utf-8").strip()
    if not SCHEMA_NAME.fullmatch(name):
        reason = f"expected the name of a schema, got {name[:80]!r}: restore the file"
        raise SeriesError(f"{path}: not usable", [reason])
    return name


def _note_schema(review: Review) -> str:
    """Note a new name for the schema of a review; another process may have been faster."""
    place = review.path.resolve()
    folder = f"{place.parent.name}_{place.stem}" if review.kind == "INDEX" else place.name
    words = re.sub("[^a-z0-9]+", "_", folder.casefold())[:40].strip("_")
    name = f"medkd_{words}_{secrets.token_hex(4)}"
    path = review.home / NAME_FILE
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(f"{name}\n")
    except FileExistsError:
        return _noted_schema(review)
    except OSError as error:
        remedy = "make the folder writable, or name the schema in the URL: ?schema=NAME"
        raise SeriesError(f"{path}: cannot be written", [str(error), remedy]) from error
    return name


def _create(
    connection: sa.Connection, database: Postgres, default: Postgres, cases: Collection[str]
) -> str:
    """Create the schema, and move the store of an earlier version into it; returns a note."""
    schema = database.schema
    if schema in _schemas(connection):
        return ""
    known = sa.text("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = :name")
    if connection.execute(known, {"name": schema}).scalar() is None:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    if not default.read_version(connection):
        return ""
    ids = set(connection.exec_driver_sql("SELECT DISTINCT case_id FROM decisions").scalars())
    if not ids & set(cases):
        return ""
    for table in _TABLES:
        connection.exec_driver_sql(f"ALTER TABLE IF EXISTS {table} SET SCHEMA {schema}")
    connection.exec_driver_sql(f"ALTER FUNCTION decisions_refuse() SET SCHEMA {schema}")
    left = len(ids - set(cases))
    of_others = f", {left} of them not in this review" if left else ""
    return f"decisions on {len(ids)} cases{of_others} were moved into the schema {schema}"


def _describe(connection: sa.Connection, schema: str, review: Review, finding: str) -> None:
    """Write into the schema what is reviewed."""
    columns = "kind TEXT NOT NULL, name TEXT NOT NULL, finding TEXT NOT NULL"
    connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {schema}.decisions_review ({columns})")
    values = {"kind": review.kind, "name": review.path.resolve().name, "finding": finding}
    row = _review_row(connection, schema)
    if row is None or row._asdict() != values:
        connection.exec_driver_sql(f"DELETE FROM {schema}.decisions_review")  # noqa: S608  # checked
        statement = f"INSERT INTO {schema}.decisions_review VALUES (:kind, :name, :finding)"  # noqa: S608
        connection.execute(sa.text(statement), values)


def _review_row(connection: sa.Connection, schema: str) -> sa.Row[tuple[str, str, str]] | None:
    """Return kind, name and finding of the review in a schema; None if they are not known."""
    if schema not in _schemas(connection, "decisions_review"):
        return None
    query = f'SELECT kind, name, finding FROM "{schema}".decisions_review'  # noqa: S608  # it exists
    return connection.execute(sa.text(query)).one_or_none()


def _about(connection: sa.Connection, schema: str) -> str:
    row = _review_row(connection, schema)
    return f"{row.kind} {row.name}" if row else "a review of an earlier version"


def _schemas(connection: sa.Connection, table: str = "decisions_schema") -> list[str]:
    """Return the schemas that have a table of a store."""
    query = sa.text("SELECT schemaname FROM pg_catalog.pg_tables WHERE tablename = :table")
    return sorted(connection.execute(query, {"table": table}).scalars())


def _right_missing(database: Postgres, error: sa.exc.ProgrammingError) -> SeriesError:
    user = database.url.username or "USER"
    lines = str(error.orig).strip().splitlines()
    remedy = (
        f"as the owner of the database, run: CREATE SCHEMA {database.schema} AUTHORIZATION {user}; "
        "then start medkd review again"
    )
    return SeriesError(f"{database.name}: {_NO_SCHEMA}", [*lines, remedy])


def _in_schema(schema: str) -> str:
    return f"in PostgreSQL: give the URL postgresql://USER@HOST/DATABASE?schema={schema}"


def _url(database: Postgres) -> str:
    query = {"schema": database.schema} if database.schema else {}
    return database.url.update_query_dict(query).render_as_string(hide_password=False)
