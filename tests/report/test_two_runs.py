"""Two runs side by side: differences by hand, and a note if their test cases differ."""

from dataclasses import replace

from medkd.report.two_runs import compare_cases, compare_runs


def test_a_difference_is_the_other_run_minus_this_one(scan_contents):
    evaluation = scan_contents.evaluation
    student = evaluation.arm("student")
    whole = student.froc[1]
    better = replace(whole, cpm_interpolated=whole.cpm_interpolated + 0.1, interval=None)
    other = replace(evaluation, arms=(replace(student, froc=(better,)),))
    rows = {row[:2]: row[2:] for row in compare_runs(evaluation, other).rows}
    mine, theirs, difference = rows["student", "CPM, interpolated, whole scans"]
    assert mine.startswith(f"{whole.cpm_interpolated:.3f} (")
    assert theirs == f"{whole.cpm_interpolated + 0.1:.3f}"
    assert difference == "+0.100"


def test_only_scores_that_both_runs_have_are_compared(scan_contents, image_contents):
    table = compare_runs(scan_contents.evaluation, image_contents.evaluation)
    metrics = {row[1] for row in table.rows}
    assert "ROC AUC" in metrics
    assert not [name for name in metrics if "scans" in name or "candidates" in name]
    same = compare_runs(scan_contents.evaluation, scan_contents.evaluation)
    assert {row[-1] for row in same.rows} <= {"0.000", "0"}


def test_equal_cases_need_no_note_and_others_are_counted():
    assert compare_cases(["a", "b"], ["b", "a"]) == ""
    assert "1 in both, 2 only in this run, 1 only in the other" in compare_cases("abc", "cd")
