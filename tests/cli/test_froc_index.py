"""Marks scored against an INDEX: its names, scans and excluded findings; unknown stays unknown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from medkd.cli import app
from medkd.errors import MedkdError
from medkd.index.case import Case
from medkd.index.table import ArchiveIndex, CaseLabel, write_index
from medkd.types import Nodule

HEADER = "seriesuid,coordX,coordY,coordZ,probability"


def case(name: str, status: str = "ready", kind: str = "scan") -> Case:
    reasons = ("few_slices: 3",) if status == "not_analysed" else ()
    return Case(name, f"p-{name}", kind, status, reasons)  # type: ignore[arg-type]  # literals


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Scans: hit, free by label, free by an excluded finding, and four that cannot count."""
    cases = [case(name) for name in ("hit", "free", "other", "unread", "unplaced")]
    cases += [case("broken", "not_analysed"), case("film", kind="image")]
    nodules = (
        Nodule("hit", (0.0, 0.0, 0.0), 8.0), Nodule("hit", (50.0, 0.0, 0.0), -1.0, "excluded"),
        Nodule("other", (9.0, 9.0, 9.0), 6.0, "excluded"), Nodule("broken", (1.0, 1.0, 1.0), 5.0),
    )  # fmt: skip
    labels = (CaseLabel("free", "Nodule", 0), CaseLabel("unplaced", "nodule", 1))
    write_index(tmp_path / "index.csv", ArchiveIndex(tuple(cases), nodules, labels))
    return tmp_path / "index.csv"


def marks(folder: Path, *rows: str) -> Path:
    path = folder / "results.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def froc(*words: object) -> Result:
    return CliRunner().invoke(app, ["froc", "--bootstrap", "0", *map(str, words)])


def refusal(*words: object) -> str:
    done = froc(*words)
    assert isinstance(done.exception, MedkdError)
    return str(done.exception)


def test_names_scans_and_excluded_findings_come_from_the_index(index: Path, tmp_path: Path) -> None:
    path = marks(tmp_path, "hit,1,0,0,.9", "hit,50,1,0,.8", "other,9,9,9,.7", "free,0,0,0,.6")
    done = froc("--marks", path, "--index", index, "--json", tmp_path / "froc.json")
    assert done.exit_code == 0, done.output
    sums = json.loads((tmp_path / "froc.json").read_text())
    assert (sums["scans"], sums["nodules"], sums["candidates"]) == (3, 1, 4)
    assert (sums["true_positives"], sums["false_positives"], sums["false_negatives"]) == (1, 1, 0)
    assert sums["ignored_excluded"] == 2


def test_scans_whose_nodules_are_not_known_are_left_out_and_named(
    index: Path, tmp_path: Path
) -> None:
    rows = [f"{name},1,0,0,.9" for name in ("hit", "unread", "unplaced", "broken")]
    done = froc("--marks", marks(tmp_path, *rows), "--index", index)
    assert "3 scans, 1 nodules, 1 candidates" in done.output
    for words in (
        "left out: 1 scans that are not annotated: whether they have nodules is not known: unread",
        "left out: 1 scans with a nodule of unknown position: unplaced",
        "left out: 1 scans not analysed (medkd check shows why): broken",
        "left out: 3 marks on scans that are not scored",
    ):
        assert words in done.output


def test_intervals_go_by_the_patients_of_the_index(index: Path, tmp_path: Path) -> None:
    path = marks(tmp_path, "hit,1,0,0,.9")
    done = CliRunner().invoke(app, ["froc", "--marks", str(path), "--index", str(index)])
    assert "by patient" in done.output


@pytest.mark.parametrize("against", ["index", "tables"])
def test_marks_of_no_series_that_counts_end_with_an_error(
    index: Path, tmp_path: Path, against: str
) -> None:
    path = marks(tmp_path, "zzz,1,0,0,.9", "yyy,1,0,0,.9", "1.2.840.1.2.3,0,0,0,.5")
    series = tmp_path / "s.csv"
    series.write_text("hit\n")
    tables = ("--annotations", index.with_name("index.nodules.csv"), "--seriesuids", series)
    text = refusal("--marks", path, *(("--index", index) if against == "index" else tables))
    assert "no row belongs to a series that is scored" in text
    assert "zzz, yyy" in text
    assert "hit" in text
    # The names of a pseudonymised INDEX hide UIDs: messages about it do too.
    assert ("1.2.840.1.2.3" in text) == (against == "tables")


def test_some_marks_of_other_series_are_a_warning_with_their_count(
    index: Path, tmp_path: Path
) -> None:
    path = marks(tmp_path, "hit,1,0,0,.9", "zzz,1,0,0,.8", "zzz,2,0,0,.8")
    done = froc("--marks", path, "--index", index)
    assert done.exit_code == 0
    assert (
        "warning: 2 marks of 1 series outside the list of scored series were ignored" in done.output
    )


def test_no_marks_at_all_are_no_error(index: Path, tmp_path: Path) -> None:
    done = froc("--marks", marks(tmp_path), "--index", index)
    assert (done.exit_code, "false negatives 1" in done.output) == (0, True)


def test_excluded_rows_of_an_indexs_nodules_are_never_nodules(index: Path, tmp_path: Path) -> None:
    series = tmp_path / "s.csv"
    series.write_text("hit\nother\n")
    path = marks(tmp_path, "hit,1,0,0,.9", "hit,50,1,0,.8", "other,9,9,9,.7")
    nodules = index.with_name("index.nodules.csv")
    done = froc("--marks", path, "--annotations", nodules, "--seriesuids", series)
    assert "2 scans, 1 nodules" in done.output
    assert "true positives 1, false positives 0, false negatives 0" in done.output
    assert "ignored: 2 on excluded findings" in done.output


