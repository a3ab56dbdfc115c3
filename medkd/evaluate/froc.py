"""FROC and CPM exactly as LUNA16's official script computes them, with intervals.

CPM is the mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives a scan, in two named
readings: `cpm_interpolated` (the script's plotted curve) and `cpm_nearest` (the leaderboard's
nearest curve point). Any other variant (next point, six rates, box overlap) is another number.
Scans without nodules count. Matching rules: `matching.py`; the curve: `curves.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medkd.evaluate.caution import few_words
from medkd.evaluate.curves import (
    FrocCurve,
    build_froc_curve,
    count_roc,
    read_interpolated,
    read_nearest,
)
from medkd.evaluate.intervals import draw_weights, interval_of, resamples_for
from medkd.evaluate.matching import Matching, match_marks
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
    "hit": "mark strictly nearer to the nodule's centre than its radius (LPS mm)",
    "assignment": "best mark inside a nodule counts, further ones are ignored",
    "ignored": "marks in excluded findings are neither right nor wrong (diameter < 0: 10 mm)",
    "cap": "100 marks a scan, ties at the 101st dropped",
    "false_positives_per": "scan, scans without nodules included",
    "cpm_interpolated": "mean sensitivity at 7 rates, linear interpolation of the official curve",
    "cpm_nearest": "mean sensitivity at 7 rates, nearest point of the official curve (first)",
}
"""What was computed, in words, for every report that shows the numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class _Resampled:
    """Weights [R, S] of the series, and how they were drawn."""

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
    """Score marks against a reference standard, LUNA16-exact.

    Args:
        marks: every mark of every scan; places in LPS mm, scores of any scale.
        reference: nodules, excluded findings, the series that count, their patients if known.
        track: what was scored, in words ("whole-scan marks", "given candidates").
        threshold: a frozen operating point; sensitivity, precision and F1 are given for
            marks with score >= threshold.
        bootstrap: resamples by patient where patients are known, else by series; 0 for none,
            and none of fewer than `intervals.LEAST_GROUPS`.
        seed: of the bootstrap.

    Returns:
        Counts, both CPM readings, curve, intervals; oddities in `warnings`.

    Raises:
        ValueError: if no series counts, one is named twice, or a number is not finite.

    Example:
        >>> from medkd.types import Nodule
        >>> truth = Reference((Nodule("1.2", (0.0, 0.0, 0.0), 8.0),), (), ("1.2", "1.3"))
        >>> hit = Candidate("1.2", (3.0, 0.0, 0.0), score=0.9)
        >>> evaluate_froc([hit], truth, track="example").cpm_interpolated
        1.0
    """
    if not reference.seriesuids:
        raise ValueError("no series counts: the list of series is empty")
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


def choose_froc_operating_point(
    marks: Sequence[Candidate],
    reference: Reference,
    *,
    fp_per_scan: float = 1.0,
    chosen_on: str = "validation",
) -> OperatingPoint:
    """Choose the lowest threshold that stays within a rate of false positives.

    Args:
        marks: of the scans that the threshold is chosen on.
        reference: of the same scans.
        fp_per_scan: rate allowed, > 0.
        chosen_on: name of the split.

    Returns:
        A threshold (marks with score >= it count) with the sensitivity and rate it had there;
        just above the highest score if even that is too many.
    """
    matching = match_marks(marks, reference)
    scans, nodules = len(reference.seriesuids), int(matching.nodules.sum())
    rule = f"lowest threshold with at most {fp_per_scan:g} false positives a scan"
    if not len(matching.scores):
        return OperatingPoint(0.5, f"{rule}; no mark to choose by", chosen_on, 0.0, None, 0.0)
    counts = count_roc(matching.is_nodule, matching.scores, drop_intermediate=False)
    allowed = np.flatnonzero(counts.false_positives <= fp_per_scan * scans)
    if not len(allowed):
        above = float(np.nextafter(counts.thresholds[0], np.inf))
        return OperatingPoint(above, rule, chosen_on, 0.0, None, 0.0)
    point = int(allowed[-1])
    return OperatingPoint(
        threshold=float(counts.thresholds[point]),
        rule=rule,
        chosen_on=chosen_on,
        sensitivity=float(counts.true_positives[point]) / nodules if nodules else 0.0,
        fp_per_scan=float(counts.false_positives[point]) / scans,
    )


