"""Branching, tapering trees that fill the lungs: arteries, veins and airways of a phantom.

A tree grows from its root at the hilum towards ends spread over the lung: at each level the ends
that a branch feeds are split in two by a plane that holds the branch's direction, and each
daughter goes part of the way to the middle of its ends (volume-filling growth: Tawhai et al.,
J Appl Physiol 2004, 97:2310). Radii follow Murray's law (PNAS 1926, 12:207): flow ~ radius^3; the
exponent and the radius of the last branches are set so that vessels of each width fill about as
much of the lung as in a real scan. Arteries and airways run side by side; the veins grow towards
ends of their own and so run between them. Units are chest mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64, Whole
from medkd.synthetic.phantom.growth import Branches, Start, grow
from medkd.synthetic.phantom.patient import Patient
from medkd.synthetic.phantom.tubes import Tubes, draw_tubes

ENDS = 24_000
"""How many points in both lungs `grow_lung_trees` wants; it uses about half of them."""

_CELL_MM = 10.0
"""Of all points in a cube of this side one ends an artery and another one a vein."""

_MURRAY = 3.15
_END_RADIUS_MM = (0.43, 0.51)
_LEAST_LUMEN_MM = 1.0
_LUMEN = 0.78
"""Radius of an airway's lumen as a share of its artery's."""
_APART_MM = 0.5
_BEND_MM = 6.0
"""A curved branch is drawn as one straight tube for each of these lengths, but two at least."""


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A branching tree of bent branches.

    Args:
        start_mm: [N, 3] chest mm where each branch begins.
        bend_mm: [N, 3] control point of its quadratic Bezier curve.
        end_mm: [N, 3] where it ends.
        start_radius_mm: [N].
        end_radius_mm: [N].
    """

    start_mm: Float64
    bend_mm: Float64
    end_mm: Float64
    start_radius_mm: Float64
    end_radius_mm: Float64

    def tubes(self) -> Tubes:
        """Return straight tubes along the branches, more for longer ones."""
        reach = self.end_mm - self.start_mm
        length = np.sqrt((reach * reach).sum(axis=1))
        counts = np.clip(np.ceil(length / _BEND_MM).astype(np.int64), 2, 8)
        owner = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
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
    """What vessels and airways fill of each voxel, 0..1; all [i, j, k].

    Args:
        vessels: arteries and veins.
        walls: airways with their walls and lumen.
        lumens: the air in them.
    """

    vessels: Float32
    walls: Float32
    lumens: Float32


@dataclass(frozen=True, slots=True, eq=False)
class Vasculature:
    """All trees of both lungs; of an airway the radius is its lumen's.

    Args:
        arteries: one tree a lung.
        veins: one tree a lung.
        airways: one tree a lung.
        vessel_tubes: arteries and veins as straight tubes.
        lumen_tubes: airways as straight tubes.
        wall_tubes: the same with the airways' outer radius.
    """

    arteries: tuple[Tree, ...]
    veins: tuple[Tree, ...]
    airways: tuple[Tree, ...]
    vessel_tubes: Tubes
    lumen_tubes: Tubes
    wall_tubes: Tubes

    @classmethod
    def of(
        cls, arteries: tuple[Tree, ...], veins: tuple[Tree, ...], airways: tuple[Tree, ...]
    ) -> Vasculature:
        """Put trees together and cut them into tubes, once for all canvases."""
        lumens = Tubes.joined([tree.tubes() for tree in airways])
        walls = Tubes(
            lumens.start_mm,
            lumens.end_mm,
            outer_radius_mm(lumens.start_radius_mm),
            outer_radius_mm(lumens.end_radius_mm),
        )
        vessels = Tubes.joined([tree.tubes() for tree in (*arteries, *veins)])
        return cls(arteries, veins, airways, vessels, lumens, walls)

    def on(self, canvas: Canvas) -> Cover:
        """Draw all trees on a canvas."""
        return Cover(
            draw_tubes(canvas, self.vessel_tubes),
            draw_tubes(canvas, self.wall_tubes),
            draw_tubes(canvas, self.lumen_tubes),
        )


def outer_radius_mm(lumen_mm: Float64) -> Float64:
    """Radius of airways with their walls, from the radius of the lumen.

    Walls of .32 mm at the smallest to 1 mm at lobar bronchi: a sixth to a tenth of the outer
    diameter, about what CT finds (Nakano et al., Am J Respir Crit Care Med 2000, 162:1102).
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
        patient: tells where vessels and airways enter the lungs.
        points_mm: [N, 3] chest mm, uniform in both lungs and as deep under the pleura as vessels
            shall end; about `ENDS`.
        upper: [N] which lie before (above) the oblique fissure, that few vessels cross.
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
    branches = grow(rng, Start(np.asarray(starts), points_mm, owner))
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
    return Vasculature.of(tuple(arteries), tuple(veins), tuple(airways))


def _flow_root(ends: Whole) -> Float64:
    """Radius [N] over that of a last branch, for the ends [N] that a branch feeds."""
    # NumPy's own power differs between processors by the last bit.
    values, place = np.unique(ends, return_inverse=True)
    roots = np.array([float(value) ** (1.0 / _MURRAY) for value in values.tolist()])
    return np.asarray(roots[place], dtype=np.float64)


def _rank_in_cell(points_mm: Float64) -> Whole:
    """Number [N] of points before each in its cube; so ends are spread more evenly than chance."""
    cell = np.floor(points_mm / _CELL_MM).astype(np.int64) + 500
    code = (cell[:, 0] * 1000 + cell[:, 1]) * 1000 + cell[:, 2]
    order = np.argsort(code, kind="stable")
    first = np.flatnonzero(np.diff(code[order], prepend=-1))
    rank = np.empty(len(code), dtype=np.int64)
    rank[order] = np.arange(len(code)) - np.repeat(first, np.diff(first, append=len(code)))
    return rank


def _tree(branches: Branches, radius: Float64, own: NDArray[np.bool_]) -> Tree:
    """Make a tree of some branches; each tapers, those at the ends to two thirds."""
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
    """How far the airway lies from the artery at the end of each branch [N, 3].

    At its mother's side, turned a little at each level and always across the branch.
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
    """Make the airways beside the arteries that are wide enough to have one that is seen."""
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
