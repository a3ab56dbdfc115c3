"""Decisions: append-only, durable, latest counts."""

import csv
import io
import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from medkd.errors import SeriesError
from medkd.review.schema import MIGRATIONS
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


def undecided(mark_id="m"):
    return Decision("scan-1", mark_id, "anna", "undecided")


def test_a_new_verdict_keeps_the_latest_note(store):
    shown = undecided()
    assert store.change(shown, "note", "spiculated").saved
    assert store.change(shown, "verdict", "accept").saved  # drawn before the note was saved
    assert [(d.verdict, d.note) for d in store.latest()] == [("accept", "spiculated")]


def test_a_new_note_keeps_the_latest_verdict(store):
    shown = undecided()
    store.change(shown, "verdict", "accept")
    changed = store.change(shown, "note", "spiculated")
    assert (changed.newest.verdict, changed.newest.note) == ("accept", "spiculated")


@pytest.mark.parametrize(
    ("field", "first", "second"), [("verdict", "accept", "reject"), ("note", "one", "another")]
)
def test_a_field_that_changed_since_it_was_seen_is_not_overwritten(store, field, first, second):
    shown = undecided()
    newer = store.change(shown, field, first).newest
    refused = store.change(shown, field, second)
    assert (refused.saved, refused.newest) == (False, newer)
    assert store.history() == [newer]
    assert store.change(refused.newest, field, second).saved


def test_the_same_verdict_from_two_tabs_is_no_conflict(store):
    store.change(undecided(), "verdict", "accept")
    assert store.change(undecided(), "verdict", "accept").saved


def test_a_change_concerns_one_mark_and_one_reader(store):
    store.change(undecided(), "verdict", "accept")
    assert store.change(undecided("other"), "verdict", "reject").saved
    assert store.change(replace(undecided(), reader="ben"), "verdict", "reject").saved
    assert len(store.latest()) == 3


def test_a_change_keeps_what_was_on_the_screen(store):
    store.change(undecided(), "note", "seen without a score")
    changed = store.change(
        replace(undecided(), score=0.5, center_mm=(1.0, 2.0, 3.0)), "verdict", "accept"
    )
    assert (changed.newest.score, changed.newest.center_mm) == (0.5, (1.0, 2.0, 3.0))


def test_two_tabs_that_write_at_once_lose_nothing(tmp_path):
    # Each thread changes its own field 20 times; with one transaction a change both survive.
    path = tmp_path / "review.sqlite"
    stores = {field: open_store(path) for field in ("verdict", "note")}

    def work(field):
        seen = undecided()
        for turn in range(20):
            value = ("accept", "reject")[turn % 2] if field == "verdict" else f"note {turn}"
            changed = stores[field].change(seen, field, value)
            assert changed.saved
            seen = changed.newest

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, stores))
    assert [(d.verdict, d.note) for d in stores["note"].latest()] == [("reject", "note 19")]
    assert len(stores["note"].history()) == 40


