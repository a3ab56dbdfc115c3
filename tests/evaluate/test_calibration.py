from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medkd.evaluate.calibration import (
    TEMPERATURE_RANGE,
    expected_calibration_error,
    fit_scaling,
    fit_softmax_temperature,
    fit_temperature,
    mean_log_loss,
    reliability_curve,
)
from tests.oracles import walk_calibration_error


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits)))


def negative_log_likelihood(logits, labels):
    right = sigmoid(np.where(np.asarray(labels) == 1, logits, -np.asarray(logits)))
    return -np.log(np.maximum(right, 1e-300)).mean()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, 20_000)
    labels = generator.random(20_000) < sigmoid(logits / temperature)

    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


def test_no_other_temperature_is_likelier():
    generator = np.random.default_rng(1)
    logits, labels = generator.normal(0, 2, 100), generator.integers(0, 2, 100)
    logits = logits + labels

    found = fit_temperature(logits, labels)

    least = negative_log_likelihood(logits / found, labels)
    for other in np.geomspace(*TEMPERATURE_RANGE, 60):
        assert least <= negative_log_likelihood(logits / other, labels) + 1e-9


def test_a_temperature_by_hand():
    # 3 of 4 right at logit 4: sigmoid(4 / T) = 3/4, so T = 4 / log 3.
    assert fit_temperature([4.0] * 4, [1, 1, 1, 0]) == pytest.approx(4 / np.log(3), rel=1e-4)


def test_a_temperature_of_classes_by_hand():
    # 3 of 4 right; the third class is out of the question: 1 / (1 + exp(-4 / T)) = 3/4.
    found = fit_softmax_temperature([[4.0, 0.0, -999.0]] * 4, [0, 0, 0, 1])

    assert found == pytest.approx(4 / np.log(3), rel=1e-4)


def test_two_classes_have_the_temperature_of_their_difference():
    generator = np.random.default_rng(2)
    logits, classes = generator.normal(0, 2, (200, 2)), generator.integers(0, 2, 200)
    logits[np.arange(200), classes] += 1.0

    found = fit_softmax_temperature(logits, classes)

    assert found == pytest.approx(fit_temperature(logits[:, 1] - logits[:, 0], classes), rel=1e-4)


@pytest.mark.parametrize(
    ("logits", "classes"),
    [([[1.0, 0.0]], [2]), ([[1.0, 0.0]], [0, 1]), ([1.0, 0.0], [0, 1]), ([[np.nan, 0.0]], [0])],
)
def test_a_temperature_of_impossible_classes_is_refused(logits, classes):
    with pytest.raises(ValueError, match="expected"):
        fit_softmax_temperature(logits, classes)


def test_fully_separated_labels_end_at_the_lowest_temperature():
    assert fit_temperature([-3.0, 3.0], [0, 1]) == pytest.approx(TEMPERATURE_RANGE[0], rel=1e-3)


def test_a_scaling_by_hand():
    # Two logits give two free probabilities. Platt's targets: 5 positives 6/7, 15 negatives 1/17.
    # At 2: 4 positives of 6; at -2: 1 of 14.
    logits, labels = [2.0] * 6 + [-2.0] * 14, [1, 1, 1, 1, 0, 0] + [1] + [0] * 13
    high, low = (4 * 6 / 7 + 2 / 17) / 6, (6 / 7 + 13 / 17) / 14
    first, second = np.log(high / (1 - high)), np.log(low / (1 - low))
    found = fit_scaling(logits, labels)
    assert found.temperature == pytest.approx(4 / (first - second), rel=1e-4)
    assert found.shift == pytest.approx((first + second) / 2, rel=1e-4)


def test_the_scaling_that_made_rare_positives_is_found_and_a_temperature_cannot():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, 50_000)
    labels = generator.random(50_000) < sigmoid(logits / 2 - 4)
    found = fit_scaling(logits, labels)
    assert found == pytest.approx((2.0, -4.0), rel=0.1)
    alone = sigmoid(logits / fit_temperature(logits, labels))
    scaled = sigmoid(logits / found.temperature + found.shift)
    assert expected_calibration_error(labels, scaled) < 0.01
    assert expected_calibration_error(labels, alone) > 0.2
    assert mean_log_loss(labels, scaled) < mean_log_loss(labels, alone)


def test_separated_labels_keep_probabilities_away_from_0_and_1():
    found = fit_scaling([3.0] * 4 + [-3.0] * 96, [1] * 4 + [0] * 96)
    assert sigmoid(3 / found.temperature + found.shift) == pytest.approx(5 / 6, abs=1e-3)
    assert sigmoid(-3 / found.temperature + found.shift) == pytest.approx(1 / 98, abs=1e-3)


def test_a_scaling_never_turns_the_ranking():
    found = fit_scaling([-1.0, -2.0, 1.0, 2.0], [1, 1, 0, 0])
    assert found.temperature == pytest.approx(TEMPERATURE_RANGE[1])


def test_the_log_loss_by_hand():
    assert mean_log_loss([1, 0], [0.5, 0.75]) == pytest.approx((np.log(2) + np.log(4)) / 2)


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        ([1.0, 2.0], [1, 1], "both classes"),
        ([1.0], [0, 1], "differ"),
        ([np.nan, 1], [0, 1], "finite"),
    ],
)
def test_a_temperature_that_cannot_be_fitted_is_refused(logits, labels, words):
    with pytest.raises(ValueError, match=words):
        fit_temperature(logits, labels)


rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 32)), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(rows, st.sampled_from([1, 4, 10, 16]))
def test_the_calibration_error_is_that_of_the_slow_oracle(pairs, bins):
    labels = [label for label, _ in pairs]
    probabilities = [step / 32 for _, step in pairs]

    error = expected_calibration_error(labels, probabilities, bins=bins)

    assert error == pytest.approx(walk_calibration_error(labels, probabilities, bins), abs=1e-12)
    assert 0.0 <= error <= 1.0


def test_the_reliability_curve_holds_filled_bins_only():
    curve = reliability_curve([0, 1, 1], [0.05, 0.15, 1.0], bins=10)

    assert [(row.probability, row.observed, row.samples) for row in curve] == [
        (0.05, 0.0, 1), (0.15, 1.0, 1), (1.0, 1.0, 1),
    ]  # fmt: skip


def test_reliability_outside_probabilities_is_refused():
    with pytest.raises(ValueError, match=r"0\.\.1"):
        reliability_curve([0], [1.5])
    with pytest.raises(ValueError, match="N >= 1"):
        reliability_curve([], [])
