"""Matching of marks to nodules by LUNA16's rules (noduleCADEvaluationLUNA16.py, evaluateCAD).

Each scan is matched separately:

- At most 100 marks per scan are used. If there are more, only marks with a score above the 101st
  are kept, so all marks tied with the 101st are dropped.
- A mark hits a nodule if its distance from the centre is strictly less than the radius. A
  diameter below 0 is read as 10 mm.
- Marks inside an included nodule are not false positives. The highest of their scores is the
  nodule's score; the others are ignored. A mark inside two nodules counts for both.
- Of the remaining marks, those inside an excluded finding are ignored.
- Every row counts as a mark, even if it repeats another row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medkd.types import Candidate, Nodule, Reference

Float64 = NDArray[np.float64]

MAX_MARKS = 100
"""Maximum number of marks per scan that LUNA16 scores."""
UNKNOWN_DIAMETER_MM = 10.0
"""Diameter used for nodules with a negative diameter."""
_SHOWN = 3


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """The result of matching all marks.

    `scores`, `is_nodule` and `series` [N] have one row per found nodule (its best mark) and one
    per false positive. `series` is an index into the reference's seriesuids. `nodules` [S] is the
    number of included nodules of each series.
    """

    scores: Float64
    is_nodule: NDArray[np.bool_]
    series: NDArray[np.intp]
    nodules: NDArray[np.intp]
    candidates: int
    ignored_excluded: int
    ignored_double: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Points:
    """Points of all series, sorted by series: places [N, 3] mm, values [N], starts [S + 1]."""

    places_mm: Float64
    values: Float64
    starts: NDArray[np.intp]

    def of(self, series: int) -> tuple[Float64, Float64]:
        """Return positions and values of one series."""
        rows = slice(self.starts[series], self.starts[series + 1])
        return self.places_mm[rows], self.values[rows]


@dataclass(frozen=True, slots=True, eq=False)
class _ScanMatch:
    """Match of one scan: best score per found nodule, scores of false positives, counts."""

    found: Float64
    false: Float64
    candidates: int
    excluded: int
    double: int
    twice: int


def match_marks(marks: Sequence[Candidate], reference: Reference) -> Matching:
    """Match marks to the reference standard by LUNA16's rules.

    Args:
        marks: marks of any number of series; marks of unscored series give a warning.
        reference: nodules, excluded findings and the scored series.

    Raises:
        ValueError: if a series is listed twice, or a score or position is not finite.
    """
    position = {uid: index for index, uid in enumerate(reference.seriesuids)}
    if len(position) != len(reference.seriesuids):
        raise ValueError("a series is listed twice among the scored series")
    nodules, excluded = (
        _group(findings, [finding.diameter_mm for finding in findings], position)
        for findings in (reference.nodules, reference.excluded)
    )
    pool = _group(marks, [mark.score for mark in marks], position)
    scans = [_match_scan(pool.of(s), nodules.of(s), excluded.of(s)) for s in range(len(position))]
    found = [scan.found for scan in scans]
    false = [scan.false for scan in scans]
    scores = np.concatenate([np.zeros(0), *found, *false])
    twice = {uid: scan.twice for uid, scan in zip(reference.seriesuids, scans, strict=True)}
    return Matching(
        scores=scores,
        is_nodule=np.arange(len(scores)) < sum(map(len, found)),
        series=np.concatenate(
            [np.repeat(np.arange(len(scans)), list(map(len, part))) for part in (found, false)]
        ),
        nodules=np.diff(nodules.starts),
        candidates=sum(scan.candidates for scan in scans),
        ignored_excluded=sum(scan.excluded for scan in scans),
        ignored_double=sum(scan.double for scan in scans),
        warnings=tuple(_collect_warnings(marks, reference, position) + _warn_twice(twice)),
    )


def nodule_scores(marks: Sequence[Candidate], reference: Reference) -> Float64:
    """Return the score of the best mark on each nodule, by the same rules.

    Args:
        marks: marks of any number of series.
        reference: its included nodules, K in all.

    Returns:
        [K] in the order of `reference.nodules`; -inf for a nodule without a mark.
    """
    position = {uid: index for index, uid in enumerate(reference.seriesuids)}
    pool = _group(marks, [mark.score for mark in marks], position)
    kept = [_cap(*pool.of(index)) for index in range(len(position))]
    best = np.full(len(reference.nodules), -np.inf)
    for row, nodule in enumerate(reference.nodules):
        places_mm, scores = kept[position[nodule.seriesuid]]
        center, diameter = np.array([nodule.center_mm]), np.array([nodule.diameter_mm])
        best[row] = scores[_inside(places_mm, center, diameter)[:, 0]].max(initial=-np.inf)
    return best


def find_hits(marks: Sequence[Candidate], findings: Sequence[Nodule]) -> NDArray[np.bool_]:
    """Return which marks of one scan lie inside which of its findings, by the same rules.

    Args:
        marks: M marks of the scan; all of them, without the limit of 100.
        findings: K nodules or excluded findings of the scan.

    Returns:
        [M, K] booleans.
    """
    places = np.asarray([mark.center_mm for mark in marks], dtype=np.float64).reshape(-1, 3)
    centers = np.asarray([finding.center_mm for finding in findings], dtype=np.float64)
    diameters = np.asarray([finding.diameter_mm for finding in findings], dtype=np.float64)
    return _inside(places, centers.reshape(-1, 3), diameters)


def cap_score(scores: ArrayLike) -> float:
    """Return the score that a mark of a scan must exceed to be scored.

    Args:
        scores: those of all marks of the scan.

    Returns:
        The 101st highest score; -inf if there are at most 100 marks.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64))[::-1]
    return float(ordered[MAX_MARKS]) if len(ordered) > MAX_MARKS else -np.inf