def _score_all(matching: Matching, *, track: str) -> FrocResult:
    """Count, build the curve and read it; no intervals."""
    scans, nodules = len(matching.nodules), int(matching.nodules.sum())
    found = int(matching.is_nodule.sum())
    curve = build_froc_curve(matching.is_nodule, matching.scores, nodules=nodules, scans=scans)
    interpolated = read_interpolated(curve)
    few = few_words([(nodules, "nodules")], [(scans, "scans")]) if nodules else ""
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
    """Draw patients (series, where no patient is known) and weigh their series."""
    uids = reference.seriesuids
    missing = [uid for uid in uids if uid not in reference.patients] if reference.patients else []
    if missing:
        raise ValueError(f"{len(missing)} series have no patient, the first is {missing[0]!r}")
    groups = [reference.patients.get(uid, uid) for uid in uids]
    names, position = np.unique(groups, return_inverse=True)
    resamples = resamples_for(len(names), resamples)
    weights = draw_weights(len(names), resamples=resamples, seed=seed)[:, position]
    return _Resampled(weights, seed, "patient" if reference.patients else "series")


def _bootstrap_sensitivity(matching: Matching, weights: Float64) -> Float64:
    """Return the interpolated sensitivity [R, 7] of each resample; NaN if it has no nodule.

    Points dropped from the official curve lie evenly between their neighbours, so that all
    points may stay here: interpolation gives the same. Marks far beyond the last rate are left
    aside unless a resample needs them.
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
    """Scored entries from the highest score down; `last` [P] ends each group of equal scores."""

    series: NDArray[np.intp]
    is_nodule: Float64
    last: NDArray[np.intp]

    def count(self, weight: Float64) -> tuple[Float64, Float64]:
        """Return false and true positives [P + 1] at each threshold, from (0, 0) on."""
        counted = weight[self.series]
        true = np.cumsum(counted * self.is_nodule)[self.last]
        false = np.cumsum(counted)[self.last] - true
        return np.r_[0.0, false], np.r_[0.0, true]

    def cut(self, false_positives: float) -> _Entries:
        """Keep the highest scores, down to that many false positives (or all)."""
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
    """Average the bounds of the bootstrap curve over the seven rates."""
    if not of_rates:
        return None
    low = np.mean([interval.low for interval in of_rates.values()])
    high = np.mean([interval.high for interval in of_rates.values()])
    return replace(next(iter(of_rates.values())), low=float(low), high=float(high))


def _mean(sensitivities: Float64) -> float | None:
    defined = sensitivities[np.isfinite(sensitivities).all(axis=1)]
    return float(defined.mean()) if len(defined) else None


def _score_point(matching: Matching, threshold: float, drawn: _Resampled) -> PointScores:
    """Score the marks at or above a threshold; rates without a denominator are 0."""
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
    """Turn TP, FP, FN [R, 3] into sensitivity, precision, F1 [R, 3] (NaN where undefined)."""
    true, false, missed = np.asarray(counts, dtype=np.float64).T
    numerators = np.stack([true, true, 2 * true], axis=1)
    denominators = np.stack([true + missed, true + false, 2 * true + false + missed], axis=1)
    rates = np.full(numerators.shape, np.nan)
    np.divide(numerators, denominators, out=rates, where=denominators > 0)
    return rates


def _curve_warnings(curve: FrocCurve, *, nodules: int) -> tuple[str, ...]:
    if not nodules:
        return ("there is no nodule to find: sensitivity and CPM are shown as 0",)
    if not curve.sensitivity.any():
        return ("no mark hits a nodule: sensitivity and CPM are 0",)
    end = float(curve.fp_per_scan.max())
    if end >= CPM_RATES[-1]:
        return ()
    return (
        f"the curve ends at {end:.3f} false positives a scan: beyond it cpm_interpolated keeps "
        "the last sensitivity, and cpm_nearest takes the nearest point (0 if none is nearer "
        "than the curve is long)",
    )
