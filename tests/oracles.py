"""Slow oracles: the same numbers as the package, from the published rules, by plain loops.

Written from the rules (LUNA16's evaluation page and script, the papers named at each function)
and not from the package's code; they share nothing with it but the frozen types.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkd.types import Candidate, Nodule, Reference

RATES = [Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), *map(Fraction, (1, 2, 4, 8))]


@dataclass(frozen=True)
class FrocOracle:
    """Counts and exact curve points (false positives, found nodules), highest score first."""

    candidates: int
    true_positives: int
    false_positives: int
    false_negatives: int
    ignored_excluded: int
    ignored_double: int
    points: list[tuple[int, int]]
    scans: int
    nodules: int

    def interpolated(self) -> list[float]:
        """Sensitivity at each rate by straight lines between points."""
        return [float(self._interpolate(rate * self.scans)) for rate in RATES]

    def nearest(self) -> list[float]:
        """Sensitivity at each rate of the first nearest point, if nearer than the curve is long."""
        return [float(self._nearest(rate * self.scans)) for rate in RATES]

    def _sensitivity(self, found: Fraction | int) -> Fraction:
        return Fraction(found) / self.nodules if self.nodules else Fraction(0)

    def _interpolate(self, at: Fraction) -> Fraction:
        at_or_left = [point for point in self.points if point[0] <= at]
        right = [point for point in self.points if point[0] > at]
        low = at_or_left[-1]  # the last: at a vertical step its upper end
        if not right:
            return self._sensitivity(low[1])
        share = Fraction(at - low[0]) / (right[0][0] - low[0])
        return self._sensitivity(low[1] + share * (right[0][1] - low[1]))

    def _nearest(self, at: Fraction) -> Fraction:
        best = Fraction(max(false for false, _ in self.points))
        sensitivity = Fraction(0)
        for false, found in self.points:
            if abs(false - at) < best:
                best = abs(false - at)
                sensitivity = self._sensitivity(found)
        return sensitivity


def score_froc(
    marks: Sequence[Candidate], reference: Reference, times: Mapping[str, int] | None = None
) -> FrocOracle:
    """Score marks by LUNA16's rules; `times` says how often each series is in a resample."""
    positive: list[float] = []
    negative: list[float] = []
    candidates = missed = excluded = double = 0
    for uid in reference.seriesuids:
        for _ in range(1 if times is None else times[uid]):
            scan = _score_scan(
                [mark for mark in marks if mark.seriesuid == uid],
                [nodule for nodule in reference.nodules if nodule.seriesuid == uid],
                [nodule for nodule in reference.excluded if nodule.seriesuid == uid],
            )
            positive += scan.found
            negative += scan.false
            candidates += scan.candidates
            missed += scan.missed
            excluded += scan.excluded
            double += scan.double
    return FrocOracle(
        candidates=candidates,
        true_positives=len(positive),
        false_positives=len(negative),
        false_negatives=missed,
        ignored_excluded=excluded,
        ignored_double=double,
        points=_froc_points(positive, negative),
        scans=len(reference.seriesuids) if times is None else sum(times.values()),
        nodules=len(positive) + missed,
    )


@dataclass
class _Scan:
    found: list[float]
    false: list[float]
    candidates: int
    missed: int
    excluded: int
    double: int


def _score_scan(marks: list[Candidate], nodules: list[Nodule], excluded: list[Nodule]) -> _Scan:
    if len(marks) > 100:
        cut = sorted((mark.score for mark in marks), reverse=True)[100]
        marks = [mark for mark in marks if mark.score > cut]
    free = list(range(len(marks)))
    scan = _Scan([], [], len(marks), 0, 0, 0)
    for nodule in nodules:
        inside = [index for index, mark in enumerate(marks) if _hits(mark, nodule)]
        free = [index for index in free if index not in inside]
        if inside:
            scan.found.append(max(marks[index].score for index in inside))
            scan.double += len(inside) - 1
        else:
            scan.missed += 1
    for finding in excluded:
        for index in list(free):
            if _hits(marks[index], finding):
                free.remove(index)
                scan.excluded += 1
    scan.false = [marks[index].score for index in free]
    return scan


def _hits(mark: Candidate, nodule: Nodule) -> bool:
    diameter = 10.0 if nodule.diameter_mm < 0 else nodule.diameter_mm
    squared = sum((a - b) ** 2 for a, b in zip(mark.center_mm, nodule.center_mm, strict=True))
    return squared < (diameter / 2) ** 2