def test_a_store_that_another_program_holds_says_so(store, tmp_path, monkeypatch):
    monkeypatch.setattr("medkd.review.databases.BUSY_SECONDS", 0.1)
    foreign = sqlite3.connect(tmp_path / "review.sqlite", isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    with pytest.raises(SeriesError, match=r"not saved[\s\S]*another program has held the file"):
        store.change(undecided(), "verdict", "accept")
    foreign.execute("ROLLBACK")
    foreign.close()
    assert store.change(undecided(), "verdict", "accept").saved


def test_a_full_disk_says_so_and_keeps_what_was_saved(store, tmp_path):
    saved = store.change(undecided(), "note", "kept").newest
    script = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from medkd.review.store import Decision, open_store\n"
        "store = open_store(Path(sys.argv[1]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "store.change(Decision('scan-1', 'm', 'anna', 'undecided', 'kept'), 'note', 'x' * 9000)\n"
    )
    done = subprocess.run(  # noqa: S603  # this file's own script
        [sys.executable, "-c", script, str(tmp_path / "review.sqlite")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "the decision was not saved" in done.stderr
    assert "free space" in done.stderr
    assert store.latest() == [saved]


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SeriesError, match=r"cannot be saved here[\s\S]*right to write in"):
        open_store(tmp_path / "file" / "review.sqlite")


def test_decisions_of_an_earlier_medkd_stay_and_are_changed_in_place(tmp_path):
    # The table as medkd 0.1 made it; the file is opened and carried on with, never refused.
    path = tmp_path / "review.sqlite"
    with sqlite3.connect(path) as earlier:
        earlier.execute(
            "CREATE TABLE decisions (number INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "
            "decided_at TEXT NOT NULL, reader TEXT NOT NULL, case_id TEXT NOT NULL, "
            "mark_id TEXT NOT NULL, verdict TEXT NOT NULL, note TEXT NOT NULL, score FLOAT, "
            "x_mm FLOAT, y_mm FLOAT, z_mm FLOAT, medkd_version TEXT NOT NULL)"
        )
        earlier.execute(
            "INSERT INTO decisions VALUES (1, '2025-01-01T00:00:00.000+00:00', 'anna', 'scan-1', "
            "'m', 'accept', 'old note', 0.5, 1, 2, 3, '0.1.0')"
        )
        earlier.execute("PRAGMA user_version = 1")
    earlier.close()
    store = open_store(path)
    changed = store.change(store.latest()[0], "verdict", "reject")
    store.close()
    assert (changed.saved, changed.newest.note, changed.newest.number) == (True, "old note", 2)


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "review.sqlite"
    path.write_text("these are notes of somebody " * 100)
    with pytest.raises(SeriesError, match=r"decisions cannot be saved here[\s\S]*not a database"):
        open_store(path)
    assert path.read_text().startswith("these are notes")


def test_a_store_of_a_later_version_is_refused_and_loses_nothing(store, tmp_path):
    kept = store.add(MARK)
    with sqlite3.connect(tmp_path / "review.sqlite") as foreign:
        foreign.execute("PRAGMA user_version = 4")
    with pytest.raises(SeriesError, match=r"newer medkd[\s\S]*expected schema version 3, got 4"):
        open_store(tmp_path / "review.sqlite")
    with foreign:
        foreign.execute("PRAGMA user_version = 3")
    foreign.close()
    assert store.history() == [kept]


def add_certainty(connection):
    """A schema that does not exist yet: one more column, filled from another."""
    connection.exec_driver_sql("DROP TRIGGER IF EXISTS decisions_no_update")
    connection.exec_driver_sql("ALTER TABLE decisions ADD COLUMN certainty TEXT")
    connection.exec_driver_sql("UPDATE decisions SET certainty = verdict || ', sure'")


def fail(connection):
    connection.exec_driver_sql("DELETE FROM no_such_table")


def certainties(path):
    with sqlite3.connect(path) as opened:
        found = [row[0] for row in opened.execute("SELECT certainty FROM decisions")]
    opened.close()
    return found


def test_an_older_store_is_migrated_with_every_decision(store, tmp_path, monkeypatch):
    made = [store.add(MARK), store.add(replace(MARK, verdict="reject", note="vessel"))]
    monkeypatch.setattr("medkd.review.schema.MIGRATIONS", (*MIGRATIONS, add_certainty))
    for _ in range(2):  # the second time nothing is left to do
        newer = open_store(tmp_path / "review.sqlite")
        assert newer.history() == made
    assert certainties(newer.name) == ["accept, sure", "reject, sure"]
    newer.add(MARK)
    assert len(newer.history()) == 3
    with pytest.raises(sqlite3.DatabaseError, match="append-only"):
        sqlite3.connect(newer.name).execute("UPDATE decisions SET note = ''")


def test_a_new_store_passes_through_every_step(tmp_path, monkeypatch):
    monkeypatch.setattr("medkd.review.schema.MIGRATIONS", (*MIGRATIONS, add_certainty))
    store = open_store(tmp_path / "new.sqlite")
    assert store.history() == []
    added = store.add(MARK)
    assert store.history() == [added]
    assert certainties(store.name) == [None]


def test_a_migration_that_fails_leaves_the_store_as_it_was(store, tmp_path, monkeypatch):
    made = store.add(MARK)
    with monkeypatch.context() as patched:
        patched.setattr("medkd.review.schema.MIGRATIONS", (*MIGRATIONS, add_certainty, fail))
        with pytest.raises(SeriesError, match="no_such_table"):
            open_store(tmp_path / "review.sqlite")
    again = open_store(tmp_path / "review.sqlite")
    assert again.history() == [made]
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        certainties(again.name)
    with pytest.raises(sqlite3.DatabaseError, match="append-only"):
        sqlite3.connect(again.name).execute("DELETE FROM decisions")


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
