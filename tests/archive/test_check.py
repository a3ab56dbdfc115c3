"""What `medkd check` says: refusals by code, planted duplicates and conflicts, make-up by site."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medkd.archive.check import check_index
from medkd.cli import app
from medkd.io.index_table import ArchiveIndex, CaseLabel, IndexedCase, write_index
from medkd.types import Nodule
from tests.real_data import data_root

A = IndexedCase("a", "p1", "scan", "ready", site="north", content="x", manufacturer="Acme",
                kernel="B70f", spacing_mm=(0.7, 0.7, 1.0))  # fmt: skip
B = replace(A, case_id="b", patient_id="p2", spacing_mm=(0.8, 0.8, 3.0))
C = replace(A, case_id="c", patient_id="p1", content="y", kernel="", site="south")
D = IndexedCase("d", "p3", "scan", "not_analysed", reasons=("few_slices: 3", "few_slices: 4",
                "slice_thickness: 5 mm"))  # fmt: skip
INDEX = ArchiveIndex(
    (A, B, C, D),
    nodules=(Nodule("a", (0, 0, 0), 5.0), Nodule("c", (0, 0, 0), 5.0, "excluded")),
    labels=(CaseLabel("a", "mass", 1, "one"), CaseLabel("a", "mass", 0, "two"),
            CaseLabel("b", "mass", None, "one")),
    fingerprint="f",
)  # fmt: skip


def test_refusals_are_counted_by_code_and_case() -> None:
    found = check_index(INDEX)
    assert [(r.code, r.cases, r.examples) for r in found.refusals] == [
        ("few_slices", 1, ("d",)),
        ("slice_thickness", 1, ("d",)),
    ]
    assert (found.cases, found.ready, found.patients, found.nodules) == (4, 3, 3, 1)


def test_equal_pixels_of_two_patients_are_told_from_a_patients_own_copies() -> None:
    two = check_index(INDEX).warnings
    one = check_index(replace(INDEX, cases=(A, replace(B, patient_id="p1")))).warnings
    assert [w.ids for w in two if w.code == "same_pixels_two_patients"] == [("a", "b")]
    assert [w.ids for w in one if w.code == "duplicate"] == [("a", "b")]


def test_labels_that_contradict_each_other_are_named() -> None:
    assert [w.ids for w in check_index(INDEX).warnings if w.code == "label_conflict"] == [
        ("a",), ("a", "b"),
    ]  # fmt: skip


def test_balance_counts_known_and_unknown_values_by_site() -> None:
    rows = {(r.label, r.site): (r.present, r.absent, r.unknown) for r in check_index(INDEX).balance}
    assert rows["mass", "north"] == (1, 1, 1)
    assert rows["scan with a nodule", "north"] == (1, 1, 0)
    assert rows["scan with a nodule", "south"] == (0, 1, 0)


def test_sites_say_what_their_scans_are_like() -> None:
    north = next(s for s in check_index(INDEX).sites if s.site == "north")
    assert north.slice_spacing_mm == (1.0, 2.0, 3.0)
    assert north.kernels == {"B70f": 2}
    assert north.manufacturers == {"Acme": 2}


def test_a_placeholder_for_many_patients_is_suspected() -> None:
    cases = tuple(replace(A, case_id=f"c{n}", content=f"{n}") for n in range(30))
    assert "one_patient" in {w.code for w in check_index(ArchiveIndex(cases)).warnings}


def checked(path: Path, *more: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["check", str(path), *more])
    return result.exit_code, result.output


def test_the_command_exits_with_one_where_the_folders_leak(tmp_path: Path) -> None:
    cases = (replace(A, origin="train"), replace(B, origin="val", content="z"),
             replace(C, origin="test"))  # fmt: skip
    write_index(tmp_path / "index.csv", ArchiveIndex(cases))
    code, text = checked(tmp_path / "index.csv", "--json", str(tmp_path / "check.json"))
    assert code == 1
    assert "patient p1: 2 cases in test and train" in text
    content = json.loads((tmp_path / "check.json").read_text())
    assert content["leaks"][0]["leaking"] == {"test": 1, "train": 1}


def test_the_command_exits_with_one_where_nothing_is_ready(tmp_path: Path) -> None:
    write_index(tmp_path / "index.csv", ArchiveIndex((D,)))
    assert checked(tmp_path / "index.csv")[0] == 1


def test_the_command_exits_with_zero_where_all_is_well(tmp_path: Path) -> None:
    write_index(tmp_path / "index.csv", ArchiveIndex((A, C)))
    code, text = checked(tmp_path / "index.csv")
    assert (code, "B70f 1" in text) == (0, True)


@pytest.mark.slow
def test_the_real_x_rays_own_split_leaks_and_a_new_one_does_not(tmp_path: Path) -> None:
    root = data_root() / "nih1000"
    index, split = tmp_path / "index.csv", tmp_path / "split.json"
    table = root / "Data_Entry_2017_v2020.csv.gz"
    run = CliRunner()
    made = run.invoke(app, ["index", str(root), "--out", str(index), "--labels", str(table),
                            "--workers", "1"])  # fmt: skip
    assert made.exit_code == 0
    own = run.invoke(app, ["check", str(index)])
    assert own.exit_code == 1
    assert "1000 cases of 264 patients" in own.output
    assert "30 patients and 0 equal pictures" in own.output
    assert "test: 95 of 200 cases" in own.output
    refused = run.invoke(app, ["split", str(index), "--out", str(split), "--official"])
    assert refused.exit_code == 1
    assert run.invoke(app, ["split", str(index), "--out", str(split)]).exit_code == 0
    new = run.invoke(app, ["check", str(index), "--split", str(split)])
    assert (new.exit_code, "no leak in the split" in new.output) == (0, True)
