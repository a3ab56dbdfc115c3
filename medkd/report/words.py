"""Format numbers and names for readers: estimates with intervals, metrics, counts, rules."""

from __future__ import annotations

import math
from collections.abc import Iterable

from medkd.types import CPM_RATES, Efficiency, Estimate, FrocResult, Interval

METRIC_WORDS = {
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC (average precision)",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "precision": "Precision",
    "f1": "F1",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "brier": "Brier score (lower is better)",
    "calibration_error": "Expected calibration error (lower is better)",
    "cpm_interpolated": "CPM, interpolated",
    "cpm_nearest": "CPM, nearest curve point",
    "candidates/cpm_interpolated": "CPM of the listed candidates",
    "whole-scan/cpm_interpolated": "CPM of whole-scan marks",
    "cpm_bootstrap_mean": "CPM, bootstrap mean (as in LUNA16's script)",
}
TERM_WORDS = {
    "hard_label": "hard labels",
    "soft_label": "soft labels",
    "logit_mse": "squared difference of logits",
    "dkd": "decoupled soft labels",
    "logit_standardisation": "soft labels of standardised logits",
    "hint": "feature alignment",
    "attention": "attention maps",
    "feature_kl": "divergence of features",
    "rkd_distance": "distances between samples",
    "rkd_angle": "angles between samples",
    "similarity": "similarities of samples",
    "pkt": "neighbourhoods of samples",
    "adversarial": "adversarial feature alignment",
    "subclass": "subclasses of the teacher",
    "soft_points": "the teacher's map",
    "teacher_marks": "the teacher's marks",
    "coral": "alignment of domains by covariances",
    "mmd": "alignment of domains by kernels",
    "dann": "alignment of domains by a discriminator",
}
RULE_WORDS = {
    "youden": "highest sensitivity + specificity (Youden)",
    "max_accuracy": "highest accuracy",
    "half": "fixed threshold 0.5",
    "sensitivity": "a required sensitivity",
}


def metric_words(metric: str) -> str:
    """Return the display name of a metric; the name of an unknown metric is returned unchanged."""
    return METRIC_WORDS.get(metric, metric)


def term_words(kind: str) -> str:
    """Return "soft labels (soft_label)" for soft_label; an unknown name is returned unchanged."""
    words = TERM_WORDS.get(kind.rstrip("_0123456789"))  # the second term of kind hint is hint_2
    return f"{words} ({kind})" if words else kind


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with the minus sign U+2212; None and NaN become "not defined".

    Example:
        >>> number(0.91666), number(None), number(12, 1)
        ('0.917', 'not defined', '12.0')
    """
    if value is None or not math.isfinite(value):
        return "not defined"
    text = f"{value:.{digits}f}"
    return text.replace("-", "\u2212") if float(text) else text.replace("-", "")


def signed(value: float, digits: int = 3) -> str:
    """Format a difference, with a plus sign if it is positive."""
    text = number(value, digits)
    return f"+{text}" if value > 0 and float(text) else text


def estimate(value: Estimate | None) -> str:
    """Format a number with its interval in brackets.

    Example:
        >>> estimate(Estimate(0.9, Interval(0.8, 0.95)))
        '0.900 (0.800 to 0.950)'
    """
    if value is None:
        return "not defined"
    return with_interval(value.value, value.interval)


def with_interval(value: float, interval: Interval | None) -> str:
    """Format a number with a separately given interval in brackets."""
    if interval is None:
        return number(value)
    return f"{number(value)} ({number(interval.low)} to {number(interval.high)})"


def difference(value: Estimate) -> str:
    """Format a difference and its interval, all three numbers with signs."""
    if value.interval is None:
        return signed(value.value)
    return f"{signed(value.value)} ({signed(value.interval.low)} to {signed(value.interval.high)})"


def p_value(value: float | None) -> str:
    """Format a p value with four decimals; smaller values become "< 0.0001"."""
    if value is None:
        return "not given"
    return number(value, 4) if value >= 0.0001 else "< 0.0001"


def froc_outside(result: FrocResult) -> str:
    """Return where the operating point is; empty if it is missing or within the CPM rates."""
    point = result.at_operating_point
    if point is None or point.fp_per_scan is None:
        return ""
    return point_outside(point.fp_per_scan, point.sensitivity.value)


def point_outside(fp_per_scan: float, sensitivity: float) -> str:
    """Return where a point of a FROC plot is; empty if it is within the CPM rates.

    Example:
        >>> point_outside(11.125, 0.667), point_outside(1.0, 0.5)
        ('11.12 FP per scan, sensitivity 0.67', '')
    """
    if CPM_RATES[0] <= fp_per_scan <= CPM_RATES[-1]:
        return ""
    return f"{number(fp_per_scan, 2)} FP per scan, sensitivity {number(sensitivity, 2)}"


def percent(share: float) -> str:
    """Format a fraction 0..1 as percent."""
    return f"{100 * share:.1f} %"


def count(value: int | None) -> str:
    """Format a count with commas between thousands; None becomes "not defined"."""
    return "not defined" if value is None else f"{value:,}"


def latency(cost: Efficiency) -> str:
    """Format a median latency with its interquartile range, if it was measured.

    Example:
        >>> latency(Efficiency(8, 6, 1.0, 3.14, (1, 3), "cpu", 2, (2.9, 4.0)))
        '3.1 ms (interquartile range 2.9 to 4.0)'
    """
    spread = f" (interquartile range {latency_range(cost)})" if cost.latency_spread_ms else ""
    return f"{cost.latency_ms:.1f} ms{spread}"


def latency_range(cost: Efficiency) -> str:
    """Format the interquartile range of a latency in ms."""
    if cost.latency_spread_ms is None:
        return "not measured"
    low, high = cost.latency_spread_ms
    return f"{low:.1f} to {high:.1f}"


def threads(cost: Efficiency) -> str:
    """Format the number of CPU threads."""
    return f"{cost.threads} thread{'' if cost.threads == 1 else 's'}"


BUSY = 0.2
"""If other processes use a larger share of the CPU time, a latency is marked as too long."""


def busy(cost: Efficiency) -> str:
    """Return a clause on the CPU use of other processes; empty if it was not measured."""
    if cost.busy is None:
        return ""
    load = f", with other processes using {100 * cost.busy:.0f} % of the CPU time"
    return f"{load}: slower than on an idle machine" if cost.busy > BUSY else load


def interval_words(intervals: Iterable[Interval | None]) -> str:
    """Describe how intervals were computed; intervals with the same method are described once.

    Their numbers of resamples may differ, because resamples without a defined score are omitted.
    """
    kinds: dict[tuple[float, str, int], set[int]] = {}
    for interval in intervals:
        if interval is not None:
            kind = (interval.level, interval.unit, interval.seed)
            kinds.setdefault(kind, set()).add(interval.resamples)
    methods = [
        f"{100 * level:g} % percentile bootstrap intervals ({_range(drawn)} resamples by {unit}, "
        f"seed {seed})"
        for (level, unit, seed), drawn in sorted(kinds.items())
    ]
    return f"In brackets: {'; '.join(methods)}." if methods else "No intervals were computed."


def _range(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return count(low) if low == high else f"{count(low)} to {count(high)}"
