"""How a tree grows towards given ends, all branches of one level at once.

Sums over the ends of a branch go through `np.bincount`, which adds one by one in the order
given, so that they are the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from medkd.synthetic.phantom.canvas import Float64, Whole

_CANDIDATES = 3
_SIDE_SHARE = 0.5
"""Share of splits that only give off a small side branch."""
_SMALL, _EVEN = (0.06, 0.22), (0.3, 0.7)
_ONWARD = 0.4
"""How much of the mother's direction a branch keeps."""
_SWAY = 0.1
_NEAREST = 0.75
"""How far a side branch takes ends that lie near rather than on one side."""
_AHEAD = 1.05
"""A branch splits this far before the middle of its ends, in units of their spread."""
_PART = (0.15, 0.55)
"""Least and largest part of the way to that middle that a branch goes."""
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
    """Curved branches, mothers before daughters.

    Args:
        start_mm: [B, 3].
        bend_mm: [B, 3] control point of a quadratic Bezier curve.
        end_mm: [B, 3].
        direction: [B, 3] unit vectors from start to end.
        onward: [B, 3] unit vectors along the curve at its end.
        ends: [B] number of ends that each feeds.
        mother: [B] index of the branch it comes from; -1 at a root.
        level: [B] number of branches before it.
        root: [B] tree that it belongs to.
    """

    start_mm: Float64
    bend_mm: Float64
    end_mm: Float64
    direction: Float64
    onward: Float64
    ends: Whole
    mother: Whole
    level: Whole
    root: Whole


@dataclass(slots=True, eq=False)
class _Front:
    """The branches of one level that are about to grow.

    Args:
        start_mm: [G, 3].
        before: [G, 3] direction in which the mother ends; zero at roots.
        share: [G] of the mother's ends; 0 at roots.
        mother: [G].
        root: [G].
        points_mm: [M, 3] ends still to reach.
        group: [M] branch that feeds each, ascending.
    """

    start_mm: Float64
    before: Float64
    share: Float64
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
        np.zeros(count),
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
            np.concatenate([getattr(level, field.name) for level in levels])
            for field in fields(Branches)
        )
    )


def _grow_level(rng: np.random.Generator, front: _Front, level: int) -> Branches:
    """Let each branch go part of the way to the middle of its ends, the last ones all the way."""
    count = len(front.start_mm)
    ends = np.bincount(front.group, minlength=count)
    middle = _sums(front.points_mm, front.group, count) / ends[:, None]
    to_middle = middle - front.start_mm
    distance = np.sqrt((to_middle * to_middle).sum(axis=1))
    inner = ends > 1
    straight = to_middle / np.maximum(distance, 1e-9)[:, None]
    onward = straight + _ONWARD * front.before
    onward /= np.sqrt((onward * onward).sum(axis=1, keepdims=True))
    direction = np.where(inner[:, None], onward, straight)
    direction = np.where(inner[:, None], _not_backwards(direction, front.before), direction)
    off = front.points_mm - middle[front.group]
    wide = np.sqrt(np.bincount(front.group, weights=(off * off).sum(axis=1)) / ends)
    part = np.clip(1.0 - _AHEAD * wide / np.maximum(distance, 1e-9), *_PART)
    part = np.where(inner, part * rng.uniform(0.8, 1.2, count), 1.0)
    length = (part * distance)[:, None]
    # A daughter that takes most of her mother's ends leaves in her direction, a small one at an
    # angle. A quadratic curve that starts along d + turn ends along d - turn.
    known = (front.before * front.before).sum(axis=1, keepdims=True) > 0.5
    turn = np.where(known, (0.3 + 0.5 * front.share)[:, None] * (front.before - direction), 0.0)
    turn += rng.normal(0.0, _SWAY, turn.shape)
    onward = direction - turn
    return Branches(
        start_mm=front.start_mm,
        bend_mm=front.start_mm + 0.5 * length * (direction + turn),
        end_mm=front.start_mm + length * direction,
        direction=direction,
        onward=onward / np.sqrt((onward * onward).sum(axis=1, keepdims=True)),
        ends=ends,
        mother=front.mother,
        level=np.full(count, level),
        root=front.root,
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
    sided = rng.random(len(going)) < _SIDE_SHARE
    along = _across(rng, points, group, direction=grown.direction[going], sided=sided)
    order = np.lexsort((along, group))
    rank = np.arange(len(group)) - np.repeat(np.cumsum(ends) - ends, ends)
    even, small = rng.uniform(*_EVEN, len(going)), rng.uniform(*_SMALL, len(going))
    cut = np.clip(np.rint(ends * np.where(sided, small, even)), 1, ends - 1).astype(np.int64)
    parts = np.stack([cut, ends - cut], axis=1).reshape(-1)
    return _Front(
        start_mm=np.repeat(grown.end_mm[going], 2, axis=0),
        before=np.repeat(grown.onward[going], 2, axis=0),
        share=parts / np.repeat(ends, 2),
        mother=np.repeat(going + first, 2),
        root=np.repeat(grown.root[going], 2),
        points_mm=points[order],
        group=2 * group + (rank >= cut[group]),
    )


def _across(
    rng: np.random.Generator,
    points: Float64,
    group: Whole,
    *,
    direction: Float64,
    sided: NDArray[np.bool_],
) -> Float64:
    """Place [M] of each end along its group's split.

    Across the branch, in the direction in which the ends spread most; where a side branch is
    given off, those ends come first that lie near and on one side.

    Args:
        rng: source of a few directions, of which the best is taken.
        points: [M, 3] ends.
        group: [M] of each.
        direction: [G, 3] of the groups' branches.
        sided: [G] which give off a side branch.
    """
    count = len(direction)
    ends = np.bincount(group, minlength=count)
    centred = points - (_sums(points, group, count) / ends[:, None])[group]
    best = np.zeros(len(points))
    most = np.full(count, -1.0)
    for _ in range(_CANDIDATES):
        normal = rng.normal(size=(count, 3))
        normal -= 0.95 * (normal * direction).sum(axis=1, keepdims=True) * direction
        normal /= np.sqrt((normal * normal).sum(axis=1, keepdims=True))
        along = (centred * normal[group]).sum(axis=1)
        spread = np.bincount(group, weights=along * along, minlength=count) / ends
        better = spread > most
        most = np.where(better, spread, most)
        best = np.where(better[group], along, best)
    ahead = (centred * direction[group]).sum(axis=1)
    return np.asarray(np.where(sided[group], best + _NEAREST * ahead, best))


def _sums(points: Float64, group: Whole, count: int) -> Float64:
    """Sums [count, 3] of the points [M, 3] of each group."""
    return np.stack(
        [np.bincount(group, weights=points[:, axis], minlength=count) for axis in range(3)], axis=1
    )
