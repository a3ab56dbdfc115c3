"""`medkd report` reads the store that `medkd review` wrote, wherever it is."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medkd.cli import app
from medkd.errors import SeriesError, SettingsError
from medkd.io.luna16_tables import read_seriesuids
from medkd.review.opened import open_review
from medkd.review.schemas import claim_store
from medkd.review.store import WHOLE_CASE, Decision, open_store
from medkd.runs import RunFolder
from tests.report.run_factory import write_example_run


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return write_example_run(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def run(whole_run, tmp_path):
    skip = shutil.ignore_patterns("data", "results")
    return RunFolder(shutil.copytree(whole_run.path, tmp_path / "run", ignore=skip))


def finish_a_scan(run, place, *, reader="anna", also=()):
    """Write into a store that a reader has finished a scan of the run, and decisions besides."""
    scan = read_seriesuids(run.reference / "seriesuids.csv")[0]
    store = open_store(place)
    for decision in (Decision(scan, WHOLE_CASE, reader, "reviewed"), *also):
        store.add(decision)
    store.close()


def report(run, *words):
    return CliRunner().invoke(app, ["report", str(run.path), *words])


def readers_in(run):
    found = json.loads(run.report.with_suffix(".json").read_text()).get("readers")
    return [point["reader"] for point in found["points"]] if found else None


def claimed(run, url):
    return claim_store(open_review(run.path, store=url), finding="", cases=()).review.store


def test_a_file_elsewhere_is_read_by_its_name_or_by_the_settings_of_the_review(run, tmp_path):
    elsewhere = tmp_path / "department.sqlite"
    finish_a_scan(run, elsewhere)
    assert report(run).exit_code == 0
    assert readers_in(run) is None
    config = tmp_path / "review.yaml"
    config.write_text(f"store: {elsewhere}\n")
    for words in (("--store", str(elsewhere)), ("--config", str(config))):
        done = report(run, *words)
        assert done.exit_code == 0, done.output
        assert f"decisions in {elsewhere}: 1, of readers: 1" in done.output
        assert readers_in(run) == ["anna"]
        run.report.with_suffix(".json").unlink()
    assert not run.review.exists()


def test_a_named_store_replaces_that_of_the_settings_and_that_in_the_run(run, tmp_path):
    named, other = tmp_path / "named.sqlite", tmp_path / "other.sqlite"
    finish_a_scan(run, named, reader="ben")
    for place in (other, run.review):
        finish_a_scan(run, place)
    (tmp_path / "review.yaml").write_text(f"store: {other}\n")
    done = report(run, "--config", str(tmp_path / "review.yaml"), "--store", str(named))
    assert done.exit_code == 0, done.output
    assert readers_in(run) == ["ben"]


def test_the_schema_of_the_run_in_postgresql_is_found_by_the_url_of_the_review(run, database):
    finish_a_scan(run, claimed(run, database))
    done = report(run, "--store", database)
    assert done.exit_code == 0, done.output
    assert readers_in(run) == ["anna"]


def test_decisions_in_postgresql_are_not_left_out_because_the_url_is_missing(run, database):
    place = claimed(run, database)
    finish_a_scan(run, place)
    refused = report(run).exception
    assert isinstance(refused, SettingsError)
    assert f"schema={place.partition('schema=')[2]}" in str(refused)
    assert not run.report.with_suffix(".json").exists()
    finish_a_scan(run, run.review, reader="ben")  # a file too: it is read, and the rest is named
    done = report(run)
    assert "other decisions are in PostgreSQL" in done.output
    assert readers_in(run) == ["ben"]


def test_a_url_without_a_store_lists_the_stores_of_the_database(run, database, tmp_path):
    other = RunFolder(shutil.copytree(run.path, tmp_path / "another"))
    finish_a_scan(other, claimed(other, database))
    refused = report(run, "--store", database).exception
    assert isinstance(refused, SettingsError)
    assert "RUN another" in str(refused)


def test_a_store_that_does_not_exist_is_refused_and_not_created(run, tmp_path):
    gone = tmp_path / "gone.sqlite"
    refused = report(run, "--store", str(gone)).exception
    assert isinstance(refused, SeriesError)
    assert f"{gone}: no store of decisions" in str(refused)
    assert not gone.exists()


def test_a_file_that_is_no_store_is_refused_with_a_remedy(run, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("no database\n" * 100)
    refused = report(run, "--store", str(file)).exception
    assert isinstance(refused, SeriesError)
    assert "not a store of medkd" in str(refused)
    assert file.read_text() == "no database\n" * 100


def test_the_store_of_another_review_is_refused(run, tmp_path):
    other = tmp_path / "other.sqlite"
    store = open_store(other)
    store.add(Decision("scan-9", WHOLE_CASE, "anna", "reviewed"))
    store.close()
    refused = report(run, "--store", str(other)).exception
    assert isinstance(refused, SettingsError)
    assert "decisions: 1, for example scan-9; none of them" in str(refused)


def test_decisions_on_cases_of_another_run_are_left_out_and_counted(run, tmp_path):
    shared = tmp_path / "shared.sqlite"
    others = [Decision("scan-9", WHOLE_CASE, name, "accept") for name in ("anna", "ben")]
    finish_a_scan(run, shared, also=others)
    done = report(run, "--store", str(shared))
    assert "left out: 2 decisions on cases that are not in this RUN" in done.output
    found = json.loads(run.report.with_suffix(".json").read_text())["readers"]
    assert found["pairs"] == []  # anna and ben agree on the other run alone


def test_readers_without_anything_to_compare_are_told_so(run, tmp_path):
    place = tmp_path / "begun.sqlite"
    scan = read_seriesuids(run.reference / "seriesuids.csv")[0]
    store = open_store(place)
    store.add(Decision(scan, "at_1", "anna", "accept", center_mm=(1.0, 2.0, 3.0), diameter_mm=6.0))
    store.close()
    done = report(run, "--store", str(place))
    assert done.exit_code == 0, done.output
    assert "no reader has finished a scan" in done.output
    assert readers_in(run) is None


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    for words in ((), ("--store", str(tmp_path / "x.sqlite"))):
        assert isinstance(report(RunFolder(Path(tmp_path)), *words).exception, SettingsError)
