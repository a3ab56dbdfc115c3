"""Decisions: append-only, durable, latest counts."""

import csv
import io
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from medkd.errors import SeriesError
from medkd.review.store import (
    WHOLE_CASE,
    Decision,
    decisions_csv,
    export_csv,
    open_store,
)

MARK = Decision("scan-1", "1.00_2.00_3.00", "anna", "accept", score=0.9, center_mm=(1.0, 2.0, 3.0))

# Decides until it is killed; prints a number only after `add` has returned it.
DECIDE_FOREVER = """
import sys
from pathlib import Path
from medkd.review.store import Decision, open_store
store = open_store(Path(sys.argv[1]))
while True:
    done = store.add(Decision("scan-1", "mark", "anna", "accept", note="x" * 200))
    print(done.number, flush=True)
"""


@pytest.fixture
def store(tmp_path):
    opened = open_store(tmp_path / "review.sqlite")
    yield opened
    opened.close()


def test_the_latest_decision_of_each_case_mark_and_reader_counts(store):
    store.add(MARK)
    store.add(replace(MARK, reader="ben", verdict="reject"))
    store.add(replace(MARK, verdict="reject", note="vessel"))
    counting = {decision.reader: decision for decision in store.latest(case_id="scan-1")}
    assert len(store.history()) == 3
    assert (counting["anna"].verdict, counting["anna"].note) == ("reject", "vessel")
    assert counting["ben"].verdict == "reject"


def test_decisions_of_another_reader_or_case_are_left_out(store):
    store.add(MARK)
    store.add(replace(MARK, case_id="scan-2"))
    assert store.latest(reader="ben") == []
    assert [decision.case_id for decision in store.latest(case_id="scan-2")] == ["scan-2"]


def test_a_decision_comes_back_as_it_was_made(store, tmp_path):
    added = store.add(MARK)
    again = open_store(tmp_path / "review.sqlite")
    assert again.latest() == [added]
    assert again.latest()[0].center_mm == (1.0, 2.0, 3.0)
    again.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE decisions SET verdict = 'reject'",
        "DELETE FROM decisions",
        "INSERT OR REPLACE INTO decisions SELECT * FROM decisions",
    ],
)
def test_the_file_itself_refuses_to_change_a_decision(store, tmp_path, statement):
    added = store.add(MARK)
    foreign = sqlite3.connect(tmp_path / "review.sqlite")
    with pytest.raises(sqlite3.DatabaseError, match="append-only"):
        foreign.execute(statement)
    foreign.close()
    assert store.history() == [added]


def test_every_acknowledged_decision_survives_kill_minus_9(tmp_path):
    path = tmp_path / "review.sqlite"
    writer = subprocess.Popen(  # noqa: S603  # this file's own script
        [sys.executable, "-c", DECIDE_FOREVER, str(path)], stdout=subprocess.PIPE, text=True
    )
    acknowledged = [int(writer.stdout.readline()) for _ in range(25)]
    os.kill(writer.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout if line.endswith("\n")]
    assert writer.wait() == -signal.SIGKILL
    writer.stdout.close()
    reopened = open_store(path)
    numbers = [decision.number for decision in reopened.history()]
    reopened.close()
    assert numbers[: len(acknowledged)] == acknowledged


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "review.sqlite"
    path.write_text("these are notes of somebody " * 100)
    with pytest.raises(SeriesError, match=r"decisions cannot be kept here[\s\S]*not a database"):
        open_store(path)
    assert path.read_text().startswith("these are notes")


def test_a_store_of_a_later_version_is_refused(store, tmp_path):
    with sqlite3.connect(tmp_path / "review.sqlite") as foreign:
        foreign.execute("PRAGMA user_version = 2")
    foreign.close()
    with pytest.raises(SeriesError, match="expected schema version 1, got 2"):
        open_store(tmp_path / "review.sqlite")


@pytest.mark.parametrize("change", [{"reader": " "}, {"case_id": ""}, {"verdict": "maybe"}])
def test_a_decision_without_reader_case_or_known_verdict_is_refused(store, change):
    with pytest.raises(ValueError, match=r"decision needs|verdict is one of"):
        store.add(replace(MARK, **change))
    assert store.history() == []


def test_the_csv_holds_all_history_and_says_what_counts(store):
    store.add(MARK)
    store.add(replace(MARK, verdict="reject", note='vessel, "no nodule"\nsure'))
    store.add(Decision("scan-1", WHOLE_CASE, "anna", "reviewed"))
    rows = list(csv.DictReader(io.StringIO(decisions_csv(store.history()))))
    assert [row["counts"] for row in rows] == ["0", "1", "1"]
    assert rows[1]["note"] == 'vessel, "no nodule"\nsure'
    assert (rows[0]["x_mm"], rows[2]["x_mm"]) == ("1.0", "")


def test_a_note_that_a_spreadsheet_would_run_is_defused(store):
    store.add(replace(MARK, note='=HYPERLINK("http://example.org")'))
    rows = list(csv.DictReader(io.StringIO(decisions_csv(store.history()))))
    assert rows[0]["note"].startswith("'=")


def test_exporting_a_run_that_nobody_read_leaves_a_header_and_no_store(tmp_path):
    assert export_csv(tmp_path / "review.sqlite", tmp_path / "out.csv") == 0
    assert (tmp_path / "out.csv").read_text().startswith("number,case_id,mark_id,reader")
    assert not (tmp_path / "review.sqlite").exists()
