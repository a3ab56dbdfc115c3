"""The figures of a report as SVG: the same numbers give the same bytes, and no font is embedded.

Arms differ by colour and by line style, so that a print in grey can be read.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from medkd.report import words
from medkd.report.contents import TrainingLog
from medkd.types import CPM_RATES, ClassificationResult, Figure, FrocResult, PairedDifference

# Okabe and Ito's palette: told apart by colour-blind readers.
STYLES: dict[str, tuple[str, str]] = {
    "teacher": ("#0072b2", "--"),
    "control": ("#8a6500", ":"),
    "student": ("#b84a00", "-"),
}
OTHER_STYLE = ("#333333", "-.")
# Untyped: the stubs list every key, and each version of matplotlib has others.
RC: dict[Any, Any] = {
    "svg.hashsalt": "medkd",  # otherwise every drawing has other ids
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with $ in it is text
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
Corner = Literal["lower right", "lower left", "upper left"]


def roc_figure(results: Results, split: str) -> Figure:
    """Draw the arms' ROC curves."""
    with mpl.rc_context(RC):
        canvas, axes = _panel("False-positive rate (1 \u2212 specificity)", "Sensitivity")
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, label="chance")
        for arm, result in results.items():
            _curve(axes, arm, result.roc_curve, f"{arm}, AUC {words.number(result.roc_auc.value)}")
        _unit_square(axes, "lower right")
    areas = ", ".join(f"{a} {words.number(r.roc_auc.value)}" for a, r in results.items())
    return _figure(canvas, f"ROC curves, {split} split", f"ROC curves; area under them: {areas}.")


def pr_figure(results: Results, split: str) -> Figure:
    """Draw the arms' precision-recall curves over the prevalence as the chance line."""
    prevalence = next(iter(results.values())).prevalence
    with mpl.rc_context(RC):
        canvas, axes = _panel("Recall (sensitivity)", "Precision")
        axes.axhline(prevalence, color="#999999", linewidth=0.8, label="prevalence")
        for arm, result in results.items():
            name = f"{arm}, area {words.number(result.pr_auc.value)}"
            _curve(axes, arm, result.pr_curve, name)
        _unit_square(axes, "lower left")
    areas = ", ".join(f"{a} {words.number(r.pr_auc.value)}" for a, r in results.items())
    alt = f"Precision-recall curves; average precision: {areas}; chance {prevalence:.3f}."
    return _figure(canvas, f"Precision-recall curves, {split} split", alt)


def reliability_figure(results: Results, split: str) -> Figure:
    """Draw observed share against predicted probability."""
    with mpl.rc_context(RC):
        canvas, axes = _panel("Mean predicted probability", "Observed share of positives")
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, label="perfectly calibrated")
        for arm, result in results.items():
            points = [(predicted, share) for predicted, share, _ in result.reliability]
            error = words.number(result.calibration_error)
            _curve(axes, arm, points, f"{arm}, ECE {error}", marker="o")
        _unit_square(axes, "upper left")
    errors = ", ".join(f"{a} {words.number(r.calibration_error)}" for a, r in results.items())
    alt = f"Observed share against predicted probability; expected calibration error: {errors}."
    return _figure(canvas, f"Reliability, {split} split", alt)


