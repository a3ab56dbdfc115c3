"""Stores that earlier versions of medkd wrote, as real files: nothing in them is lost."""

import base64
import json
import sqlite3
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medkd.errors import SeriesError
from medkd.review.schema import MIGRATIONS
from medkd.review.store import open_store, verify_store

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = json.loads((FOLDER / "review_store_v1.json").read_text(encoding="utf-8"))
SECOND = json.loads((FOLDER / "review_store_v2.json").read_text(encoding="utf-8"))
OLD_COLUMNS = (
    "number, decided_at, reader, case_id, mark_id, verdict, note, score, x_mm, y_mm, z_mm, "
    "medkd_version"
)


@pytest.fixture(params=["first", "last"])
def old_store(request, tmp_path):
    for name, text in GOLDEN["files"][request.param].items():
        (tmp_path / name).write_bytes(zlib.decompress(base64.b64decode(text)))
    path = tmp_path / "review.sqlite"
    assert len(rows_of(path)) == GOLDEN["rows"][request.param]
    return path


def rows_of(path):
    """Read all old columns as SQLite returns them, without medkd."""
    opened = sqlite3.connect(path)
    rows = opened.execute(f"SELECT {OLD_COLUMNS} FROM decisions ORDER BY number").fetchall()  # noqa: S608
    opened.close()
    return rows


def test_every_value_of_an_old_store_is_kept_and_chained(old_store):
    before = rows_of(old_store)
    store = open_store(old_store)
    assert rows_of(old_store) == before
    first = store.history()[0]
    assert (first.note, first.center_mm) == ("spiculated, ä — 肺", (-12.25, 30.5, -101.125))
    assert (first.diameter_mm, first.undoes) == (None, None)
    store.close()
    assert verify_store(old_store).fault == ""
    assert verify_store(old_store).decisions == len(before)


def test_a_file_of_the_second_schema_keeps_its_rows_its_chain_and_its_head(tmp_path):
    for name, text in SECOND["files"].items():
        (tmp_path / name).write_bytes(zlib.decompress(base64.b64decode(text)))
    path, rows = tmp_path / "review.sqlite", SECOND["rows"]
    before = rows_of(path)
    store = open_store(path)
    assert rows_of(path) == before
    assert [d.hash for d in store.history()] == [row["hash"] for row in rows]
    assert store.undo("scan-1", "anna").newest.mark_id == "case"
    store.close()
    assert verify_store(path, noted=rows[-1]["hash"]).fault == ""


def test_deciding_goes_on_in_an_old_store(old_store):
    store = open_store(old_store)
    before = store.history()
    seen = store.latest(reader="ben", case_id="scan-1")[0]
    changed = store.change(seen, "diameter_mm", 7.5).newest
    assert (changed.number, changed.verdict) == (len(before) + 1, "reject")
    assert store.undo("scan-1", "ben").newest.diameter_mm is None
    assert store.history()[: len(before)] == before
    store.close()
    assert verify_store(old_store).fault == ""


def test_an_old_row_that_is_changed_after_the_migration_is_named(old_store, run_sql):
    open_store(old_store).close()
    run_sql(old_store, "UPDATE decisions SET verdict = 'accept' WHERE number = 2")
    assert "row 2 was changed" in verify_store(old_store).fault


def test_programs_that_migrate_at_once_do_it_once(old_store):
    before = rows_of(old_store)
    with ThreadPoolExecutor(4) as pool:
        for store in list(pool.map(open_store, [old_store] * 4)):
            store.close()
    assert rows_of(old_store) == before
    assert verify_store(old_store).fault == ""


def test_a_migration_that_fails_leaves_the_old_store_as_it_was(old_store, monkeypatch):
    def fail(connection):
        connection.exec_driver_sql("DELETE FROM no_such_table")

    before = rows_of(old_store)
    monkeypatch.setattr("medkd.review.schema.MIGRATIONS", (*MIGRATIONS, fail))
    with pytest.raises(SeriesError, match="no_such_table"):
        open_store(old_store)
    with sqlite3.connect(old_store) as opened:
        assert opened.execute("PRAGMA user_version").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError, match="no such column"):
            opened.execute("SELECT hash FROM decisions")
    opened.close()
    assert rows_of(old_store) == before


def test_an_older_program_that_still_runs_cannot_write_rows_without_a_hash(old_store):
    running = sqlite3.connect(old_store)  # it opened the store before the migration
    open_store(old_store).close()
    with pytest.raises(sqlite3.DatabaseError, match="restart this program"):
        running.execute(
            f"INSERT INTO decisions ({OLD_COLUMNS}) VALUES "  # noqa: S608
            "(99, '', 'anna', 'scan-1', 'm', 'accept', '', NULL, NULL, NULL, NULL, '0.1.0')"
        )
    running.close()
    assert verify_store(old_store).fault == ""
