"""ROC points as scikit-learn makes them, and the FROC curve that LUNA16's script makes of them.

LUNA16's score depends on which points of the curve exist (it reads the nearest one), so the
points dropped and the floating-point order of `noduleCADEvaluationLUNA16.py` (computeFROC) and of
`sklearn.metrics.roc_curve` are followed to the letter, without the cost of importing scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medkd.types import CPM_RATES

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RocCounts:
    """False and true positives [P] with score >= thresholds [P], thresholds falling."""

    false_positives: Float64
    true_positives: Float64
    thresholds: Float64


@dataclass(frozen=True, slots=True, eq=False)
class FrocCurve:
    """Points [P] of a FROC curve from (0, 0) on; false positives never fall.

    `false_positives` are whole marks in all `scans`. The first threshold is just above the
    highest score: nothing is marked there.
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
        drop_intermediate: drop a point if it lies evenly between its neighbours.

    Returns:
        Counts without the point (0, 0).
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
    """Build the official curve (computeFROC).

    No nodule found, or none there: the curve is the point (0, 0). No false positive: all points
    stand at 0 false positives.

    Args:
        is_nodule: [N] True for the best mark of a found nodule, False for a false positive.
        scores: [N] their scores.
        nodules: all that must be found; those missed have no row.
        scans: all that count.
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
    # The order of operations is the script's: it goes through rates and back to counts.
    per_scan = false / max(false[-1], 1.0) * (len(found) - detected) / scans
    sensitivity = true / true[-1] * detected / nodules
    thresholds = np.r_[np.nextafter(counts.thresholds[0], np.inf), counts.thresholds]
    return FrocCurve(false, per_scan, sensitivity, thresholds, scans)


def read_interpolated(curve: FrocCurve) -> Float64:
    """Read the sensitivity [7] at the seven rates by linear interpolation.

    Right of the curve's end its last sensitivity stands, as in the script's plotted curve.
    """
    return np.interp(CPM_RATES, curve.fp_per_scan, curve.sensitivity)


def read_nearest(curve: FrocCurve) -> Float64:
    """Read the sensitivity [7] at the curve point nearest to each rate (getCPM, leaderboard).

    The first of equally near points counts; a point must be nearer than the curve's highest
    rate, else the sensitivity is 0 there (so it is without any false positive). Distances are
    compared in whole marks, so that rounding does not decide which of two is nearer.
    """
    found = np.zeros(len(CPM_RATES))
    for index, rate in enumerate(CPM_RATES):
        distance = np.abs(curve.false_positives - rate * curve.scans)
        nearest = int(distance.argmin())
        if distance[nearest] < curve.false_positives.max():
            found[index] = curve.sensitivity[nearest]
    return found
