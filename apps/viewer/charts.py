"""The curves of an evaluation as interactive Plotly figures, without Streamlit.

Intervals are drawn where the evaluation stores them: as bands around FROC curves, which have one at
each of the seven CPM rates, and as error bars at operating points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import plotly.graph_objects as go

from medkd.evaluate.curves import sample_froc
from medkd.report import words
from medkd.types import CPM_RATES, ClassificationResult, Estimate, FrocResult

ARM_COLORS = {"teacher": "#9b7fc0", "control": "#ef8a17", "student": "#3d8bcd"}
ARM_DASHES = {"teacher": "dash", "control": "dot", "student": "solid"}
OTHER_COLOR = "#888888"
READER_COLOR = "#2f9e5b"
BAND_OPACITY = 0.13

Results = Mapping[str, ClassificationResult]


@dataclass(frozen=True, slots=True)
class PlotPoint:
    """A point with a name, for example a reader or the threshold that is set now."""

    name: str
    x: float
    y: float


def roc_figure(results: Results, now: PlotPoint | None = None) -> go.Figure:
    """Draw each arm's ROC curve with its operating point.

    Args:
        results: scores of the arms.
        now: (1 - specificity, sensitivity) at the threshold that is set.
    """
    figure = _square("1 - specificity", "Sensitivity")
    _chance(figure, (0.0, 1.0), "chance")
    for arm, result in results.items():
        name = f"{arm}, AUC {words.estimate(result.roc_auc)}"
        figure.add_trace(_curve(arm, name, result.roc_curve))
        scores = result.at_operating_point
        if scores.specificity is not None:
            figure.add_trace(_point(arm, _one_minus(scores.specificity), scores.sensitivity))
    return _with_points(figure, [now] if now else [])


def pr_figure(results: Results) -> go.Figure:
    """Draw each arm's precision-recall curve with its operating point, and the prevalence."""
    figure = _square("Recall (sensitivity)", "Precision")
    prevalence = next(iter(results.values())).prevalence
    _chance(figure, (prevalence, prevalence), "prevalence")
    for arm, result in results.items():
        name = f"{arm}, AP {words.estimate(result.pr_auc)}"
        figure.add_trace(_curve(arm, name, result.pr_curve))
        scores = result.at_operating_point
        figure.add_trace(_point(arm, scores.sensitivity, scores.precision))
    return figure


def reliability_figure(results: Results) -> go.Figure:
    """Draw observed share of positives against probability; a circle grows with its samples."""
    figure = _square("Mean probability", "Observed share of positives")
    _chance(figure, (0.0, 1.0), "perfectly calibrated")
    for arm, result in results.items():
        name = f"{arm}, calibration error {words.number(result.calibration_error)}"
        trace = _curve(arm, name, [(x, y) for x, y, _ in result.reliability])
        counts = [count for _, _, count in result.reliability]
        trace.update(
            mode="lines+markers",
            marker={"size": [6 + 18 * (count / result.samples) ** 0.5 for count in counts]},
            customdata=counts,
            hovertemplate="%{x:.3f}, %{y:.3f}, %{customdata} samples",
        )
        figure.add_trace(trace)
    return figure


def froc_figure(results: Mapping[str, FrocResult], points: Sequence[PlotPoint] = ()) -> go.Figure:
    """Draw each arm's FROC curve with its interval, and the operating points in the drawn range.

    Args:
        results: FROC of the arms on one track.
        points: further points (false positives per scan, sensitivity).
    """
    figure = _figure("False positives per scan", "Sensitivity")
    for arm, froc in results.items():
        if froc.sensitivity_intervals:
            figure.add_trace(_band(arm, froc))
        line = sample_froc(froc)
        curve = list(zip(line.fp_per_scan.tolist(), line.sensitivity.tolist(), strict=True))
        measured = int(line.measured.sum())
        name = f"{arm}, CPM {words.with_interval(froc.cpm_interpolated, froc.interval)}"
        figure.add_trace(_curve(arm, name, curve[:measured]))
        if rest := curve[max(measured - 1, 0) :]:
            figure.add_trace(_curve(arm, f"{arm}, beyond the last mark", rest, faint=True))
        point = froc.at_operating_point
        if point is not None and point.fp_per_scan is not None and not words.froc_outside(froc):
            figure.add_trace(_point(arm, Estimate(point.fp_per_scan), point.sensitivity))
    inside = [point for point in points if not words.point_outside(point.x, point.y)]
    figure.update_xaxes(
        type="log",
        tickvals=list(CPM_RATES),
        ticktext=["1/8", "1/4", "1/2", "1", "2", "4", "8"],
        range=[-1.0, 1.0],
    )
    return _with_points(figure, inside)


