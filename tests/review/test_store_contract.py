"""What every database of decisions guarantees: SQLite and PostgreSQL run the same tests."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import sqlalchemy as sa

from medkd.errors import SeriesError
from medkd.review.decision import WHOLE_CASE, Decision, new_mark_id
from medkd.review.store import check_writable, open_store, verify_store

MARK = Decision(
    "scan-1", "at_1.00_2.00_3.00", "anna", "accept", "é\n", score=0.9, center_mm=(1.0, 2.0, 3.1)
)

# Decides until it is killed; prints a number only after `change` has returned it.
DECIDE_FOREVER = """
import sys
from medkd.review.store import Decision, open_store
store = open_store(sys.argv[1])
seen = Decision("scan-1", "mark", sys.argv[2], "undecided")
for turn in range(int(sys.argv[3])):
    seen = store.change(seen, "note", f"note {turn}").newest
    print(seen.number, flush=True)
"""


@pytest.fixture
def store(place):
    opened = open_store(place)
    yield opened
    opened.close()


def start_reader(place, reader, turns):
    return subprocess.Popen(  # noqa: S603  # this file's own script
        [sys.executable, "-c", DECIDE_FOREVER, str(place), reader, str(turns)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def a_nodule(**values):
    mark = Decision(
        "scan-1", new_mark_id(), "anna", "added", center_mm=(-10.0, 20.5, -0.0), diameter_mm=6.5
    )
    return replace(mark, **values)


def test_a_decision_comes_back_as_it_was_made(store, place):
    added = [store.add(MARK), store.add_nodule(a_nodule(note="right \U0001fac1"))]
    again = open_store(place)
    assert again.history() == added
    assert again.latest()[0].center_mm == (1.0, 2.0, 3.1)
    again.close()


def test_the_latest_decision_of_each_case_mark_and_reader_counts(store):
    for decision in (MARK, replace(MARK, verdict="reject"), replace(MARK, reader="ben")):
        store.add(decision)
    assert {d.reader: d.verdict for d in store.latest()} == {"anna": "reject", "ben": "accept"}
    assert [d.reader for d in store.latest(reader="ben", case_id="scan-1")] == ["ben"]


def test_one_change_concerns_one_field_of_the_latest_row(store):
    seen = store.add_nodule(a_nodule())
    changes = {"note": "spiculated", "diameter_mm": 8.25, "center_mm": (-11.0, 20.5, 1.0)}
    for field, value in changes.items():
        assert store.change(seen, field, value).saved  # always from the row that was seen first
    newest = store.latest()[0]
    assert {field: getattr(newest, field) for field in changes} == changes
    assert newest.verdict == "added"


@pytest.mark.parametrize(
    ("field", "first", "second"),
    [
        ("verdict", "accept", "reject"),
        ("note", "one", "another"),
        ("diameter_mm", 4.0, 5.0),
        ("center_mm", (1.0, 1.0, 1.0), (2.0, 2.0, 2.0)),
    ],
)
def test_a_field_that_changed_since_it_was_seen_is_not_overwritten(store, field, first, second):
    shown = replace(MARK, verdict="undecided", note="", diameter_mm=3.0)
    newer = store.change(shown, field, first).newest
    refused = store.change(shown, field, second)
    assert (refused.saved, refused.newest) == (False, newer)
    assert store.change(refused.newest, field, second).saved
    assert len(store.history()) == 2


def test_a_corrected_place_and_diameter_survive_a_change_by_an_older_tab(store):
    shown = replace(MARK, verdict="undecided")
    store.change(shown, "diameter_mm", 9.0)
    store.change(shown, "center_mm", (1.5, 2.5, 3.5))
    changed = store.change(shown, "verdict", "accept").newest
    assert (changed.center_mm, changed.diameter_mm) == ((1.5, 2.5, 3.5), 9.0)


def test_a_click_that_arrives_twice_adds_one_nodule(store):
    nodule = a_nodule()
    first = store.add_nodule(nodule)
    store.change(first, "note", "kept")
    assert store.add_nodule(nodule).note == "kept"
    assert len(store.history()) == 2


@pytest.mark.parametrize(
    "values",
    [
        {"center_mm": None},
        {"diameter_mm": None},
        {"diameter_mm": 0.0},
        {"diameter_mm": float("nan")},
        {"diameter_mm": 1e6},
        {"center_mm": (0.0, float("inf"), 0.0)},
        {"center_mm": (0.0, 1.0)},
        {"mark_id": "at_1.00_2.00_3.00"},
        {"note": "zero \0 byte"},
        {"note": "half a pair \ud800"},
    ],
)
def test_a_nodule_without_a_possible_place_or_diameter_is_refused(store, values):
    with pytest.raises(ValueError, match=r"place|diameter|begins with|expected text"):
        store.add_nodule(a_nodule(**values))
    assert store.history() == []


def test_undo_takes_back_one_decision_at_a_time(store):
    first = store.change(replace(MARK, verdict="undecided", note=""), "verdict", "accept").newest
    nodule = store.add_nodule(a_nodule())
    store.change(first, "verdict", "reject")
    states = []
    for _ in range(3):
        store.undo("scan-1", "anna")
        states.append({d.mark_id: d.verdict for d in store.latest()})
    assert states == [
        {MARK.mark_id: "accept", nodule.mark_id: "added"},
        {MARK.mark_id: "accept", nodule.mark_id: "undecided"},
        {MARK.mark_id: "undecided", nodule.mark_id: "undecided"},
    ]
    assert store.undo("scan-1", "anna") is None
    assert [d.undoes for d in store.history()] == [None, None, None, 3, 2, 1]


def test_undo_after_a_new_decision_takes_back_the_new_one(store):
    seen = store.add(MARK)
    store.undo("scan-1", "anna")
    store.change(replace(seen, verdict="undecided", note=""), "verdict", "reject")
    assert store.undo("scan-1", "anna").newest.verdict == "undecided"
    assert store.undo("scan-1", "anna") is None


def test_undo_of_the_first_correction_of_a_mark_gives_back_what_the_model_says(store):
    seen = replace(MARK, verdict="undecided", note="", diameter_mm=14.0)
    store.change(seen, "diameter_mm", 11.5)
    undone = store.undo("scan-1", "anna").newest
    assert (undone.diameter_mm, undone.center_mm) == (None, None)
    moved = store.change(seen, "center_mm", (1.0, 2.0, 3.0)).newest
    assert (moved.center_mm, moved.diameter_mm) == ((1.0, 2.0, 3.0), 14.0)
    assert store.undo("scan-1", "anna").newest.center_mm is None


def test_undo_concerns_one_reader_and_one_case(store):
    for decision in (MARK, replace(MARK, reader="ben"), replace(MARK, case_id="scan-2")):
        store.add(decision)
    store.undo("scan-1", "anna")
    assert [(d.case_id, d.reader) for d in store.latest() if d.verdict == "accept"] == [
        ("scan-1", "ben"), ("scan-2", "anna"),
    ]  # fmt: skip


def test_undo_of_another_decision_than_the_one_that_was_seen_saves_nothing(store):
    seen = store.add(MARK)
    newer = store.add(replace(MARK, mark_id=WHOLE_CASE, verdict="reviewed"))
    refused = store.undo("scan-1", "anna", seen=seen.number)
    assert (refused.saved, refused.newest) == (False, newer)
    assert store.undo("scan-1", "anna", seen=newer.number).saved


def test_the_history_of_a_case_is_complete_and_in_order(store):
    store.add(MARK)
    store.add(replace(MARK, case_id="scan-2"))
    store.add(replace(MARK, reader="ben", verdict="reject"))
    assert [(d.reader, d.verdict) for d in store.history(case_id="scan-1")] == [
        ("anna", "accept"), ("ben", "reject"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "statement", ["UPDATE decisions SET verdict = 'reject'", "DELETE FROM decisions"]
)
def test_the_database_itself_refuses_to_change_a_decision(store, statement):
    added = store.add(MARK)
    with (
        pytest.raises(sa.exc.DatabaseError, match="append-only"),
        store.engine.begin() as connection,
    ):
        connection.exec_driver_sql(statement)
    assert store.history() == [added]


def test_an_untouched_store_has_no_fault(store, place):
    for number in range(3):
        store.add(replace(MARK, note=str(number)))
    report = verify_store(place)
    assert (report.decisions, report.fault) == (3, "")
    assert report.head == store.history()[-1].hash


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE decisions SET verdict = 'reject' WHERE number = 2", "row 2 was changed"),
        ("UPDATE decisions SET note = 'x' WHERE number = 4", "row 4 was changed"),
        ("UPDATE decisions SET x_mm = x_mm + 0.001 WHERE number = 1", "row 1 was changed"),
        ("UPDATE decisions SET decided_at = '2020' WHERE number = 3", "row 3 was changed"),
        ("UPDATE decisions SET hash = 'x' WHERE number = 3", "row 3 was changed"),
        ("UPDATE decisions SET diameter_mm = 1 WHERE number = 2", "row 2 was changed"),
        ("DELETE FROM decisions WHERE number = 1", "row 2 does not follow row 0: row 1 missing"),
        ("DELETE FROM decisions WHERE number IN (2, 3)", "row 4 does not follow row 1: rows 2"),
        ("DELETE FROM decisions WHERE number = 4", "row 4 is missing"),
        ("DELETE FROM decisions", "row 1 is missing, and all rows after it up to 4"),
        ("UPDATE decisions SET number = 9 WHERE number = 4", "row 9 does not follow row 3"),
        ("DELETE FROM decisions_head", "the record of the last row is missing"),
    ],
)
def test_a_tampered_row_is_named(store, place, run_sql, statement, fault):
    for number in range(4):
        store.add(replace(MARK, note=str(number)))
    run_sql(place, statement)
    assert fault in verify_store(place).fault


def test_a_row_of_another_program_is_named(store, place, run_sql):
    store.add(MARK)
    run_sql(
        place,
        "INSERT INTO decisions SELECT 2, decided_at, reader, case_id, mark_id, 'reject', note, "
        "score, x_mm, y_mm, z_mm, medkd_version, diameter_mm, undoes, hash, read FROM decisions",
    )
    assert "row 2 was changed by another program, or does not belong" in verify_store(place).fault


def test_a_tampered_store_is_not_opened(store, place, run_sql):
    for number in range(3):
        store.add(replace(MARK, note=str(number)))
    open_store(place).close()  # this process has checked the first three rows
    run_sql(place, "UPDATE decisions SET verdict = 'reject' WHERE number = 3")
    done = subprocess.run(  # noqa: S603  # this file's own script
        [sys.executable, "-c", DECIDE_FOREVER, str(place), "ben", "1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "changed outside medkd" in done.stderr
    assert "row 3 was changed" in done.stderr


def test_new_rows_are_checked_each_time_a_process_opens_the_store(store, place, run_sql):
    store.add(MARK)
    open_store(place).close()
    store.add(replace(MARK, verdict="reject"))
    run_sql(place, "UPDATE decisions SET verdict = 'accept' WHERE number = 2")
    for _ in range(2):
        with pytest.raises(SeriesError, match=r"changed outside medkd[\s\S]*row 2[\s\S]*backup"):
            open_store(place)


def test_another_store_at_the_same_place_is_checked_from_its_first_row(store, place, run_sql):
    store.add(MARK)
    open_store(place).close()
    run_sql(place, "UPDATE decisions SET verdict = 'reject', hash = 'replaced' WHERE number = 1")
    with pytest.raises(SeriesError, match="row 1 was changed"):
        open_store(place)


def test_processes_that_decide_at_once_lose_nothing(place):
    # They also create the store at once: none of them finds it there.
    writers = [start_reader(place, f"reader {number}", 15) for number in range(4)]
    confirmed = [[int(line) for line in writer.stdout] for writer in writers]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    for writer in writers:
        writer.stdout.close()
    assert sorted(number for numbers in confirmed for number in numbers) == list(range(1, 61))
    store = open_store(place)
    assert {d.reader: d.note for d in store.latest()} == {
        f"reader {number}": "note 14" for number in range(4)
    }
    assert store.check_chain().fault == ""
    store.close()


def test_every_confirmed_decision_survives_kill_minus_9(place):
    writers = [start_reader(place, reader, 100_000) for reader in ("anna", "ben")]
    confirmed = [int(writers[n % 2].stdout.readline()) for n in range(30)]
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        confirmed += [int(line) for line in writer.stdout if line.endswith("\n")]
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
    store = open_store(place)
    numbers = [decision.number for decision in store.history()]
    assert set(confirmed) <= set(numbers)
    assert numbers == list(range(1, len(numbers) + 1))
    assert store.add(MARK).number == len(numbers) + 1
    store.close()
    assert verify_store(place).fault == ""


def test_a_new_store_can_be_written(place):
    check_writable(place)
    assert verify_store(place).decisions == 0
