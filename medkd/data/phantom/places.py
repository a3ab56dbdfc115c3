"""Where the nodules of a phantom lie.

A place must not give a nodule away: with the nodule hidden, what is around it must look like what
is around a blob finder's false marks. So for each nodule one of the finder's marks in the chest
without nodules is drawn, one that lies at the pleura for a nodule that is to lie there, and of
many places of the wanted attachment the one is taken whose surroundings are most like that mark's.
The marks that are strongest in the finished scan are many of about equal strength, and which of
them comes first hangs on kernel and noise: so each doubling of the rank is drawn as often. All of
it is worked out on a lattice of 2 mm. Units are chest mm and HU.
"""

from __future__ import annotations

import numpy as np

from medkd.data.phantom.blobs import find_blobs
from medkd.data.phantom.canvas import Float64
from medkd.data.phantom.findings import Attachment, Finding
from medkd.data.phantom.forms import draw_directions
from medkd.data.phantom.sites import Places, Sites, clear_of
from medkd.data.phantom.surroundings import Surroundings

_TRIED = 1200
"""Places of one attachment among which the surroundings decide."""
_DRAWN = 4800
"""Places from which these are taken."""
_AT_PLEURA_MM = 5.0
"""How deep marks lie that are like nodules at the pleura."""
_ORDINARY = 20
"""The strongest marks, among which differences of surroundings are ordinary."""
_MASK_MM = 2.0
"""How far beyond a nodule's surface its surroundings begin."""
_NEAR_MM = 14.0
"""How far from a mark places are drawn."""
_DENSE_HU = -350.0
_MOST_HIDDEN, _MOST_TOUCHED = 0.4, 0.06
"""Share of a nodule that may lie in vessels or other dense tissue; of a free one's surface."""
_ROOM_MM = 5.0


