"""The figures of a report as SVG. The same numbers give the same bytes; no font is embedded.

Arms differ in colour and in line style, so they can be distinguished in a greyscale print. The
argument `where` names the scored split in the caption, such as "test split".
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from medkd.evaluate.curves import sample_froc
from medkd.report import words
from medkd.report.contents import TERM_PREFIX, TrainingLog
from medkd.types import (
    CPM_RATES,
    ClassificationResult,
    Figure,
    FrocResult,
    PairedDifference,
    ReaderPoint,
)

# Okabe and Ito's palette, darkened: colour-blind readers can distinguish it.
STYLES: dict[str, tuple[str, str]] = {
    "teacher": ("#0072b2", "--"),
    "control": ("#8a6500", "-."),
    "student": ("#b84a00", "-"),
}
OTHER_STYLES = (
    ("#333333", "-"),
    ("#8e3a75", "--"),
    ("#00664a", "-."),
    ("#2b5fc4", "-"),
    ("#a11212", "--"),
    ("#6b6b00", "-."),
)
"""Styles of arms with other names (a bench has several teachers and students), in order."""
LOWER_IS_BETTER = {"brier", "calibration_error"}
# Untyped: the stubs list every key, and the keys differ between versions of matplotlib.
RC: dict[Any, Any] = {
    "svg.hashsalt": "medkd",  # otherwise the ids differ in every drawing
    "svg.fonttype": "none",
    "text.parse_math": False,  # a $ in a name is plain text
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
SQUARE_IN = (4.6, 4.2)

Results = Mapping[str, ClassificationResult]
Style = tuple[str, str]
"""Colour and line style."""


def roc_figure(results: Results, where: str) -> Figure:
    """Draw the arms' ROC curves; a ring marks the operating point."""
    with mpl.rc_context(RC):
        canvas, axes = _panel("False-positive rate (1 \u2212 specificity)", "Sensitivity")
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, label="chance")
        styles = _styles(results)
        for arm, result in results.items():
            name = f"{arm}, AUC {words.number(result.roc_auc.value)}"
            _curve(axes, result.roc_curve, name, style=styles[arm])
            point = result.at_operating_point
            if point.specificity is not None:
                _ring(axes, 1 - point.specificity.value, point.sensitivity.value, style=styles[arm])
        _unit_square(axes)
    areas = ", ".join(f"{a} {words.number(r.roc_auc.value)}" for a, r in results.items())
    return _figure(
        canvas,
        f"ROC curves, {where} (ring: operating point chosen on validation)",
        f"ROC curves; areas under the curves: {areas}.",
    )


def pr_figure(results: Results, where: str) -> Figure:
    """Draw the arms' precision-recall curves, and the prevalence as the chance level."""
    prevalence = next(iter(results.values())).prevalence
    with mpl.rc_context(RC):
        canvas, axes = _panel("Recall (sensitivity)", "Precision")
        axes.axhline(prevalence, color="#999999", linewidth=0.8, label="prevalence")
        styles = _styles(results)
        for arm, result in results.items():
            name = f"{arm}, AP {words.number(result.pr_auc.value)}"
            _curve(axes, result.pr_curve, name, style=styles[arm])
        _unit_square(axes)
    areas = ", ".join(f"{a} {words.number(r.pr_auc.value)}" for a, r in results.items())
    alt = f"Precision-recall curves; average precision: {areas}; chance level {prevalence:.3f}."
    return _figure(canvas, f"Precision-recall curves, {where}", alt)


def reliability_figure(results: Results, where: str) -> Figure:
    """Draw observed fraction against predicted probability; point size grows with samples."""
    with mpl.rc_context(RC):
        canvas, axes = _panel("Mean predicted probability", "Observed fraction of positives")
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, label="perfectly calibrated")
        styles = _styles(results)
        for arm, result in results.items():
            points = [(mean, share) for mean, share, _ in result.reliability]
            name = f"{arm}, ECE {words.number(result.calibration_error)}"
            _curve(axes, points, name, style=styles[arm])
            sizes = [10 + 120 * count / result.samples for _, _, count in result.reliability]
            predicted, observed = np.asarray(points).reshape(-1, 2).T
            axes.scatter(predicted, observed, s=sizes, color=styles[arm][0])
        _unit_square(axes)
    errors = ", ".join(f"{a} {words.number(r.calibration_error)}" for a, r in results.items())
    alt = f"Observed fraction against predicted probability; expected calibration error: {errors}."
    return _figure(canvas, f"Reliability, {where}", alt)


