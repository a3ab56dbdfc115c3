"""Places of findings in a phantom's chest.

A place must not reveal a nodule: with the nodule hidden, its surroundings must look like those of a
false mark of the blob finder. For each nodule one of the strongest marks in the scan without
nodules is drawn: its twin. Many places are drawn, some of them around the twin, and the nodule gets
the place whose surroundings are most similar to the twin's. If the twin is nearer to the pleura
than a nodule of this size can be, the nodule is placed at the pleura.

Surroundings are described by densities and gradients in three shells beyond a mask, read from a
lattice of about 2 mm. Two places with similar numbers cannot be distinguished by their
surroundings. Units are chest mm and HU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medkd.synthetic.phantom.anatomy import Rendered
from medkd.synthetic.phantom.canvas import Bools, Canvas, Float32, Float64
from medkd.synthetic.phantom.finder import MarkedScan
from medkd.synthetic.phantom.findings import (
    MIMICS,
    Attachment,
    Finding,
    LungSide,
    clear_of,
    render_findings,
)
from medkd.synthetic.phantom.forms import draw_directions
from medkd.synthetic.phantom.tubes import Tubes, draw_tubes

_SHELLS_MM = ((0.3, 3.0, 96), (3.0, 7.0, 80), (7.0, 12.0, 80))
"""Shells: inner and outer distance from the mask, and number of sample points."""
_PAD = 26
"""Padding of the lattice: a mask of 20 mm with all shells reaches this many voxels of 1.5 mm."""
_HU_RANGE = (-1000.0, 400.0)
_LEAST_SPREAD = np.tile(
    [45.0, 45.0, 20.0, 25.0, 45.0, 70.0, 100.0, 15.0, 15.0, 40.0, 15.0, 40.0], len(_SHELLS_MM)
)
"""Least spread of each feature: HU, and HU per 2 voxels for gradients."""
_WEIGHTS = np.repeat([1.2, 2.0, 2.8, 0.8, 1.6, 2.2, 0.8, 1.2, 1.6], 3 * [7, 3, 2])
"""Weights of the features: the inner shell is the most informative, and gradients more than HU."""
_WIDE_MM = 4.5
_DIRECTIONS = 40
_TRIED = 1600
"""Number of places whose surroundings are compared; those at the twin come first."""
_DRAWN = 4800
"""Number of places from which these are taken."""
_STRONGEST = 64
"""Number of the strongest marks that can be a twin; each doubling of the rank is equally likely."""
_ORDINARY = 40
"""Number of the strongest marks whose spread scales differences of surroundings."""
_MASK_MM = 2.0
"""Distance from a nodule's surface to its surroundings."""
_NEAR_MM = 14.0
"""Greatest distance from a mark at which places are drawn, besides the nodule's radius."""
_DENSE_HU = -350.0
_MOST_HIDDEN, _MOST_TOUCHED = 0.4, 0.06
"""Greatest share of a nodule in dense tissue; greatest share of a free nodule's surface there."""
_ROOM_MM = 5.0


