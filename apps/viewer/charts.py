"""The curves of an evaluation as interactive Plotly figures, without Streamlit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from medkd.types import CPM_RATES, ClassificationResult, FrocResult

ARM_COLORS = {"teacher": "#9b7fc0", "control": "#ef8a17", "student": "#3d8bcd"}
ARM_DASHES = {"teacher": "dash", "control": "dot", "student": "solid"}
OTHER_COLOR = "#888888"


def roc_figure(results: Mapping[str, ClassificationResult]) -> go.Figure:
    """Draw each arm's ROC curve with the operating point chosen on validation."""
    figure = _figure("1 - specificity", "Sensitivity")
    for arm, result in results.items():
        name = f"{arm}, AUC {result.roc_auc.value:.3f}"
        figure.add_trace(_curve(arm, name, result.roc_curve))
        scores = result.at_operating_point
        if scores.specificity is not None:
            x = 1.0 - scores.specificity.value
            figure.add_trace(_point(arm, x, scores.sensitivity.value))
    figure.update_xaxes(range=[-0.01, 1.01])
    return figure


def froc_figure(results: Mapping[str, FrocResult]) -> go.Figure:
    """Draw each arm's FROC curve, and the operating point chosen on validation."""
    figure = _figure("False positives per scan", "Sensitivity")
    for arm, froc in results.items():
        curve = [
            (fp, sensitivity)
            for fp, sensitivity in zip(froc.fp_per_scan, froc.sensitivity, strict=True)
            if fp > 0  # 0 has no place on a logarithmic axis
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
        line={"color": ARM_COLORS.get(arm, OTHER_COLOR), "dash": ARM_DASHES.get(arm, "solid")},
    )


def _point(arm: str, x: float, y: float) -> go.Scatter:
    marker = {"size": 11, "color": ARM_COLORS.get(arm, OTHER_COLOR), "symbol": "circle-open"}
    return go.Scatter(
        x=[x],
        y=[y],
        mode="markers",
        name=f"{arm}, operating point chosen on validation",
        marker={**marker, "line": {"width": 2}},
        showlegend=False,
    )