def test_series_given_beside_an_index_are_those_of_its_scans_that_count(
    index: Path, tmp_path: Path
) -> None:
    series = tmp_path / "s.csv"
    series.write_text("hit\nfree\n")
    path = marks(tmp_path, "hit,1,0,0,.9", "other,1,0,0,.9")
    done = froc("--marks", path, "--index", index, "--seriesuids", series)
    assert "2 scans, 1 nodules, 1 candidates" in done.output
    series.write_text("hit\nabsent\n")
    assert "absent" in refusal("--marks", path, "--index", index, "--seriesuids", series)


def test_more_excluded_findings_may_be_given_beside_an_index(index: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.csv"
    more.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\nfree,0,0,0,-1\n")
    path = marks(tmp_path, "free,0,0,0,.6")
    done = froc("--marks", path, "--index", index, "--excluded", more)
    assert "false positives 0" in done.output


def test_what_is_missing_is_said(index: Path, tmp_path: Path) -> None:
    path = marks(tmp_path, "hit,1,0,0,.9")
    nodules = index.with_name("index.nodules.csv")
    assert "--seriesuids is missing" in refusal("--marks", path, "--annotations", nodules)
    assert "--annotations is missing" in refusal("--marks", path)
    twice = refusal("--marks", path, "--index", index, "--annotations", nodules)
    assert "two reference standards" in twice


def test_an_index_without_annotations_cannot_be_scored_against(tmp_path: Path) -> None:
    write_index(tmp_path / "i.csv", ArchiveIndex((case("a"), case("b"))))
    text = refusal("--marks", marks(tmp_path, "a,1,0,0,.9"), "--index", tmp_path / "i.csv")
    assert "no scan can be scored" in text
    assert "2 scans that are not annotated" in text
    assert "give annotations" in text


def test_an_index_whose_scans_were_refused_asks_for_no_annotations(tmp_path: Path) -> None:
    write_index(tmp_path / "i.csv", ArchiveIndex((case("a", "not_analysed"),)))
    text = refusal("--marks", marks(tmp_path, "a,1,0,0,.9"), "--index", tmp_path / "i.csv")
    assert "medkd check shows why" in text
    assert "give annotations" not in text


def test_an_empty_table_of_marks_is_told(index: Path, tmp_path: Path) -> None:
    done = froc("--marks", marks(tmp_path), "--index", index)
    assert "has no mark on a scored scan" in done.output


def test_a_table_of_excluded_findings_is_not_scored_as_nodules(tmp_path: Path) -> None:
    table = tmp_path / "annotations_excluded.csv"
    table.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\na,0,0,0,-1\n")
    (tmp_path / "s.csv").write_text("a\n")
    text = refusal("--marks", marks(tmp_path, "a,1,0,0,.9"), "--annotations", table,
                   "--seriesuids", tmp_path / "s.csv")  # fmt: skip
    assert "it lists irrelevant findings" in text


PLACES = "seriesuid,coordX,coordY,coordZ,diameter_mm"


def test_tables_of_other_series_are_refused(index: Path, tmp_path: Path) -> None:
    path, wrong = marks(tmp_path, "hit,1,0,0,.9"), tmp_path / "wrong.csv"
    wrong.write_text(f"{PLACES}\n1.2.840.1.2.3,0,0,0,6\n")
    (tmp_path / "s.csv").write_text("hit\nfree\n")
    tables = ("--marks", path, "--seriesuids", tmp_path / "s.csv")
    text = refusal(*tables, "--annotations", wrong)
    assert "no row belongs to a series that is scored" in text
    assert "found: 1.2.840.1.2.3" in text
    nodules = index.with_name("index.nodules.csv")
    assert "--excluded" in refusal(*tables, "--annotations", nodules, "--excluded", wrong)
    text = refusal("--marks", path, "--index", index, "--excluded", wrong)
    assert "found: a UID" in text


def test_a_reference_without_nodules_has_no_cpm(index: Path, tmp_path: Path) -> None:
    empty, series = tmp_path / "none.csv", tmp_path / "s.csv"
    empty.write_text(f"{PLACES}\n")
    series.write_text("other\n")
    path = marks(tmp_path, "other,1,0,0,.9")
    text = refusal("--marks", path, "--annotations", empty, "--seriesuids", series)
    assert "CPM is not defined" in text
    assert "CPM is not defined" in refusal("--marks", path, "--index", index, "--seriesuids",
                                           series)  # fmt: skip


def test_warnings_about_a_pseudonymised_index_hide_uids(index: Path, tmp_path: Path) -> None:
    path = marks(tmp_path, "hit,1,0,0,.9", "1.2.840.1.2.3,0,0,0,.5", "1.2.840.1.2.4,0,0,0,.5")
    out = tmp_path / "froc.json"
    done = froc("--marks", path, "--index", index, "--json", out)
    assert "2 marks of 2 series outside the list" in done.output
    assert "1.2.840" not in done.output + out.read_text()


def test_the_nodules_of_an_index_of_phantoms_say_so(tmp_path: Path) -> None:
    made = replace(case("a"), synthetic=True, generator="medkd phantom 1")
    nodules = (Nodule("a", (0.0, 0.0, 0.0), 8.0),)
    write_index(tmp_path / "i.csv", ArchiveIndex((made, case("b")), nodules))
    (tmp_path / "s.csv").write_text("a\nb\n")
    tables = ("--annotations", tmp_path / "i.nodules.csv", "--seriesuids", tmp_path / "s.csv")
    done = froc("--marks", marks(tmp_path, "a,1,0,0,.9"), *tables)
    assert "medkd phantom 1: difficulty not measured for this generator" in done.output
