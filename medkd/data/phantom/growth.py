"""How a tree grows towards given ends, all branches of one level at once.

Sums over the ends of a branch go through `np.bincount`, which adds one by one in the order
given, so that they are the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medkd.data.phantom.canvas import Float64, Whole

_CANDIDATES = 3
_SIDE_SHARE = 0.22
_EARLY = (0.16, 0.24, 0.32)
_LATE = (0.34, 0.52)
_STEEPEST = 0.17
"""Cosine of the largest angle (80 degrees) between a branch and its mother."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What trees shall grow between.

    Args:
        roots_mm: [R, 3] where each tree begins.
        ends_mm: [N, 3] where branches shall end.
        owner: [N] root that feeds each end.
    """

    roots_mm: Float64
    ends_mm: Float64
    owner: Whole


@dataclass(frozen=True, slots=True, eq=False)
class Branches:
    """Straight branches, mothers before daughters.

    Args:
        start_mm: [B, 3].
        end_mm: [B, 3].
        direction: [B, 3] unit vectors.
        ends: [B] number of ends that each feeds.
        mother: [B] index of the branch it comes from; -1 at a root.
        level: [B] number of branches before it.
        root: [B] tree that it belongs to.
    """

    start_mm: Float64
    end_mm: Float64
    direction: Float64
    ends: Whole
    mother: Whole
    level: Whole
    root: Whole


@dataclass(slots=True, eq=False)
class _Front:
    """The branches of one level that are about to grow.

    Args:
        start_mm: [G, 3].
        before: [G, 3] direction of the mother; zero at roots.
        mother: [G].
        root: [G].
        points_mm: [M, 3] ends still to reach.
        group: [M] branch that feeds each, ascending.
    """

    start_mm: Float64
    before: Float64
    mother: Whole
    root: Whole
    points_mm: Float64
    group: Whole


def grow(rng: np.random.Generator, start: Start) -> Branches:
    """Grow trees from their roots to every end.

    Args:
        rng: source of the splits.
        start: roots and ends; every root needs an end.
    """
    order = np.argsort(start.owner, kind="stable")
    count = len(start.roots_mm)
    front = _Front(
        start.roots_mm,
        np.zeros((count, 3)),
        np.full(count, -1),
        np.arange(count),
        start.ends_mm[order],
        start.owner[order],
    )
    levels: list[Branches] = []
    total = 0
    while len(front.start_mm):
        grown = _grow_level(rng, front, len(levels))
        levels.append(grown)
        front = _split_level(rng, front, grown, first=total)
        total += len(grown.ends)
    return Branches(
        *(
            np.concatenate([getattr(level, name) for level in levels])
            for name in ("start_mm", "end_mm", "direction", "ends", "mother", "level", "root")
        )
    )


def sway(rng: np.random.Generator, branches: Branches) -> Float64:
    """Control points [B, 3] of curves that leave a mother smoothly and sway a little."""
    along = branches.end_mm - branches.start_mm
    length = np.sqrt((along * along).sum(axis=1, keepdims=True))
    mother = np.maximum(branches.mother, 0)
    before = np.where(branches.mother[:, None] >= 0, branches.direction[mother], 0.0)
    # A daughter that takes most of its mother's flow goes on in her direction; a small one
    # leaves at an angle.
    share = np.where(branches.mother >= 0, branches.ends / branches.ends[mother], 0.0)
    lean = (0.5 * share)[:, None] * (before - branches.direction)
    lean = np.where(branches.mother[:, None] >= 0, lean, 0.0)
    bend = branches.start_mm + 0.5 * along + 0.5 * length * lean
    return np.asarray(bend + rng.normal(0.0, 0.07, along.shape) * length)


def _grow_level(rng: np.random.Generator, front: _Front, level: int) -> Branches:
    """Let each branch go part of the way to the middle of its ends, the last ones all the way."""
    count = len(front.start_mm)
    ends = np.bincount(front.group, minlength=count)
    middle = _sums(front.points_mm, front.group, count) / ends[:, None]
    to_middle = middle - front.start_mm
    distance = np.sqrt((to_middle * to_middle).sum(axis=1))
    direction = to_middle / np.maximum(distance, 1e-9)[:, None]
    inner = ends > 1
    direction = np.where(inner[:, None], _not_backwards(direction, front.before), direction)
    share = np.full(count, _EARLY[level]) if level < len(_EARLY) else rng.uniform(*_LATE, count)
    share = np.where(inner, share, 1.0)
    end = front.start_mm + (share * distance)[:, None] * direction
    return Branches(
        front.start_mm, end, direction, ends, front.mother, np.full(count, level), front.root
    )


def _not_backwards(direction: Float64, before: Float64) -> Float64:
    """Turn directions that leave their mother's too steeply to the steepest angle allowed."""
    along = (direction * before).sum(axis=1, keepdims=True)
    across = direction - along * before
    length = np.maximum(np.sqrt((across * across).sum(axis=1, keepdims=True)), 1e-9)
    turned = _STEEPEST * before + np.sqrt(1.0 - _STEEPEST**2) * across / length
    known = (before * before).sum(axis=1, keepdims=True) > 0.5
    return np.asarray(np.where(known & (along < _STEEPEST), turned, direction))