class Chooser(Places):
    """Chooses places in one chest, or in a box of it."""

    def __init__(self, sites: Sites, box_mm: Float64 | None, rng: np.random.Generator) -> None:
        super().__init__(sites, box_mm, rng)
        canvas = sites.canvas
        seen = sites.seen_hu()
        found = find_blobs(seen, canvas.spacing_mm, sites.searched_mm < 0.0)
        marks = canvas.points_mm(found.places_vox)
        self._marks = marks[self.holds(marks)]
        self._at_wall = self.depth(self._marks) > -_AT_PLEURA_MM
        self._surroundings = Surroundings(canvas, seen, rng)
        lung, vessels = sites.lung_mm[self._cut], sites.vessels[self._cut]
        self._vessel = np.flatnonzero((vessels > 0.3) & (lung < -3.0))
        near = np.abs(sites.fissure_mm[self._cut]) < 1.2
        self._fissure = np.flatnonzero(near & (vessels < 0.2) & (lung < -4.0))

    def choose(
        self, attachment: Attachment, radius_mm: float, others: list[Finding]
    ) -> Float64 | None:
        """Choose the middle (3,) of a nodule, or None where the chest has no room for it.

        Args:
            attachment: what it is to touch.
            radius_mm: of the nodule.
            others: findings to keep away from.
        """
        find = {"free": self._free, "vessel": self._at_vessels, "pleura": self._at_pleura,
                "fissure": self._at_fissures}[attachment]  # fmt: skip
        twin = self._twin(attachment)
        tried = find(radius_mm, twin)
        tried = tried[self._rng.permutation(len(tried))]
        tried = tried[self._within(tried, min(radius_mm + 3.0, 12.0))]
        tried = tried[clear_of(tried, others, radius_mm + _ROOM_MM)]
        tried = tried[self._hidden(tried, radius_mm) < _MOST_HIDDEN][:_TRIED]
        if not len(tried) or twin is None:
            return np.asarray(tried[0]) if len(tried) else None
        ordinary = self._marks[:_ORDINARY]
        best = self._surroundings.likest(tried, twin, ordinary, radius_mm + _MASK_MM)
        return np.asarray(tried[best])

    def _twin(self, attachment: Attachment) -> Float64 | None:
        """Draw a mark (3,) that lies at the pleura, or away from it."""
        marks = self._marks[self._at_wall == (attachment == "pleura")]
        marks = marks if len(marks) else self._marks
        if not len(marks):
            return None
        return np.asarray(marks[draw_rank(len(marks), self._rng) - 1])

    def _free(self, radius_mm: float, twin: Float64 | None) -> Float64:
        """Deep in the lung, touching hardly any vessel."""
        points = self._drawn(self._lung, _DRAWN // 2, twin)
        points = np.concatenate([points, self._near_marks(radius_mm)])
        points = points[self.depth(points) < -(radius_mm + 2.0)]
        touched = self._around(points, radius_mm + 0.7) + self._around(points, 0.6 * radius_mm)
        return np.asarray(points[touched <= _MOST_TOUCHED])

    def _at_vessels(self, radius_mm: float, twin: Float64 | None) -> Float64:
        """Beside a vessel, touching it or partly around it."""
        points = self._drawn(self._vessel, _DRAWN // 2, twin)
        apart = 0.8 + radius_mm * self._rng.uniform(0.1, 1.0, size=(len(points), 1))
        points = points + draw_directions(self._rng, len(points)) * apart
        forks = np.repeat(self._marks, 4, axis=0)
        forks = forks + self._rng.normal(0.0, 0.35 * radius_mm, size=forks.shape)
        points = np.concatenate([points, self._near_marks(radius_mm), forks])
        points = points[self.depth(points) < -(0.7 * radius_mm + 1.0)]
        touched = self._around(points, radius_mm) + self._around(points, 0.6 * radius_mm)
        return np.asarray(points[touched > _MOST_TOUCHED])

    def _near_marks(self, radius_mm: float) -> Float64:
        """Draw places [N, 3] around the finder's marks."""
        if not len(self._marks):
            return np.zeros((0, 3))
        marks = self._marks[self._rng.integers(len(self._marks), size=_DRAWN)]
        reach = (radius_mm + _NEAR_MM) * self._rng.random((_DRAWN, 1))
        return np.asarray(marks + draw_directions(self._rng, _DRAWN) * reach)

    def _at_pleura(self, radius_mm: float, twin: Float64 | None) -> Float64:
        """On the pleura, where the lung behind is not a thin edge."""
        edge = self._drawn(self._wall, _DRAWN, twin)
        inward = self.inward(edge)
        edge = edge + inward * self.depth(edge)[:, None]
        points = edge + inward * radius_mm * self._rng.uniform(0.25, 0.85, size=(len(edge), 1))
        return np.asarray(points[self.depth(edge + inward * (2.0 * radius_mm + 3.0)) < -1.0])

    def _at_fissures(self, radius_mm: float, twin: Float64 | None) -> Float64:
        """On a fissure, its middle not quite on it."""
        points = self._drawn(self._fissure, _DRAWN, twin)
        points = points + self._rng.normal(0.0, 0.25 * radius_mm, size=points.shape)
        return np.asarray(points[self.depth(points) < -(radius_mm + 1.0)])

    def _hidden(self, points_mm: Float64, radius_mm: float) -> Float64:
        """Share [N] of balls around places [N, 3] that is dense already, inside the lung."""
        offsets = np.concatenate([0.45 * radius_mm * self._directions[::2],
                                  0.85 * radius_mm * self._directions])  # fmt: skip
        around = (points_mm[:, None] + offsets).reshape(-1, 3)
        dense = self._read(self.sites.hu, around) > _DENSE_HU
        dense &= self._read(self.sites.lung_mm, around) < 0.0
        return np.asarray(dense.reshape(-1, len(offsets)).mean(axis=1))

    def _around(self, points_mm: Float64, radius_mm: float) -> Float64:
        """Mean coverage [N] by vessels on spheres around places [N, 3]."""
        around = (points_mm[:, None] + radius_mm * self._directions).reshape(-1, 3)
        return np.asarray(
            self._read(self.sites.vessels, around).reshape(-1, len(self._directions)).mean(axis=1)
        )


def draw_rank(count: int, rng: np.random.Generator) -> int:
    """Draw a rank of 1..count: 1, 2 to 3, 4 to 7 and so on are equally likely.

    Example:
        >>> draw_rank(1, np.random.default_rng(0))
        1
    """
    first = 1 << int(rng.integers(count.bit_length()))
    return int(rng.integers(first, min(2 * first, count + 1)))