def _froc_points(positive: list[float], negative: list[float]) -> list[tuple[int, int]]:
    """All thresholds, without those that lie evenly between their neighbours; from (0, 0)."""
    if not positive:
        return [(0, 0)]
    points = [
        (sum(s >= threshold for s in negative), sum(s >= threshold for s in positive))
        for threshold in sorted({*positive, *negative}, reverse=True)
    ]
    kept = [
        point
        for index, point in enumerate(points)
        if index in (0, len(points) - 1)
        or any(points[index - 1][a] + points[index + 1][a] != 2 * point[a] for a in (0, 1))
    ]
    return [(0, 0), *kept]


def count_pairs_auc(labels: Sequence[int], scores: Sequence[float]) -> float:
    """ROC AUC as the share of (positive, negative) pairs in right order, ties half."""
    won = pairs = 0.0
    for label_a, score_a in zip(labels, scores, strict=True):
        for label_b, score_b in zip(labels, scores, strict=True):
            if label_a == 1 and label_b == 0:
                pairs += 1
                won += 1.0 if score_a > score_b else 0.5 if score_a == score_b else 0.0
    return won / pairs if pairs else math.nan


def walk_average_precision(labels: Sequence[int], scores: Sequence[float]) -> float:
    """Average precision: recall step times precision, threshold after threshold."""
    total = sum(labels)
    area = recall_before = 0.0
    for threshold in sorted(set(scores), reverse=True):
        called = [label for label, s in zip(labels, scores, strict=True) if s >= threshold]
        recall = sum(called) / total
        area += (recall - recall_before) * sum(called) / len(called)
        recall_before = recall
    return area


def count_confusion(labels: Sequence[int], decisions: Sequence[int]) -> dict[str, int]:
    """True and false, positives and negatives, one sample at a time."""
    counts = {"tp": 0, "fp": 0, "fn": 0, "tn": 0}
    for label, decision in zip(labels, decisions, strict=True):
        right = "t" if label == decision else "f"
        counts[right + ("p" if decision else "n")] += 1
    return counts


def walk_calibration_error(
    labels: Sequence[int], probabilities: Sequence[float], bins: int
) -> float:
    """Expected calibration error over equally wide bins (Naeini et al., AAAI 2015)."""
    error = 0.0
    for number in range(bins):
        rows = [
            index
            for index, probability in enumerate(probabilities)
            if min(int(probability * bins), bins - 1) == number
        ]
        if rows:
            confidence = sum(probabilities[index] for index in rows) / len(rows)
            share = sum(labels[index] for index in rows) / len(rows)
            error += len(rows) / len(labels) * abs(confidence - share)
    return error


def grad_cam(network: Any, layer: Any, views: Any, output: int) -> NDArray[np.float64]:
    """Grad-CAM, Selvaraju et al. 2017, equations 1 and 2, with loops over samples and channels.

    Args:
        network: a classifier in eval mode.
        layer: the submodule whose output is weighted.
        views: [B, C, *spatial].
        output: number of the logit.
    """
    import torch

    maps = []
    for view in views:
        kept = []
        hook = layer.register_forward_hook(
            lambda _module, _inputs, out, kept=kept: kept.append(out)
        )
        logit = network(view[None])[0, output]
        hook.remove()
        (gradient,) = torch.autograd.grad(logit, kept[0])
        features = kept[0][0].detach().double().numpy()
        total = np.zeros(features.shape[1:])
        for channel, feature in enumerate(features):
            weight = gradient[0, channel].double().numpy().sum() / feature.size
            total += weight * feature
        maps.append(np.maximum(total, 0))
    return np.stack(maps)


def loop_over_quadruples(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Unbiased HSIC by its definition as a U-statistic, Song et al. 2012, section 2.3.

    The three terms E[k l], E[k] E[l] and -2 E[k l'] are means over samples i, j, q, r that all
    differ.

    Args:
        first: [n, n] kernel.
        second: [n, n] kernel of the same samples.
    """
    places = range(len(first))
    terms = [
        first[i, j] * (second[i, j] + second[q, r] - 2 * second[i, q])
        for i in places
        for j in places
        for q in places
        for r in places
        if len({i, j, q, r}) == 4
    ]
    return float(sum(terms) / len(terms))
