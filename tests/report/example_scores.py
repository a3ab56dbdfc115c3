"""Scores of the example run, from its drawn probabilities: short, slow, plain numpy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from medkd.runs import Prediction
from medkd.types import (
    ClassificationResult,
    Estimate,
    Fidelity,
    Interval,
    OperatingPoint,
    PairedDifference,
    PointScores,
)

RESAMPLES = 100


def probability_of(logit):
    return 1.0 / (1.0 + np.exp(-np.asarray(logit)))


def arrays(rows: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([r.labels[0] for r in rows]), np.array([r.probabilities[0] for r in rows])


def roc_auc(label: np.ndarray, probability: np.ndarray) -> float:
    gap = probability[label == 1][:, None] - probability[label == 0][None, :]
    return float((gap > 0).mean() + 0.5 * (gap == 0).mean()) if gap.size else 0.5


def pr_auc(label: np.ndarray, probability: np.ndarray) -> float:
    hits = label[np.argsort(-probability, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits == 1].mean()) if hits.any() else 0.0


def brier(label: np.ndarray, probability: np.ndarray) -> float:
    return float(((label - probability) ** 2).mean())


METRICS = {"roc_auc": roc_auc, "pr_auc": pr_auc, "brier": brier}


def resamples(rows: Sequence[Prediction]) -> list[np.ndarray]:
    """Row numbers of each bootstrap draw of patients."""
    patients = sorted({row.patient_id for row in rows})
    members = {p: [n for n, r in enumerate(rows) if r.patient_id == p] for p in patients}
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(patients), (RESAMPLES, len(patients)))
    return [np.concatenate([members[patients[n]] for n in draw]).astype(int) for draw in draws]


def estimate(statistic: Callable[[np.ndarray], float], rows: Sequence[Prediction]) -> Estimate:
    drawn = [statistic(take) for take in resamples(rows)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    interval = Interval(float(low), float(high), resamples=RESAMPLES)
    return Estimate(statistic(np.arange(len(rows))), interval)


def ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def point_scores(rows: Sequence[Prediction], threshold: float) -> PointScores:
    label, probability = arrays(rows)
    called = probability >= threshold

    def counts(take: np.ndarray) -> tuple[float, float, float, float]:
        truth, said = label[take] == 1, called[take]
        return (
            (truth & said).sum(), (~truth & said).sum(),
            (truth & ~said).sum(), (~truth & ~said).sum(),
        )  # fmt: skip

    def rate(compute: Callable[[float, float, float, float], float]) -> Estimate:
        return estimate(lambda take: compute(*counts(take)), rows)

    tp, fp, fn, tn = counts(np.arange(len(rows)))
    return PointScores(
        threshold=threshold,
        true_positives=int(tp),
        false_positives=int(fp),
        false_negatives=int(fn),
        true_negatives=int(tn),
        sensitivity=rate(lambda tp, fp, fn, tn: ratio(tp, tp + fn)),
        precision=rate(lambda tp, fp, fn, tn: ratio(tp, tp + fp)),
        f1=rate(lambda tp, fp, fn, tn: ratio(2 * tp, 2 * tp + fp + fn)),
        specificity=rate(lambda tp, fp, fn, tn: ratio(tn, tn + fp)),
        accuracy=rate(lambda tp, fp, fn, tn: ratio(tp + tn, tp + fp + fn + tn)),
        balanced_accuracy=rate(
            lambda tp, fp, fn, tn: (ratio(tp, tp + fn) + ratio(tn, tn + fp)) / 2
        ),
    )


def classification_of(split: str, rows, threshold: float) -> ClassificationResult:
    label, probability = arrays(rows)
    frozen = point_scores(rows, threshold)
    bins = _reliability(label, probability)
    return ClassificationResult(
        split=split,
        samples=len(rows),
        positives=int(label.sum()),
        patients=len({row.patient_id for row in rows}),
        **{
            name: estimate(lambda take, m=metric: m(label[take], probability[take]), rows)
            for name, metric in METRICS.items()
        },
        calibration_error=sum(abs(p - share) * n for p, share, n in bins) / len(rows),
        at_operating_point=frozen,
        at_half=point_scores(rows, 0.5),
        operating_point=OperatingPoint(
            threshold, "youden", "validation", frozen.sensitivity.value, frozen.specificity.value
        ),
        roc_curve=_roc_curve(label, probability),
        pr_curve=_pr_curve(label, probability),
        reliability=bins,
    )


def _roc_curve(label, probability) -> tuple[tuple[float, float], ...]:
    hits = label[np.argsort(-probability, kind="stable")]
    true = np.concatenate([[0], np.cumsum(hits) / hits.sum()])
    false = np.concatenate([[0], np.cumsum(1 - hits) / (1 - hits).sum()])
    return tuple((float(x), float(y)) for x, y in zip(false, true, strict=True))


def _pr_curve(label, probability) -> tuple[tuple[float, float], ...]:
    hits = label[np.argsort(-probability, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    recall = np.cumsum(hits) / hits.sum()
    return tuple((float(x), float(y)) for x, y in zip(recall, precision, strict=True))


def _reliability(label, probability) -> tuple[tuple[float, float, int], ...]:
    edges = np.linspace(0, 1, 11)
    found = []
    for low, high in pairwise(edges):
        inside = (probability >= low) & (probability < high)
        if inside.any():
            found.append((float(probability[inside].mean()), float(label[inside].mean()),
                          int(inside.sum())))  # fmt: skip
    return tuple(found)


def difference_of(first, second_rows, *, second: str, metric: str, primary: bool):
    label, ours = arrays(first)
    _, theirs = arrays(second_rows)
    compute = METRICS[metric]
    difference = estimate(
        lambda take: compute(label[take], ours[take]) - compute(label[take], theirs[take]), first
    )
    # Two-sided, from a normal of the interval's width; not adjusted, this is an example.
    spread = (difference.interval.high - difference.interval.low) / 3.92
    p_value = math.erfc(abs(difference.value) / spread / math.sqrt(2))
    return PairedDifference("student", second, metric, difference, round(p_value, 4), primary)


def fidelity_of(arm: str, teacher, rows) -> Fidelity:
    _, p = arrays(teacher)
    _, q = arrays(rows)
    p, q = np.clip(p, 1e-6, 1 - 1e-6), np.clip(q, 1e-6, 1 - 1e-6)
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return Fidelity(arm, "test", float(kl.mean()), float(((p >= 0.5) == (q >= 0.5)).mean()))
