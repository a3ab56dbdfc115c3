"""The first read of a case: what finishing it locks, in every database and for every program."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from medkd.errors import SeriesError
from medkd.review.databases import choose_database
from medkd.review.decision import FIRST_READ, WHOLE_CASE, Decision
from medkd.review.export import decisions_csv
from medkd.review.history import open_decisions
from medkd.review.schema import MIGRATIONS
from medkd.review.store import open_store, verify_store

MARK = Decision("scan-1", "at_1.00_2.00_3.00", "anna", "undecided", center_mm=(1.0, 2.0, 3.0))
NODULE = Decision("scan-1", "added_1", "anna", "added", center_mm=(9.0, 2.0, 3.0), diameter_mm=6.0)
WHOLE = Decision("scan-1", WHOLE_CASE, "anna", "undecided")

# Corrects an own nodule and adds others, until the first read of the case is finished elsewhere.
READ_ON = """
import sys
from dataclasses import replace
from medkd.errors import SeriesError
from medkd.review.store import Decision, open_store
store = open_store(sys.argv[1], two_reads=True)
seen = Decision("scan-1", "added_1", "anna", "added", center_mm=(9.0, 2.0, 3.0), diameter_mm=6.0)
for turn in range(2000):
    store.add_nodule(replace(seen, mark_id=f"added_{turn + 2}"))
    try:
        seen = store.change(seen, "note", f"note {turn}").newest
    except SeriesError as error:
        print(error, flush=True)
        break
    print("saved", flush=True)
