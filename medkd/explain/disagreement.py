"""Where teacher and student disagree most: the largest differences of calibrated probability.

In a scan, the peaks of both probability maps are compared. A model has the highest probability
that it gives within `REACH_MM` of the place: the same nodule may peak one cell further in the other
map. For images and listed candidates, the stored predictions are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.io.heat_maps import HeatMap
from medkd.runs import Disagreement, Prediction

REACH_MM = 5.0
LEAST = 0.1
"""Peaks of a lower probability are not compared."""
MOST_PER_CASE = 10
MOST = 500
"""Most rows of the table."""


class _Peaks(NamedTuple):
    """Peaks of a map: [N, 3] LPS mm and probabilities [N]."""

    centers_mm: NDArray[np.float64]
    probabilities: NDArray[np.float64]


def compare_maps(case_id: str, teacher: HeatMap, student: HeatMap) -> list[Disagreement]:
    """Return the greatest disagreements in a scan, greatest first; at most `MOST_PER_CASE`.

    Args:
        case_id: the scan.
        teacher: its probability map of the teacher.
        student: its probability map of the student; the grids may differ.
    """
    rows = [*_at_peaks(case_id, teacher, student), *_at_peaks(case_id, student, teacher)]
    return _apart(order_disagreements(rows))[:MOST_PER_CASE]


def compare_predictions(
    teacher: Iterable[Prediction], student: Iterable[Prediction], labels: Sequence[str]
) -> list[Disagreement]:
    """Return the disagreements on the samples that both have scored, greatest first.

    Args:
        teacher: its predictions for images or candidates.
        student: its predictions.
        labels: names of the K labels of both.
    """
    return order_disagreements(_on_samples(teacher, student, labels))


def rank_cases(
    teacher: Iterable[Prediction], student: Iterable[Prediction], labels: Sequence[str]
) -> list[Disagreement]:
    """Return the greatest disagreement of every case, the greatest first; equal ones by case id.

    Args:
        teacher: its predictions for images or candidates.
        student: its predictions; a case has the greatest value over its samples and labels.
        labels: names of the K labels of both.
    """
    found: dict[str, Disagreement] = {}
    for row in _on_samples(teacher, student, labels):
        known = found.get(row.case_id)
        if known is None or abs(row.difference) > abs(known.difference):
            found[row.case_id] = row
    return sorted(found.values(), key=lambda row: (-abs(row.difference), row.case_id))


def _on_samples(
    teacher: Iterable[Prediction], student: Iterable[Prediction], labels: Sequence[str]
) -> Iterator[Disagreement]:
    """Yield both probabilities for each label of the samples that both have scored."""
    known = {row.sample_id: row for row in teacher}
    for row in student:
        if row.sample_id not in known:
            continue
        both = zip(labels, known[row.sample_id].probabilities, row.probabilities, strict=True)
        for label, before, after in both:
            yield Disagreement(row.seriesuid, label, before, after, row.center_mm)


def order_disagreements(rows: Iterable[Disagreement]) -> list[Disagreement]:
    """Return disagreements with the greatest first, at most `MOST`."""
    return sorted(rows, key=lambda row: -abs(row.difference))[:MOST]


def probability_maps(maps: Iterable[HeatMap]) -> Mapping[str, HeatMap]:
    """Return the probability maps of a case by arm."""
    return {one.arm: one for one in maps if one.kind == "probability"}


def _at_peaks(case_id: str, own: HeatMap, other: HeatMap) -> Iterator[Disagreement]:
    """Yield both probabilities at the peaks of one map; the arm of a map says whose it is."""
    peaks = _find_peaks(own)
    near = _highest_near(other, peaks.centers_mm)
    places = np.round(peaks.centers_mm, 2).tolist()
    for place_mm, mine, others in zip(places, peaks.probabilities, near, strict=True):
        by_arm = {own.arm: round(float(mine), 3), other.arm: round(float(others), 3)}
        x, y, z = place_mm
        yield Disagreement(case_id, own.label, by_arm["teacher"], by_arm["student"], (x, y, z))


def _find_peaks(heat_map: HeatMap) -> _Peaks:
    values = heat_map.values
    highest = ndimage.maximum_filter(values, size=3)
    cells = np.argwhere((values == highest) & (values >= LEAST * 255))
    return _Peaks(heat_map.grid.voxel_to_world(cells), values[tuple(cells.T)] / 255)


def _highest_near(heat_map: HeatMap, centers_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the highest probability near each place [N]; 0 outside the map."""
    grid = heat_map.grid
    size = 2 * np.round(REACH_MM / grid.spacing_mm).astype(int) + 1
    highest = ndimage.maximum_filter(heat_map.values, size=size.tolist(), mode="constant")
    cells = np.rint(grid.world_to_voxel(centers_mm.reshape(-1, 3))).astype(int)
    inside = grid.contains_world(centers_mm.reshape(-1, 3))
    cells = np.clip(cells, 0, np.asarray(grid.shape) - 1)
    return np.where(inside, highest[tuple(cells.T)] / 255, 0.0)


def _apart(rows: Sequence[Disagreement]) -> list[Disagreement]:
    """Drop places that are near one with a greater disagreement."""
    kept: list[Disagreement] = []
    for row in rows:
        others = np.array([other.center_mm for other in kept]).reshape(-1, 3)
        if (np.linalg.norm(others - np.asarray(row.center_mm), axis=1) > REACH_MM).all():
            kept.append(row)
    return kept
