"""What is particular to PostgreSQL: faults with their remedies, schemas, and the command line."""

import json
import sys

import psycopg
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from medkd.cli import app
from medkd.errors import ExtraMissingError, SeriesError, SettingsError
from medkd.review.databases import choose_database
from medkd.review.store import Decision, open_store

MARK = Decision("scan-1", "at_1", "anna", "accept", center_mm=(1.0, 2.0, 3.0), diameter_mm=6.0)


def refusal(url):
    with pytest.raises(SeriesError) as refused:
        open_store(url)
    assert "secret" not in str(refused.value)
    return str(refused.value)


def test_a_server_that_does_not_answer_is_named_without_the_password():
    shown = refusal("postgresql://anna:secret@127.0.0.1:1/reviews")
    assert "postgresql://anna:***@127.0.0.1:1/reviews" in shown
    assert "check that the server runs" in shown


def test_a_database_that_does_not_exist_is_refused_with_the_remedy(postgres):
    # A failed connection has no SQLSTATE, so the server's own words name the cause.
    shown = refusal(f"postgresql://medkd:secret@/nowhere?host={postgres}")
    assert 'database "nowhere" does not exist' in shown


def test_a_user_without_the_right_to_create_tables_is_refused_with_the_remedy(postgres):
    with psycopg.connect(host=postgres, user="medkd", dbname="postgres") as opened:
        opened.execute("CREATE ROLE plain LOGIN")
    assert "grant CREATE on the schema" in refusal(f"postgresql://plain@/postgres?host={postgres}")


def test_a_store_that_another_program_holds_says_so(postgres_url, monkeypatch):
    monkeypatch.setattr("medkd.review.databases.BUSY_SECONDS", 0.2)
    store = open_store(postgres_url)
    with store.engine.begin() as holder:
        store.database.lock(holder)
        with pytest.raises(SeriesError, match=r"not saved[\s\S]*another program has held"):
            store.add(MARK)
    assert store.add(MARK).number == 1
    store.close()


def test_a_commit_is_on_disk_whatever_the_server_is_set_to(postgres_url):
    store = open_store(postgres_url + "%20-csynchronous_commit%3Doff")
    with store.engine.connect() as opened:
        assert opened.execute(sa.text("SHOW synchronous_commit")).scalar_one() == "on"
    store.close()


def test_two_schemas_hold_two_reviews(postgres_url, postgres):
    with psycopg.connect(host=postgres, user="medkd", dbname="postgres") as opened:
        opened.execute("CREATE SCHEMA another")
    other = f"postgresql://medkd@/postgres?host={postgres}&options=-csearch_path%3Danother"
    for place, count in ((postgres_url, 1), (other, 2)):
        store = open_store(place)
        for _ in range(count):
            store.add(MARK)
        assert len(store.history()) == count
        store.close()


def test_the_database_refuses_to_empty_the_table(postgres_url):
    store = open_store(postgres_url)
    added = store.add(MARK)
    with (
        pytest.raises(sa.exc.DatabaseError, match="append-only"),
        store.engine.begin() as connection,
    ):
        connection.exec_driver_sql("TRUNCATE decisions")
    assert store.history() == [added]
    store.close()


def test_a_missing_driver_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ExtraMissingError, match="psycopg") as refused:
        open_store("postgresql://anna@db/reviews")
    assert "medkd[postgres]" in str(refused.value)


@pytest.mark.parametrize(
    "url", ["mysql://a:secret@b/c", "postgresql://a:secret@b", "postgresql://[::"]
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url):
    with pytest.raises(SettingsError, match="expected postgresql://USER@HOST/DATABASE") as refused:
        choose_database(url)
    assert "secret" not in str(refused.value)


def test_the_commands_accept_a_url_as_a_store(postgres_url, tmp_path):
    store = open_store(postgres_url)
    store.add(MARK)
    store.close()
    out = tmp_path / "out.json"
    for words in (["--verify"], ["--export", str(out)]):
        done = CliRunner().invoke(app, ["review", postgres_url, *words])
        assert done.exit_code == 0, done.output
    assert [mark["verdict"] for mark in json.loads(out.read_text())["marks"]] == ["accepted"]
