"""Scores of a binary classifier, with intervals by patient, and its operating point.

Probabilities are those of the positive class, calibrated or not. A sample is called positive if
probability >= threshold. Operating points are chosen on validation and frozen: scoring never
chooses a threshold on its own data. Rates with a zero denominator are reported as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medkd.evaluate.calibration import expected_calibration_error, reliability_curve
from medkd.evaluate.curves import count_roc
from medkd.evaluate.intervals import bootstrap_interval, bootstrap_values, interval_of
from medkd.evaluate.metrics import Weighted, build_metric, compute_metric
from medkd.types import ClassificationResult, Estimate, OperatingPoint, PointScores

Float64 = NDArray[np.float64]
Rule = Literal["youden", "max_accuracy", "half", "sensitivity"]

MAX_CURVE_POINTS = 500
"""Maximum number of curve points kept for drawing; scores use all points."""
_RANKING = ("roc_auc", "pr_auc", "brier")
_AT_POINT = (
    "sensitivity", "specificity", "precision", "f1", "accuracy", "balanced_accuracy"
)  # fmt: skip


def evaluate_classification(
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: Sequence[str] | None,
    *,
    operating_point: OperatingPoint,
    split: str,
    bootstrap: int = 1000,
    seed: int = 0,
) -> ClassificationResult:
    """Score the probabilities of one label on one split.

    Args:
        labels: [N] 0 or 1, with at least one of each.
        probabilities: [N] 0..1.
        groups: [N] the patient of each sample; None: not known, samples are resampled instead.
        operating_point: the frozen threshold, chosen on another split.
        split: name of the split that is scored.
        bootstrap: number of resamples; 0 for no intervals.
        seed: seed of the bootstrap.

    Raises:
        ValueError: if lengths differ, a class has no sample, or a probability is outside 0..1.

    Example:
        >>> half = OperatingPoint(0.5, "half")
        >>> evaluate_classification(
        ...     [0, 0, 1], [0.1, 0.6, 0.4], None, operating_point=half, split="test"
        ... ).roc_auc.value
        0.5
    """
    label = np.asarray(labels, dtype=np.float64)
    probability = np.asarray(probabilities, dtype=np.float64)
    _check(label, probability, groups)
    names = [str(row) for row in range(len(label))] if groups is None else list(groups)
    thresholds = (operating_point.threshold, 0.5)
    statistics = _build_statistics(label, probability, thresholds)
    unit = "sample" if groups is None else "patient"
    ranking, *at_points = _estimate(statistics, names, resamples=bootstrap, seed=seed, unit=unit)
    frozen, half = (
        _point_scores(label, probability >= threshold, threshold, estimates=estimates)
        for threshold, estimates in zip(thresholds, at_points, strict=True)
    )
    return ClassificationResult(
        split=split,
        samples=len(label),
        positives=int(label.sum()),
        patients=len(set(names)),
        roc_auc=ranking["roc_auc"],
        pr_auc=ranking["pr_auc"],
        brier=ranking["brier"],
        calibration_error=expected_calibration_error(label, probability),
        at_operating_point=frozen,
        at_half=half,
        operating_point=operating_point,
        roc_curve=_roc_curve(label, probability),
        pr_curve=_pr_curve(label, probability),
        reliability=tuple(reliability_curve(label, probability)),
    )


def evaluate_classes(
    classes: ArrayLike,
    probabilities: ArrayLike,
    groups: Sequence[str],
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Return the share of samples whose most probable class is the right one.

    Args:
        classes: [N] the right class of each sample, 0..K-1.
        probabilities: [N, K] 0..1; of equal ones the first counts.
        groups: [N] the patient of each sample.
        bootstrap: number of resamples; 0 for no interval.
        seed: seed of the bootstrap.

    Raises:
        ValueError: if lengths differ or there is no sample.

    Example:
        >>> shares = [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]]
        >>> evaluate_classes([0, 2], shares, ["a", "b"], bootstrap=0).value
        0.5
    """
    number, share = np.asarray(classes), np.asarray(probabilities, dtype=np.float64)
    if share.ndim != 2 or not len(number) == len(share) == len(groups) > 0:
        raise ValueError(
            f"expected classes [N], probabilities [N, K] and N groups, got {number.shape}, "
            f"{share.shape} and {len(groups)}"
        )
    right = (share.argmax(axis=1) == number).astype(np.float64)

    def accuracy(weights: Float64) -> Float64:
        return np.asarray(weights @ right / weights.sum(axis=1), dtype=np.float64)

    interval = bootstrap_interval(accuracy, groups, resamples=bootstrap, seed=seed, unit="patient")
    return Estimate(float(right.mean()), interval)


