"""Moving a threshold over the stored scores of a run, against slow counting from the rules."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medkd.io.luna16_tables import read_marks, write_seriesuids
from medkd.jsonio import read_json
from medkd.review.stored_scores import (
    ScoredSet,
    list_scored,
    offer_thresholds,
    read_scored_reference,
    read_scores,
    read_track_marks,
    score_marks,
)
from medkd.runs import ARMS, read_predictions
from medkd.types import Candidate, Evaluation, Nodule, Reference
from tests.oracles import count_confusion, score_froc
from tests.report.run_factory import write_example_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_example_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def evaluation(run):
    return read_json(run.evaluation, Evaluation)


def points_of(scan):
    places = st.tuples(*[st.integers(0, 12).map(float)] * 3)
    scores = st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5])
    marks = st.lists(st.builds(lambda p, s: Candidate(scan, p, s), places, scores), max_size=8)
    nodules = st.lists(st.builds(lambda p, d: Nodule(scan, p, d), places, st.sampled_from(
        [-1.0, 4.0, 9.0])), max_size=3)  # fmt: skip
    return st.tuples(marks, nodules, nodules)


@given(points_of("a"), points_of("b"), st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.6]))
@settings(max_examples=60, deadline=None)
def test_marks_at_a_threshold_are_counted_as_by_scoring_those_marks_alone(first, second, threshold):
    marks = [*first[0], *second[0]]
    reference = Reference(
        (*first[1], *second[1]), (*first[2], *second[2]), ("a", "b", "without-marks")
    )
    at = score_marks(marks, reference, None).score(threshold)
    slow = score_froc([mark for mark in marks if mark.score >= threshold], reference)
    assert (at.true_positives, at.false_positives, at.false_negatives) == (
        slow.true_positives, slow.false_positives, slow.false_negatives,
    )  # fmt: skip
    assert at.fp_per_scan == slow.false_positives / 3
    called = slow.true_positives + slow.false_positives
    assert at.precision.value == pytest.approx(slow.true_positives / called if called else 0)
    assert at.sensitivity.value == (slow.true_positives / slow.nodules if slow.nodules else 0)
    assert (at.true_negatives, at.specificity, at.sensitivity.interval) == (None, None, None)


def test_the_limit_of_100_marks_a_scan_holds_at_every_threshold():
    # 101 false marks: only those above the lowest score count, so at most 100.
    marks = [Candidate("a", (0.0, 0.0, 0.0), 0.001 * n) for n in range(101)]
    scores = score_marks(marks, Reference((), (), ("a",)), None)
    assert [scores.score(t).false_positives for t in (0.0, 0.0005, 0.05, 0.1)] == [100, 100, 51, 1]


@pytest.mark.parametrize("arm", ARMS)
def test_samples_at_a_threshold_are_counted_one_by_one(run, evaluation, arm):
    rows = read_predictions(run.predictions(arm, "test"))
    scores = read_scores(run, evaluation, arm, ScoredSet())
    for threshold in scores.offered[::20]:
        slow = count_confusion(
            [row.labels[0] for row in rows],
            [int(row.probabilities[0] >= threshold) for row in rows],
        )
        at = scores.score(threshold)
        assert (at.true_positives, at.false_positives) == (slow["tp"], slow["fp"])
        assert (at.false_negatives, at.true_negatives) == (slow["fn"], slow["tn"])
        assert at.f1.value == pytest.approx(
            2 * slow["tp"] / max(2 * slow["tp"] + slow["fp"] + slow["fn"], 1)
        )
        assert at.specificity.value == slow["tn"] / (slow["tn"] + slow["fp"])


@pytest.mark.parametrize("arm", ARMS)
def test_the_stored_scores_give_the_evaluation_at_the_frozen_threshold(run, evaluation, arm):
    for what in list_scored(evaluation, arm):
        scores = read_scores(run, evaluation, arm, what)
        assert scores.frozen.threshold in scores.offered
        assert scores.agrees


def test_an_arm_is_scored_on_scans_first_and_an_unknown_arm_on_nothing(evaluation):
    assert list_scored(evaluation, "student") == [
        ScoredSet("whole-scan"), ScoredSet("candidates"), ScoredSet("", "", 0),
    ]  # fmt: skip
    assert list_scored(evaluation, "other") == []


def test_a_changed_file_of_marks_is_noticed(run, evaluation):
    marks = read_track_marks(run, "student", "whole-scan")
    frozen = evaluation.arm("student").froc[1].at_operating_point
    reference = read_scored_reference(run, "whole-scan", "student")
    assert marks == read_marks(run.marks("student"))
    assert score_marks(marks, reference, frozen).agrees
    assert not score_marks([replace(m, score=0.0) for m in marks], reference, frozen).agrees


def test_a_scan_that_was_not_searched_is_not_scored_on_whole_scans(tmp_path):
    run = write_example_run(tmp_path / "run")
    before = read_scored_reference(run, "whole-scan", "student").seriesuids
    write_seriesuids(run.reference / "seriesuids.csv", [*before, "patches-only"])
    assert read_scored_reference(run, "whole-scan", "student").seriesuids == before
    assert read_scored_reference(run, "candidates", "student").seriesuids[-1] == "patches-only"


def test_few_scores_are_all_offered_and_many_are_thinned_towards_low_scores():
    assert offer_thresholds([], None) == ()
    assert offer_thresholds([], 0.5) == (0.5,)
    offered = offer_thresholds([n / 10_000 for n in range(10_000)], 0.99995)
    assert len(offered) <= 201
    assert offered[-3:] == (0.9998, 0.9999, 0.99995)
    assert offered[0] == 0.0
