"""FROC and CPM exactly as LUNA16's official script computes them, with intervals.

CPM is the mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan. It is
reported in two named variants: `cpm_interpolated` (the script's plotted curve) and `cpm_nearest`
(the leaderboard's nearest curve point). Other variants (next point, six rates, box overlap) yield
other values and are not computed. Scans without nodules are included. The matching rules are in
`matching.py`, the curve in `curves.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medkd.evaluate.caution import few_cases_warning
from medkd.evaluate.curves import (
    FrocCurve,
    build_froc_curve,
    count_roc,
    read_interpolated,
    read_nearest,
)
from medkd.evaluate.intervals import Difference, draw_weights, interval_of, two_sided_p
from medkd.evaluate.matching import Matching, match_marks
from medkd.evaluate.metrics import ratio
from medkd.types import (
    CPM_RATES,
    Candidate,
    Estimate,
    FrocResult,
    Interval,
    OperatingPoint,
    PointScores,
    Reference,
)

Float64 = NDArray[np.float64]

RATE_NAMES = tuple(f"{rate:g}" for rate in CPM_RATES)

VARIANT = {
    "hit": "distance from the nodule's centre strictly less than its radius (LPS mm)",
    "assignment": "the best mark inside a nodule is its hit, the others are ignored",
    "ignored": "marks in excluded findings are ignored (diameter < 0 is read as 10 mm)",
    "cap": "100 marks per scan; if there are more, only scores above the 101st are kept",
    "false_positives_per": "scan, including scans without nodules",
    "cpm_interpolated": "mean sensitivity at 7 rates, linear interpolation of the official curve",
    "cpm_nearest": "mean sensitivity at 7 rates, nearest point of the official curve (first)",
}
"""The rules of the computation in words; reports show them beside the numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class _Resampled:
    """Weights [R, S] of the series in each resample, with seed and unit of the draw."""

    weights: Float64
    seed: int
    unit: str

    def interval(self, values: Float64) -> Interval | None:
        return interval_of(values, seed=self.seed, unit=self.unit)