"""


@pytest.fixture
def store(place):
    opened = open_store(place, two_reads=True)
    yield opened
    opened.close()


def test_each_decision_says_to_which_read_it_belongs(store):
    store.add_nodule(NODULE)
    store.finish_first_read("scan-1", "anna")
    store.change(MARK, "verdict", "accept")
    store.add(replace(MARK, case_id="scan-2", verdict="accept"))
    assert [(d.mark_id, d.read) for d in store.history(case_id="scan-1")] == [
        ("added_1", "first"), (FIRST_READ, "first"), (MARK.mark_id, "second"),
    ]  # fmt: skip
    assert store.latest(case_id="scan-2")[0].read == "first"
    rows = csv.DictReader(io.StringIO(decisions_csv(store.history(case_id="scan-1"))))
    assert [row["read"] for row in rows] == ["first", "first", "second"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("verdict", "undecided"), ("note", "late"), ("center_mm", (1.0, 1.0, 1.0)),
     ("diameter_mm", 9.0)],
)  # fmt: skip
def test_a_nodule_of_a_finished_first_read_cannot_be_changed(store, place, field, value):
    store.add_nodule(NODULE)
    store.finish_first_read("scan-1", "anna")
    before = store.history()
    for opened in (store, open_store(place)):  # in every reading mode
        with pytest.raises(SeriesError, match=r"not saved[\s\S]*anna has finished the first read"):
            opened.change(NODULE, field, value)
        with pytest.raises(SeriesError, match="has finished the first read"):
            opened.add(replace(NODULE, verdict="reject"))
    assert store.history() == before


def test_nothing_of_a_finished_first_read_is_undone(store):
    store.add_nodule(NODULE)
    store.change(WHOLE, "note", "first")
    store.finish_first_read("scan-1", "anna")
    assert store.undo("scan-1", "anna") is None
    second = store.change(MARK, "verdict", "accept").newest
    assert open_decisions(store.history()) == [second]
    assert store.undo("scan-1", "anna").newest.mark_id == MARK.mark_id
    assert store.undo("scan-1", "anna") is None


def test_the_case_itself_and_new_nodules_are_decided_on_in_the_second_read(store):
    store.change(WHOLE, "note", "first")
    store.finish_first_read("scan-1", "anna")
    done = store.change(WHOLE, "verdict", "reviewed").newest
    added = store.add_nodule(NODULE)
    assert (done.verdict, done.note, done.read, added.read) == (
        "reviewed", "first", "second", "second",
    )  # fmt: skip
    assert store.change(added, "verdict", "undecided").saved


def test_a_lock_concerns_one_reader_and_one_case(store):
    store.finish_first_read("scan-1", "anna")
    others = [replace(NODULE, reader="ben"), replace(NODULE, case_id="scan-2")]
    assert [store.add_nodule(other).read for other in others] == ["first", "first"]


def test_finishing_twice_saves_one_row_that_nothing_changes(store):
    lock = store.finish_first_read("scan-1", "anna")
    assert store.finish_first_read("scan-1", "anna") == lock
    with pytest.raises(SeriesError, match="has finished the first read"):
        store.change(lock, "note", "x")
    with pytest.raises(ValueError, match="finished"):
        store.change(lock, "verdict", "undecided")
    assert store.history() == [lock]


def test_only_a_store_of_two_reads_finishes_a_first_one(place):
    store = open_store(place)
    with pytest.raises(ValueError, match="opened for two reads"):
        store.finish_first_read("scan-1", "anna")
    assert store.add_nodule(NODULE).read == ""
    store.close()


def test_a_program_that_decides_while_another_one_locks_changes_nothing_afterwards(store, place):
    store.add_nodule(NODULE)
    reading = subprocess.Popen(  # noqa: S603  # this file's own script
        [sys.executable, "-c", READ_ON, str(place)], stdout=subprocess.PIPE, text=True
    )
    assert [reading.stdout.readline() for _ in range(3)] == ["saved\n"] * 3
    lock = store.finish_first_read("scan-1", "anna")
    rest = reading.stdout.read()
    reading.stdout.close()
    assert reading.wait() == 0
    assert "anna has finished the first read" in rest
    history = store.history()
    assert {d.read for d in history if d.number <= lock.number} == {"first"}
    later = [d for d in history if d.number > lock.number]
    assert {d.read for d in later} <= {"second"}
    of_first = {d.mark_id for d in history if d.read == "first"}
    assert not of_first & {d.mark_id for d in later}
    assert store.check_chain().fault == ""


def test_the_chain_covers_the_read_of_a_decision(store, place, run_sql):
    store.add_nodule(NODULE)
    store.finish_first_read("scan-1", "anna")
    assert verify_store(place).fault == ""
    run_sql(place, "UPDATE decisions SET read = 'second' WHERE number = 1")
    assert "row 1 was changed" in verify_store(place).fault


GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "review_store_v2.json").read_text(encoding="utf-8")
)


def write_schema_2(place):
    """Write the rows of a store of schema 2 into an empty database, as its medkd did."""
    database = choose_database(place)
    rows = GOLDEN["rows"]
    with database.connect().begin() as connection:
        for step in MIGRATIONS[:2]:
            step(connection)
        names = ", ".join(rows[0])
        values = ", ".join(f":{name}" for name in rows[0])
        connection.execute(sa.text(f"INSERT INTO decisions ({names}) VALUES ({values})"), rows)  # noqa: S608
        head = "UPDATE decisions_head SET number = :number, hash = :hash"
        connection.execute(sa.text(head), rows[-1])
        for statement in database.triggers():
            connection.exec_driver_sql(statement)
        database.write_version(connection, 2)


def test_a_store_without_reads_keeps_every_row_and_its_chain(place):
    write_schema_2(place)
    noted = GOLDEN["rows"][-1]["hash"]
    report = verify_store(place, noted=noted)
    assert (report.decisions, report.head, report.fault) == (len(GOLDEN["rows"]), noted, "")
    store = open_store(place, two_reads=True)
    old = store.history()
    assert {d.read for d in old} == {""}
    assert [(d.number, d.verdict, d.note, d.hash) for d in old] == [
        (r["number"], r["verdict"], r["note"], r["hash"]) for r in GOLDEN["rows"]
    ]
    store.finish_first_read("scan-1", "anna")
    store.close()
    assert verify_store(place, noted=noted).fault == ""