def score_samples_at(
    labels: ArrayLike, probabilities: ArrayLike, *, threshold: float
) -> PointScores:
    """Score the decisions at a threshold, without intervals.

    Args:
        labels: [N] 0 or 1.
        probabilities: [N] 0..1; a sample is called positive if probability >= threshold.
        threshold: the threshold.

    Example:
        >>> score_samples_at([0, 1, 1], [0.2, 0.4, 0.9], threshold=0.5).sensitivity.value
        0.5
    """
    label = np.asarray(labels, dtype=np.float64)
    called = np.asarray(probabilities, dtype=np.float64) >= threshold
    decisions = called.astype(np.float64)
    estimates = {
        name: Estimate(float(np.nan_to_num(compute_metric(name, label, decisions))))
        for name in _AT_POINT
    }
    return _point_scores(label, called, threshold, estimates=estimates)


def choose_operating_point(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    rule: Rule,
    sensitivity: float = 0.9,
) -> OperatingPoint:
    """Choose a threshold by a rule, half way between two neighbouring probabilities.

    If several thresholds are equally good, the one nearest to 0.5 is chosen ("sensitivity": the
    highest).

    Args:
        labels: [N] 0 or 1.
        probabilities: [N] 0..1.
        rule: "youden" (highest sensitivity + specificity), "max_accuracy", "half" (always 0.5),
            or "sensitivity" (the highest threshold that reaches `sensitivity`).
        sensitivity: required sensitivity 0..1 of the rule "sensitivity".

    Raises:
        ValueError: if there is no sample, the rule is unknown, "youden" lacks one class, or
            "sensitivity" lacks positive samples.

    Example:
        >>> choose_operating_point([0, 1], [0.25, 0.5], rule="youden").threshold
        0.375
    """
    label = np.asarray(labels, dtype=np.float64)
    probability = np.asarray(probabilities, dtype=np.float64)
    build_metric("accuracy", label, probability)  # raises unless [N], 0 or 1, finite
    positives, negatives = float(label.sum()), float((1 - label).sum())
    if not len(label) or (rule == "youden" and not positives * negatives):
        raise ValueError("choosing an operating point needs samples, and youden both classes")
    if rule == "sensitivity" and not positives:
        raise ValueError("the rule 'sensitivity' needs positive samples")
    threshold = _choose(rule, label, probability, sensitivity=sensitivity)
    called = probability >= threshold
    return OperatingPoint(
        threshold=threshold,
        rule=f"sensitivity >= {sensitivity:g}" if rule == "sensitivity" else rule,
        sensitivity=float((called * label).sum() / positives) if positives else None,
        specificity=float((~called * (1 - label)).sum() / negatives) if negatives else None,
    )


def _choose(rule: Rule, label: Float64, probability: Float64, *, sensitivity: float) -> float:
    if rule == "half":
        return 0.5
    points = count_roc(label == 1, probability, drop_intermediate=False)
    positives, negatives = float(label.sum()), float((1 - label).sum())
    # No sample is positive at the first threshold; each further one adds those of one score.
    true, false = np.r_[0.0, points.true_positives], np.r_[0.0, points.false_positives]
    thresholds = _between(points.thresholds)
    if rule == "sensitivity":
        reached = true >= sensitivity * positives - 1e-9
        return float(thresholds[int(reached.argmax())])
    if rule == "youden":
        merit = true / positives - false / negatives
    elif rule == "max_accuracy":
        merit = true - false
    else:
        raise ValueError(f"unknown rule {rule!r}")
    best = np.flatnonzero(merit >= merit.max() - 1e-12)
    return float(thresholds[best[np.abs(thresholds[best] - 0.5).argmin()]])


