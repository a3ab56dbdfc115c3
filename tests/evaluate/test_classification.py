from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from medkd.evaluate.classification import (
    MAX_CURVE_POINTS,
    choose_operating_point,
    evaluate_classes,
    evaluate_classification,
)
from medkd.jsonio import read_json, write_json
from medkd.types import ClassificationResult, OperatingPoint
from tests.oracles import count_confusion, count_pairs_auc, walk_average_precision

HALF = OperatingPoint(0.5, "half")
samples = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 8).map(lambda step: step / 8)),
    min_size=2,
    max_size=30,
)


def evaluate(labels, probabilities, groups=None, *, point=HALF, bootstrap=0):
    return evaluate_classification(
        labels, probabilities, groups, operating_point=point, split="test", bootstrap=bootstrap
    )


def split_rows(rows):
    labels, probabilities = zip(*rows, strict=True)
    assume(0 < sum(labels) < len(labels))
    return labels, probabilities


@settings(max_examples=60, deadline=None)
@given(samples)
def test_scores_are_those_of_the_slow_oracles(rows):
    labels, probabilities = split_rows(rows)

    result = evaluate(labels, probabilities)

    assert result.roc_auc.value == pytest.approx(count_pairs_auc(labels, probabilities), abs=1e-12)
    assert result.pr_auc.value == pytest.approx(
        walk_average_precision(labels, probabilities), abs=1e-12
    )
    counts = count_confusion(labels, [int(p >= 0.5) for p in probabilities])
    point = result.at_half
    assert counts == {
        "tp": point.true_positives, "fp": point.false_positives,
        "fn": point.false_negatives, "tn": point.true_negatives,
    }  # fmt: skip
    assert point.balanced_accuracy.value == pytest.approx(
        (point.sensitivity.value + point.specificity.value) / 2
    )
    assert point.accuracy.value == pytest.approx((counts["tp"] + counts["tn"]) / len(labels))


@settings(max_examples=40, deadline=None)
@given(samples, st.randoms(use_true_random=False))
def test_the_order_of_samples_changes_nothing(rows, random):
    labels, probabilities = split_rows(rows)
    groups = [str(row % 4) for row in range(len(rows))]
    order = random.sample(range(len(rows)), len(rows))

    first = evaluate(labels, probabilities, groups, bootstrap=20)
    second = evaluate(
        [labels[i] for i in order], [probabilities[i] for i in order], [groups[i] for i in order],
        bootstrap=20,
    )  # fmt: skip

    assert first.roc_auc.value == pytest.approx(second.roc_auc.value, abs=1e-12)
    assert first.roc_curve == second.roc_curve
    assert first.at_half.f1.value == pytest.approx(second.at_half.f1.value, abs=1e-12)
    assert first.roc_auc.interval.low == pytest.approx(second.roc_auc.interval.low, abs=1e-12)


def test_the_frozen_threshold_is_used_and_not_chosen_again():
    point = OperatingPoint(0.2, "youden")

    result = evaluate([0, 0, 1, 1], [0.1, 0.3, 0.2, 0.9], point=point)

    assert result.operating_point is point
    at = result.at_operating_point
    assert (at.true_positives, at.false_positives, at.true_negatives) == (2, 1, 1)
    assert (at.sensitivity.value, at.specificity.value) == (1.0, 0.5)
    assert result.at_half.sensitivity.value == 0.5


def test_nothing_called_positive_gives_zero_and_not_nan():
    at = evaluate([0, 1], [0.1, 0.2]).at_half

    assert (at.precision.value, at.f1.value, at.sensitivity.value) == (0.0, 0.0, 0.0)


def test_intervals_go_by_patient_where_patients_are_given_and_say_so():
    labels, probabilities = [0, 1] * 10, np.linspace(0, 1, 20)

    by_patient = evaluate(labels, probabilities, list("abcde" * 4), bootstrap=50)
    by_sample = evaluate(labels, probabilities, bootstrap=50)

    assert (by_patient.patients, by_patient.roc_auc.interval.unit) == (5, "patient")
    assert (by_sample.patients, by_sample.roc_auc.interval.unit) == (20, "sample")
    assert by_patient.at_half.accuracy.interval.low <= by_patient.at_half.accuracy.value


def test_the_curves_are_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    labels, probabilities = generator.integers(0, 2, 80), generator.random(80).round(1)

    result = evaluate(labels, probabilities)

    fpr, tpr, _ = roc_curve(labels, probabilities)
    assert result.roc_curve == tuple(zip(fpr.tolist(), tpr.tolist(), strict=True))
    assert result.pr_curve[-1] == (1.0, labels.mean())


