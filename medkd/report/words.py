"""Numbers and names as a reader sees them: estimates with intervals, metrics, counts, rules."""

from __future__ import annotations

import math
from collections.abc import Iterable

from medkd.types import Efficiency, Estimate, Interval

METRIC_WORDS = {
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC (average precision)",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "precision": "Precision",
    "f1": "F1",
    "accuracy": "Accuracy",
    "brier": "Brier score (lower is better)",
    "calibration_error": "Expected calibration error (lower is better)",
    "cpm_interpolated": "CPM, interpolated",
    "cpm_nearest": "CPM, nearest curve point",
    "cpm_bootstrap_mean": "CPM, bootstrap mean (band of LUNA16's script)",
}
TERM_WORDS = {
    "hard_label": "hard labels",
    "soft_label": "soft labels",
    "hint": "feature alignment",
}
BUSY = 0.2
"""Share of the machine that others use, above which a latency is longer than it should be."""

RULE_WORDS = {
    "youden": "greatest sensitivity + specificity (Youden)",
    "max_accuracy": "greatest accuracy",
    "half": "probability one half",
    "sensitivity": "a required sensitivity",
}


def metric_words(metric: str) -> str:
    """Name a metric for a reader; an unknown one keeps its own name."""
    return METRIC_WORDS.get(metric, metric)


def term_words(kind: str) -> str:
    """Name a loss term for a reader, its own name beside it."""
    words = TERM_WORDS.get(kind.rstrip("_0123456789"))  # a kind's second term is hint_2
    return f"{words} ({kind})" if words else kind


def rule_words(rule: str) -> str:
    """Name the rule of an operating point for a reader."""
    return RULE_WORDS.get(rule, rule)


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with so many decimals, a true minus sign; "not defined" for none or NaN.

    Example:
        >>> number(0.91666), number(None), number(12, 1)
        ('0.917', 'not defined', '12.0')
    """
    if value is None or not math.isfinite(value):
        return "not defined"
    text = f"{value:.{digits}f}"
    return text.replace("-", "\u2212") if float(text) else text.replace("-", "")


def signed(value: float, digits: int = 3) -> str:
    """Write a difference, a gain with its plus sign."""
    text = number(value, digits)
    return f"+{text}" if value > 0 and float(text) else text


def estimate(value: Estimate | None) -> str:
    """Write a number with its interval in brackets.

    Example:
        >>> estimate(Estimate(0.9, Interval(0.8, 0.95)))
        '0.900 (0.800 to 0.950)'
    """
    if value is None:
        return "not defined"
    return with_interval(value.value, value.interval)


def with_interval(value: float, interval: Interval | None) -> str:
    """Write a number with the interval that stands apart from it."""
    if interval is None:
        return number(value)
    return f"{number(value)} ({number(interval.low)} to {number(interval.high)})"


def difference(value: Estimate) -> str:
    """Write a difference with signs on all three numbers."""
    if value.interval is None:
        return signed(value.value)
    return f"{signed(value.value)} ({signed(value.interval.low)} to {signed(value.interval.high)})"


def p_value(value: float | None) -> str:
    """Write a p value with four decimals, a smaller one as such."""
    if value is None:
        return "not given"
    return number(value, 4) if value >= 0.0001 else "< 0.0001"


def percent(share: float) -> str:
    """Write a share 0..1 as percent."""
    return f"{100 * share:.1f} %"


def count(value: int | None) -> str:
    """Write a count with thousands apart; "not defined" for none."""
    return "not defined" if value is None else f"{value:,}"


def latency(cost: Efficiency) -> str:
    """Write a median latency with the middle half of its repeats.

    Example:
        >>> latency(Efficiency(8, 6, 1.0, 3.14, (1, 3), "cpu", 2, (2.9, 4.0)))
        '3.1 ms (middle half 2.9 to 4.0)'
    """
    if cost.latency_spread_ms is None:
        return f"{cost.latency_ms:.1f} ms"
    low, high = cost.latency_spread_ms
    return f"{cost.latency_ms:.1f} ms (middle half {low:.1f} to {high:.1f})"


def threads(cost: Efficiency) -> str:
    """Write how many threads of the processor worked."""
    return f"{cost.threads} thread{'' if cost.threads == 1 else 's'}"


def busy(cost: Efficiency) -> str:
    """Say how busy the machine was, after a comma; empty where that is not known."""
    if cost.busy is None:
        return ""
    told = f", other work on {100 * cost.busy:.0f} % of the machine meanwhile"
    return f"{told}: longer than on a quiet machine" if cost.busy > BUSY else told


def interval_words(intervals: Iterable[Interval | None]) -> str:
    """Say how intervals were made, once for all that were made alike.

    A resample in which a score is not defined is left out, so their number may vary.
    """
    kinds: dict[tuple[float, str, int], set[int]] = {}
    for made in intervals:
        if made is not None:
            kinds.setdefault((made.level, made.unit, made.seed), set()).add(made.resamples)
    said = [
        f"{100 * level:g} % percentile bootstrap intervals: {_range(drawn)} resamples by {unit}, "
        f"seed {seed}"
        for (level, unit, seed), drawn in sorted(kinds.items())
    ]
    return "; ".join(said) + "." if said else "No intervals were computed."


def _range(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return count(low) if low == high else f"{count(low)} to {count(high)}"
