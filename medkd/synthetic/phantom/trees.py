"""Branching, tapering trees that fill the lungs: arteries, veins and airways of a phantom.

A tree grows from its root at the hilum towards end points spread over the lung. At each level the
end points of a branch are split in two by a plane that contains the branch's direction, and each
daughter goes part of the way to the centroid of its end points (volume-filling growth: Tawhai et
al., J Appl Physiol 2004, 97:2310). Radii follow Murray's law (PNAS 1926, 12:207): flow ~ radius^3;
the exponent and the radius of the last branches are set so that vessels of each width fill about
the same volume as in a real scan. Airways run beside arteries; veins grow towards other end points
and so run between them. Sums over end points use `np.bincount`, which adds in the order given, so
they are the same on every machine. Units are chest mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64, Whole
from medkd.synthetic.phantom.patient import Patient
from medkd.synthetic.phantom.tubes import Tubes, draw_tubes, parts_of

_CANDIDATES = 3
_SIDE_SHARE = 0.5
"""Share of splits in which one daughter is a small side branch."""
_SMALL, _EVEN = (0.06, 0.22), (0.3, 0.7)
_ONWARD = 0.4
"""Weight of the mother's direction in that of a branch."""
_SWAY = 0.1
_NEAREST = 0.75
"""Weight of nearness, against lying on one side, when a side branch takes end points."""
_AHEAD = 1.05
"""Distance from a split to the centroid of the end points, in units of their spread."""
_PART = (0.15, 0.55)
"""Limits of the length of a branch, as a share of the distance to that centroid."""
_STEEPEST = 0.17
"""Cosine of the largest angle (80 degrees) between a branch and its mother."""
ENDS = 24_000
"""Number of points in both lungs that `grow_lung_trees` expects; it uses about half of them."""
_CELL_MM = 10.0
"""In each cube of this side one point ends an artery and another one a vein."""
_MURRAY = 3.15
_END_RADIUS_MM = (0.43, 0.51)
_LEAST_LUMEN_MM = 1.0
_LUMEN = 0.78
"""Radius of an airway's lumen as a share of its artery's."""
_APART_MM = 0.5
_BEND_MM = 6.0
"""Length of the straight tubes that a curved branch is drawn with; each has at least two."""


