"""Numbers of an evaluation as tables and curves: pure, knows no Streamlit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
import plotly.graph_objects as go

from medkd.types import (
    CPM_RATES,
    ArmResult,
    ClassificationResult,
    Estimate,
    Evaluation,
    FrocResult,
    Interval,
    PairedDifference,
    PointScores,
)

NOT_MEASURED = "not measured"
ARM_COLORS = {"teacher": "#7a5195", "control": "#ef8a17", "student": "#0a7abf"}
ARM_DASHES = {"teacher": "dash", "control": "dot", "student": "solid"}


def format_estimate(estimate: Estimate | None) -> str:
    """Write a number with its interval: "0.981 (0.970 to 0.990)"."""
    if estimate is None:
        return NOT_MEASURED
    return f"{estimate.value:.3f}{format_interval(estimate.interval)}"


def format_interval(interval: Interval | None) -> str:
    """Write an interval in brackets; nothing where there is none."""
    return "" if interval is None else f" ({interval.low:.3f} to {interval.high:.3f})"


def splits_of(evaluation: Evaluation) -> list[str]:
    """Return the splits that any arm was classified on, test first."""
    found = {split for arm in evaluation.arms for split in arm.classification}
    return sorted(found, key=lambda split: (split != "test", split))


def tracks_of(evaluation: Evaluation) -> list[str]:
    """Return the FROC tracks in the order in which the arms list them."""
    return list(dict.fromkeys(froc.track for arm in evaluation.arms for froc in arm.froc))


def describe_intervals(intervals: Iterable[Interval | None]) -> str:
    """Say how the intervals in a table were made, once for each way."""
    ways = {
        f"{i.level:.0%} bootstrap by {i.unit}, {i.resamples} resamples, seed {i.seed}"
        for i in intervals
        if i is not None
    }
    return "Intervals: " + "; ".join(sorted(ways)) if ways else "No intervals were computed."


def classification_table(arms: Sequence[ArmResult], split: str) -> pd.DataFrame:
    """Build one column an arm: scores at the point frozen on validation, then the areas."""
    table: dict[str, list[str]] = {}
    for arm in arms:
        result = arm.classification.get(split)
        rows = {} if result is None else _classification_rows(result)
        table[arm.name] = [rows.get(name, NOT_MEASURED) for name in _CLASSIFICATION_NAMES]
    return pd.DataFrame(table, index=pd.Index(_CLASSIFICATION_NAMES, name=f"on {split}"))


_CLASSIFICATION_NAMES = [
    "Sensitivity", "F1", "Precision", "Specificity", "Accuracy", "Threshold (frozen)",
    "Rule of the threshold", "TP / FP / FN / TN", "ROC AUC", "PR AUC", "Brier score",
    "Samples / positive / patients",
]  # fmt: skip


def _classification_rows(result: ClassificationResult) -> dict[str, str]:
    scores = result.at_operating_point
    point = result.operating_point
    return {
        **_point_rows(scores),
        "Threshold (frozen)": f"{scores.threshold:.3f}",
        "Rule of the threshold": f"{point.rule}, on {point.chosen_on}",
        "ROC AUC": format_estimate(result.roc_auc),
        "PR AUC": format_estimate(result.pr_auc),
        "Brier score": format_estimate(result.brier),
        "Samples / positive / patients": f"{result.samples} / {result.positives} / "
        f"{result.patients}",
    }


def _point_rows(scores: PointScores) -> dict[str, str]:
    true_negatives = "" if scores.true_negatives is None else f" / {scores.true_negatives}"
    return {
        "Sensitivity": format_estimate(scores.sensitivity),
        "F1": format_estimate(scores.f1),
        "Precision": format_estimate(scores.precision),
        "Specificity": format_estimate(scores.specificity),
        "Accuracy": format_estimate(scores.accuracy),
        "TP / FP / FN / TN": f"{scores.true_positives} / {scores.false_positives} / "
        f"{scores.false_negatives}{true_negatives}",
    }


def classification_intervals(arms: Sequence[ArmResult], split: str) -> list[Interval | None]:
    """Return the intervals that `classification_table` shows."""
    results = [arm.classification[split] for arm in arms if split in arm.classification]
    return [e.interval for r in results for e in (r.roc_auc, r.at_operating_point.sensitivity)]


def froc_of(arms: Sequence[ArmResult], track: str) -> dict[str, FrocResult]:
    """Return the FROC of each arm that was scored on a track."""
    return {arm.name: froc for arm in arms for froc in arm.froc if froc.track == track}


def froc_table(results: dict[str, FrocResult]) -> pd.DataFrame:
    """Build one column an arm: both CPM readings, the seven rates, the frozen point."""
    columns = {name: _froc_rows(froc) for name, froc in results.items()}
    return pd.DataFrame(columns).rename_axis("on this track")


def _froc_rows(froc: FrocResult) -> dict[str, str]:
    rows = {
        "CPM, interpolated": f"{froc.cpm_interpolated:.4f}{format_interval(froc.interval)}",
        "CPM, nearest curve point": f"{froc.cpm_nearest:.4f}",
    }
    for rate in CPM_RATES:
        key = f"{rate:g}"
        if key in froc.sensitivity_at:
            interval = format_interval(froc.sensitivity_intervals.get(key))
            rows[f"Sensitivity at {key} FP a scan"] = f"{froc.sensitivity_at[key]:.3f}{interval}"
    point = froc.at_operating_point
    for name in ("Sensitivity", "F1", "Precision"):
        value = NOT_MEASURED if point is None else _point_rows(point)[name]
        rows[f"{name} at the frozen point"] = value
    rows["Threshold (frozen)"] = NOT_MEASURED if point is None else f"{point.threshold:.3f}"
    fp_per_scan = None if point is None else point.fp_per_scan
    rows["FP a scan at the frozen point"] = (
        NOT_MEASURED if fp_per_scan is None else f"{fp_per_scan:.2f}"
    )
    rows["Scans / nodules / marks"] = f"{froc.scans} / {froc.nodules} / {froc.candidates}"
    return rows


def difference_table(differences: Sequence[PairedDifference]) -> pd.DataFrame:
    """Build one row a paired difference."""
    rows = [
        {
            "Difference": f"{d.first} minus {d.second}",
            "Metric": d.metric,
            "Value": f"{d.difference.value:+.3f}{format_interval(d.difference.interval)}",
            "p": "" if d.p_value is None else f"{d.p_value:.3f}",
            "Comparison": "primary" if d.primary else "secondary",
        }
        for d in differences
    ]
    return pd.DataFrame(rows)


def roc_figure(arms: Sequence[ArmResult], split: str) -> go.Figure:
    """Draw the ROC curves of all arms with their frozen points."""
    figure = _figure("1 - specificity", "Sensitivity")
    for arm in arms:
        result = arm.classification.get(split)
        if result is None:
            continue
        name = f"{arm.name}, AUC {result.roc_auc.value:.3f}"
        figure.add_trace(_curve(arm.name, name, result.roc_curve))
        scores = result.at_operating_point
        if scores.specificity is not None:
            x = 1.0 - scores.specificity.value
            figure.add_trace(_point(arm.name, x, scores.sensitivity.value))
    figure.update_xaxes(range=[-0.01, 1.01])
    return figure


def froc_figure(results: dict[str, FrocResult]) -> go.Figure:
    """Draw the FROC curves of all arms from 1/8 to 8 false positives a scan."""
    figure = _figure("False positives a scan", "Sensitivity")
    for arm, froc in results.items():
        curve = [
            (fp, sensitivity)
            for fp, sensitivity in zip(froc.fp_per_scan, froc.sensitivity, strict=True)
            if fp > 0  # a logarithmic axis has no 0
        ]
        name = f"{arm}, CPM {froc.cpm_interpolated:.3f} interpolated"
        figure.add_trace(_curve(arm, name, curve))
        point = froc.at_operating_point
        if point is not None and point.fp_per_scan:
            figure.add_trace(_point(arm, point.fp_per_scan, point.sensitivity.value))
    ticks = list(CPM_RATES)
    words = ["1/8", "1/4", "1/2", "1", "2", "4", "8"]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=words, range=[-1.0, 1.0])
    return figure


def _figure(x_title: str, y_title: str) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        height=460,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        legend={"yanchor": "bottom", "y": 0.02, "xanchor": "right", "x": 0.99},
        xaxis_title=x_title,
        yaxis_title=y_title,
    )
    figure.update_yaxes(range=[-0.01, 1.01])
    return figure


def _curve(arm: str, name: str, points: Sequence[tuple[float, float]]) -> go.Scatter:
    return go.Scatter(
        x=[point[0] for point in points],
        y=[point[1] for point in points],
        mode="lines",
        name=name,
        line={"color": ARM_COLORS.get(arm, "#555555"), "dash": ARM_DASHES.get(arm, "solid")},
    )


def _point(arm: str, x: float, y: float) -> go.Scatter:
    marker = {"size": 11, "color": ARM_COLORS.get(arm, "#555555"), "symbol": "circle-open"}
    return go.Scatter(
        x=[x],
        y=[y],
        mode="markers",
        name=f"{arm}, frozen point",
        marker={**marker, "line": {"width": 2}},
        showlegend=False,
    )
