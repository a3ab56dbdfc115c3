"""The worklist's logic: order, marks, progress."""

import pytest

from medkd.errors import SeriesError, SettingsError
from medkd.io.luna16_tables import write_marks, write_seriesuids
from medkd.jsonio import write_json
from medkd.review import cases as review_cases
from medkd.review.cases import CaseMarks
from medkd.review.store import WHOLE_CASE, Decision
from medkd.runs import Prediction, RunFolder, write_cases, write_predictions
from medkd.types import Candidate, CaseResult, RunCase


def a_case(case_id, *, score=None, kind="scan", status="analysed"):
    return RunCase(case_id, "p", kind, "x.mhd", "test", None, None, score, status)


def a_mark(score, x=0.0):
    return Candidate("s1", (x, 0.0, 0.0), score)


def saying(verdict, mark_id="m", note=""):
    return {mark_id: Decision("s1", mark_id, "anna", verdict, note)}


def test_marks_are_numbered_from_the_highest_score():
    marks = review_cases.number_marks([a_mark(0.2, x=-0.001), a_mark(0.8, x=1.234)])
    assert [(mark.number, mark.candidate.score) for mark in marks] == [(1, 0.8), (2, 0.2)]
    assert [mark.mark_id for mark in marks] == ["at_1.23_0.00_0.00", "at_0.00_0.00_0.00"]


def test_a_mark_at_the_threshold_is_shown():
    marks = review_cases.number_marks([a_mark(0.5), a_mark(0.49)])
    assert [m.candidate.score for m in CaseMarks(marks, "whole-scan").above(0.5)] == [0.5]


def test_all_marks_are_above_no_threshold():
    marks = review_cases.number_marks([a_mark(0.5), a_mark(0.0)])
    assert CaseMarks(marks, "whole-scan").above(None) == marks


def test_marks_come_from_the_result_of_the_whole_scan_run_first(tmp_path):
    run = RunFolder(tmp_path)
    result = CaseResult("s1", (a_mark(0.7),), "analysed", notes=("one lung only",))
    write_json(run.result("student", "s1"), result)
    write_marks(run.marks("student"), [a_mark(0.3), a_mark(0.2)])
    found = review_cases.read_case_marks(run, "student")["s1"]
    assert (found.source, len(found.marks)) == ("whole-scan", 1)
    assert found.notes == ("one lung only",)


def test_a_scan_that_was_refused_has_no_marks_of_a_search(tmp_path):
    run = RunFolder(tmp_path)
    write_json(run.result("student", "s1"), CaseResult("s1", (), "not_analysed", ("no lung",)))
    assert review_cases.read_case_marks(run, "student")["s1"].source == "none"


def test_a_searched_scan_without_a_row_in_the_marks_has_no_mark(tmp_path):
    run = RunFolder(tmp_path)
    write_marks(run.marks("student"), [a_mark(0.3)])
    write_seriesuids(run.reference / "seriesuids.csv", ["s1", "s2"])
    found = review_cases.read_case_marks(run, "student")
    assert found["s2"] == CaseMarks((), "whole-scan")
    assert len(found["s1"].marks) == 1


def test_a_scan_that_was_not_searched_is_not_shown_as_one_without_marks(tmp_path):
    run = RunFolder(tmp_path)
    write_marks(run.marks("student"), [a_mark(0.3)])
    rows = [Prediction("s3-0", "p", "s3", (1,), (2.0,), (0.88,), (1.0, 2.0, 3.0))]
    write_predictions(run.predictions("student", "val"), rows)
    found = review_cases.read_case_marks(run, "student")
    assert "s2" not in found
    assert found["s3"].source == "candidates"


def test_scored_candidates_are_marks_where_there_is_no_whole_scan_run(tmp_path):
    run = RunFolder(tmp_path)
    rows = [
        Prediction("s1-0", "p", "s1", (1,), (2.0,), (0.88,), (1.0, 2.0, 3.0)),
        Prediction("image-4", "p", "image-4", (1,), (2.0,), (0.88,)),
    ]
    write_predictions(run.predictions("student", "test"), rows)
    found = review_cases.read_case_marks(run, "student")
    assert list(found) == ["s1"]
    assert found["s1"].marks[0].candidate == Candidate("s1", (1.0, 2.0, 3.0), 0.88)


def test_the_probability_of_an_image_is_found_for_each_arm_that_scored_it(tmp_path):
    run = RunFolder(tmp_path)
    for arm, split, probability in (("teacher", "test", 0.9), ("student", "val", 0.8)):
        row = Prediction("x-4", "p", "x-4", (1,), (2.0,), (probability,))
        write_predictions(run.predictions(arm, split), [row])
    found = review_cases.read_image_probabilities(run)
    assert found == {"x-4": {"teacher": 0.9, "student": 0.8}}


@pytest.mark.parametrize(
    ("kind", "decisions", "progress"),
    [
        ("scan", {}, "open"),
        ("scan", saying("accept"), "begun"),
        ("scan", saying("undecided", note="look again"), "begun"),
        ("scan", saying("undecided"), "open"),
        ("scan", saying("reviewed", WHOLE_CASE), "reviewed"),
        ("scan", saying("undecided", WHOLE_CASE), "open"),
        ("image", saying("reject", WHOLE_CASE), "reviewed"),
    ],
)
def test_progress_follows_from_the_decisions_that_count(kind, decisions, progress):
    assert review_cases.case_progress(a_case("s1", kind=kind), decisions) == progress


def test_only_accepted_and_rejected_marks_count_as_decided():
    marks = review_cases.number_marks([a_mark(0.9), a_mark(0.8, x=1.0), a_mark(0.7, x=2.0)])
    decisions = saying("accept", marks[0].mark_id) | saying("undecided", marks[1].mark_id)
    assert review_cases.count_decided(marks, decisions) == 1


def test_decisions_are_grouped_by_case():
    first, second = Decision("a", "m", "anna", "accept"), Decision("b", "m", "anna", "reject")
    assert review_cases.by_case([first, second]) == {"a": {"m": first}, "b": {"m": second}}


def test_a_case_is_found_by_its_whole_name_only():
    cases = [a_case("scan-1"), a_case("scan-12")]
    assert review_cases.find_case(cases, ["scan-1", "scan-1"]) is cases[0]
    for asked in ("scan", "SCAN-1", "scan-1 ", "", "0"):
        with pytest.raises(SettingsError, match=r"no case is named[\s\S]*'scan-1"):
            review_cases.find_case(cases, [asked])


@pytest.mark.parametrize("asked", [[], ["a", "b"]])
def test_none_and_two_cases_are_no_case(asked):
    with pytest.raises(SettingsError, match=f"expected one case, got {len(asked)}"):
        review_cases.find_case([a_case("a"), a_case("b")], asked)


def test_rows_with_one_case_id_are_refused(tmp_path):
    write_cases(tmp_path / "cases.csv", [a_case("a"), a_case("b"), a_case("a")])
    with pytest.raises(SeriesError, match="2 rows have the id 'a'"):
        review_cases.read_run_cases(tmp_path / "cases.csv")


def test_two_marks_at_one_place_are_two_marks():
    marks = review_cases.number_marks([a_mark(0.9), a_mark(0.8), a_mark(0.7)])
    names = [mark.mark_id for mark in marks]
    assert names == ["at_0.00_0.00_0.00", "at_0.00_0.00_0.00_2", "at_0.00_0.00_0.00_3"]
