"""Where the nodules of a phantom lie.

A place must not give a nodule away: with the nodule hidden, what is around it must look like what
is around a blob finder's false marks. So for each nodule one of the finder's marks in the chest
without nodules is drawn, and of many places of the wanted attachment the one is taken whose
surroundings are most like that mark's. All of it is worked out on a lattice of 2 mm. Units are
chest mm and HU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.data.phantom.anatomy import Rendered
from medkd.data.phantom.blobs import Blobs, find_blobs
from medkd.data.phantom.canvas import Canvas, Float32, Float64
from medkd.data.phantom.findings import Attachment, Finding, LungSide
from medkd.data.phantom.forms import Bools, draw_directions
from medkd.data.phantom.kernel import SliceProfile
from medkd.data.phantom.surroundings import Surroundings
from medkd.data.phantom.tubes import Tubes, draw_tubes

_TRIED = 1200
"""Places of one attachment among which the surroundings decide."""
_DRAWN = 4800
"""Places from which these are taken."""
_TWINS, _FEWEST_TWINS = 20, 3
"""Marks of the finder in two lungs, the strongest first, that surroundings are taken from."""
_MASK_MM = 2.0
"""How far beyond a nodule's surface its surroundings begin."""
_NEAR_MM = 14.0
"""How far from a mark's vessel places are drawn."""
_DENSE_HU = -350.0
_MOST_HIDDEN, _MOST_TOUCHED = 0.4, 0.06
"""Share of a nodule that may lie in vessels or other dense tissue; of a free one's surface."""
_DIRECTIONS = 40
_ROOM_MM = 5.0
_WIDE_MM = 4.5


@dataclass(frozen=True, slots=True, eq=False)
class Sites:
    """A chest without findings on a lattice of about 2 mm, and what the finder finds in it.

    Args:
        canvas: the lattice.
        hu: [i, j, k] noise-free HU.
        seen_hu: [i, j, k] the same blurred along k, as slices show it.
        lung_mm: [i, j, k] signed distance to the lungs' surface, negative in the lungs.
        searched_mm: [i, j, k] the same without the wide vessels at the hila, as a lung mask has it:
            where a finder looks.
        vessels: [i, j, k] coverage by vessels.
        fissure_mm: [i, j, k] distance to the nearest fissure, signed or not.
        branches: straight pieces of arteries and veins.
        blood_hu: density of blood.
        marks_mm: [N, 3] places of the blob finder, the strongest first.
    """

    canvas: Canvas
    hu: Float32
    seen_hu: Float32
    lung_mm: Float32
    searched_mm: Float32
    vessels: Float32
    fissure_mm: Float32
    branches: Tubes
    blood_hu: float
    marks_mm: Float64


def find_sites(
    canvas: Canvas,
    chest: Rendered,
    *,
    profile: SliceProfile,
    fissure_mm: Float32,
    branches: Tubes,
    blood_hu: float,
) -> Sites:
    """Look at a chest without findings; `profile` is of its slices, the rest as in `Sites`."""
    searched = _without_wide(canvas, chest.lung_mm, branches)
    step_mm = float(canvas.spacing_mm[2])
    taps = profile.taps(step_mm, painted_mm=step_mm)
    seen = ndimage.correlate1d(chest.hu, taps, axis=2, mode="nearest")
    blobs: Blobs = find_blobs(seen, canvas.spacing_mm, searched < 0.0)
    return Sites(
        canvas, chest.hu, seen, chest.lung_mm, searched, chest.vessels, fissure_mm, branches,
        blood_hu, canvas.points_mm(blobs.places_vox),
    )  # fmt: skip


def _without_wide(canvas: Canvas, lung_mm: Float32, branches: Tubes) -> Float32:
    """Cut vessels wider than `_WIDE_MM` out of the lungs' field, as segmentations of lungs do."""
    radius = np.maximum(branches.start_radius_mm, branches.end_radius_mm)
    wide = draw_tubes(canvas, branches.chosen(2.0 * radius > _WIDE_MM))
    return np.where(wide > 0.3, np.maximum(lung_mm, np.float32(1.0)), lung_mm)


