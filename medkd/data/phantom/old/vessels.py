"""Branching, tapering trees that fill a lung: arteries, veins and airways of a phantom.

A tree grows from a root at the hilum towards random ends in the lung: the ends are split in two
again and again, and each branch goes part of the way to the middle of its ends. Radii follow
Murray's law (flow ~ radius^2.7: Murray 1926, exponent as measured in lungs by Huang et al. 1996).
Units are chest mm (`phantom_draw.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medkd.data.phantom.old.draw import Float64, Tubes

_MURRAY = 2.7


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A branching tree of bent branches.

    Args:
        start_mm: [N, 3] where each branch begins.
        bend_mm: [N, 3] control point of its quadratic Bezier curve.
        end_mm: [N, 3] where it ends.
        ends: [N] number of final ends it feeds.
        end_radius_mm: radius of a branch that feeds one end.
    """

    start_mm: Float64
    bend_mm: Float64
    end_mm: Float64
    ends: Float64
    end_radius_mm: float

    @property
    def radius_mm(self) -> Float64:
        """[N] radius of each branch."""
        return np.asarray(self.end_radius_mm * self.ends ** (1.0 / _MURRAY))

    def middles_mm(self) -> Float64:
        """[N, 3] the point halfway along each branch."""
        return np.asarray((self.start_mm + 2 * self.bend_mm + self.end_mm) / 4.0)

    def tubes(self, *, pieces: int = 4) -> Tubes:
        """Return straight tubes along the branches; each tapers by a fifth towards its end."""
        t = np.linspace(0.0, 1.0, pieces + 1)[:, None, None]
        points = (1 - t) ** 2 * self.start_mm + 2 * t * (1 - t) * self.bend_mm + t**2 * self.end_mm
        radii = self.radius_mm * (1.08 - 0.2 * t[:, :, 0])
        return Tubes(
            points[:-1].reshape(-1, 3), points[1:].reshape(-1, 3),
            radii[:-1].reshape(-1), radii[1:].reshape(-1),
        )  # fmt: skip


def grow_tree(
    rng: np.random.Generator, root_mm: Float64, ends_mm: Float64, *, end_radius_mm: float
) -> Tree:
    """Grow a tree from a root to every end.

    Args:
        rng: source of split positions and bends.
        root_mm: (3,) chest mm.
        ends_mm: [M, 3] chest mm.
        end_radius_mm: radius of the last branches in mm.
    """
    starts, stops, flows = [], [], []
    waiting = [(np.asarray(root_mm, dtype=np.float64), np.asarray(ends_mm, dtype=np.float64))]
    while waiting:
        here, ends = waiting.pop()
        middle = ends.mean(axis=0)
        share = 1.0 if len(ends) == 1 else rng.uniform(0.35, 0.55)
        there = here + share * (middle - here)
        starts.append(here)
        stops.append(there)
        flows.append(len(ends))
        if len(ends) > 1:
            waiting.extend((there, part) for part in _split(rng, ends - middle, ends))
    start, stop = np.asarray(starts), np.asarray(stops)
    length = np.linalg.norm(stop - start, axis=1, keepdims=True)
    bend = (start + stop) / 2 + rng.normal(0.0, 0.13, start.shape) * length
    return Tree(start, bend, stop, np.asarray(flows, dtype=np.float64), end_radius_mm)


def _split(rng: np.random.Generator, centred: Float64, ends: Float64) -> list[Float64]:
    """Cut the ends in two, across the longest of a few random directions, not quite in half."""
    directions = rng.normal(size=(4, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    along = centred @ directions.T
    best = along[:, along.var(axis=0).argmax()]
    order = best.argsort(kind="stable")
    cut = int(np.clip(round(len(ends) * rng.uniform(0.25, 0.75)), 1, len(ends) - 1))
    return [ends[order[:cut]], ends[order[cut:]]]
