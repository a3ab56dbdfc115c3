"""The work store: one process at a time, and nothing of another archive."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from medkd.archive.work_store import ClassifiedFile, opened_store
from medkd.errors import SeriesError
from medkd.index.pseudonyms import LinkTable, make_private_folder
from medkd.io.walk import FoundFile


@pytest.fixture
def private(tmp_path: Path) -> Path:
    folder = tmp_path / "index.private"
    make_private_folder(folder)
    return folder


def picture(name: str, size: int = 5, changed: int = 1) -> ClassifiedFile:
    found = FoundFile(Path(name), size=size, changed=changed)
    return ClassifiedFile(found, "image", key=f"picture:{name}")


def test_two_runs_at_once_are_refused(tmp_path: Path, private: Path) -> None:
    with opened_store(private) as store:
        store.begin(tmp_path, "settings")
        with pytest.raises(SeriesError, match="another medkd index"), opened_store(private):
            pass


def test_a_damaged_store_is_said_to_be_so(private: Path) -> None:
    (private / "work.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(SeriesError, match="cannot be used"), opened_store(private):
        pass


def test_a_full_disk_names_the_store(tmp_path: Path, private: Path) -> None:
    with pytest.raises(OSError, match="No space left") as full, opened_store(private) as store:  # noqa: PT012  # it is filled first
        store.begin(tmp_path, "settings")
        store._connection.execute("PRAGMA max_page_count = 1")  # SQLite then says: disk is full
        store.add_files([picture(f"{n}.png" * 50) for n in range(200)])
    assert full.value.errno == errno.ENOSPC
    assert full.value.filename == str(private / "work.sqlite")


def test_a_full_disk_names_the_table_of_links(private: Path) -> None:
    links = LinkTable(private)
    links.record([("a", "case", "1")])
    with pytest.raises(OSError, match="No space left") as full, links._connection() as connection:  # noqa: PT012  # it is filled first
        connection.execute("PRAGMA max_page_count = 1")
        connection.execute("CREATE TABLE large (value TEXT)")
    assert full.value.filename == str(links.path)


def test_only_a_file_that_changed_is_looked_at_again(tmp_path: Path, private: Path) -> None:
    a, b = picture("a.png"), picture("b.png")
    with opened_store(private) as store:
        store.begin(tmp_path, "settings")
        store.add_files([a, b])
        store.add_facts([(a.key, "facts", False), (b.key, "facts", False)])
        touched = picture("b.png", changed=2)
        assert store.unchanged([a.found, touched.found]) == {a.found}
        store.add_files([touched])
        assert store.waiting() == [b.key]


def test_what_crashed_is_tried_again_by_the_next_run(tmp_path: Path, private: Path) -> None:
    with opened_store(private) as store:
        store.begin(tmp_path, "settings")
        store.add_files([picture("a.png"), picture("b.png")])
        store.add_facts([("picture:a.png", "crashed", True), ("picture:b.png", "facts", False)])
        assert store.waiting() == []
        store.begin(tmp_path, "settings")
        assert store.waiting() == ["picture:a.png"]
