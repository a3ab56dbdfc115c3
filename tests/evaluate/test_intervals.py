from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medkd.evaluate.intervals import (
    LabelledSamples,
    bootstrap_interval,
    bootstrap_values,
    draw_weights,
    holm,
    interval_of,
    two_way_difference,
)
from medkd.evaluate.metrics import build_metric
from tests.oracles import count_pairs_auc


def mean_of(values):
    return lambda weights: weights @ np.asarray(values, float) / weights.sum(axis=1)


def test_every_resample_draws_as_many_groups_as_there_are():
    weights = draw_weights(7, resamples=50, seed=0)

    assert weights.shape == (50, 7)
    assert (weights.sum(axis=1) == 7).all()


def test_a_group_is_drawn_with_all_its_samples():
    # Weights of samples of one patient are always equal.
    seen = []
    bootstrap_values(
        [lambda w: seen.append(w) or np.zeros(len(w))], list("pqpq"), resamples=9, seed=0
    )

    assert (seen[0][:, 0] == seen[0][:, 2]).all()
    assert (seen[0][:, 1] == seen[0][:, 3]).all()


def test_a_patient_with_many_samples_widens_the_interval():
    values = [0.0] * 20 + [1.0] * 20
    by_sample = bootstrap_interval(
        mean_of(values), [str(i) for i in range(40)], resamples=500, seed=0, unit="sample"
    )
    by_patient = bootstrap_interval(
        mean_of(values), list("abcd" * 5 + "efgh" * 5), resamples=500, seed=0, unit="patient"
    )

    assert by_patient.high - by_patient.low > by_sample.high - by_sample.low
    assert by_patient.unit == "patient"


def test_bounds_are_floor_indexed_percentiles_of_the_finite_values():
    values = [*range(40), np.nan, np.inf]

    interval = interval_of(values, seed=0, unit="patient")

    assert (interval.low, interval.high, interval.resamples) == (1.0, 39.0, 40)


def test_without_resamples_or_defined_values_there_is_no_interval():
    assert bootstrap_interval(mean_of([1.0]), ["a"], resamples=0, seed=0, unit="patient") is None
    assert interval_of([np.nan], seed=0, unit="patient") is None


def test_one_patient_alone_has_no_interval():
    assert (
        bootstrap_interval(mean_of([1.0, 2.0]), ["a", "a"], resamples=9, seed=0, unit="patient")
        is None
    )
    samples = LabelledSamples([0, 1], ["a", "a"])
    found = two_way_difference([[0.1, 0.9]], [[0.9, 0.1]], samples, metric="roc_auc", resamples=9)
    assert (found.estimate.value, found.estimate.interval, found.p_value) == (1.0, None, 1.0)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(12)))
def test_the_order_of_samples_changes_nothing(order):
    values = np.arange(12.0) ** 2
    groups = np.array([str(i % 5) for i in range(12)])

    first = bootstrap_interval(mean_of(values), groups, resamples=30, seed=1, unit="patient")
    second = bootstrap_interval(
        mean_of(values[list(order)]), groups[list(order)], resamples=30, seed=1, unit="patient"
    )

    assert first.low == pytest.approx(second.low)
    assert first.high == pytest.approx(second.high)


def test_the_interval_of_a_mean_has_its_known_width():
    # Mean of 400 standard normal values: 95 % within about 1.96 / 20 on each side.
    values = np.random.default_rng(0).normal(size=400)

    interval = bootstrap_interval(
        mean_of(values), [str(i) for i in range(400)], resamples=2000, seed=0, unit="sample"
    )

    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)


def make_samples(count: int = 60) -> LabelledSamples:
    generator = np.random.default_rng(5)
    return LabelledSamples(generator.integers(0, 2, count), [f"p{i % 20}" for i in range(count)])


def test_a_model_against_itself_differs_by_nothing():
    samples = make_samples()
    scores = np.random.default_rng(1).random(60)

    difference = two_way_difference([scores], [scores], samples, metric="roc_auc", resamples=100)

    assert difference.estimate.value == 0.0
    assert (difference.estimate.interval.low, difference.estimate.interval.high) == (0.0, 0.0)
    assert difference.p_value == 1.0