def _between(scores: Float64) -> Float64:
    """Return [P + 1] thresholds for falling scores [P]: above the first, midpoints, the last."""
    middle = (scores[:-1] + scores[1:]) / 2.0
    middle = np.where(middle > scores[1:], middle, scores[:-1])  # adjacent floats have no middle
    above = np.nextafter(scores[:1], np.inf)
    return np.concatenate([above, middle, scores[-1:]])


def _check(label: Float64, probability: Float64, groups: Sequence[str] | None) -> None:
    if groups is not None and len(groups) != len(label):
        raise ValueError(f"expected {len(label)} groups, one per sample, got {len(groups)}")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("probabilities must lie in 0..1")
    if set(np.unique(label).tolist()) != {0.0, 1.0}:
        raise ValueError("scores need labels of both classes, 0 and 1")


def _build_statistics(
    label: Float64, probability: Float64, thresholds: Sequence[float]
) -> list[dict[str, Weighted]]:
    """Prepare first the threshold-free scores, then the scores at each threshold."""
    statistics = [{name: build_metric(name, label, probability) for name in _RANKING}]
    for threshold in thresholds:
        called = (probability >= threshold).astype(np.float64)
        statistics.append({name: build_metric(name, label, called) for name in _AT_POINT})
    return statistics


def _estimate(
    statistics: Sequence[dict[str, Weighted]],
    groups: Sequence[str],
    *,
    resamples: int,
    seed: int,
    unit: str,
) -> list[dict[str, Estimate]]:
    """Compute the value on all samples and the interval of each statistic."""
    flat = [statistic for part in statistics for statistic in part.values()]
    drawn = iter(bootstrap_values(flat, groups, resamples=resamples, seed=seed))
    whole = np.ones((1, len(groups)))
    return [
        {
            name: Estimate(
                float(np.nan_to_num(statistic(whole)[0])),
                interval_of(next(drawn), seed=seed, unit=unit),
            )
            for name, statistic in part.items()
        }
        for part in statistics
    ]


def _point_scores(
    label: Float64,
    called: NDArray[np.bool_],
    threshold: float,
    *,
    estimates: dict[str, Estimate],
) -> PointScores:
    positive = label == 1
    return PointScores(
        threshold=threshold,
        true_positives=int((called & positive).sum()),
        false_positives=int((called & ~positive).sum()),
        false_negatives=int((~called & positive).sum()),
        true_negatives=int((~called & ~positive).sum()),
        sensitivity=estimates["sensitivity"],
        precision=estimates["precision"],
        f1=estimates["f1"],
        specificity=estimates["specificity"],
        accuracy=estimates["accuracy"],
        balanced_accuracy=estimates["balanced_accuracy"],
    )


def _roc_curve(label: Float64, probability: Float64) -> tuple[tuple[float, float], ...]:
    """Return points (1 - specificity, sensitivity) from (0, 0) to (1, 1)."""
    points = count_roc(label == 1, probability, drop_intermediate=True)
    false = np.r_[0.0, points.false_positives / points.false_positives[-1]]
    true = np.r_[0.0, points.true_positives / points.true_positives[-1]]
    return _thin(false, true)


def _pr_curve(label: Float64, probability: Float64) -> tuple[tuple[float, float], ...]:
    """Return points (sensitivity, precision), one per threshold, by rising sensitivity."""
    points = count_roc(label == 1, probability, drop_intermediate=False)
    called = points.true_positives + points.false_positives
    return _thin(points.true_positives / points.true_positives[-1], points.true_positives / called)


def _thin(x: Float64, y: Float64) -> tuple[tuple[float, float], ...]:
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), MAX_CURVE_POINTS)).round().astype(int))
    return tuple(zip(x[kept].tolist(), y[kept].tolist(), strict=True))