def _match_scan(
    marks: tuple[Float64, Float64],
    nodules: tuple[Float64, Float64],
    excluded: tuple[Float64, Float64],
) -> _ScanMatch:
    places_mm, scores = _cap(*marks)
    in_nodule = _inside(places_mm, *nodules)
    taken = in_nodule.any(axis=1)
    ignored = ~taken & _inside(places_mm, *excluded).any(axis=1)
    hits = in_nodule.sum(axis=0)
    best = np.where(in_nodule, scores[:, None], -np.inf).max(axis=0, initial=-np.inf)
    return _ScanMatch(
        found=best[hits > 0],
        false=scores[~taken & ~ignored],
        candidates=len(scores),
        excluded=int(ignored.sum()),
        double=int(np.maximum(hits - 1, 0).sum()),
        twice=int((in_nodule.sum(axis=1) > 1).sum()),
    )


def _cap(places_mm: Float64, scores: Float64) -> tuple[Float64, Float64]:
    """Keep the marks with a score above the 101st, if there are more than 100."""
    kept = scores > cap_score(scores)
    return places_mm[kept], scores[kept]


def _inside(places_mm: Float64, centers_mm: Float64, diameters_mm: Float64) -> NDArray[np.bool_]:
    """Return [M, K] booleans: whether each of M positions lies inside each of K spheres."""
    diameters = np.where(diameters_mm < 0, UNKNOWN_DIAMETER_MM, diameters_mm)
    offset = places_mm[:, None, :] - centers_mm[None, :, :]
    squared = offset[..., 0] ** 2 + offset[..., 1] ** 2 + offset[..., 2] ** 2
    return np.asarray(squared < (diameters / 2.0) ** 2)


def _group(
    points: Sequence[Candidate] | Sequence[Nodule],
    values: Sequence[float],
    position: dict[str, int],
) -> _Points:
    """Sort the points of the scored series, each with one value, by series."""
    index = np.asarray([position.get(point.seriesuid, -1) for point in points], dtype=np.intp)
    order = np.argsort(index, kind="stable")
    order = order[np.searchsorted(index[order], 0) :]
    places = np.asarray([point.center_mm for point in points], dtype=np.float64)
    places = places.reshape(-1, 3)[order]
    value = np.asarray(values, dtype=np.float64)[order]
    if not (np.isfinite(places).all() and np.isfinite(value).all()):
        raise ValueError("positions, scores and diameters must be finite numbers")
    return _Points(places, value, np.searchsorted(index[order], np.arange(len(position) + 1)))


def _collect_warnings(
    marks: Sequence[Candidate], reference: Reference, position: dict[str, int]
) -> list[str]:
    warnings = []
    unknown = sorted({m.seriesuid for m in marks if m.seriesuid not in position})
    if unknown:
        count = sum(m.seriesuid not in position for m in marks)
        warnings.append(
            f"{count} marks of {len(unknown)} series outside the list of scored series were "
            f"ignored: {_some(unknown)}"
        )
    outside = [n.seriesuid for n in reference.nodules if n.seriesuid not in position]
    if outside:
        warnings.append(
            f"{len(outside)} nodules of series outside the list of scored series were ignored: "
            f"{_some(sorted(set(outside)))}"
        )
    rows = [(m.seriesuid, m.center_mm, m.score) for m in marks]
    if repeated := len(rows) - len(set(rows)):
        warnings.append(f"{repeated} rows of marks repeat another row; each row counts as a mark")
    unsized = sum(n.diameter_mm <= 0 for n in reference.nodules)
    if unsized:
        warnings.append(
            f"{unsized} included nodules have no valid diameter: a diameter below 0 is read as "
            f"{UNKNOWN_DIAMETER_MM:g} mm, and a nodule with diameter 0 cannot be hit"
        )
    return warnings


def _warn_twice(twice: dict[str, int]) -> list[str]:
    series = [uid for uid, count in twice.items() if count]
    if not series:
        return []
    return [
        f"{sum(twice.values())} marks lie in two or more included nodules and count for each "
        f"(overlapping annotations): {_some(series)}"
    ]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
