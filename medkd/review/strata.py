"""Sensitivity and false marks by size and by place in the lungs, at one threshold.

The reference standard of a RUN has diameters but no places. A search of whole scans records the
place of each mark. A nodule has the place of the nearest stored mark of any arm: marks are dense,
and a third of a lung is large compared with their distance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medkd.evaluate.strata import SIZES, size_class
from medkd.review.misses import Findings, WrongPlace
from medkd.types import CaseResult, LungPlace, Point

NEAR_MM = 30.0
"""A nodule farther than this from every stored mark has no known place."""

UNKNOWN = "not known"
ALL = "all"


@dataclass(frozen=True, slots=True)
class Stratum:
    """The nodules of a group, and how many were found.

    `false_marks` is None where false marks do not have the property that defines the group.
    """

    kind: str
    name: str
    nodules: int
    found: int
    false_marks: int | None = None

    @property
    def sensitivity(self) -> float | None:
        """The share of the nodules that was found, 0..1; None without a nodule."""
        return self.found / self.nodules if self.nodules else None


@dataclass(frozen=True, slots=True)
class LungMap:
    """The stored marks of each scan that have a known place in the lungs."""

    places: Mapping[str, Sequence[tuple[Point, LungPlace]]]

    def find(self, case_id: str, center_mm: Point) -> LungPlace | None:
        """Return the place of the nearest mark; None if there is none within `NEAR_MM`."""
        known = self.places.get(case_id, ())
        if not known:
            return None
        gaps = np.linalg.norm(np.array([point for point, _ in known]) - center_mm, axis=1)
        nearest = int(gaps.argmin())
        return known[nearest][1] if gaps[nearest] <= NEAR_MM else None


def build_lung_map(searches: Iterable[CaseResult]) -> LungMap:
    """Collect the places that searches of any arms recorded."""
    places: dict[str, list[tuple[Point, LungPlace]]] = defaultdict(list)
    for result in searches:
        for mark, place in zip(result.candidates, result.places, strict=False):
            if place.lung is not None:
                places[result.seriesuid].append((mark.center_mm, place.lung))
    return LungMap(dict(places))


def find_strata(
    findings: Findings,
    missed: Sequence[WrongPlace],
    false_marks: Sequence[WrongPlace],
    lungs: LungMap,
) -> list[Stratum]:
    """Count nodules, found nodules and false marks in each group.

    Args:
        findings: the reference standard of the scored scans.
        missed: of `find_missed`, at the threshold.
        false_marks: of `find_false_marks`, at the threshold.
        lungs: where the nodules and marks are.

    Returns:
        All nodules, then the groups by diameter, lung, and third of the lung's height; groups
        without a nodule and without a false mark are omitted.
    """
    every = [
        (case_id, nodule.center_mm, nodule.diameter_mm)
        for case_id, known in findings.items()
        for nodule in known
        if nodule.counts_as == "included"
    ]
    lost = [(one.case_id, one.center_mm, one.diameter_mm or 0.0) for one in missed]
    false = [(one.case_id, one.center_mm, one.diameter_mm or 0.0) for one in false_marks]
    found = [Stratum(ALL, "all nodules", len(every), len(every) - len(lost), len(false))]
    for kind, names in _GROUPS.items():
        of_kind = [[_group(kind, one, lungs) for one in part] for part in (every, lost, false)]
        found += _count(kind, names, *of_kind)
    return found


_GROUPS = {
    "diameter": (*SIZES, UNKNOWN),
    "lung": ("right", "left", UNKNOWN),
    "third of the lung": ("upper", "middle", "lower", UNKNOWN),
}
"""Kinds of groups with their groups in order."""


def _group(kind: str, one: tuple[str, Point, float], lungs: LungMap) -> str:
    case_id, center_mm, diameter_mm = one
    if kind == "diameter":
        return size_class(diameter_mm) if diameter_mm > 0 else UNKNOWN
    place = lungs.find(case_id, center_mm)
    if place is None:
        return UNKNOWN
    return place.side if kind == "lung" else place.third


def _count(
    kind: str,
    names: Sequence[str],
    every: Sequence[str],
    lost: Sequence[str],
    false: Sequence[str],
) -> Iterator[Stratum]:
    for name in names:
        nodules = every.count(name)
        # The size of a false mark is the model's own guess, not a property of anything real.
        wrong = None if kind == "diameter" else false.count(name)
        if nodules or wrong:
            yield Stratum(kind, name, nodules, nodules - lost.count(name), wrong)