class Chooser:
    """Chooses places in one chest, or in a box of it."""

    def __init__(self, sites: Sites, box_mm: Float64 | None, rng: np.random.Generator) -> None:
        self.sites, self._rng = sites, rng
        canvas = sites.canvas
        self._box = np.stack([canvas.low_mm, canvas.high_mm]) if box_mm is None else box_mm
        self._directions = draw_directions(rng, _DIRECTIONS)
        self._marks = sites.marks_mm[self.holds(sites.marks_mm)]
        self._surroundings = Surroundings(canvas, sites.seen_hu, rng)
        low, high = np.rint(canvas.index_vox(self._box)).astype(int)
        i, j, k = (
            slice(max(int(a), 0), max(int(b), 0) + 1) for a, b in zip(low, high, strict=True)
        )
        self._part = canvas.part((i, j, k))
        lung, vessels = sites.lung_mm[i, j, k], sites.vessels[i, j, k]
        self._lung = np.flatnonzero(lung < -1.0)
        self._wall = np.flatnonzero((lung < 1.2) & (lung > -1.2))
        self._vessel = np.flatnonzero((vessels > 0.3) & (lung < -3.0))
        near = np.abs(sites.fissure_mm[i, j, k]) < 1.2
        self._fissure = np.flatnonzero(near & (vessels < 0.2) & (lung < -4.0))
        twins = max(int(np.ceil(_TWINS * self.lung_share)), _FEWEST_TWINS)
        self._forks, self._marks = self._marks, self._marks[:twins]

    @property
    def lung_share(self) -> float:
        """Share of an ordinary pair of lungs that can be chosen from, at most 1."""
        volume = len(self._lung) * float(np.prod(self.sites.canvas.spacing_mm))
        return min(volume / 3.0e6, 1.0)

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
        count = len(self._marks)
        twin = self._marks[int(self._rng.integers(count))] if count else None
        tried = find(radius_mm, twin)
        tried = tried[self._rng.permutation(len(tried))]
        tried = tried[self._within(tried, min(radius_mm + 3.0, 12.0))]
        tried = tried[clear_of(tried, others, radius_mm + _ROOM_MM)]
        tried = tried[self._hidden(tried, radius_mm) < _MOST_HIDDEN][:_TRIED]
        if not len(tried) or twin is None:
            return np.asarray(tried[0]) if len(tried) else None
        best = self._surroundings.likest(tried, twin, self._marks, radius_mm + _MASK_MM)
        return np.asarray(tried[best])

    def holds(self, points_mm: Float64) -> Bools:
        """Say which places [N, 3] lie in the box."""
        return self._within(points_mm, 0.0)

    def on_pleura(self) -> Float64 | None:
        """Draw a point (3,) of the lungs' surface."""
        points = self._drawn(self._wall, 1)
        return points[0] if len(points) else None

    def inward(self, points_mm: Float64) -> Float64:
        """Unit vectors [N, 3] from the lungs' surface into the lung."""
        slope = np.empty_like(points_mm)
        for axis in range(3):
            step = np.zeros(3)
            step[axis] = 3.0
            slope[:, axis] = self.depth(points_mm - step) - self.depth(points_mm + step)
        length = np.sqrt((slope * slope).sum(axis=1, keepdims=True))
        return np.asarray(slope / np.maximum(length, 1e-9))

    def depth(self, points_mm: Float64) -> Float64:
        """Signed distance [N] to the lungs' surface, negative in the lungs."""
        return self.sites.canvas.sample(self.sites.lung_mm, points_mm)

    def side(self, middle_mm: Float64, reach_mm: float) -> LungSide | None:
        """Return what cuts off a finding at the pleura, or None if it lies clear of it."""
        if self.depth(middle_mm[None])[0] < -1.5 * reach_mm - 4.0:
            return None
        canvas = self.sites.canvas
        half = np.ceil(reach_mm / canvas.spacing_mm).astype(int) + 2
        middle = np.rint(canvas.index_vox(middle_mm[None])[0]).astype(int)
        low = np.clip(middle - half, 0, np.asarray(canvas.shape) - 1)
        high = np.clip(middle + half + 1, low + 1, canvas.shape)
        i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return LungSide(canvas.part((i, j, k)), self.sites.lung_mm[i, j, k].copy())

    def lung_hu(self, middle_mm: Float64) -> float:
        """Density of the lung around a place without its vessels: a low quarter."""
        around = middle_mm + 7.0 * self._directions
        values = self._read(self.sites.hu, around)[self._read(self.sites.lung_mm, around) < -1.0]
        return float(np.quantile(values, 0.3)) if len(values) > 4 else -860.0

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
        forks = np.repeat(self._forks, 4, axis=0)
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
            self._read(self.sites.vessels, around).reshape(-1, _DIRECTIONS).mean(axis=1)
        )

    def _read(self, field: Float32, points_mm: Float64) -> Float64:
        """Value [N] of the lattice point next to each place."""
        canvas = self.sites.canvas
        index = np.rint(canvas.index_vox(points_mm)).astype(np.int64)
        i, j, k = np.clip(index, 0, np.asarray(canvas.shape) - 1).T
        return np.asarray(field[i, j, k], dtype=np.float64)

    def _drawn(
        self, voxels: NDArray[np.intp], count: int, near_mm: Float64 | None = None
    ) -> Float64:
        """Draw places [N, 3] of voxels, anywhere in these; none if there are none.

        With a place (3,) given, of `count` drawn only the nearer half is kept, in random order.
        """
        if not len(voxels):
            return np.zeros((0, 3))
        chosen = voxels[self._rng.integers(len(voxels), size=count)]
        index = np.stack(np.unravel_index(chosen, self._part.shape), axis=1)
        places = self._part.points_mm(index + self._rng.uniform(-0.5, 0.5, size=index.shape))
        if near_mm is None:
            return places
        away = ((places - near_mm) ** 2).sum(axis=1)
        return np.asarray(places[away <= np.median(away)])

    def _within(self, points_mm: Float64, margin_mm: float) -> Bools:
        low, high = self._box
        return np.asarray(
            ((points_mm >= low + margin_mm) & (points_mm <= high - margin_mm)).all(axis=1)
        )


def clear_of(points_mm: Float64, findings: list[Finding], room_mm: float) -> Bools:
    """Say which places [N, 3] lie farther than this from the surface of every finding."""
    clear = np.ones(len(points_mm), dtype=np.bool_)
    for finding in findings:
        apart = points_mm - finding.center_mm
        clear &= np.sqrt((apart * apart).sum(axis=1)) > room_mm + finding.diameter_mm / 2.0
    return clear