def test_a_paired_difference_is_the_resampled_pair_counting_difference():
    samples = make_samples(24)
    generator = np.random.default_rng(2)
    first, second = generator.integers(0, 6, (2, 24)) / 8

    result = two_way_difference([first], [second], samples, metric="roc_auc", resamples=20, seed=4)

    names = sorted(set(samples.groups))
    drawn = []
    for weights in draw_weights(len(names), resamples=20, seed=4):
        rows = [
            row
            for row, group in enumerate(samples.groups)
            for _ in range(int(weights[names.index(group)]))
        ]
        labels = [int(samples.labels[row]) for row in rows]
        drawn.append(
            count_pairs_auc(labels, [first[row] for row in rows])
            - count_pairs_auc(labels, [second[row] for row in rows])
        )
    assert result.estimate.interval.low == pytest.approx(min(drawn), abs=1e-12)
    assert result.estimate.interval.high == pytest.approx(sorted(drawn)[19], abs=1e-12)


def test_the_two_way_difference_is_one_of_seed_means():
    samples = make_samples()
    first, second = np.random.default_rng(3).random((2, 3, 60))

    result = two_way_difference(first, second, samples, metric="roc_auc", resamples=50)

    whole = np.ones((1, 60))
    aucs = [
        [build_metric("roc_auc", samples.labels, scores)(whole)[0] for scores in arm]
        for arm in (first, second)
    ]
    assert result.estimate.value == pytest.approx(np.mean(aucs[0]) - np.mean(aucs[1]), abs=1e-12)
    assert result.estimate.interval.unit == "patient and seed"


def test_resampling_seeds_widens_the_interval():
    # Seeds of the first arm differ much, the samples little: 400 of them, well separated.
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 400)
    samples = LabelledSamples(labels, [str(i) for i in range(400)])
    first = [labels + generator.normal(0, noise, 400) for noise in (0.1, 0.5, 2.0)]
    second = [labels + generator.normal(0, 0.5, 400) for _ in range(3)]

    two_way = two_way_difference(first, second, samples, metric="roc_auc", resamples=300)
    middle = two_way_difference([first[1]], [second[1]], samples, metric="roc_auc", resamples=300)

    width = two_way.estimate.interval.high - two_way.estimate.interval.low
    assert width > 2 * (middle.estimate.interval.high - middle.estimate.interval.low)


def test_seeds_are_drawn_jointly_so_that_equal_arms_differ_by_nothing():
    arm = np.random.default_rng(3).random((3, 60))

    interval = two_way_difference(
        arm, arm, make_samples(), metric="roc_auc", resamples=50
    ).estimate.interval

    assert (interval.low, interval.high) == (0.0, 0.0)


def test_arms_with_different_numbers_of_seeds_can_be_compared():
    samples = make_samples()
    scores = np.random.default_rng(3).random((4, 60))

    result = two_way_difference(scores[:3], scores[3:], samples, metric="roc_auc", resamples=50)

    assert np.isfinite(result.estimate.interval.low)


def test_a_clear_difference_has_a_small_p_value_and_swapping_arms_turns_it_round():
    samples = make_samples()
    good = np.asarray(samples.labels, float)
    bad = np.random.default_rng(1).random(60)

    forward = two_way_difference([good], [bad], samples, metric="roc_auc", resamples=200)
    back = two_way_difference([bad], [good], samples, metric="roc_auc", resamples=200)

    assert forward.p_value == back.p_value == pytest.approx(2 / 201)
    assert forward.estimate.value == -back.estimate.value > 0.3


def test_an_arm_without_seeds_is_refused():
    with pytest.raises(ValueError, match="at least one seed"):
        two_way_difference([], [np.zeros(60)], make_samples(), metric="roc_auc")


def test_holm_multiplies_by_the_tests_left_and_never_falls():
    # Holm 1979: .01 x 4, max(.04, .02 x 3), max(.06, .03 x 2), max(.06, .5 x 1).
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