def test_long_curves_are_thinned_for_drawing_and_keep_their_ends():
    generator = np.random.default_rng(0)
    labels, probabilities = generator.integers(0, 2, 5000), generator.random(5000)

    result = evaluate(labels, probabilities)

    assert len(result.roc_curve) <= MAX_CURVE_POINTS
    assert (result.roc_curve[0], result.roc_curve[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert result.roc_auc.value == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-12)


def test_a_result_survives_json(tmp_path):
    result = evaluate([0, 1, 1], [0.1, 0.2, 0.9], list("aab"), bootstrap=10)

    write_json(tmp_path / "r.json", result)

    assert read_json(tmp_path / "r.json", ClassificationResult) == result


@pytest.mark.parametrize(
    ("labels", "probabilities", "groups", "words"),
    [
        ([1, 1], [0.1, 0.2], None, "both classes"),
        ([0, 1], [0.1, 1.2], None, r"0\.\.1"),
        ([0, 1], [0.1, 0.2], ["a"], "expected 2 groups"),
        ([0, 1], [0.1], None, r"must be \[N\]"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels, probabilities, groups, words):
    with pytest.raises(ValueError, match=words):
        evaluate(labels, probabilities, groups)


def test_youden_takes_the_cut_with_the_highest_sum_of_both_rates():
    # Cut between .4 and .6: sensitivity 1, specificity 2/3; the others are worse.
    point = choose_operating_point([0, 0, 0, 1, 1], [0.1, 0.4, 0.7, 0.6, 0.9], rule="youden")

    assert point.threshold == 0.5
    assert (point.sensitivity, point.specificity) == (1.0, pytest.approx(2 / 3))
    assert (point.rule, point.chosen_on) == ("youden", "validation")


def test_max_accuracy_may_call_nothing_positive():
    point = choose_operating_point([0, 0, 0, 1], [0.1, 0.8, 0.9, 0.3], rule="max_accuracy")

    assert point.threshold > 0.9
    assert point.sensitivity == 0.0


def test_of_equally_good_cuts_the_one_nearest_a_half_is_taken():
    # Cuts at .15 and at .45 are both wrong once.
    labels, probabilities = [0, 1, 0, 1], [0.1, 0.2, 0.4, 0.5]

    assert choose_operating_point(
        labels, probabilities, rule="max_accuracy"
    ).threshold == pytest.approx(0.45)


def test_half_is_a_half_whatever_the_data():
    point = choose_operating_point([0, 0], [0.7, 0.2], rule="half")

    assert (point.threshold, point.sensitivity, point.specificity) == (0.5, None, 0.5)


def test_a_wanted_sensitivity_takes_the_highest_threshold_that_reaches_it():
    labels, probabilities = [1, 1, 1, 1, 0], [0.9, 0.8, 0.6, 0.2, 0.5]

    point = choose_operating_point(labels, probabilities, rule="sensitivity", sensitivity=0.75)

    assert point.threshold == pytest.approx(0.55)
    assert (point.sensitivity, point.rule) == (0.75, "sensitivity >= 0.75")


@settings(max_examples=80, deadline=None)
@given(samples, st.sampled_from([0.1, 0.5, 0.75, 0.9, 1.0]))
def test_every_rule_keeps_its_promise(rows, wanted):
    labels, probabilities = split_rows(rows)
    cuts = sorted({*probabilities, 2.0})
    rates = [count_confusion(labels, [int(p >= cut) for p in probabilities]) for cut in cuts]
    positives, negatives = sum(labels), len(labels) - sum(labels)

    def rates_of(rule: str) -> tuple[float, float]:
        point = choose_operating_point(labels, probabilities, rule=rule, sensitivity=wanted)
        return point.sensitivity, point.specificity

    best = max(n["tp"] / positives + n["tn"] / negatives for n in rates)
    assert sum(rates_of("youden")) == pytest.approx(best, abs=1e-12)
    right = max(n["tp"] + n["tn"] for n in rates)
    sensitivity, specificity = rates_of("max_accuracy")
    assert sensitivity * positives + specificity * negatives == pytest.approx(right)
    reached = [n for n in rates if n["tp"] >= wanted * positives - 1e-9]
    assert rates_of("sensitivity")[1] == max(n["tn"] for n in reached) / negatives


def test_a_threshold_between_neighbouring_floats_still_parts_them():
    low = 0.25
    high = float(np.nextafter(low, 1))

    point = choose_operating_point([0, 1], [low, high], rule="youden")

    assert (point.sensitivity, point.specificity) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("labels", "rule", "words"),
    [
        ([1, 1], "youden", "both classes"),
        ([0, 0], "sensitivity", "positive"),
        ([], "half", "sample"),
        ([0, 1], "best", "unknown rule"),
    ],
)
def test_an_operating_point_without_what_its_rule_needs_is_refused(labels, rule, words):
    with pytest.raises(ValueError, match=words):
        choose_operating_point(labels, np.linspace(0, 1, len(labels)), rule=rule)


def test_a_class_is_right_if_it_is_the_most_probable_one():
    # Right: the first, and the last, in which the first of two equal classes counts.
    shares = [[0.1, 0.7, 0.2], [0.4, 0.3, 0.3], [0.2, 0.3, 0.5], [0.4, 0.4, 0.2]]
    found = evaluate_classes([1, 2, 0, 0], shares, ["a", "b", "c", "d"], bootstrap=200)
    assert found.value == 0.5
    assert 0.0 <= found.interval.low < 0.5 < found.interval.high <= 1.0


def test_the_interval_of_the_right_classes_is_by_patient():
    # One patient is right, one wrong: each resample has 0, half or all of the samples right.
    shares = [[0.9, 0.1]] * 6
    found = evaluate_classes([0, 0, 0, 1, 1, 1], shares, [*"aaabbb"], bootstrap=200)
    assert (found.interval.low, found.interval.high) == (0.0, 1.0)
    assert found.interval.unit == "patient"


@pytest.mark.parametrize(
    ("classes", "shares"), [([0], [0.5]), ([0, 1], [[0.5, 0.5]]), ([], np.empty((0, 2)))]
)
def test_classes_without_their_probabilities_are_refused(classes, shares):
    with pytest.raises(ValueError, match="expected classes"):
        evaluate_classes(classes, shares, ["a"] * len(classes))
