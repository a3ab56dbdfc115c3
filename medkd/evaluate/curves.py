"""ROC points as computed by scikit-learn, and LUNA16's FROC curve, which is built from them.

LUNA16's score depends on which points the curve has, because at each rate of false positives it
uses the sensitivity of the nearest point. This module therefore drops the same points, and orders
its floating-point operations in the same way, as `noduleCADEvaluationLUNA16.py` (computeFROC) and
`sklearn.metrics.roc_curve`. It does not import scikit-learn, which is slow to import.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medkd.types import CPM_RATES, FrocResult

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RocCounts:
    """False and true positives [P] with score >= thresholds [P], by falling threshold."""

    false_positives: Float64
    true_positives: Float64
    thresholds: Float64


@dataclass(frozen=True, slots=True, eq=False)
class FrocCurve:
    """Points [P] of a FROC curve, starting at (0, 0); false positives never decrease.

    `false_positives` counts marks over all `scans`. The first threshold is just above the highest
    score, where no mark counts.
    """

    false_positives: Float64
    fp_per_scan: Float64
    sensitivity: Float64
    thresholds: Float64
    scans: int


def count_roc(positive: ArrayLike, scores: ArrayLike, *, drop_intermediate: bool) -> RocCounts:
    """Count false and true positives at each unique score, as scikit-learn does.

    Args:
        positive: [N] bool.
        scores: [N] finite, N >= 1.
        drop_intermediate: drop each point that is the midpoint of its two neighbours.

    Returns:
        The counts, without the point (0, 0).
    """
    score = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    last = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
    true = np.cumsum(np.asarray(positive, dtype=np.float64)[order])[last]
    false = 1.0 + last - true
    keep = np.ones(len(last), dtype=bool)
    if drop_intermediate and len(last) > 2:
        keep[1:-1] = (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0)
    return RocCounts(false[keep], true[keep], ordered[last][keep])


def build_froc_curve(
    is_nodule: ArrayLike, scores: ArrayLike, *, nodules: int, scans: int
) -> FrocCurve:
    """Build LUNA16's official FROC curve (computeFROC).

    If no nodule is found, or there is none, the curve is the single point (0, 0). If there is no
    false positive, all points lie at 0 false positives.

    Args:
        is_nodule: [N] True for the best mark of a found nodule, False for a false positive.
        scores: [N] scores of these marks.
        nodules: number of nodules that must be found; missed ones have no row above.
        scans: number of scans that are scored.
    """
    found = np.asarray(is_nodule, dtype=bool)
    detected = float(found.sum())
    if detected < 1:
        origin = np.zeros(1)
        highest = np.max(np.asarray(scores, dtype=np.float64), initial=0.0)
        above = np.array([np.nextafter(highest, np.inf)])
        return FrocCurve(origin, origin, origin, above, scans)
    counts = count_roc(found, scores, drop_intermediate=True)
    false = np.r_[0.0, counts.false_positives]
    true = np.r_[0.0, counts.true_positives]
    # Same order of operations as the script, which converts counts to rates and back.
    per_scan = false / max(false[-1], 1.0) * (len(found) - detected) / scans
    sensitivity = true / true[-1] * detected / nodules
    thresholds = np.r_[np.nextafter(counts.thresholds[0], np.inf), counts.thresholds]
    return FrocCurve(false, per_scan, sensitivity, thresholds, scans)


@dataclass(frozen=True, slots=True, eq=False)
class FrocLine:
    """A FROC curve for drawing: rates and sensitivities [P], from the first to the last CPM rate.

    `measured` [P] is False beyond the last mark, where the curve is extended flat.
    """

    fp_per_scan: Float64
    sensitivity: Float64
    measured: NDArray[np.bool_]


def sample_froc(result: FrocResult) -> FrocLine:
    """Sample a curve for a logarithmic axis, with linear interpolation as in LUNA16's script."""
    rates = np.asarray([0.0, *result.fp_per_scan])
    found = np.asarray([0.0, *result.sensitivity])
    grid = np.geomspace(CPM_RATES[0], CPM_RATES[-1], 121)
    inside = (rates >= grid[0]) & (rates <= grid[-1])
    # The curve never falls, so sorting by rate, then sensitivity, merges grid and curve points.
    x = np.concatenate([grid, rates[inside]])
    y = np.concatenate([np.interp(grid, rates, found), found[inside]])
    order = np.lexsort((y, x))
    x, y = x[order], y[order]
    return FrocLine(x, y, x <= rates.max())


def read_interpolated(curve: FrocCurve) -> Float64:
    """Return the sensitivity [7] at the seven rates `CPM_RATES` by linear interpolation.

    Beyond the end of the curve its last sensitivity is used, as in the curve that LUNA16's script
    plots.
    """
    return np.interp(CPM_RATES, curve.fp_per_scan, curve.sensitivity)


def read_nearest(curve: FrocCurve) -> Float64:
    """Return the sensitivity [7] at the curve point nearest to each rate (getCPM, leaderboard).

    Of equally near points the first is used. If the distance to the nearest point is not smaller
    than the highest rate of the curve, the sensitivity is 0; this is always so without false
    positives. Distances are compared as counts of marks, because rounding of rates could decide
    which of two points is nearer.
    """
    found = np.zeros(len(CPM_RATES))
    for index, rate in enumerate(CPM_RATES):
        distance = np.abs(curve.false_positives - rate * curve.scans)
        nearest = int(distance.argmin())
        if distance[nearest] < curve.false_positives.max():
            found[index] = curve.sensitivity[nearest]
    return found
