from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from medkd.evaluate.metrics import METRICS, build_metric, compute_metric
from tests.oracles import count_confusion, count_pairs_auc, walk_average_precision

few = settings(max_examples=100, deadline=None)
samples = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 5).map(lambda step: step / 8), st.integers(0, 3)),
    min_size=2,
    max_size=25,
)


def repeated(rows: list[tuple[int, float, int]]) -> tuple[list[int], list[float]]:
    """Each sample as often as its weight says."""
    kept = [(label, score) for label, score, weight in rows for _ in range(weight)]
    return [label for label, _ in kept], [score for _, score in kept]


def weighted(name: str, rows: list[tuple[int, float, int]]) -> float:
    labels, scores, weights = zip(*rows, strict=True)
    return float(build_metric(name, labels, scores)(np.array([weights], dtype=float))[0])


@few
@given(samples)
def test_weighted_roc_auc_is_pair_counting_on_repeated_samples(rows):
    labels, scores = repeated(rows)
    assume(0 < sum(labels) < len(labels))

    assert weighted("roc_auc", rows) == pytest.approx(count_pairs_auc(labels, scores), abs=1e-12)


@few
@given(samples)
def test_weighted_pr_auc_is_average_precision_on_repeated_samples(rows):
    labels, scores = repeated(rows)
    assume(sum(labels) > 0)

    value = weighted("pr_auc", rows)

    assert value == pytest.approx(walk_average_precision(labels, scores), abs=1e-12)
    assert value == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


@few
@given(st.lists(st.tuples(*[st.integers(0, 1)] * 2, st.integers(0, 3)), min_size=1, max_size=25))
def test_rates_at_a_threshold_are_those_of_counted_samples(rows):
    labels, decisions = repeated(rows)
    n = count_confusion(labels, decisions)

    for name, top, bottom in (
        ("sensitivity", n["tp"], n["tp"] + n["fn"]),
        ("specificity", n["tn"], n["tn"] + n["fp"]),
        ("precision", n["tp"], n["tp"] + n["fp"]),
        ("f1", 2 * n["tp"], 2 * n["tp"] + n["fp"] + n["fn"]),
        ("accuracy", n["tp"] + n["tn"], len(labels)),
    ):
        expected = top / bottom if bottom else math.nan
        assert weighted(name, rows) == pytest.approx(expected, nan_ok=True, abs=1e-12)


def test_the_brier_score_is_a_mean_square():
    assert compute_metric("brier", [1, 0], [0.8, 0.4]) == pytest.approx((0.04 + 0.16) / 2)


def test_ranking_all_positives_first_gives_one_and_last_gives_zero():
    assert compute_metric("roc_auc", [0, 0, 1], [0.1, 0.2, 0.3]) == 1.0
    assert compute_metric("roc_auc", [1, 0, 0], [0.1, 0.2, 0.3]) == 0.0


def test_a_class_without_weight_makes_ranking_undefined():
    weights = np.array([[1.0, 0.0], [1.0, 1.0]])

    assert np.isnan(build_metric("roc_auc", [0, 1], [0.1, 0.9])(weights)).tolist() == [True, False]


@pytest.mark.parametrize("name", METRICS)
def test_all_rows_of_weights_at_once_equal_one_row_at_a_time(name):
    generator = np.random.default_rng(0)
    labels, scores = generator.integers(0, 2, 30), generator.integers(0, 2, 30)
    weights = generator.integers(0, 3, (5, 30)).astype(float)
    statistic = build_metric(name, labels, scores)

    assert statistic(weights) == pytest.approx(
        [statistic(row[None])[0] for row in weights], abs=1e-12
    )


@pytest.mark.parametrize(
    ("name", "labels", "scores", "words"),
    [
        ("auroc", [0, 1], [0.1, 0.2], "unknown metric"),
        ("roc_auc", [0, 1], [0.1], r"must be \[N\]"),
        ("roc_auc", [0, 2], [0.1, 0.2], "0 or 1"),
        ("roc_auc", [0, 1], [0.1, float("nan")], "finite"),
    ],
)
def test_what_does_not_fit_is_refused(name, labels, scores, words):
    with pytest.raises(ValueError, match=words):
        build_metric(name, labels, scores)
