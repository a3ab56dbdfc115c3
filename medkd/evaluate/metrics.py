"""Scores of a binary classifier for weighted samples: one number per row of weights.

A weight is how often a sample counts. Weights of 1 give the usual score; the weights of bootstrap
draws give the scores of all resamples at once. Undefined scores (a class without weight, no sample
classified as positive) are NaN here; the caller decides how to report them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]
Weighted = Callable[[Float64], Float64]


def build_metric(name: str, labels: ArrayLike, scores: ArrayLike) -> Weighted:
    """Prepare a metric of fixed samples, to be evaluated with many weights.

    Args:
        name: a key of `METRICS`.
        labels: [N] 0 or 1.
        scores: [N] probabilities, or decisions 0 / 1 for the metrics at a threshold.

    Returns:
        A function from weights [R, N] to [R].

    Raises:
        ValueError: if the name is unknown, or labels and scores have wrong shapes or values.

    Example:
        >>> float(build_metric("roc_auc", [0, 1, 1], [0.2, 0.1, 0.9])(np.ones((1, 3)))[0])
        0.5
    """
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}; known metrics are {sorted(METRICS)}")
    label = np.asarray(labels, dtype=np.float64)
    score = np.asarray(scores, dtype=np.float64)
    if label.ndim != 1 or label.shape != score.shape:
        raise ValueError(f"labels and scores must be [N], got {label.shape} and {score.shape}")
    if not np.isin(label, (0.0, 1.0)).all() or not np.isfinite(score).all():
        raise ValueError("labels must be 0 or 1 and scores finite")
    return METRICS[name](label, score)


def compute_metric(name: str, labels: ArrayLike, scores: ArrayLike) -> float:
    """Compute a metric in which every sample counts once; NaN if it is undefined."""
    count = len(np.asarray(labels))
    return float(build_metric(name, labels, scores)(np.ones((1, count)))[0])


def _roc_auc(labels: Float64, scores: Float64) -> Weighted:
    """Fraction of (positive, negative) pairs ranked correctly, ties 1/2: Mann & Whitney 1947."""
    order, starts = _tie_groups(scores)
    positive = labels[order]

    def statistic(weights: Float64) -> Float64:
        ordered = weights[:, order]
        above = np.add.reduceat(ordered * positive, starts, axis=1)
        below = np.add.reduceat(ordered * (1.0 - positive), starts, axis=1)
        won = (above * (np.cumsum(below, axis=1) - 0.5 * below)).sum(axis=1)
        return ratio(won, above.sum(axis=1) * below.sum(axis=1))

    return statistic


def _pr_auc(labels: Float64, scores: Float64) -> Weighted:
    """Average precision: sum over thresholds of precision x recall increase, no interpolation."""
    order, starts = _tie_groups(-scores)
    positive = labels[order]

    def statistic(weights: Float64) -> Float64:
        ordered = weights[:, order]
        step = np.add.reduceat(ordered * positive, starts, axis=1)
        called = np.cumsum(np.add.reduceat(ordered, starts, axis=1), axis=1)
        precision = np.cumsum(step, axis=1) / np.maximum(called, 1e-300)
        return ratio((step * precision).sum(axis=1), step.sum(axis=1))

    return statistic


def _brier(labels: Float64, scores: Float64) -> Weighted:
    """Mean squared difference of probability and label: Brier, Mon Weather Rev 1950;78:1."""
    return _weighted_share((scores - labels) ** 2, np.ones_like(labels))


def _accuracy(labels: Float64, scores: Float64) -> Weighted:
    return _weighted_share((scores == labels).astype(np.float64), np.ones_like(labels))


def _sensitivity(labels: Float64, scores: Float64) -> Weighted:
    return _weighted_share(scores * labels, labels)


def _specificity(labels: Float64, scores: Float64) -> Weighted:
    return _weighted_share((1.0 - scores) * (1.0 - labels), 1.0 - labels)


def _precision(labels: Float64, scores: Float64) -> Weighted:
    return _weighted_share(scores * labels, scores)


def _f1(labels: Float64, scores: Float64) -> Weighted:
    """2 TP / (2 TP + FP + FN)."""
    return _weighted_share(2.0 * scores * labels, scores + labels)


def _balanced_accuracy(labels: Float64, scores: Float64) -> Weighted:
    """Mean of sensitivity and specificity."""
    parts = (_sensitivity(labels, scores), _specificity(labels, scores))

    def statistic(weights: Float64) -> Float64:
        return (parts[0](weights) + parts[1](weights)) / 2

    return statistic


METRICS: dict[str, Callable[[Float64, Float64], Weighted]] = {
    "roc_auc": _roc_auc,
    "pr_auc": _pr_auc,
    "brier": _brier,
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "sensitivity": _sensitivity,
    "specificity": _specificity,
    "precision": _precision,
    "f1": _f1,
}
"""Functions from labels and scores to a function that computes the metric for given weights.

The first three need probabilities, the others decisions (0 or 1) at a threshold.
"""


def _weighted_share(numerator: Float64, denominator: Float64) -> Weighted:
    terms = np.stack([numerator, denominator], axis=1)

    def statistic(weights: Float64) -> Float64:
        sums = weights @ terms
        return ratio(sums[:, 0], sums[:, 1])

    return statistic


def _tie_groups(scores: Float64) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the ascending order of the scores and the start of each group of equal scores."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    return order, np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])


def ratio(numerator: Float64, denominator: Float64) -> Float64:
    """Divide element by element; NaN where the denominator is not positive."""
    out = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out
