"""INDEX tables: read back as written, changes by hand and half-written sets are noticed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from medkd.errors import SeriesError
from medkd.index.case import Case
from medkd.index.table import (
    ArchiveIndex,
    CaseLabel,
    IndexedFile,
    UnmatchedRow,
    is_index,
    read_index,
    read_index_record,
    read_indexed_files,
    table_path,
    write_index,
)
from medkd.runs import write_cases
from medkd.types import Nodule, ReviewedMark
from tests.archive.archives import read_unmatched

SCAN = Case(
    "c2", "p1", "scan", "ready", allowed=("slice_thickness: 5 mm, limit 3 mm",),
    notes=('said "so"', "a, b"), site="north", origin="subset3", day=12, modality="CT",
    manufacturer="Scanner & Söhne\nsecond line", kernel="B70f", slice_thickness_mm=2.5,
    shape=(512, 512, 99), spacing_mm=(0.5640000001, 1 / 3, 3.0), content="ab", synthetic=True,
)  # fmt: skip
REFUSED = Case("c1", "p2", "scan", "not_analysed", reasons=("a: 1", "b: x/y"))
IMAGE = Case("c3", "p3", "image", "ready", view="PA", shape=(64, 60))
INDEX = ArchiveIndex(
    (SCAN, REFUSED, IMAGE),
    nodules=(Nodule("c2", (-1.5, 1e-17, 3.25), 6.1, "excluded", 2), Nodule("c2", (-2.5, 0, 1), -1)),
    labels=(CaseLabel("c3", "mass", None, "nih"), CaseLabel("c3", "effusion", 0, "nih")),
    identity="keep",
    notes=("one note",),
)


def test_an_index_reads_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    written = write_index(path, INDEX)
    read = read_index(path)
    assert read == written
    assert read.by_id()["c2"] == replace(SCAN, path=path, archived=True)
    assert [case.case_id for case in read.cases] == ["c1", "c2", "c3"]
    assert read.nodules[1].center_mm == (-1.5, 1e-17, 3.25)
    assert {label.name: label.value for label in read.labels} == {"mass": None, "effusion": 0}


def test_decisions_of_readers_read_back_as_written(tmp_path: Path) -> None:
    marks = (
        ReviewedMark("c2", (1.5, 1e-17, -3.25), -1.0, "rejected", ("anna", "ben"), "2025-01-01"),
        ReviewedMark("c2", (0.1, 2.0, 3.0), 6.5, "added", ("eva",)),
    )
    path = tmp_path / "index.csv"
    written = write_index(path, replace(INDEX, marks=marks))
    assert read_index(path) == written
    assert set(read_index(path).marks) == set(marks)
    table = path.with_name("index.marks.csv")
    table.write_text(table.read_text().replace("rejected", "accepted"))
    with pytest.raises(SeriesError, match="changed after they were written"):
        read_index(path)


def test_an_index_without_decisions_has_no_table_of_them(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    first = write_index(path, INDEX)
    mark = ReviewedMark("c2", (1.0, 2.0, 3.0), 4.0, "added", ("eva",))
    assert write_index(path, replace(INDEX, marks=(mark,))).fingerprint != first.fingerprint
    assert write_index(path, INDEX).fingerprint == first.fingerprint
    assert not path.with_name("index.marks.csv").exists()
    assert read_index(path).marks == ()


def test_the_fingerprint_follows_the_content_and_not_the_order(tmp_path: Path) -> None:
    first = write_index(tmp_path / "a.csv", INDEX)
    turned = write_index(tmp_path / "b.csv", replace(INDEX, cases=INDEX.cases[::-1]))
    other = write_index(tmp_path / "c.csv", replace(INDEX, labels=INDEX.labels[:1]))
    assert first.fingerprint == turned.fingerprint
    assert first.fingerprint != other.fingerprint


def test_files_and_unmatched_rows_are_kept_with_their_reasons(tmp_path: Path) -> None:
    files = [
        IndexedFile("a/b", "case", "c1"),
        IndexedFile("odd\udcff name", "other", reason="no image"),
    ]
    row = UnmatchedRow("luna16", "row 3", "no such series")
    write_index(tmp_path / "index.csv", INDEX, files=iter(files), unmatched=[row])
    read = list(read_indexed_files(tmp_path / "index.csv"))
    assert read[0] == files[0]
    assert read[1].file == "odd\\udcff name"
    assert read_unmatched(tmp_path / "index.csv") == [row]
    assert read_index_record(tmp_path / "index.csv")["counts"]["files"] == 2


@pytest.mark.parametrize("table", ["cases", "nodules", "labels"])
def test_a_table_changed_by_hand_is_refused(tmp_path: Path, table: str) -> None:
    path = tmp_path / "index.csv"
    write_index(path, INDEX)
    place = path if table == "cases" else table_path(path, table)
    place.write_text(place.read_text().replace("c3", "c4"), encoding="utf-8")
    if table == "nodules":
        place.write_text(place.read_text().replace("6.1", "7.1"), encoding="utf-8")
    with pytest.raises(SeriesError, match="changed after they were written"):
        read_index(path)


@pytest.mark.parametrize("name", ["index.csv", "index.json", "index.labels.csv"])
def test_a_missing_table_is_named(tmp_path: Path, name: str) -> None:
    write_index(tmp_path / "index.csv", INDEX)
    (tmp_path / name).unlink()
    with pytest.raises(SeriesError, match=name):
        read_index(tmp_path / "index.csv")


def test_a_writer_that_fails_leaves_the_old_index(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    before = write_index(path, INDEX)

    def broken():
        yield IndexedFile("a", "other")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_index(path, replace(INDEX, cases=()), files=broken())
    assert read_index(path) == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def record_with(path: Path, **changed: object) -> Path:
    place = path.with_suffix(".json")
    record = json.loads(place.read_text()) | changed
    place.write_text(json.dumps({k: v for k, v in record.items() if v is not None}))
    return path


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({"format_version": 99}, "made by a newer medkd .*update medkd"),
        ({"format_version": 2}, "made by an earlier medkd .*make it again with `medkd index ROOT"),
        ({"format_version": None}, "made by an earlier medkd .INDEX format 1, this one reads"),
        ({"format_version": None, "version": 2}, "INDEX format 2"),
        ({"format_version": "3"}, "expected a whole number"),
    ],
)
def test_another_version_is_refused_with_what_to_do(
    tmp_path: Path, versions: dict[str, object], expected: str
) -> None:
    write_index(tmp_path / "index.csv", INDEX)
    with pytest.raises(SeriesError, match=expected):
        read_index(record_with(tmp_path / "index.csv", **versions))


def test_an_index_is_known_by_its_first_line(tmp_path: Path) -> None:
    write_index(tmp_path / "index.csv", INDEX)
    (tmp_path / "index.csv").rename(tmp_path / "table.txt")
    write_cases(tmp_path / "cases.csv", [])
    assert is_index(tmp_path / "table.txt")
    assert not is_index(tmp_path / "cases.csv")
    assert not is_index(tmp_path / "index.nodules.csv")
    assert not is_index(tmp_path)
    assert not is_index(tmp_path / "gone.csv")
