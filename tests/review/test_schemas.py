"""Many reviews in one PostgreSQL database: each has its schema, whatever becomes of its folder."""

import json
import signal

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from medkd.cli import app
from medkd.errors import SeriesError, SettingsError
from medkd.review.databases import choose_database
from medkd.review.finding import finding_of_store
from medkd.review.opened import open_review
from medkd.review.schemas import NAME_FILE, check_named, claim_store, store_of
from medkd.review.store import Decision, open_store
from medkd.runs import RunFolder
from tests.viewer.browsing import served
from tests.viewer.factory import build_cases, write_bare_run

CASES = {case.case_id for case in build_cases()}
DECISION = Decision("xray-1", "case", "anna", "accept")


def a_run(folder, name="run"):
    return write_bare_run(folder / name, build_cases()).path


def claim(path, url, **options):
    facts = {"finding": "Mass", "cases": CASES} | options
    return claim_store(open_review(path, store=url), **facts)


def decide(place, decision=DECISION):
    store = open_store(place)
    saved = store.add(decision)
    store.close()
    return saved


def readers_at(place):
    store = open_store(place)
    found = [decision.reader for decision in store.history()]
    store.close()
    return found


def test_two_reviews_with_one_url_keep_their_decisions_apart(database, tmp_path):
    runs = [a_run(tmp_path, name) for name in ("first", "second")]
    places = [claim(run, database).review.store for run in runs]
    assert [choose_database(p).schema[:-8] for p in places] == ["medkd_first_", "medkd_second_"]
    decide(places[0])
    assert [readers_at(claim(run, database).review.store) for run in runs] == [["anna"], []]
    assert not (runs[0] / "review.sqlite").exists()


def test_a_folder_that_was_renamed_keeps_its_decisions(database, tmp_path):
    run = a_run(tmp_path)
    decide(claim(run, database).review.store)
    moved = run.rename(tmp_path / "moved")
    assert readers_at(store_of(open_review(moved, store=database))) == ["anna"]
    assert readers_at(claim(moved, database).review.store) == ["anna"]


def test_the_store_of_an_earlier_version_is_moved_to_the_review_that_has_its_cases(
    database, tmp_path
):
    saved = decide(database)
    other = claim(a_run(tmp_path, "other"), database, cases={"scan-9"})
    claimed = claim(a_run(tmp_path), database)
    assert (other.note, readers_at(other.review.store)) == ("", [])
    assert "decisions on 1 cases were moved" in claimed.note
    store = open_store(claimed.review.store)
    assert (store.history(), store.check_chain().fault) == ([saved], "")
    with (
        pytest.raises(sa.exc.DatabaseError, match="append-only"),
        store.engine.begin() as connection,
    ):
        connection.exec_driver_sql("DELETE FROM decisions")
    assert store.add(DECISION).number == 2
    store.close()
    assert claim(a_run(tmp_path, "third"), database).note == ""


def test_a_missing_right_names_the_schema_and_what_its_owner_does(database, tmp_path):
    run, url = a_run(tmp_path), database.replace("medkd@", "reading@")
    with pytest.raises(SeriesError, match="permission denied for database") as refused:
        claim(run, url)
    statement = str(refused.value).partition("run: ")[2].partition(";")[0]
    schema = (run / NAME_FILE).read_text().strip()
    assert statement == f"CREATE SCHEMA {schema} AUTHORIZATION reading"
    engine = choose_database(database).connect()
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    decide(claim(run, url).review.store)
    assert readers_at(claim(run, url).review.store) == ["anna"]


def test_a_schema_or_search_path_in_the_url_is_used_as_it_is(database, tmp_path):
    run = a_run(tmp_path)
    named = claim(run, f"{database}&schema=department_a").review.store
    assert decide(named).number == 1
    assert readers_at(f"{database}&schema=department_a") == ["anna"]
    by_path = f"{database}&options=-csearch_path%3Ddepartment_a"
    assert claim(run, by_path).review.store == by_path
    assert readers_at(by_path) == ["anna"]
    assert not (run / NAME_FILE).exists()


def test_a_url_without_a_schema_lists_the_stores_of_its_database(database, tmp_path):
    with pytest.raises(SettingsError, match="nobody has decided"):
        check_named(database)
    place = claim(a_run(tmp_path), database).review.store
    decide(place)
    schema = choose_database(place).schema
    for url in (database, f"{database}&schema=unknown"):
        done = CliRunner().invoke(app, ["review", url, "--verify"])
        assert done.exit_code == 1
        assert f"?schema={schema}: RUN run" in str(done.exception)
    assert CliRunner().invoke(app, ["review", place, "--verify"]).exit_code == 0


def test_the_store_tells_the_finding_for_the_labels_of_x_rays(database, tmp_path):
    run, out = a_run(tmp_path), tmp_path / "out.json"
    place = claim(run, database).review.store
    decide(place)
    assert finding_of_store(place) == "Mass"
    for words in ([place], [str(run), "--store", database]):
        done = CliRunner().invoke(app, ["review", *words, "--export", str(out)])
        assert done.exit_code == 0, done.output
    assert CliRunner().invoke(app, ["review", place, "--export", str(out)]).exit_code == 0
    images = json.loads(out.read_text())["images"]
    assert [(i["case_id"], i["finding"], i["value"]) for i in images] == [("xray-1", "Mass", 1)]
    claim(run, database, finding="Nodule")
    assert finding_of_store(place) == "Nodule"


def test_a_review_whose_url_was_forgotten_says_where_its_decisions_are(database, tmp_path):
    run = a_run(tmp_path)
    place = claim(run, database).review.store
    wanted = f"schema={choose_database(place).schema}"
    with pytest.raises(SettingsError, match=wanted):
        store_of(open_review(run))
    claimed = claim(run, "")
    assert "other decisions are in PostgreSQL: give the URL postgresql://" in claimed.note
    assert wanted in claimed.note
    decide(claimed.review.decisions)
    assert store_of(open_review(run)) == run / "review.sqlite"


@pytest.mark.slow
def test_the_app_keeps_its_decisions_in_the_schema(database, tmp_path):
    folder = a_run(tmp_path)
    with served(RunFolder(folder), "--store", database) as (_, process):
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        schema = (folder / NAME_FILE).read_text().strip()
        assert f"?schema={schema}" in process.stdout.read()


@pytest.mark.parametrize("name", ["x;drop", "A", "", "1a", "a" * 64])
def test_a_name_that_is_none_is_refused(database, tmp_path, name):
    run = a_run(tmp_path)
    (run / NAME_FILE).write_text(name)
    with pytest.raises(SeriesError, match="expected the name of a schema"):
        claim(run, database)
    if name:
        with pytest.raises(SettingsError, match="small letters"):
            choose_database(f"{database}&schema={name}")


def test_a_file_is_no_database_with_schemas(tmp_path):
    run = a_run(tmp_path)
    for place in ("", str(tmp_path / "elsewhere.sqlite")):
        assert claim(run, place).review.store == place
    assert not (run / NAME_FILE).exists()