def froc_figure(
    results: Mapping[str, FrocResult], title: str, readers: Sequence[ReaderPoint] = ()
) -> Figure:
    """Draw FROC curves from 1/8 to 8 false positives per scan, with dots at the seven CPM rates.

    A ring marks the operating point. If it is outside the axes, the legend states it. Readers are
    crosses with their number; those outside the axes are not drawn.
    """
    with mpl.rc_context(RC):
        canvas, axes = _panel("False positives per scan", "Sensitivity", size_in=(6.4, 4.0))
        styles = _styles(results)
        for arm, result in results.items():
            label = f"{arm}, CPM {words.number(result.cpm_interpolated)}{_outside(result)}"
            _froc_curve(axes, result, label, style=styles[arm])
        _reader_crosses(axes, readers)
        axes.set_xscale("log", base=2)
        axes.set_xticks(CPM_RATES, ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
        axes.minorticks_off()
        axes.set_xlim(CPM_RATES[0] * 0.95, CPM_RATES[-1] * 1.05)
        axes.set_ylim(-0.03, 1.03)
        _legend_below(axes, columns=1)
    ringed = any(r.at_operating_point and not _outside(r) for r in results.values())
    shown = f"{title} (ring: operating point chosen on validation)" if ringed else title
    scores = ", ".join(f"{a} {words.number(r.cpm_interpolated)}" for a, r in results.items())
    alt = f"FROC curves; interpolated CPM: {scores}.{_reader_words(readers)}"
    return _figure(canvas, shown, alt)


def differences_figure(differences: Sequence[PairedDifference]) -> Figure:
    """Draw differences with their intervals, and a line at zero."""
    with mpl.rc_context(RC):
        height_in = 1.1 + 0.5 * len(differences)
        lower = any(found.metric in LOWER_IS_BETTER for found in differences)
        remark = " (Brier: below zero is better)" if lower else ""
        canvas, axes = _panel(f"First arm minus second arm{remark}", "",
                              size_in=(5.0, height_in))  # fmt: skip
        axes.axvline(0, color="#333333", linewidth=1)
        for row, found in enumerate(differences):
            value, interval = found.difference.value, found.difference.interval
            if interval is not None:
                axes.plot([interval.low, interval.high], [row, row], color=STYLES["student"][0])
            axes.plot([value], [row], "D" if found.primary else "o", color=STYLES["student"][0])
        axes.set_yticks(range(len(differences)), [_difference_name(d, "\n") for d in differences])
        axes.set_ylim(len(differences) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
    values = "; ".join(
        f"{_difference_name(d)} {words.difference(d.difference)}" for d in differences
    )
    return _figure(canvas, "Paired differences with intervals", f"Differences: {values}.")


def term_figures(logs: Mapping[str, TrainingLog]) -> tuple[Figure, ...]:
    """Draw one figure per loss term: its values over the epochs for the arms that logged it."""
    names = dict.fromkeys(name for log in logs.values() for name in log.terms())
    drawn = []
    for name in names:
        shown = {arm: log for arm, log in logs.items() if name in log.terms()}
        title = f"Loss term during training: {words.term_words(name)}"
        drawn.append(_epochs_figure(shown, f"{TERM_PREFIX}{name}", title, "Mean before weighting"))
    return tuple(drawn)


def validation_figure(logs: Mapping[str, TrainingLog], column: str) -> Figure:
    """Draw one validation metric of all arms over the epochs."""
    metric = words.metric_words(column.removeprefix("val_"))
    return _epochs_figure(logs, column, f"{metric} on validation during training", metric)


def _epochs_figure(
    logs: Mapping[str, TrainingLog], column: str, title: str, y_label: str
) -> Figure:
    with mpl.rc_context(RC):
        canvas, axes = _panel("Epoch", y_label, size_in=(4.6, 3.0))
        styles = _styles(logs)
        for arm, log in logs.items():
            points = list(zip(log.epochs, log.columns[column], strict=True))
            _curve(axes, points, arm, style=styles[arm], marker=".")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    ranges = "; ".join(f"{arm} {_from_to(log.columns[column])}" for arm, log in logs.items())
    return _figure(canvas, title, f"Over the epochs: {ranges}.")


def _panel(
    x_label: str, y_label: str, *, size_in: tuple[float, float] = SQUARE_IN
) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=size_in)
    axes = canvas.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return canvas, axes


def _unit_square(axes: Axes) -> None:
    """Set both axes to 0..1, with a legend below."""
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    _legend_below(axes)


def _legend_below(axes: Axes, *, columns: int = 2) -> None:
    """Put the legend below the axes, where it hides no curve."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=columns)


def _styles(arms: Iterable[str]) -> dict[str, Style]:
    """Return the style of each arm: its own from `STYLES`, else the next of the others."""
    others = cycle(OTHER_STYLES)
    return {arm: STYLES[arm] if arm in STYLES else next(others) for arm in arms}


def _curve(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    label: str,
    *,
    style: Style,
    marker: str | None = None,
) -> None:
    colour, line = style
    drawn = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    axes.plot(drawn[:, 0], drawn[:, 1], line, color=colour, label=label, marker=marker,
              markersize=4)  # fmt: skip


def _froc_curve(axes: Axes, result: FrocResult, label: str, *, style: Style) -> None:
    """Draw a curve, interpolated as in the LUNA16 script; dotted beyond its last mark."""
    colour, line = style
    curve = sample_froc(result)
    x, y, real = curve.fp_per_scan, curve.sensitivity, curve.measured
    axes.plot(x[real], y[real], line, color=colour, label=label)
    axes.plot(x[~real], y[~real], ":", color=colour, linewidth=0.9)
    at = [(rate, result.sensitivity_at.get(f"{rate:g}", np.nan)) for rate in CPM_RATES]
    axes.plot(*np.asarray(at).T, "o", color=colour, markersize=4)
    point = result.at_operating_point
    if point is not None and point.fp_per_scan is not None and not _outside(result):
        _ring(axes, point.fp_per_scan, point.sensitivity.value, style=style)


def _reader_crosses(axes: Axes, readers: Sequence[ReaderPoint]) -> None:
    for number, point in enumerate(readers, start=1):
        y = point.sensitivity
        if y is None or words.point_outside(point.fp_per_scan, y):
            continue
        axes.plot([point.fp_per_scan], [y], "x", color="#222222", markersize=7, markeredgewidth=1.8)
        axes.annotate(str(number), (point.fp_per_scan, y), xytext=(6, 4),
                      textcoords="offset points")  # fmt: skip


def _reader_words(readers: Sequence[ReaderPoint]) -> str:
    found = ", ".join(
        f"{number} at {words.number(point.fp_per_scan, 2)} FP per scan, sensitivity "
        f"{words.number(point.sensitivity, 2)}"
        for number, point in enumerate(readers, start=1)
    )
    return f" Readers (crosses): {found}." if found else ""


def _outside(result: FrocResult) -> str:
    """Describe an operating point outside the axes; empty if it is inside or missing."""
    outside = words.froc_outside(result)
    return f"; operating point outside: {outside}" if outside else ""


def _ring(axes: Axes, x: float, y: float, *, style: Style) -> None:
    axes.plot([x], [y], "o", markersize=9, markeredgewidth=1.6, markerfacecolor="none",
              markeredgecolor=style[0], clip_on=False)  # fmt: skip


def _difference_name(found: PairedDifference, between: str = ", ") -> str:
    metric = words.metric_words(found.metric).split(" (")[0]
    return f"{found.first} \u2212 {found.second}{between}{metric}"


def _from_to(values: Sequence[float]) -> str:
    known = [value for value in values if np.isfinite(value)]
    return f"from {known[0]:.3g} to {known[-1]:.3g}" if known else "not logged"


def _figure(canvas: Canvas, title: str, alt: str) -> Figure:
    stream = io.BytesIO()
    with mpl.rc_context(RC):
        canvas.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    svg = stream.getvalue().decode()
    svg = svg[svg.index("<svg") :]  # no XML prolog and doctype, because it is embedded in HTML
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    return Figure(title, "image/svg+xml", svg.encode(), alt)