class Surroundings:
    """Computes features of surroundings on one lattice.

    Args:
        canvas: the lattice.
        hu: [i, j, k] HU of the scan on it.
        rng: source of the sample points.
    """

    def __init__(self, canvas: Canvas, hu: Float32, rng: np.random.Generator) -> None:
        self._canvas = canvas
        image = np.pad(np.clip(hu, *_HU_RANGE), _PAD, mode="edge")
        self._shape = image.shape
        squared = np.zeros_like(image)
        for axis in range(3):
            ahead = [slice(1, -1)] * 3
            behind = [slice(1, -1)] * 3
            ahead[axis], behind[axis] = slice(2, None), slice(None, -2)
            step = image[tuple(ahead)] - image[tuple(behind)]
            squared[1:-1, 1:-1, 1:-1] += step * step
        along = np.zeros_like(image)  # the last axis apart, because slices blur it more
        along[1:-1, 1:-1, 1:-1] = np.abs(step)
        self._image = image.reshape(-1)
        self._slope = np.sqrt(squared).reshape(-1)
        self._along = along.reshape(-1)
        self._shells = [
            (draw_directions(rng, count), rng.uniform(low, high, size=(count, 1)))
            for low, high, count in _SHELLS_MM
        ]

    def at(self, points_mm: Float64, mask_mm: float) -> Float64:
        """Return the features [N, F] of places [N, 3] outside a mask of this radius."""
        base = np.clip(self._canvas.index_vox(points_mm), 0.0, np.asarray(self._canvas.shape) - 1.0)
        parts: list[Float64] = []
        for directions, out_mm in self._shells:
            offsets = directions * (out_mm + mask_mm) / self._canvas.spacing_mm
            offsets = np.clip(offsets, 1.0 - _PAD, _PAD - 1.0)
            i, j, k = (
                np.rint(base[:, axis, None] + (offsets[:, axis] + _PAD)).astype(np.int64)
                for axis in range(3)
            )
            around = (i * self._shape[1] + j) * self._shape[2] + k
            values = np.sort(self._image[around].astype(np.float64), axis=1)
            slopes = np.sort(self._slope[around].astype(np.float64), axis=1)
            count = len(directions)
            parts += [values.mean(axis=1), values.std(axis=1)]
            parts += [values[:, int(share * count)] for share in (0.05, 0.25, 0.5, 0.75, 0.95)]
            parts += [slopes.mean(axis=1), slopes[:, count // 2], slopes[:, int(0.9 * count)]]
            along = np.sort(self._along[around].astype(np.float64), axis=1)
            parts += [along.mean(axis=1), along[:, int(0.9 * count)]]
        return np.stack(parts, axis=1)

    def most_similar(
        self, points_mm: Float64, twin_mm: Float64, marks_mm: Float64, mask_mm: float
    ) -> int:
        """Return the index of the place whose surroundings are most similar to the twin's.

        Args:
            points_mm: [N, 3] places, at least one.
            twin_mm: (3,) the place to resemble.
            marks_mm: [M, 3] places whose spread scales the differences.
            mask_mm: radius of the mask at all of these places.
        """
        spread = np.maximum(self.at(marks_mm, mask_mm).std(axis=0), _LEAST_SPREAD)
        apart = self.at(points_mm, mask_mm) - self.at(twin_mm[None], mask_mm)
        apart *= _WEIGHTS / spread
        return int((apart * apart).sum(axis=1).argmin())


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """A chest on a lattice of about 2 mm, before nodules are added.

    Args:
        canvas: the lattice.
        hu: [i, j, k] noise-free HU.
        lung_mm: [i, j, k] signed distance to the lungs' surface, negative in the lungs.
        searched_mm: [i, j, k] the same without the wide vessels at the hila, as in a lung mask: the
            region that a finder searches.
        vessels: [i, j, k] coverage by vessels.
        fissure_mm: [i, j, k] distance to the nearest fissure, signed or not.
        branches: arteries and veins as straight tubes.
        blood_hu: density of blood.
    """

    canvas: Canvas
    hu: Float32
    lung_mm: Float32
    searched_mm: Float32
    vessels: Float32
    fissure_mm: Float32
    branches: Tubes
    blood_hu: float

    def with_painted(self, findings: Iterable[Finding]) -> Survey:
        """Return the same chest with these findings."""
        hu = self.hu.copy()
        render_findings(findings, self.canvas, hu)
        return replace(self, hu=hu)


def build_survey(
    canvas: Canvas,
    chest: Rendered,
    *,
    fissure_mm: Float32,
    branches: Tubes,
    blood_hu: float,
) -> Survey:
    """Prepare a chest without findings; the arguments are as in `Survey`."""
    # Segmentations of lungs exclude wide vessels.
    radius = np.maximum(branches.start_radius_mm, branches.end_radius_mm)
    wide = draw_tubes(canvas, branches.chosen(2.0 * radius > _WIDE_MM))
    lung = chest.lung_mm
    searched = np.where(wide > 0.3, np.maximum(lung, np.float32(1.0)), lung)
    return Survey(canvas, chest.hu, lung, searched, chest.vessels, fissure_mm, branches, blood_hu)


class Places:
    """Draws places in a chest or a box of it, and reads the chest there.

    Args:
        survey: the chest.
        box_mm: [2, 3] low and high corner; None means the whole lattice.
        rng: source of the places.
    """

    def __init__(self, survey: Survey, box_mm: Float64 | None, rng: np.random.Generator) -> None:
        self.survey, self._rng = survey, rng
        canvas = survey.canvas
        self._box = np.stack([canvas.low_mm, canvas.high_mm]) if box_mm is None else box_mm
        self._directions = draw_directions(rng, _DIRECTIONS)
        low, high = np.rint(canvas.index_vox(self._box)).astype(int)
        i, j, k = (
            slice(max(int(a), 0), max(int(b), 0) + 1) for a, b in zip(low, high, strict=True)
        )
        self._cut = (i, j, k)
        self._part = canvas.part(self._cut)
        lung = survey.lung_mm[self._cut]
        self._lung = np.flatnonzero(lung < -1.0)
        self._wall = np.flatnonzero((lung < 1.2) & (lung > -1.2))

    @property
    def lung_share(self) -> float:
        """Volume of the lung in the box, as a share of an ordinary pair of lungs; at most 1."""
        volume = len(self._lung) * float(np.prod(self.survey.canvas.spacing_mm))
        return min(volume / 3.0e6, 1.0)

    def contains(self, points_mm: Float64, margin_mm: float = 0.0) -> Bools:
        """Mark the places [N, 3] in the box that are at least `margin_mm` from its faces."""
        low, high = self._box
        inside = (points_mm >= low + margin_mm) & (points_mm <= high - margin_mm)
        return np.asarray(inside.all(axis=1))

    def on_pleura(self) -> Float64 | None:
        """Draw a point (3,) on the lungs' surface; None if the box contains no surface."""
        points = self._drawn(self._wall, 1)
        return points[0] if len(points) else None

    def inward(self, points_mm: Float64) -> Float64:
        """Return unit vectors [N, 3] from the lungs' surface into the lung."""
        slope = np.empty_like(points_mm)
        for axis in range(3):
            step = np.zeros(3)
            step[axis] = 3.0
            slope[:, axis] = self.depth(points_mm - step) - self.depth(points_mm + step)
        length = np.sqrt((slope * slope).sum(axis=1, keepdims=True))
        return np.asarray(slope / np.maximum(length, 1e-9))

    def depth(self, points_mm: Float64) -> Float64:
        """Return the signed distance [N] to the lungs' surface, negative in the lungs."""
        return self.survey.canvas.sample(self.survey.lung_mm, points_mm)

    def side(self, middle_mm: Float64, reach_mm: float) -> LungSide | None:
        """Return what cuts off a finding at the pleura, or None if the finding is clear of it."""
        if self.depth(middle_mm[None])[0] < -1.5 * reach_mm - 4.0:
            return None
        canvas = self.survey.canvas
        half = np.ceil(reach_mm / canvas.spacing_mm).astype(int) + 2
        middle = np.rint(canvas.index_vox(middle_mm[None])[0]).astype(int)
        low = np.clip(middle - half, 0, np.asarray(canvas.shape) - 1)
        high = np.clip(middle + half + 1, low + 1, canvas.shape)
        i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return LungSide(canvas.part((i, j, k)), self.survey.lung_mm[i, j, k].copy())

    def lung_hu(self, middle_mm: Float64) -> float:
        """Return a low percentile of the HU around a place: the lung without vessels."""
        around = middle_mm + 7.0 * self._directions
        values = self._read(self.survey.hu, around)[self._read(self.survey.lung_mm, around) < -1.0]
        return float(np.quantile(values, 0.3)) if len(values) > 4 else -860.0

    def _read(self, field: Float32, points_mm: Float64) -> Float64:
        """Return the value [N] at the lattice point nearest to each place."""
        canvas = self.survey.canvas
        index = np.rint(canvas.index_vox(points_mm)).astype(np.int64)
        i, j, k = np.clip(index, 0, np.asarray(canvas.shape) - 1).T
        return np.asarray(field[i, j, k], dtype=np.float64)

    def _drawn(
        self, voxels: NDArray[np.intp], count: int, near_mm: Float64 | None = None
    ) -> Float64:
        """Draw places [N, 3] uniformly in some voxels; if there are no voxels, N is 0.

        If `near_mm` (3,) is given, only the nearer half of the `count` places is kept.
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


class Chooser(Places):
    """Chooses places of nodules in a chest or a box of it.

    Args:
        survey: the chest with all findings that are not nodules.
        marked: the scan of this chest, with the marks of the finder.
        box_mm: [2, 3] low and high corner; None means the whole lattice.
        rng: source of the places.
    """

    def __init__(
        self, survey: Survey, marked: MarkedScan, box_mm: Float64 | None, rng: np.random.Generator
    ) -> None:
        super().__init__(survey, box_mm, rng)
        self._marks = marked.marks_mm[self.contains(marked.marks_mm)]
        self._surroundings = Surroundings(marked.canvas, marked.hu, rng)
        lung, vessels = survey.lung_mm[self._cut], survey.vessels[self._cut]
        self._vessel = np.flatnonzero((vessels > 0.3) & (lung < -3.0))
        near = np.abs(survey.fissure_mm[self._cut]) < 1.2
        self._fissure = np.flatnonzero(near & (vessels < 0.2) & (lung < -4.0))

    def twin(self, others: list[Finding]) -> Float64 | None:
        """Draw a false mark (3,) that a nodule must resemble; None if there is none.

        Args:
            others: findings; marks on those that are not mimics are not false.
        """
        counted = [finding for finding in others if finding.kind not in MIMICS]
        marks = self._marks[clear_of(self._marks, counted, _ROOM_MM)][:_STRONGEST]
        if not len(marks):
            return None
        return np.asarray(marks[draw_rank(len(marks), self._rng) - 1])

    def attachment(self, wanted: Attachment, radius_mm: float, twin: Float64 | None) -> Attachment:
        """Return the attachment of a nodule that is placed like its twin (3,)."""
        if twin is None:
            return wanted
        if self.depth(twin[None])[0] > -(radius_mm + 1.0):
            return "pleura"
        return "vessel" if wanted == "pleura" else wanted

    def choose(
        self,
        attachment: Attachment,
        radius_mm: float,
        others: list[Finding],
        *,
        twin: Float64 | None = None,
    ) -> Float64 | None:
        """Choose the middle (3,) of a nodule; None if the chest has no room for it.

        Args:
            attachment: what it must touch.
            radius_mm: radius of the nodule.
            others: findings that it must not touch.
            twin: (3,) the place whose surroundings it must resemble; None means any place.
        """
        find = {"free": self._free, "vessel": self._at_vessels, "pleura": self._at_pleura,
                "fissure": self._at_fissures}[attachment]  # fmt: skip
        tried = find(radius_mm, twin)
        tried = tried[self.contains(tried, radius_mm + 3.0)]
        tried = tried[clear_of(tried, others, radius_mm + _ROOM_MM)]
        tried = tried[self._hidden(tried, radius_mm) < _MOST_HIDDEN][:_TRIED]
        if not len(tried) or twin is None:
            return np.asarray(tried[self._rng.integers(len(tried))]) if len(tried) else None
        ordinary = self._marks[:_ORDINARY]
        best = self._surroundings.most_similar(tried, twin, ordinary, radius_mm + _MASK_MM)
        return np.asarray(tried[best])

    def _free(self, radius_mm: float, twin: Float64 | None) -> Float64:
        """Draw places deep in the lung that hardly touch a vessel."""
        points = self._drawn(self._lung, _DRAWN // 2, twin)
        points = self._with_more(points, radius_mm, twin)
        points = points[self.depth(points) < -(radius_mm + 2.0)]
        touched = self._covered(points, radius_mm + 0.7) + self._covered(points, 0.6 * radius_mm)
        return np.asarray(points[touched <= _MOST_TOUCHED])

    def _at_vessels(self, radius_mm: float, twin: Float64 | None) -> Float64:
        """Draw places beside a vessel, so that the nodule touches it or partly encloses it."""
        points = self._drawn(self._vessel, _DRAWN // 2, twin)
        apart = 0.8 + radius_mm * self._rng.uniform(0.1, 1.0, size=(len(points), 1))
        points = points + draw_directions(self._rng, len(points)) * apart
        points = self._with_more(points, radius_mm, twin)
        points = points[self.depth(points) < -(0.7 * radius_mm + 1.0)]
        touched = self._covered(points, radius_mm) + self._covered(points, 0.6 * radius_mm)
        return np.asarray(points[touched > _MOST_TOUCHED])

    def _with_more(self, points_mm: Float64, radius_mm: float, twin: Float64 | None) -> Float64:
        """Add places around the finder's marks, shuffle, and put places at the twin first."""
        first = np.zeros((0, 3))
        if twin is not None:
            reach = (radius_mm + 2.0) * np.cbrt(self._rng.random((_DRAWN // 4, 1)))
            first = twin + draw_directions(self._rng, _DRAWN // 4) * reach
        points = points_mm
        if len(self._marks):
            marks = self._marks[self._rng.integers(len(self._marks), size=_DRAWN)]
            apart = (radius_mm + _NEAR_MM) * self._rng.random((_DRAWN, 1))
            near = marks + draw_directions(self._rng, _DRAWN) * apart
            points = np.concatenate([points, near])
        return np.concatenate([first, points[self._rng.permutation(len(points))]])

    def _at_pleura(self, radius_mm: float, twin: Float64 | None) -> Float64:
        """Draw places at the pleura where the lung is not a thin edge."""
        edge = np.concatenate([*self._wall_at(twin, radius_mm), self._drawn(self._wall, _DRAWN)])
        inward = self.inward(edge)
        edge = edge + inward * self.depth(edge)[:, None]
        points = edge + inward * radius_mm * self._rng.uniform(0.25, 0.85, size=(len(edge), 1))
        return np.asarray(points[self.depth(edge + inward * (2.0 * radius_mm + 3.0)) < -1.0])

    def _wall_at(self, twin: Float64 | None, radius_mm: float) -> list[Float64]:
        """Draw places [N, 3] on the lungs' surface within a nodule's reach of its twin."""
        if twin is None:
            return []
        index = np.stack(np.unravel_index(self._wall, self._part.shape), axis=1)
        away = ((self._part.points_mm(index) - twin) ** 2).sum(axis=1)
        return [self._drawn(self._wall[away < (2.0 * radius_mm + 4.0) ** 2], _DRAWN // 4)]

    def _at_fissures(self, radius_mm: float, twin: Float64 | None) -> Float64:
        """Draw places near a fissure."""
        points = self._drawn(self._fissure, _DRAWN, twin)
        points = points + self._rng.normal(0.0, 0.25 * radius_mm, size=points.shape)
        return np.asarray(points[self.depth(points) < -(radius_mm + 1.0)])

    def _hidden(self, points_mm: Float64, radius_mm: float) -> Float64:
        """Return the share [N] of dense tissue in the lung in balls around places [N, 3]."""
        offsets = np.concatenate([0.45 * radius_mm * self._directions[::2],
                                  0.85 * radius_mm * self._directions])  # fmt: skip
        around = (points_mm[:, None] + offsets).reshape(-1, 3)
        dense = self._read(self.survey.hu, around) > _DENSE_HU
        dense &= self._read(self.survey.lung_mm, around) < 0.0
        return np.asarray(dense.reshape(-1, len(offsets)).mean(axis=1))

    def _covered(self, points_mm: Float64, radius_mm: float) -> Float64:
        """Return the mean coverage [N] by vessels on spheres around places [N, 3]."""
        around = (points_mm[:, None] + radius_mm * self._directions).reshape(-1, 3)
        return np.asarray(
            self._read(self.survey.vessels, around).reshape(-1, len(self._directions)).mean(axis=1)
        )


def draw_rank(count: int, rng: np.random.Generator) -> int:
    """Draw a rank in 1..count such that 1, 2 to 3, 4 to 7 and so on are equally likely.

    Example:
        >>> draw_rank(1, np.random.default_rng(0))
        1
    """
    first = 1 << int(rng.integers(count.bit_length()))
    return int(rng.integers(first, min(2 * first, count + 1)))
