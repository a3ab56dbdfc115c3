"""Databases for the tests of the store: an SQLite file, and a private PostgreSQL cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tests.postgres import postgres_program

START_SECONDS = 60.0


def as_server() -> dict[str, str]:
    """Return the user that the server runs as: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    return {"user": "postgres" if "postgres" in known else "nobody"}


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Start a private cluster on a socket in a temporary folder; return the folder."""
    initdb, server = postgres_program("initdb"), postgres_program("postgres")
    if initdb is None or server is None:
        pytest.skip("PostgreSQL's server (a system package, not in `dev`) is not installed")
    home = Path(tempfile.mkdtemp(prefix="medkd-pg-"))
    user = as_server()
    if user:
        shutil.chown(home, user["user"])
    words = [initdb, "-D", str(home / "data"), "-A", "trust", "-U", "medkd", "--no-sync"]
    subprocess.run([*words, "-E", "UTF8", "--locale=C"],  # noqa: S603  # our own words
                   check=True, capture_output=True, cwd=home, **user)  # fmt: skip
    words = [server, "-D", str(home / "data"), "-k", str(home), "-c", "listen_addresses="]
    with (home / "log").open("wb") as log:
        running = subprocess.Popen(  # noqa: S603
            [*words, "-c", "fsync=off", "-c", "max_connections=40"],
            stdout=log, stderr=log, cwd=home, **user,
        )  # fmt: skip
    try:
        wait_until_ready(running, home)
        yield str(home)
    finally:
        running.terminate()
        running.wait(START_SECONDS)
        shutil.rmtree(home, ignore_errors=True)


def wait_until_ready(running: subprocess.Popen[bytes], home: Path) -> None:
    ends = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(host=str(home), user="medkd", dbname="postgres").close()
        except psycopg.OperationalError:
            if running.poll() is not None or time.monotonic() > ends:
                raise
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def postgres_url(postgres: str) -> str:
    """Return the URL of an empty schema of the cluster."""
    schema = f"s{uuid4().hex[:12]}"
    with psycopg.connect(host=postgres, user="medkd", dbname="postgres") as opened:
        opened.execute(f"CREATE SCHEMA {schema}")
    return f"postgresql://medkd@/postgres?host={postgres}&options=-csearch_path%3D{schema}"


@pytest.fixture
def database(postgres: str) -> str:
    """Return the URL of a new database; the roles `medkd` (its owner) and `reading` may connect."""
    with psycopg.connect(host=postgres, user="medkd", dbname="postgres", autocommit=True) as opened:
        number = opened.execute("SELECT count(*) FROM pg_database").fetchone()[0]
        opened.execute(f"CREATE DATABASE reviews{number}")
        if not opened.execute("SELECT 1 FROM pg_roles WHERE rolname = 'reading'").fetchone():
            opened.execute("CREATE ROLE reading LOGIN")
    return f"postgresql://medkd@/reviews{number}?host={postgres}"


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Return an empty place for a store, in each kind of database in turn."""
    if request.param == "sqlite":
        return tmp_path / "review.sqlite"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def run_sql() -> Callable[[Path | str, str], None]:
    """Return a function that changes a store as another program would, past the triggers."""
    import sqlalchemy as sa

    from medkd.review.databases import SqliteFile, choose_database

    def run(place: Path | str, statement: str) -> None:
        database = choose_database(place)
        engine = database.connect()
        with engine.begin() as connection:
            if isinstance(database, SqliteFile):
                found = connection.execute(
                    sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
                )
                for name in found.scalars().all():
                    connection.exec_driver_sql(f"DROP TRIGGER {name}")
            else:
                connection.exec_driver_sql("ALTER TABLE decisions DISABLE TRIGGER ALL")
            connection.exec_driver_sql(statement)

    return run