def froc_figure(results: Mapping[str, FrocResult], title: str) -> Figure:
    """Draw FROC curves from 1/8 to 8 false positives a scan, the seven CPM rates marked."""
    with mpl.rc_context(RC):
        canvas, axes = _panel("False positives a scan", "Sensitivity", size_in=(6.4, 4.0))
        for arm, result in results.items():
            _froc_curve(axes, arm, result)
        axes.set_xscale("log", base=2)
        axes.set_xticks(CPM_RATES, ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
        axes.minorticks_off()
        axes.set_xlim(CPM_RATES[0] * 0.95, CPM_RATES[-1] * 1.05)
        axes.set_ylim(-0.02, 1.02)
        axes.legend(loc="lower right")
    scores = ", ".join(f"{a} {words.number(r.cpm_interpolated)}" for a, r in results.items())
    return _figure(canvas, title, f"FROC curves; CPM by interpolation: {scores}.")


def differences_figure(differences: Sequence[PairedDifference]) -> Figure:
    """Draw differences with their intervals against zero."""
    with mpl.rc_context(RC):
        height_in = 1.1 + 0.42 * len(differences)
        canvas, axes = _panel("Difference (right of zero: the first arm is higher)", "",
                              size_in=(7.2, height_in))  # fmt: skip
        axes.axvline(0, color="#333333", linewidth=1)
        for row, found in enumerate(differences):
            value, interval = found.difference.value, found.difference.interval
            if interval is not None:
                axes.plot([interval.low, interval.high], [row, row], color=STYLES["student"][0])
            axes.plot([value], [row], "D" if found.primary else "o", color=STYLES["student"][0])
        axes.set_yticks(range(len(differences)), [_difference_name(d) for d in differences])
        axes.set_ylim(len(differences) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
    said = "; ".join(f"{_difference_name(d)} {words.difference(d.difference)}" for d in differences)
    return _figure(canvas, "Paired differences with intervals", f"Differences: {said}.")


def terms_figure(log: TrainingLog, arm: str) -> Figure:
    """Draw each loss term of an arm over the epochs, in a panel of its own scale."""
    terms = log.terms()
    with mpl.rc_context(RC):
        canvas = Canvas(figsize=(3.4 * min(len(terms), 3), 2.7 * -(-len(terms) // 3)))
        for place, (name, values) in enumerate(terms.items(), start=1):
            axes = canvas.add_subplot(-(-len(terms) // 3), min(len(terms), 3), place)
            axes.plot(log.epochs, values, color=STYLES.get(arm, OTHER_STYLE)[0], marker=".")
            axes.set_title(words.term_words(name), fontsize=10)
            axes.set_xlabel("Epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_ylim(bottom=min(0.0, float(np.nanmin(values, initial=0.0))))
    said = "; ".join(f"{words.term_words(n)} {_from_to(values)}" for n, values in terms.items())
    return _figure(canvas, f"Loss terms of the {arm} while it trained, before their weights",
                   f"One panel a loss term over the epochs: {said}.")  # fmt: skip


def validation_figure(logs: Mapping[str, TrainingLog], column: str) -> Figure:
    """Draw one validation metric of all arms over the epochs."""
    metric = words.metric_words(column.removeprefix("val_"))
    with mpl.rc_context(RC):
        canvas, axes = _panel("Epoch", f"Validation {metric}", size_in=(6.4, 3.2))
        for arm, log in logs.items():
            _curve(axes, arm, list(zip(log.epochs, log.columns[column], strict=True)), arm)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    said = "; ".join(f"{arm} {_from_to(log.columns[column])}" for arm, log in logs.items())
    return _figure(canvas, f"{metric} on validation while training", f"Over the epochs: {said}.")


def _panel(
    x_label: str, y_label: str, *, size_in: tuple[float, float] = SQUARE_IN
) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=size_in)
    axes = canvas.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return canvas, axes


def _unit_square(axes: Axes, legend: Corner) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.legend(loc=legend, fontsize=9)


def _curve(
    axes: Axes,
    arm: str,
    points: Sequence[tuple[float, float]],
    label: str,
    *,
    marker: str | None = None,
) -> None:
    colour, line = STYLES.get(arm, OTHER_STYLE)
    drawn = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    axes.plot(drawn[:, 0], drawn[:, 1], line, color=colour, label=label, marker=marker,
              markersize=4)  # fmt: skip


def _froc_curve(axes: Axes, arm: str, result: FrocResult) -> None:
    """Interpolate as the LUNA16 script does; dotted where no mark is left to draw from."""
    colour, line = STYLES.get(arm, OTHER_STYLE)
    rates = np.asarray([0.0, *result.fp_per_scan])
    found = np.asarray([0.0, *result.sensitivity])
    shown = np.geomspace(CPM_RATES[0], CPM_RATES[-1], 241)
    height = np.interp(shown, rates, found)
    real = shown <= rates.max()
    label = f"{arm}, CPM {words.number(result.cpm_interpolated)}"
    axes.plot(shown[real], height[real], line, color=colour, label=label)
    axes.plot(shown[~real], height[~real], ":", color=colour, linewidth=0.8)
    at = [(rate, result.sensitivity_at.get(f"{rate:g}", np.nan)) for rate in CPM_RATES]
    axes.plot(*np.asarray(at).T, "o", color=colour, markersize=4)


def _difference_name(found: PairedDifference) -> str:
    return f"{found.first} \u2212 {found.second}, {words.metric_words(found.metric)}"


def _from_to(values: Sequence[float]) -> str:
    known = [value for value in values if np.isfinite(value)]
    return f"from {known[0]:.3g} to {known[-1]:.3g}" if known else "not logged"


def _figure(canvas: Canvas, title: str, alt: str) -> Figure:
    stream = io.BytesIO()
    with mpl.rc_context(RC):
        canvas.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    svg = stream.getvalue().decode()
    svg = svg[svg.index("<svg") :]  # no XML prolog and doctype: it stands inside HTML
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    return Figure(title, "image/svg+xml", svg.encode(), alt)