def outside_notes(
    results: Mapping[str, FrocResult], points: Sequence[PlotPoint] = ()
) -> tuple[str, ...]:
    """Return a note for every operating point and point that the FROC figure cannot show."""
    found = {f"{arm}, operating point": words.froc_outside(froc) for arm, froc in results.items()}
    found |= {point.name: words.point_outside(point.x, point.y) for point in points}
    return tuple(
        f"Outside the drawn range: {name}: {where}." for name, where in found.items() if where
    )


def _figure(x_title: str, y_title: str) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        height=430,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "yanchor": "top", "y": -0.18, "xanchor": "left", "x": 0.0},
        xaxis_title=x_title,
        yaxis_title=y_title,
    )
    figure.update_yaxes(range=[-0.02, 1.02])
    return figure


def _square(x_title: str, y_title: str) -> go.Figure:
    figure = _figure(x_title, y_title)
    figure.update_xaxes(range=[-0.02, 1.02])
    return figure


def _chance(figure: go.Figure, ends: tuple[float, float], name: str) -> None:
    line = {"color": OTHER_COLOR, "width": 1, "dash": "dot"}
    figure.add_trace(go.Scatter(x=[0, 1], y=list(ends), mode="lines", name=name, line=line))


def _curve(
    arm: str, name: str, points: Sequence[tuple[float, float]], *, faint: bool = False
) -> go.Scatter:
    dash = "dot" if faint else ARM_DASHES.get(arm, "solid")
    return go.Scatter(
        x=[point[0] for point in points],
        y=[point[1] for point in points],
        mode="lines",
        name=name,
        line={"color": _color(arm), "dash": dash, "width": 1 if faint else 2},
        legendgroup=arm,
        showlegend=not faint,
    )


def _band(arm: str, froc: FrocResult) -> go.Scatter:
    """Draw the intervals at the seven rates as an area."""
    known = [(rate, froc.sensitivity_intervals.get(f"{rate:g}")) for rate in CPM_RATES]
    ends = [(rate, found.low, found.high) for rate, found in known if found is not None]
    forth, back = ends, ends[::-1]
    return go.Scatter(
        x=[rate for rate, _, _ in (*forth, *back)],
        y=[*(high for _, _, high in forth), *(low for _, low, _ in back)],
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=_color(arm),
        opacity=BAND_OPACITY,
        name=f"{arm}, interval",
        legendgroup=arm,
        showlegend=False,
        hoverinfo="skip",
    )


def _point(arm: str, x: Estimate, y: Estimate) -> go.Scatter:
    marker = {"size": 11, "color": _color(arm), "symbol": "circle-open", "line": {"width": 2}}
    return go.Scatter(
        x=[x.value],
        y=[y.value],
        error_x=_error_bar(x),
        error_y=_error_bar(y),
        mode="markers",
        name=f"{arm}, operating point chosen on validation",
        marker=marker,
        legendgroup=arm,
        showlegend=False,
    )


def _one_minus(estimate: Estimate) -> Estimate:
    found = estimate.interval
    mirrored = found and replace(found, low=1.0 - found.high, high=1.0 - found.low)
    return Estimate(1.0 - estimate.value, mirrored)


def _error_bar(estimate: Estimate) -> dict[str, object] | None:
    if estimate.interval is None:
        return None
    value, interval = estimate.value, estimate.interval
    return _bar(low=value - interval.low, high=interval.high - value)


def _bar(*, low: float, high: float) -> dict[str, object]:
    return {"type": "data", "symmetric": False, "array": [high], "arrayminus": [low],
            "thickness": 1, "width": 4}  # fmt: skip


def _with_points(figure: go.Figure, points: Sequence[PlotPoint]) -> go.Figure:
    for point in points:
        marker = {"size": 10, "symbol": "x-thin", "line": {"color": READER_COLOR, "width": 3}}
        figure.add_trace(
            go.Scatter(
                x=[point.x],
                y=[point.y],
                mode="markers+text",
                text=[point.name],
                textposition="bottom right",
                name=point.name,
                marker=marker,
                showlegend=False,
            )
        )
    return figure


def _color(arm: str) -> str:
    return ARM_COLORS.get(arm, OTHER_COLOR)
