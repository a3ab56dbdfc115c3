"""Every number of an evaluation as flat rows for CSV: arm, split, metric, value, low, high.

`caution` is a warning if a number is computed from few cases, else empty.

FROC metrics are named `<track>/<metric>`. The arm of a paired difference is `first - second`.
Differences, FROC and fidelity are measured on held-out data; the rows of cost and of sites have no
split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from medkd.evaluate.caution import classification_caution, few_cases_warning, froc_caution
from medkd.types import (
    ClassificationResult,
    Efficiency,
    Estimate,
    Evaluation,
    FrocResult,
    Interval,
    LayerSimilarity,
    PointScores,
    SiteShift,
)

COLUMNS = ("arm", "split", "metric", "value", "low", "high", "caution")
HELD_OUT = "test"
POINT_RATES = (
    "sensitivity", "specificity", "precision", "f1", "accuracy", "balanced_accuracy"
)  # fmt: skip
POINT_COUNTS = ("true_positives", "false_positives", "false_negatives", "true_negatives")
FROC_COUNTS = (
    "scans", "nodules", "candidates", "true_positives", "false_positives", "false_negatives",
    "ignored_excluded", "ignored_double",
)  # fmt: skip
COSTS = ("parameters", "macs", "size_mib", "latency_ms")


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One number; `low` and `high` are None if it has no interval."""

    arm: str
    split: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    caution: str = ""


def metric_rows(evaluation: Evaluation) -> list[MetricRow]:
    """Return every number of an evaluation as a row."""
    rows: list[MetricRow] = []
    for arm in evaluation.arms:
        for split, results in arm.classification.items():
            rows += [row for result in results for row in _label_rows(arm.name, split, result)]
        for split, right in arm.class_accuracy.items():
            rows.append(_row(arm.name, split, "class_accuracy", right.value, right.interval))
        for froc in arm.froc:
            few = froc_caution(froc)
            rows += [
                _row(arm.name, HELD_OUT, f"{froc.track}/{metric}", value, interval, few)
                for metric, value, interval in _froc(froc)
            ]
        if arm.efficiency is not None:
            rows += [_row(arm.name, "", *item) for item in _costs(arm.efficiency)]
    return rows + _comparisons(evaluation) + list(_shift(evaluation.shift))


def _label_rows(arm: str, split: str, result: ClassificationResult) -> Iterator[MetricRow]:
    """Yield the rows of one label. With several labels, metrics are named `<label>/<metric>`."""
    few = classification_caution(result)
    prefix = f"{result.label}/" if result.label else ""
    for metric, value, interval in _classification(result):
        yield _row(arm, split, f"{prefix}{metric}", value, interval, few)


Item = tuple[str, float, Interval | None]
"""Metric, value, interval."""


def _row(
    arm: str,
    split: str,
    metric: str,
    value: float,
    interval: Interval | None,
    caution: str = "",
) -> MetricRow:
    low, high = (interval.low, interval.high) if interval else (None, None)
    return MetricRow(arm, split, metric, value, low, high, caution)


def _classification(result: ClassificationResult) -> Iterator[Item]:
    for metric in ("samples", "positives", "patients", "prevalence", "calibration_error"):
        yield metric, getattr(result, metric), None
    for metric in ("roc_auc", "pr_auc", "brier"):
        found: Estimate = getattr(result, metric)
        yield metric, found.value, found.interval
    yield from _point(result.at_operating_point, "frozen")
    yield from _point(result.at_half, "half")


def _point(point: PointScores, name: str) -> Iterator[Item]:
    yield f"threshold@{name}", point.threshold, None
    for metric in POINT_RATES:
        found: Estimate | None = getattr(point, metric)
        if found is not None:
            yield f"{metric}@{name}", found.value, found.interval
    for metric in (*POINT_COUNTS, "fp_per_scan"):
        value: float | None = getattr(point, metric)
        if value is not None:
            yield f"{metric}@{name}", value, None


def _froc(result: FrocResult) -> Iterator[Item]:
    yield "cpm_interpolated", result.cpm_interpolated, result.interval
    yield "cpm_nearest", result.cpm_nearest, None
    if result.cpm_bootstrap_mean is not None:
        yield "cpm_bootstrap_mean", result.cpm_bootstrap_mean, result.interval_of_curve
    for rate, value in result.sensitivity_at.items():
        yield f"sensitivity_at_{rate}", value, result.sensitivity_intervals.get(rate)
    for metric in FROC_COUNTS:
        yield metric, getattr(result, metric), None
    if result.at_operating_point is not None:
        yield from _point(result.at_operating_point, "frozen")


def _costs(cost: Efficiency) -> Iterator[Item]:
    for metric in COSTS:
        yield metric, getattr(cost, metric), None
    if cost.latency_spread_ms is not None:
        yield "latency_ms_quartile_1", cost.latency_spread_ms[0], None
        yield "latency_ms_quartile_3", cost.latency_spread_ms[1], None
    if cost.busy is not None:
        yield "share_of_cores_used_by_others", cost.busy, None


def _comparisons(evaluation: Evaluation) -> list[MetricRow]:
    rows = []
    few = next(
        (
            classification_caution(arm.classification[HELD_OUT][0])
            for arm in evaluation.arms
            if HELD_OUT in arm.classification
        ),
        "",
    )
    for found in evaluation.differences:
        arm = f"{found.first} - {found.second}"
        difference = found.difference
        rows.append(_row(arm, HELD_OUT, found.metric, difference.value, difference.interval, few))
        if found.p_value is not None:
            rows.append(_row(arm, HELD_OUT, f"p_value {found.metric}", found.p_value, None, few))
    for close in evaluation.fidelity:
        rows.append(MetricRow(close.arm, close.split, "kl_from_teacher", close.kl))
        rows.append(MetricRow(close.arm, close.split, "agreement_with_teacher", close.agreement))
    for alike in evaluation.similarity:
        rows += _similarities(alike)
    rows += [
        MetricRow("student", "", f"weight_of_term {term.kind}", term.weight)
        for term in evaluation.terms
    ]
    return rows


def _similarities(alike: LayerSimilarity) -> Iterator[MetricRow]:
    """Yield the CKA of each pair of layers, named `cka <teacher's layer> / <layer>`."""
    for first, values in zip(alike.teacher_layers, alike.cka, strict=True):
        for second, value in zip(alike.layers, values, strict=True):
            if value is not None:
                yield MetricRow(alike.arm, alike.split, f"cka {first} / {second}", value)


def _shift(shift: SiteShift | None) -> Iterator[MetricRow]:
    """Yield the numbers of the sites, named `site/<site>`, and of their distances by arm."""
    if shift is None:
        return
    for site in shift.sites:
        values: dict[str, float] = {
            "cases": site.cases,
            "patients": site.patients,
            "measured": site.measured,
        }
        values |= {f"{site.unit}_quantile_{share}": v for share, v in site.quantiles.items()}
        if site.mean is not None and site.sd is not None:
            values |= {f"{site.unit}_mean": site.mean, f"{site.unit}_sd": site.sd}
        yield from (MetricRow(f"site/{site.name}", "", *item) for item in values.items())
    for found in shift.distances:
        pair = f"{found.first} - {found.second}"
        few = few_cases_warning([], [(min(found.patients), "patients")])
        for metric, value in (
            ("squared_mmd", found.squared_mmd),
            ("p_value", found.p_value),
            ("roc_auc_of_site", found.roc_auc),
        ):
            if value is not None:
                yield MetricRow(found.arm, "", f"{metric} {pair}", value, caution=few)
