"""What `medkd check` says: refusals by code, planted duplicates and conflicts, make-up by site."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medkd.archive.check import check_index
from medkd.archive.notices import Notice
from medkd.archive.unreadable import UnreadableCount
from medkd.cli import app
from medkd.index.case import Case
from medkd.index.table import ArchiveIndex, CaseLabel, write_index
from medkd.types import Nodule
from tests.real_data import data_root

A = Case("a", "p1", "scan", "ready", site="north", content="x", manufacturer="Acme",
                kernel="B70f", spacing_mm=(0.7, 0.7, 1.0))  # fmt: skip
B = replace(A, case_id="b", patient_id="p2", spacing_mm=(0.8, 0.8, 3.0))
C = replace(A, case_id="c", patient_id="p1", content="y", kernel="", site="south")
D = Case("d", "p3", "scan", "not_analysed", reasons=("few_slices: 3", "few_slices: 4",
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
    assert [(r.code, r.cases, r.ids) for r in found.refusals] == [
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


def test_a_finding_of_two_that_are_both_absent_is_named() -> None:
    values = {"mass or nodule": 1, "mass": 0, "nodule": 0}
    labels = [CaseLabel("c", name, value, "reviews") for name, value in values.items()]
    found = [check_index(replace(INDEX, labels=tuple(rows))) for rows in (labels, labels[:2])]
    codes = [[w.ids for w in one.warnings if w.code == "label_conflict"] for one in found]
    assert codes == [[("c",)], []]


def balance(index: ArchiveIndex) -> dict[tuple[str, str], tuple[int, int, int]]:
    rows = check_index(index).balance
    return {(r.label, r.site): (r.present, r.absent, r.unknown) for r in rows}


def test_balance_counts_known_and_unknown_values_by_site() -> None:
    rows = balance(INDEX)
    # Case a is said to have a mass and to have none: that is not known. Nobody says it of c.
    assert (rows["mass", "north"], rows["mass", "south"]) == ((0, 0, 2), (0, 0, 1))
    assert rows["scan with a nodule", "north"] == (1, 0, 1)
    assert rows["scan with a nodule", "south"] == (0, 1, 0)  # an excluded finding: it was read


@pytest.mark.parametrize(
    ("label", "expected"),
    [(None, (0, 0, 1)), (CaseLabel("b", "nodule", None), (0, 0, 1)),
     (CaseLabel("b", "nodule", 0), (0, 1, 0)), (CaseLabel("b", "Nodule", 1), (1, 0, 0))],
)  # fmt: skip
def test_a_scan_without_annotation_is_not_one_without_nodule(
    label: CaseLabel | None, expected: tuple[int, int, int]
) -> None:
    index = ArchiveIndex((B,), labels=(label,) if label else ())
    assert balance(index)["scan with a nodule", "north"] == expected


def test_a_label_of_pictures_is_not_asked_of_scans() -> None:
    film = replace(A, case_id="f", kind="image", content="f")
    index = ArchiveIndex((A, film), labels=(CaseLabel("f", "mass", 0),))
    assert balance(index)["mass", "north"] == (0, 1, 0)


def warned(*cases: Case, **more: object) -> dict[str, Notice]:
    index = ArchiveIndex(cases, **more)  # type: ignore[arg-type]  # fields of the index
    return {warning.code: warning for warning in check_index(index).warnings}


def patients(count: int, cases: int = 2) -> tuple[Case, ...]:
    return tuple(
        replace(A, case_id=f"{p}.{n}", patient_id=f"p{p}", content=f"{p} {n}")
        for p in range(count)
        for n in range(cases)
    )


@pytest.mark.parametrize(("count", "expected"), [(1, "one PatientID"), (2, "only 2 patients")])
def test_an_archive_that_cannot_be_divided_by_patient_is_named(count: int, expected: str) -> None:
    notice = warned(*patients(count))["cannot_split"]
    assert expected in notice.text
    assert notice.remedy
    assert not check_index(ArchiveIndex(patients(count))).divisible


def test_patients_with_equal_pixels_are_one_when_they_are_divided() -> None:
    same = tuple(replace(case, content="x") for case in patients(5, cases=1))
    assert "equal pixels" in warned(*same)["cannot_split"].text
    assert "cannot_split" not in warned(*patients(3))


@pytest.mark.parametrize(("positive", "warns"), [(1, True), (2, True), (3, False)])
def test_positives_in_few_patients_are_named(positive: int, warns: bool) -> None:
    nodules = tuple(Nodule(f"{p}.0", (0, 0, 0), 5.0) for p in range(positive))
    found = warned(*patients(6), nodules=nodules)
    assert ("few_positive_patients" in found) == warns


@pytest.mark.parametrize(("annotated", "warns"), [(0, False), (1, True), (2, True), (3, False)])
def test_scans_that_nobody_annotated_do_not_count_for_a_division(
    annotated: int, warns: bool
) -> None:
    # Without any nodule nothing is said: such an index serves detect and review.
    nodules = tuple(Nodule(f"{p}.0", (0, 0, 0), 5.0) for p in range(annotated))
    found = warned(*patients(4, cases=1), nodules=nodules)
    assert ("few_annotated_patients" in found) == warns
    if warns:
        notice = found["few_annotated_patients"]
        assert f"only {annotated} of 4 patients have annotated scans" in notice.text
        assert "target.data.unannotated=negative" in notice.remedy


def test_scans_known_to_be_free_of_nodules_count_as_annotated() -> None:
    free = tuple(CaseLabel(f"{p}.0", "nodule", 0) for p in (1, 2))
    found = warned(*patients(4, cases=1), nodules=(Nodule("0.0", (0, 0, 0), 5.0),), labels=free)
    assert "few_annotated_patients" not in found


def test_an_archive_that_its_folders_divide_well_needs_no_division() -> None:
    parts = [replace(c, origin=o) for c, o in zip(patients(3, 1), ("train", "val", "test"),
                                                 strict=True)]  # fmt: skip
    assert "cannot_split" not in warned(*parts)


LOCKED = UnreadableCount("unreadable_folder", "folders that cannot be entered", 1, ("p7",))


def test_a_folder_that_could_not_be_entered_makes_an_index_unusable_unless_allowed() -> None:
    refused = check_index(ArchiveIndex(patients(3)), unreadable=[LOCKED])
    assert [(o.code, bool(o.remedy)) for o in refused.obstacles] == [("unreadable_folder", True)]
    accepted = check_index(
        ArchiveIndex(patients(3)), unreadable=[LOCKED], allow=["unreadable_folder"]
    )
    assert (refused.usable, accepted.usable) == (False, True)


@pytest.mark.parametrize(
    ("cases", "expected"),
    [((), "index the folder that contains them"), ((D,), "--allow few_slices,slice_thickness"),
     ((replace(D, reasons=("missing_slices: 1",)),), "no option accepts")],
)  # fmt: skip
def test_an_index_with_nothing_ready_says_what_would_help(
    cases: tuple[Case, ...], expected: str
) -> None:
    (obstacle,) = check_index(ArchiveIndex(cases)).obstacles
    assert expected in obstacle.remedy


def test_the_option_that_accepts_a_fault_is_beside_its_count() -> None:
    assert [(r.code, r.option) for r in check_index(INDEX).refusals] == [
        ("few_slices", "--allow few_slices"), ("slice_thickness", "--allow slice_thickness"),
    ]  # fmt: skip


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
    code, text = checked(tmp_path / "index.csv")
    assert (
        code,
        "NOT usable: nothing_ready" in text,
        "--allow few_slices,slice_thickness" in text,
    ) == (1, True, True)


def test_json_can_be_printed_alone(tmp_path: Path) -> None:
    write_index(tmp_path / "index.csv", ArchiveIndex((D,)))
    code, text = checked(tmp_path / "index.csv", "--json", "-")
    content = json.loads(text)
    assert (code, content["usable"], content["divisible"]) == (1, False, False)
    assert [o["code"] for o in content["obstacles"]] == ["nothing_ready"]
    assert {r["code"] for r in content["refusals"]} == {"few_slices", "slice_thickness"}


@pytest.mark.parametrize("table", ["index.csv", "index.json", "index.files.csv"])
def test_json_never_overwrites_a_table_of_the_index(tmp_path: Path, table: str) -> None:
    write_index(tmp_path / "index.csv", ArchiveIndex((A,)))
    before = (tmp_path / table).read_bytes()
    assert checked(tmp_path / "index.csv", "--json", str(tmp_path / table))[0] == 1
    assert (tmp_path / table).read_bytes() == before


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
    assert "30 patients and 0 identical images" in own.output
    assert "test: 95 of 200 cases" in own.output
    refused = run.invoke(app, ["split", str(index), "--out", str(split), "--official"])
    assert refused.exit_code == 1
    assert run.invoke(app, ["split", str(index), "--out", str(split)]).exit_code == 0
    new = run.invoke(app, ["check", str(index), "--split", str(split)])
    assert (new.exit_code, "no leak in the split" in new.output) == (0, True)