def _split_level(rng: np.random.Generator, front: _Front, grown: Branches, *, first: int) -> _Front:
    """Share the ends of each branch between two daughters; branches with one end are done."""
    going = np.flatnonzero(grown.ends > 1)
    number = np.full(len(grown.ends), -1)
    number[going] = np.arange(len(going))
    kept = grown.ends[front.group] > 1
    points, group = front.points_mm[kept], number[front.group[kept]]
    ends = grown.ends[going]
    along = _across(rng, points, group, grown.direction[going])
    order = np.lexsort((along, group))
    rank = np.arange(len(group)) - np.repeat(np.cumsum(ends) - ends, ends)
    share = rng.uniform(0.28, 0.72, len(going))
    small = rng.uniform(0.03, 0.2, len(going))
    sided = rng.random(len(going)) < _SIDE_SHARE
    share = np.where(sided, np.where(rng.random(len(going)) < 0.5, small, 1.0 - small), share)
    cut = np.clip(np.rint(ends * share), 1, ends - 1).astype(np.int64)
    daughter = 2 * group + (rank >= cut[group])
    return _Front(
        np.repeat(grown.end_mm[going], 2, axis=0),
        np.repeat(grown.direction[going], 2, axis=0),
        np.repeat(going + first, 2),
        np.repeat(grown.root[going], 2),
        points[order],
        daughter,
    )


def _across(rng: np.random.Generator, points: Float64, group: Whole, direction: Float64) -> Float64:
    """Place [M] of each end along its group's split: across the branch, where ends spread most.

    Args:
        rng: source of a few directions, of which the best is taken.
        points: [M, 3] ends.
        group: [M] of each.
        direction: [G, 3] of the groups' branches.
    """
    count = len(direction)
    ends = np.bincount(group, minlength=count)
    centred = points - (_sums(points, group, count) / ends[:, None])[group]
    best = np.zeros(len(points))
    most = np.full(count, -1.0)
    for _ in range(_CANDIDATES):
        normal = rng.normal(size=(count, 3))
        normal -= 0.9 * (normal * direction).sum(axis=1, keepdims=True) * direction
        normal /= np.sqrt((normal * normal).sum(axis=1, keepdims=True))
        along = (centred * normal[group]).sum(axis=1)
        spread = np.bincount(group, weights=along * along, minlength=count) / ends
        better = spread > most
        most = np.where(better, spread, most)
        best = np.where(better[group], along, best)
    return best


def _sums(points: Float64, group: Whole, count: int) -> Float64:
    """Sums [count, 3] of the points [M, 3] of each group."""
    return np.stack(
        [np.bincount(group, weights=points[:, axis], minlength=count) for axis in range(3)], axis=1
    )
