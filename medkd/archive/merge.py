"""Merging of the annotations of several sources: each nodule is counted once.

Two nodules of different sources in one scan are the same nodule if the distance of their centres is
at most the radius of the larger one, or 2 mm. The nearest pairs are merged first, and a merged
nodule has at most one row from each source: two nodules of one source are never merged.
Included nodules are paired before excluded findings, because LUNA16 excludes drawings of single
readers at nodules that it includes. Place, diameter and number of readers come from the first
source that has them. A nodule that any source includes is included, since excluding it would hide a
miss. Included nodules of one source with equal place and diameter are one nodule written several
times. Equal excluded findings are kept (LUNA16's own table has one row per reader); they change no
score.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from medkd.types import Nodule

LEAST_MM = 2.0
"""Centres within this distance belong to one nodule, even if it is small or has no known size."""


def reach_mm(diameter_mm: float) -> float:
    """Return the distance up to which another centre belongs to a nodule: its radius, or 2 mm.

    Args:
        diameter_mm: the diameter; 0 or less: not known.
    """
    return max(diameter_mm / 2, LEAST_MM)


@dataclass(frozen=True, slots=True)
class Merged:
    """All nodules, each once, and notes on the numbers of merged rows."""

    nodules: tuple[Nodule, ...]
    notes: tuple[str, ...] = ()


def merge_nodules(found: Sequence[tuple[str, Sequence[Nodule]]]) -> Merged:
    """Merge the nodules of several sources.

    Args:
        found: name of each source and its nodules (LPS mm), in order of precedence.

    Returns:
        The nodules with the names of their sources.
    """
    once = [(name, _without_copies(nodules)) for name, nodules in found]
    rows = [
        (number, replace(nodule, sources=(name,)))
        for number, (name, nodules) in enumerate(once)
        for nodule, _ in nodules
    ]
    by_series: dict[str, list[tuple[int, Nodule]]] = defaultdict(list)
    for number, nodule in rows:
        by_series[nodule.seriesuid].append((number, nodule))
    groups = [group for members in by_series.values() for group in _groups(members)]
    repeated = {name: sum(count > 1 for _, count in nodules) for name, nodules in once}
    notes = (*_repeated_notes(repeated), *_notes(groups))
    return Merged(tuple(_combined(group) for group in groups), notes)


def _without_copies(nodules: Sequence[Nodule]) -> list[tuple[Nodule, int]]:
    """Return each included nodule of a source once, with the number of its rows."""
    rows: dict[tuple[object, ...], list[Nodule]] = defaultdict(list)
    for number, nodule in enumerate(nodules):
        key = (nodule.seriesuid, nodule.center_mm, nodule.diameter_mm)
        rows[key if nodule.counts_as == "included" else (number,)].append(nodule)
    return [(equal[0], len(equal)) for equal in rows.values()]


def _groups(members: Sequence[tuple[int, Nodule]]) -> list[list[Nodule]]:
    """Group the rows of one scan that are the same nodule, by the rules of this module.

    Args:
        members: (number of its source, nodule) in order of precedence.

    Returns:
        The rows of each nodule, in order of precedence.
    """
    group_of = list(range(len(members)))
    groups = {number: [number] for number in group_of}
    for first, second in _near_pairs(members):
        mine, other = groups[group_of[first]], groups[group_of[second]]
        sources = {members[number][0] for number in mine}
        if mine is other or sources & {members[number][0] for number in other}:
            continue
        mine += other
        del groups[group_of[second]]
        for number in other:
            group_of[number] = group_of[first]
    return [[members[n][1] for n in sorted(group)] for group in groups.values()]


def _near_pairs(members: Sequence[tuple[int, Nodule]]) -> Iterator[tuple[int, int]]:
    """Yield pairs of different sources that may be one nodule: included first, then by distance."""
    places = np.asarray([nodule.center_mm for _, nodule in members])
    reaches_mm = np.asarray([reach_mm(nodule.diameter_mm) for _, nodule in members])
    pairs = cKDTree(places).query_pairs(float(reaches_mm.max()), output_type="ndarray")
    gaps_mm = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1)
    near = np.flatnonzero(gaps_mm <= reaches_mm[pairs].max(axis=1))
    excluded = np.asarray([nodule.counts_as == "excluded" for _, nodule in members])
    order = np.lexsort([gaps_mm[near], excluded[pairs[near]].sum(axis=1)])
    for place in near[order]:
        first, second = sorted(pairs[place].tolist())
        if members[first][0] != members[second][0]:
            yield first, second


def _combined(group: Sequence[Nodule]) -> Nodule:
    included = any(nodule.counts_as == "included" for nodule in group)
    sized = (nodule.diameter_mm for nodule in group if nodule.diameter_mm > 0)
    readers = (n.readers_agreeing for n in group if n.readers_agreeing is not None)
    return replace(
        group[0],
        diameter_mm=next(sized, group[0].diameter_mm),
        counts_as="included" if included else "excluded",
        readers_agreeing=next(readers, None),
        sources=tuple(source for nodule in group for source in nodule.sources),
    )


def _repeated_notes(repeated: Mapping[str, int]) -> Iterator[str]:
    for source, count in repeated.items():
        if count:
            yield (
                f"merged: {count} nodules are in {source} more than once, with the same place and "
                "diameter, and count once"
            )


def _notes(groups: Sequence[Sequence[Nodule]]) -> Iterator[str]:
    merged = [group for group in groups if len(group) > 1]
    by_sources = Counter(tuple(n.sources[0] for n in group) for group in merged)
    for sources, count in sorted(by_sources.items()):
        yield (
            f"merged: {count} findings are in {' and '.join(sources)} and count once; place and "
            f"diameter are those of {sources[0]}, which is named first, as far as it states them"
        )
    mixed = sum(len({nodule.counts_as for nodule in group}) > 1 for group in merged)
    if mixed:
        yield (
            f"merged: {mixed} of them, excluded in one source and included in another, count as "
            "included"
        )
