"""The lines that a demo prints at its end are short and state what was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from medkd.report.contents import RunContents
from medkd.report.summary import CAUTION, closing_lines, main_froc, summary_paragraphs
from medkd.types import Evaluation

WEAK = "TEACHER NOT BETTER: on validation teacher has ROC AUC 0.7 and control 0.8"


@pytest.fixture(scope="module")
def evaluation(scan_contents: RunContents) -> Evaluation:
    return scan_contents.evaluation


def candidates_alone(evaluation: Evaluation) -> Evaluation:
    arms = (
        replace(arm, froc=tuple(f for f in arm.froc if f.track == "candidates"))
        for arm in evaluation.arms
    )
    return replace(evaluation, arms=tuple(arms))


def test_each_arm_has_a_row_with_auc_and_cpm_and_their_intervals(evaluation: Evaluation) -> None:
    rows = {line.split(" ")[0]: line for line in closing_lines(candidates_alone(evaluation))}
    for arm in evaluation.arms:
        auc, (cpm, *_) = arm.classification["test"][0].roc_auc, arm.froc
        assert auc.interval is not None
        assert cpm.interval is not None
        assert (
            f"{auc.value:.3f} ({auc.interval.low:.3f} to {auc.interval.high:.3f})" in rows[arm.name]
        )
        assert rows[arm.name].endswith(
            f"{cpm.cpm_interpolated:.3f} ({cpm.interval.low:.3f} to {cpm.interval.high:.3f})"
        )


def test_the_difference_of_student_and_control_is_shown_whatever_it_is(
    evaluation: Evaluation,
) -> None:
    worse = tuple(
        replace(d, difference=replace(d.difference, value=-0.25, interval=None))
        for d in evaluation.differences
    )
    said = closing_lines(replace(evaluation, differences=worse))
    (line,) = [line for line in said if line.startswith("Student minus control, ROC AUC")]
    assert "ROC AUC: \u22120.250" in line


def test_the_difference_in_cpm_is_shown_for_candidates_and_for_whole_scans(
    evaluation: Evaluation,
) -> None:
    one = next(d for d in evaluation.differences if d.primary)
    tracks = ("candidates", "whole-scan")
    own = [replace(one, primary=False, metric=f"{t}/cpm_interpolated") for t in tracks]
    other = replace(own[0], second="teacher")
    said = closing_lines(replace(evaluation, differences=(one, *own, other)))
    found = [line for line in said if "minus" in line]
    assert len(found) == 3
    assert "CPM of the listed candidates" in found[1]
    assert "CPM of whole-scan marks" in found[2]


def test_self_training_stands_beside_the_control(evaluation: Evaluation) -> None:
    one = next(d for d in evaluation.differences if d.primary)
    less = replace(one, second="self_training", primary=False)
    other = replace(less, metric="brier")
    cpm = replace(less, metric="whole-scan/cpm_interpolated")
    own = replace(evaluation.arms[-1], name="self_training")
    said = closing_lines(
        replace(evaluation, differences=(one, less, other, cpm), arms=(*evaluation.arms, own))
    )
    found = [line.split(":")[0] for line in said if "minus" in line]
    assert found == [
        "Student minus control, ROC AUC",
        "Student minus self_training, ROC AUC",
        "Student minus self_training, CPM of whole-scan marks",
    ]
    assert "Self-training learns from the control's output instead of the teacher's." in said
    (head,) = [line for line in said if line.strip().startswith("ROC AUC, candidates")]
    (row,) = [line for line in said if line.startswith("self_training  ")]
    assert head.index("ROC") == row.index(row.split()[1])


def test_a_run_that_searched_no_scans_says_so(evaluation: Evaluation) -> None:
    unsearched = "No arm searched whole scans in this run; `medkd detect` does."
    assert unsearched in closing_lines(candidates_alone(evaluation))
    assert unsearched not in closing_lines(evaluation)
    heads = ("CPM, candidates", "CPM, whole scans")
    for head, said in zip(heads, (candidates_alone(evaluation), evaluation), strict=True):
        assert any(head in line for line in closing_lines(said))
    assert {f.track for f in main_froc(evaluation).values()} == {"whole-scan"}


def test_a_weak_teacher_is_named_and_notes_on_the_data_are_not(evaluation: Evaluation) -> None:
    said = closing_lines(replace(evaluation, warnings=(WEAK, "phantom, site b: a note")))
    assert WEAK in said
    assert not any("a note" in line for line in said)


def test_the_end_is_short_cautious_and_ascii_but_for_minus_signs(evaluation: Evaluation) -> None:
    said = closing_lines(evaluation)
    assert said[-1] == CAUTION
    assert len(said) <= 20
    assert "\n".join(said).replace("\u2212", "-").isascii()


def test_the_generators_stamp_stays_in_the_report(evaluation: Evaluation) -> None:
    stamped = "phantom, site a, 25 training scans, 2,450 samples, made by medkd phantom 5 0123"
    said = closing_lines(replace(evaluation, source_data=stamped))
    assert said[0].endswith("trained on phantom, site a, 25 training scans, 2,450 samples")


def test_the_report_gives_the_cpm_of_candidates_where_no_scan_was_searched(
    scan_contents: RunContents,
) -> None:
    alone = replace(scan_contents, evaluation=candidates_alone(scan_contents.evaluation))
    said = " ".join(summary_paragraphs(alone))
    assert "CPM of the given candidates, interpolated" in said
    assert "No arm searched whole scans in this run." in said
    searched = " ".join(summary_paragraphs(scan_contents))
    assert "CPM of marks on whole scans, interpolated" in searched
    assert "No arm searched" not in searched