def evaluate_froc(
    marks: Sequence[Candidate],
    reference: Reference,
    *,
    track: str,
    threshold: float | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> FrocResult:
    """Score marks against a reference standard by LUNA16's rules.

    Args:
        marks: all marks of all scans; positions in LPS mm, scores on any scale.
        reference: nodules, excluded findings, the scored series, and their patients if known.
        track: name of what is scored ("whole-scan marks", "given candidates").
        threshold: a frozen operating point; sensitivity, precision and F1 are computed for
            marks with score >= threshold.
        bootstrap: number of resamples, by patient if patients are known, else by series. There
            are no intervals if it is 0 or if there are fewer groups than `intervals.LEAST_GROUPS`.
        seed: seed of the bootstrap.

    Returns:
        Counts, both CPM variants, curve and intervals; irregularities are in `warnings`.

    Raises:
        ValueError: if no series is scored, one is listed twice, or a number is not finite.

    Example:
        >>> from medkd.types import Nodule
        >>> truth = Reference((Nodule("1.2", (0.0, 0.0, 0.0), 8.0),), (), ("1.2", "1.3"))
        >>> hit = Candidate("1.2", (3.0, 0.0, 0.0), score=0.9)
        >>> evaluate_froc([hit], truth, track="example").cpm_interpolated
        1.0
    """
    if not reference.seriesuids:
        raise ValueError("no series to score: the list of series is empty")
    matching = match_marks(marks, reference)
    drawn = _resample(reference, resamples=bootstrap, seed=seed)
    sensitivities = _bootstrap_sensitivity(matching, drawn.weights)
    of_rates = _intervals_of_rates(sensitivities, drawn)
    return replace(
        _score_all(matching, track=track),
        interval=drawn.interval(sensitivities.mean(axis=1)),
        interval_of_curve=_mean_interval(of_rates),
        cpm_bootstrap_mean=_mean(sensitivities),
        sensitivity_intervals=of_rates,
        at_operating_point=(
            None if threshold is None else _score_point(matching, threshold, drawn)
        ),
    )


def froc_difference(
    first: Sequence[Candidate],
    second: Sequence[Candidate],
    reference: Reference,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Difference:
    """Compare the marks of two arms on the same scans by their difference in CPM (interpolated).

    Each resample draws patients (series, if no patient is known) for both arms together. The
    p-value is that of `intervals.two_way_difference`.

    Args:
        first: all marks of one arm.
        second: all marks of the other arm.
        reference: the reference standard of the scans.
        bootstrap: number of resamples; 0 for no interval.
        seed: seed of the bootstrap.
    """
    drawn = _resample(reference, resamples=bootstrap, seed=seed)
    values, resampled = [], []
    for marks in (first, second):
        matching = match_marks(marks, reference)
        values.append(_score_all(matching, track="").cpm_interpolated)
        resampled.append(_bootstrap_sensitivity(matching, drawn.weights).mean(axis=1))
    differences = resampled[0] - resampled[1]
    estimate = Estimate(values[0] - values[1], drawn.interval(differences))
    return Difference(estimate, two_sided_p(differences))


def choose_froc_operating_point(
    marks: Sequence[Candidate],
    reference: Reference,
    *,
    fp_per_scan: float = 1.0,
) -> OperatingPoint:
    """Choose the lowest threshold whose rate of false positives is within a limit.

    Args:
        marks: marks on the scans that the threshold is chosen on.
        reference: reference standard of the same scans.
        fp_per_scan: highest allowed rate, > 0.

    Returns:
        The threshold (marks with score >= threshold are kept), with its sensitivity and rate on
        these scans. If even the highest score exceeds the limit, it is just above that score.
    """
    matching = match_marks(marks, reference)
    scans, nodules = len(reference.seriesuids), int(matching.nodules.sum())
    rule = f"lowest threshold with at most {fp_per_scan:g} false positives per scan"
    if not len(matching.scores):
        rule += "; there were no marks"
        return OperatingPoint(0.5, rule, sensitivity=0.0, fp_per_scan=0.0)
    counts = count_roc(matching.is_nodule, matching.scores, drop_intermediate=False)
    allowed = np.flatnonzero(counts.false_positives <= fp_per_scan * scans)
    if not len(allowed):
        above = float(np.nextafter(counts.thresholds[0], np.inf))
        return OperatingPoint(above, rule, sensitivity=0.0, fp_per_scan=0.0)
    point = int(allowed[-1])
    return OperatingPoint(
        threshold=float(counts.thresholds[point]),
        rule=rule,
        sensitivity=float(counts.true_positives[point]) / nodules if nodules else 0.0,
        fp_per_scan=float(counts.false_positives[point]) / scans,
    )


def score_marks_at(matching: Matching, threshold: float) -> PointScores:
    """Score the marks at or above a threshold, without intervals.

    Args:
        matching: of `match_marks`; it does not depend on the threshold.
        threshold: marks with score >= threshold count.
    """
    nothing = _Resampled(np.zeros((0, len(matching.nodules))), seed=0, unit="")
    return _score_point(matching, threshold, nothing)


def _score_all(matching: Matching, *, track: str) -> FrocResult:
    """Compute counts, curve and CPM, without intervals."""
    scans, nodules = len(matching.nodules), int(matching.nodules.sum())
    found = int(matching.is_nodule.sum())
    curve = build_froc_curve(matching.is_nodule, matching.scores, nodules=nodules, scans=scans)
    interpolated = read_interpolated(curve)
    few = few_cases_warning([(nodules, "nodules")], [(scans, "scans")]) if nodules else ""
    return FrocResult(
        track=track,
        scans=scans,
        nodules=nodules,
        candidates=matching.candidates,
        true_positives=found,
        false_positives=len(matching.scores) - found,
        false_negatives=nodules - found,
        ignored_excluded=matching.ignored_excluded,
        ignored_double=matching.ignored_double,
        cpm_interpolated=float(interpolated.mean()),
        cpm_nearest=float(read_nearest(curve).mean()),
        sensitivity_at=dict(zip(RATE_NAMES, interpolated.tolist(), strict=True)),
        fp_per_scan=tuple(curve.fp_per_scan.tolist()),
        sensitivity=tuple(curve.sensitivity.tolist()),
        thresholds=tuple(curve.thresholds.tolist()),
        warnings=(
            *matching.warnings,
            *_curve_warnings(curve, nodules=nodules),
            *([few] if few else []),
        ),
    )


def _resample(reference: Reference, *, resamples: int, seed: int) -> _Resampled:
    """Resample patients, or series if no patient is known, and return weights per series."""
    uids = reference.seriesuids
    missing = [uid for uid in uids if uid not in reference.patients] if reference.patients else []
    if missing:
        raise ValueError(f"{len(missing)} series have no patient, the first is {missing[0]!r}")
    groups = [reference.patients.get(uid, uid) for uid in uids]
    names, position = np.unique(groups, return_inverse=True)
    weights = draw_weights(len(names), resamples=resamples, seed=seed)[:, position]
    return _Resampled(weights, seed, "patient" if reference.patients else "series")


def _bootstrap_sensitivity(matching: Matching, weights: Float64) -> Float64:
    """Return the interpolated sensitivity [R, 7] of each resample; NaN if it has no nodule.

    The official curve drops points that are midpoints of their neighbours. All points are kept
    here, because interpolation then gives the same values. Marks far beyond the last rate are
    used only for the resamples that need them.
    """
    everything = _sort_entries(matching)
    enough = 2.0 * CPM_RATES[-1] * len(matching.nodules)
    beginning = everything.cut(enough)
    scans, nodules = weights.sum(axis=1), weights @ matching.nodules
    found = np.full((len(weights), len(CPM_RATES)), np.nan)
    for row in np.flatnonzero(nodules):
        false, true = beginning.count(weights[row])
        if false[-1] < CPM_RATES[-1] * scans[row]:
            false, true = everything.count(weights[row])
        found[row] = np.interp(CPM_RATES, false / scans[row], true / nodules[row])
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Entries:
    """Entries by falling score; `last` [P] is the index of the last entry of each equal score."""

    series: NDArray[np.intp]
    is_nodule: Float64
    last: NDArray[np.intp]

    def count(self, weight: Float64) -> tuple[Float64, Float64]:
        """Return false and true positives [P + 1] at each threshold, starting with (0, 0)."""
        counted = weight[self.series]
        true = np.cumsum(counted * self.is_nodule)[self.last]
        false = np.cumsum(counted)[self.last] - true
        return np.r_[0.0, false], np.r_[0.0, true]

    def cut(self, false_positives: float) -> _Entries:
        """Keep the highest scores up to that many false positives, or all if there are fewer."""
        false = np.cumsum(1.0 - self.is_nodule)[self.last]
        last = self.last[: int(np.searchsorted(false, false_positives)) + 1]
        size = int(last[-1]) + 1 if len(last) else 0
        return _Entries(self.series[:size], self.is_nodule[:size], last)


def _sort_entries(matching: Matching) -> _Entries:
    order = np.argsort(-matching.scores, kind="stable")
    ordered = matching.scores[order]
    ends = np.r_[ordered[1:] != ordered[:-1], True] if len(order) else np.zeros(0, dtype=bool)
    return _Entries(
        matching.series[order], matching.is_nodule[order].astype(np.float64), np.flatnonzero(ends)
    )


def _intervals_of_rates(sensitivities: Float64, drawn: _Resampled) -> dict[str, Interval]:
    intervals = [drawn.interval(column) for column in sensitivities.T]
    return {
        name: interval
        for name, interval in zip(RATE_NAMES, intervals, strict=True)
        if interval is not None
    }


def _mean_interval(of_rates: dict[str, Interval]) -> Interval | None:
    """Average the lower and the upper bounds of the intervals at the seven rates `CPM_RATES`.

    Returns None if there are no intervals.
    """
    if not of_rates:
        return None
    low = np.mean([interval.low for interval in of_rates.values()])
    high = np.mean([interval.high for interval in of_rates.values()])
    return replace(next(iter(of_rates.values())), low=float(low), high=float(high))


def _mean(sensitivities: Float64) -> float | None:
    defined = sensitivities[np.isfinite(sensitivities).all(axis=1)]
    return float(defined.mean()) if len(defined) else None


def _score_point(matching: Matching, threshold: float, drawn: _Resampled) -> PointScores:
    """Score the marks at or above a threshold; rates with a zero denominator are 0."""
    marked = matching.scores >= threshold
    series = len(matching.nodules)
    true = np.bincount(matching.series[marked & matching.is_nodule], minlength=series)
    false = np.bincount(matching.series[marked & ~matching.is_nodule], minlength=series)
    counts = np.stack([true, false, matching.nodules - true], axis=1)
    whole = counts.sum(axis=0)
    rates, drawn_rates = _rates(whole[None]), _rates(drawn.weights @ counts)
    sensitivity, precision, f1 = (
        Estimate(float(np.nan_to_num(rates[0, index])), drawn.interval(drawn_rates[:, index]))
        for index in range(3)
    )
    return PointScores(
        threshold=threshold,
        true_positives=int(whole[0]),
        false_positives=int(whole[1]),
        false_negatives=int(whole[2]),
        true_negatives=None,
        sensitivity=sensitivity,
        precision=precision,
        f1=f1,
        fp_per_scan=float(whole[1]) / series,
    )


def _rates(counts: NDArray[np.float64] | NDArray[np.intp]) -> Float64:
    """Compute sensitivity, precision, F1 [R, 3] from TP, FP, FN [R, 3]; NaN if undefined."""
    true, false, missed = np.asarray(counts, dtype=np.float64).T
    numerators = np.stack([true, true, 2 * true], axis=1)
    denominators = np.stack([true + missed, true + false, 2 * true + false + missed], axis=1)
    return ratio(numerators, denominators)


def _curve_warnings(curve: FrocCurve, *, nodules: int) -> tuple[str, ...]:
    if not nodules:
        return ("the reference standard has no nodule: sensitivity and CPM are reported as 0",)
    if not curve.sensitivity.any():
        return ("no mark hits a nodule: sensitivity and CPM are 0",)
    end = float(curve.fp_per_scan.max())
    if end >= CPM_RATES[-1]:
        return ()
    return (
        f"the curve ends at {end:.3f} false positives per scan, below the highest CPM rate of "
        f"{CPM_RATES[-1]:g}: beyond its end cpm_interpolated keeps the last sensitivity, and "
        f"cpm_nearest uses the nearest point (0 if it is {end:.3f} or more away)",
    )