@dataclass(frozen=True, slots=True, eq=False)
class Branches:
    """Curved branches, sorted so that mothers come before daughters.

    Args:
        start_mm: [B, 3] chest mm.
        bend_mm: [B, 3] control point of a quadratic Bezier curve.
        end_mm: [B, 3] chest mm.
        direction: [B, 3] unit vectors from start to end.
        onward: [B, 3] unit vectors along the curve at its end.
        ends: [B] number of end points that each feeds.
        mother: [B] index of the parent branch; -1 at a root.
        level: [B] number of ancestors.
        root: [B] index of its tree.
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
    """The G branches of the next level, and the M end points that they still have to reach."""

    start_mm: Float64
    before: Float64  # [G, 3] direction at the end of the mother; zero at roots
    share: Float64  # [G] of the mother's end points; 0 at roots
    mother: Whole
    root: Whole
    points_mm: Float64
    group: Whole  # [M] branch that feeds each end point, ascending


def grow(
    rng: np.random.Generator, roots_mm: Float64, ends_mm: Float64, *, owner: Whole
) -> Branches:
    """Grow trees from their roots to all ends.

    Args:
        rng: source of the splits.
        roots_mm: [R, 3] start of each tree.
        ends_mm: [N, 3] points where branches must end.
        owner: [N] index of the root that feeds each end; every root needs an end.
    """
    order = np.argsort(owner, kind="stable")
    count = len(roots_mm)
    front = _Front(
        roots_mm,
        np.zeros((count, 3)),
        np.zeros(count),
        np.full(count, -1),
        np.arange(count),
        ends_mm[order],
        owner[order],
    )
    levels: list[Branches] = []
    total = 0
    while len(front.start_mm):
        grown = _grow_level(rng, front, len(levels))
        levels.append(grown)
        front = _split_level(rng, front, grown, first=total)
        total += len(grown.ends)
    columns = ([getattr(level, f.name) for level in levels] for f in fields(Branches))
    return Branches(*map(np.concatenate, columns))


def _grow_level(rng: np.random.Generator, front: _Front, level: int) -> Branches:
    """Draw each branch part of the way to the centroid of its end points, the last all the way."""
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
    # A daughter with most of the mother's end points continues the mother's direction; a small
    # one leaves at an angle. A quadratic curve that starts along d + turn ends along d - turn.
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
    """Limit the angle between a branch and its mother to the steepest one allowed."""
    along = (direction * before).sum(axis=1, keepdims=True)
    across = direction - along * before
    length = np.maximum(np.sqrt((across * across).sum(axis=1, keepdims=True)), 1e-9)
    turned = _STEEPEST * before + np.sqrt(1.0 - _STEEPEST**2) * across / length
    known = (before * before).sum(axis=1, keepdims=True) > 0.5
    return np.asarray(np.where(known & (along < _STEEPEST), turned, direction))


def _split_level(rng: np.random.Generator, front: _Front, grown: Branches, *, first: int) -> _Front:
    """Divide the end points of each branch between two daughters; one end point needs none."""
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
    """Return a coordinate [M] by which the end points of each group are split.

    It runs across the branch, in the best of a few random directions: that of the greatest spread.
    For the groups `sided` [G], end points that are near and on one side come first.
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
    """Sum the points [M, 3] of each group: [count, 3]."""
    return np.stack(
        [np.bincount(group, weights=points[:, axis], minlength=count) for axis in range(3)], axis=1
    )


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A branching tree of bent branches.

    Args:
        start_mm: [N, 3] chest mm of the start of each branch.
        bend_mm: [N, 3] control point of its quadratic Bezier curve.
        end_mm: [N, 3] chest mm of its end.
        start_radius_mm: [N] radius at the start.
        end_radius_mm: [N] radius at the end.
    """

    start_mm: Float64
    bend_mm: Float64
    end_mm: Float64
    start_radius_mm: Float64
    end_radius_mm: Float64

    def tubes(self) -> Tubes:
        """Approximate the branches by straight tubes."""
        reach = self.end_mm - self.start_mm
        length = np.sqrt((reach * reach).sum(axis=1))
        counts = np.clip(np.ceil(length / _BEND_MM).astype(np.int64), 2, 8)
        owner, number = parts_of(counts)
        first, last = number / counts[owner], (number + 1) / counts[owner]
        wide, taper = self.start_radius_mm[owner], (self.end_radius_mm - self.start_radius_mm)
        return Tubes(
            self._at(owner, first),
            self._at(owner, last),
            wide + first * taper[owner],
            wide + last * taper[owner],
        )

    def _at(self, owner: NDArray[np.intp], t: Float64) -> Float64:
        share = t[:, None]
        start, bend, end = self.start_mm[owner], self.bend_mm[owner], self.end_mm[owner]
        rest = 1.0 - share
        return np.asarray(rest * rest * start + 2.0 * share * rest * bend + share * share * end)


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """Share of each voxel [i, j, k] that vessels and airways fill, 0..1.

    Args:
        vessels: arteries and veins.
        walls: airways, wall and lumen together.
        lumens: the air in the airways.
    """

    vessels: Float32
    walls: Float32
    lumens: Float32


@dataclass(frozen=True, slots=True, eq=False)
class Vasculature:
    """All trees of both lungs as straight tubes.

    Args:
        vessel_tubes: arteries and veins.
        lumen_tubes: airways with the radius of their lumen.
        wall_tubes: airways with their outer radius.
    """

    vessel_tubes: Tubes
    lumen_tubes: Tubes
    wall_tubes: Tubes

    @classmethod
    def of(cls, vessels: Sequence[Tree], airways: Sequence[Tree]) -> Vasculature:
        """Cut trees into tubes, once for all canvases."""
        lumens = Tubes.joined([tree.tubes() for tree in airways])
        walls = replace(
            lumens,
            start_radius_mm=outer_radius_mm(lumens.start_radius_mm),
            end_radius_mm=outer_radius_mm(lumens.end_radius_mm),
        )
        return cls(Tubes.joined([tree.tubes() for tree in vessels]), lumens, walls)

    def on(self, canvas: Canvas) -> Cover:
        """Draw all trees on a canvas."""
        return Cover(
            draw_tubes(canvas, self.vessel_tubes),
            draw_tubes(canvas, self.wall_tubes),
            draw_tubes(canvas, self.lumen_tubes),
        )


def outer_radius_mm(lumen_mm: Float64) -> Float64:
    """Return the outer radius of airways from the radius of the lumen.

    Walls are .32 mm thick in the smallest airways and 1 mm in lobar bronchi: a sixth to a tenth of
    the outer diameter, about as in CT (Nakano et al., Am J Respir Crit Care Med 2000, 162:1102).
    """
    return np.asarray(lumen_mm + 0.12 + 0.2 * np.minimum(lumen_mm, 4.0))


def grow_lung_trees(
    rng: np.random.Generator,
    patient: Patient,
    points_mm: Float64,
    *,
    upper: NDArray[np.bool_],
) -> Vasculature:
    """Grow arteries, veins and airways of both lungs.

    Args:
        rng: source of splits, bends and calibres.
        patient: defines where vessels and airways enter the lungs.
        points_mm: [N, 3] chest mm, about `ENDS` points that are uniform in both lungs, at a depth
            under the pleura where vessels may end.
        upper: [N] whether a point is above the oblique fissure, which few vessels cross.
    """
    rank = _rank_in_cell(points_mm)
    points_mm, high, venous = points_mm[rank < 2], upper[rank < 2], rank[rank < 2] == 1
    starts: list[Float64] = []
    owner = np.zeros(len(points_mm), dtype=np.int64)
    for side in (-1.0, 1.0):
        hilum = patient.hilum(side)
        for vein, above, root in (
            (False, True, hilum.artery_mm),
            (False, False, hilum.artery_mm),
            (True, True, hilum.upper_vein_mm),
            (True, False, hilum.lower_vein_mm),
        ):
            own = (points_mm[:, 0] * side > 0) & (venous == vein) & (high == above)
            owner[own] = len(starts)
            starts.append(root)
    branches = grow(rng, np.asarray(starts), points_mm, owner=owner)
    end_radius = float(rng.uniform(*_END_RADIUS_MM))
    radius = end_radius * _flow_root(branches.ends)
    tree = branches.root
    arteries, veins, airways = [], [], []
    for side in range(2):
        own = tree // 4 == side
        arteries.append(_tree(branches, radius, own & (tree % 4 < 2)))
        veins.append(_tree(branches, radius, own & (tree % 4 >= 2)))
        gap = patient.hilum(2.0 * side - 1.0)
        apart = _beside(rng, branches, radius, gap.bronchus_mm - gap.artery_mm)
        airways.append(_airways(branches, radius, own & (tree % 4 < 2), apart=apart))
    return Vasculature.of([*arteries, *veins], airways)


def _flow_root(ends: Whole) -> Float64:
    """Return the radius [N] over that of a last branch, from the end points [N] that it feeds."""
    # NumPy's power differs between processors in the last bit.
    values, place = np.unique(ends, return_inverse=True)
    roots = np.array([float(value) ** (1.0 / _MURRAY) for value in values.tolist()])
    return np.asarray(roots[place], dtype=np.float64)


def _rank_in_cell(points_mm: Float64) -> Whole:
    """Number the points [N] in each cube; using only the first two spreads ends evenly."""
    cell = np.floor(points_mm / _CELL_MM).astype(np.int64) + 500
    code = (cell[:, 0] * 1000 + cell[:, 1]) * 1000 + cell[:, 2]
    order = np.argsort(code, kind="stable")
    first = np.flatnonzero(np.diff(code[order], prepend=-1))
    rank = np.empty(len(code), dtype=np.int64)
    rank[order] = np.arange(len(code)) - np.repeat(first, np.diff(first, append=len(code)))
    return rank


def _tree(branches: Branches, radius: Float64, own: NDArray[np.bool_]) -> Tree:
    """Build a tree from some branches; each tapers, and the last ones taper to two thirds."""
    narrow = np.where(branches.ends[own] > 1, 0.94, 0.66)
    return Tree(
        branches.start_mm[own],
        branches.bend_mm[own],
        branches.end_mm[own],
        radius[own] * 1.06,
        radius[own] * narrow,
    )


def _beside(
    rng: np.random.Generator, branches: Branches, radius: Float64, first_mm: Float64
) -> Float64:
    """Return the offset [N, 3] of the airway from the artery at the end of each branch.

    It points across the branch, in nearly the same direction as that of the mother branch.
    """
    lumen = _LUMEN * radius
    gap = radius + outer_radius_mm(lumen) + _APART_MM
    side = np.empty_like(branches.start_mm)
    noise = rng.normal(0.0, 0.25, side.shape)
    for level in range(int(branches.level.max()) + 1):
        here = np.flatnonzero(branches.level == level)
        mother = branches.mother[here]
        before = np.where(mother[:, None] >= 0, side[mother], _unit(first_mm[None]))
        along = branches.direction[here]
        across = before + noise[here]
        across -= (across * along).sum(axis=1, keepdims=True) * along
        side[here] = _unit(across)
    return np.asarray(side * gap[:, None])


def _airways(
    branches: Branches,
    radius: Float64,
    own: NDArray[np.bool_],
    *,
    apart: Float64,
) -> Tree:
    """Build airways beside the arteries that are wide enough for a visible airway."""
    lumen = _LUMEN * radius
    keep = own & (lumen > _LEAST_LUMEN_MM)
    mother = branches.mother[keep]
    root = mother < 0
    at_start = np.where(root[:, None], 0.0, apart[mother])
    at_end = apart[keep]
    return Tree(
        branches.start_mm[keep] + at_start,
        branches.bend_mm[keep] + (at_start + at_end) / 2.0,
        branches.end_mm[keep] + at_end,
        lumen[keep] * 1.05,
        lumen[keep] * 0.95,
    )


def _unit(vectors: Float64) -> Float64:
    length = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    return np.asarray(vectors / np.maximum(length, 1e-12))
