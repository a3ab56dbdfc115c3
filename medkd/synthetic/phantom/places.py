"""Where findings lie in a phantom's chest: the chest as they see it, and places in it.

A place must not give a nodule away: with the nodule hidden, its surroundings must look like those
of a blob finder's false marks. For each nodule one of the strongest marks in the scan without
nodules is drawn, its twin. Many places are drawn, some of them around the twin, and the nodule
goes where the surroundings are most like the twin's. A nodule whose twin lies nearer to the
pleura than a nodule of its size can is put at the pleura. Units are chest mm and HU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medkd.synthetic.phantom.anatomy import Rendered
from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64
from medkd.synthetic.phantom.false_marks import Seen
from medkd.synthetic.phantom.findings import (
    MIMICS,
    Attachment,
    Finding,
    LungSide,
    render_findings,
)
from medkd.synthetic.phantom.forms import Bools, draw_directions
from medkd.synthetic.phantom.surroundings import Surroundings
from medkd.synthetic.phantom.tubes import Tubes, draw_tubes

_WIDE_MM = 4.5
_DIRECTIONS = 40

_TRIED = 1600
"""Places of one attachment among which the surroundings decide; those at the twin come first."""
_DRAWN = 4800
"""Places from which these are taken."""
_STRONGEST = 64
"""Marks that a nodule can have as its twin: each doubling of the rank is drawn as often."""
_ORDINARY = 40
"""The strongest marks, among which differences of surroundings are ordinary."""
_MASK_MM = 2.0
"""How far beyond a nodule's surface its surroundings begin."""
_NEAR_MM = 14.0
"""How far from a mark places are drawn."""
_DENSE_HU = -350.0
_MOST_HIDDEN, _MOST_TOUCHED = 0.4, 0.06
"""Share of a nodule that may lie in vessels or other dense tissue; of a free one's surface."""
_ROOM_MM = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """A chest on a lattice of about 2 mm, before its nodules are put into it.

    Args:
        canvas: the lattice.
        hu: [i, j, k] noise-free HU.
        lung_mm: [i, j, k] signed distance to the lungs' surface, negative in the lungs.
        searched_mm: [i, j, k] the same without the wide vessels at the hila, as a lung mask has it:
            where a finder looks.
        vessels: [i, j, k] coverage by vessels.
        fissure_mm: [i, j, k] distance to the nearest fissure, signed or not.
        branches: straight pieces of arteries and veins.
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
        """Return the same chest with findings in it."""
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
    searched = _without_wide(canvas, chest.lung_mm, branches)
    return Survey(
        canvas, chest.hu, chest.lung_mm, searched, chest.vessels, fissure_mm, branches, blood_hu
    )


def _without_wide(canvas: Canvas, lung_mm: Float32, branches: Tubes) -> Float32:
    """Cut vessels wider than `_WIDE_MM` out of the lungs' field, as segmentations of lungs do."""
    radius = np.maximum(branches.start_radius_mm, branches.end_radius_mm)
    wide = draw_tubes(canvas, branches.chosen(2.0 * radius > _WIDE_MM))
    return np.where(wide > 0.3, np.maximum(lung_mm, np.float32(1.0)), lung_mm)


class Places:
    """Reads one chest, or a box of it, and draws places in it.

    Args:
        survey: the chest.
        box_mm: [2, 3] low and high corner; None: the whole lattice.
        rng: source of places.
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
        """Share of an ordinary pair of lungs that can be chosen from, at most 1."""
        volume = len(self._lung) * float(np.prod(self.survey.canvas.spacing_mm))
        return min(volume / 3.0e6, 1.0)

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
        return self.survey.canvas.sample(self.survey.lung_mm, points_mm)

    def side(self, middle_mm: Float64, reach_mm: float) -> LungSide | None:
        """Return what cuts off a finding at the pleura, or None if it lies clear of it."""
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
        """Density of the lung around a place without its vessels: a low quarter."""
        around = middle_mm + 7.0 * self._directions
        values = self._read(self.survey.hu, around)[self._read(self.survey.lung_mm, around) < -1.0]
        return float(np.quantile(values, 0.3)) if len(values) > 4 else -860.0

    def _read(self, field: Float32, points_mm: Float64) -> Float64:
        """Value [N] of the lattice point next to each place."""
        canvas = self.survey.canvas
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


class Chooser(Places):
    """Chooses places in one chest, or in a box of it.

    Args:
        survey: the chest with all that is no nodule.
        seen: its scan.
        box_mm: [2, 3] low and high corner; None: the whole lattice.
        rng: source of places.
    """

    def __init__(
        self, survey: Survey, seen: Seen, box_mm: Float64 | None, rng: np.random.Generator
    ) -> None:
        super().__init__(survey, box_mm, rng)
        self._marks = seen.marks_mm[self.holds(seen.marks_mm)]
        self._surroundings = Surroundings(seen.canvas, seen.hu, rng)
        lung, vessels = survey.lung_mm[self._cut], survey.vessels[self._cut]
        self._vessel = np.flatnonzero((vessels > 0.3) & (lung < -3.0))
        near = np.abs(survey.fissure_mm[self._cut]) < 1.2
        self._fissure = np.flatnonzero(near & (vessels < 0.2) & (lung < -4.0))

    def twin(self, others: list[Finding]) -> Float64 | None:
        """Draw a mark (3,) for a nodule to resemble; None if there is none.

        Args:
            others: findings; a mark on one that is no mimic is no false mark.
        """
        counted = [finding for finding in others if finding.kind not in MIMICS]
        marks = self._marks[clear_of(self._marks, counted, _ROOM_MM)][:_STRONGEST]
        if not len(marks):
            return None
        return np.asarray(marks[draw_rank(len(marks), self._rng) - 1])

    def attachment(self, wanted: Attachment, radius_mm: float, twin: Float64 | None) -> Attachment:
        """Say what a nodule touches that is to lie where its twin (3,) does."""
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
        """Choose the middle (3,) of a nodule, or None where the chest has no room for it.

        Args:
            attachment: what it is to touch.
            radius_mm: of the nodule.
            others: findings to keep away from.
            twin: (3,) the place whose surroundings it is to have; None: any will do.
        """
        find = {"free": self._free, "vessel": self._at_vessels, "pleura": self._at_pleura,
                "fissure": self._at_fissures}[attachment]  # fmt: skip
        tried = find(radius_mm, twin)
        tried = tried[self._within(tried, radius_mm + 3.0)]
        tried = tried[clear_of(tried, others, radius_mm + _ROOM_MM)]
        tried = tried[self._hidden(tried, radius_mm) < _MOST_HIDDEN][:_TRIED]
        if not len(tried) or twin is None:
            return np.asarray(tried[self._rng.integers(len(tried))]) if len(tried) else None
        ordinary = self._marks[:_ORDINARY]
        best = self._surroundings.likest(tried, twin, ordinary, radius_mm + _MASK_MM)
        return np.asarray(tried[best])

    def _free(self, radius_mm: float, twin: Float64 | None) -> Float64:
        """Deep in the lung, touching hardly any vessel."""
        points = self._drawn(self._lung, _DRAWN // 2, twin)
        points = self._with_more(points, radius_mm, twin)
        points = points[self.depth(points) < -(radius_mm + 2.0)]
        touched = self._covered(points, radius_mm + 0.7) + self._covered(points, 0.6 * radius_mm)
        return np.asarray(points[touched <= _MOST_TOUCHED])

    def _at_vessels(self, radius_mm: float, twin: Float64 | None) -> Float64:
        """Beside a vessel, touching it or partly around it."""
        points = self._drawn(self._vessel, _DRAWN // 2, twin)
        apart = 0.8 + radius_mm * self._rng.uniform(0.1, 1.0, size=(len(points), 1))
        points = points + draw_directions(self._rng, len(points)) * apart
        points = self._with_more(points, radius_mm, twin)
        points = points[self.depth(points) < -(0.7 * radius_mm + 1.0)]
        touched = self._covered(points, radius_mm) + self._covered(points, 0.6 * radius_mm)
        return np.asarray(points[touched > _MOST_TOUCHED])

    def _with_more(self, points_mm: Float64, radius_mm: float, twin: Float64 | None) -> Float64:
        """Return places [N, 3] and more around the finder's marks, in random order.

        Before them come places around the twin, within a nodule's reach of it.
        """
        first = np.zeros((0, 3))
        if twin is not None:
            reach = (radius_mm + 2.0) * np.cbrt(self._rng.random((_DRAWN // 4, 1)))
            first = twin + draw_directions(self._rng, _DRAWN // 4) * reach
        points = np.concatenate([points_mm, self._near_marks(radius_mm)])
        return np.concatenate([first, points[self._rng.permutation(len(points))]])

    def _near_marks(self, radius_mm: float) -> Float64:
        """Draw places [N, 3] around the finder's marks."""
        if not len(self._marks):
            return np.zeros((0, 3))
        marks = self._marks[self._rng.integers(len(self._marks), size=_DRAWN)]
        reach = (radius_mm + _NEAR_MM) * self._rng.random((_DRAWN, 1))
        return np.asarray(marks + draw_directions(self._rng, _DRAWN) * reach)

    def _at_pleura(self, radius_mm: float, twin: Float64 | None) -> Float64:
        """On the pleura, where the lung behind is not a thin edge."""
        edge = np.concatenate([*self._wall_at(twin, radius_mm), self._drawn(self._wall, _DRAWN)])
        inward = self.inward(edge)
        edge = edge + inward * self.depth(edge)[:, None]
        points = edge + inward * radius_mm * self._rng.uniform(0.25, 0.85, size=(len(edge), 1))
        return np.asarray(points[self.depth(edge + inward * (2.0 * radius_mm + 3.0)) < -1.0])

    def _wall_at(self, twin: Float64 | None, radius_mm: float) -> list[Float64]:
        """Draw places [N, 3] of the lungs' surface, within a nodule's reach of a place."""
        if twin is None:
            return []
        index = np.stack(np.unravel_index(self._wall, self._part.shape), axis=1)
        away = ((self._part.points_mm(index) - twin) ** 2).sum(axis=1)
        return [self._drawn(self._wall[away < (2.0 * radius_mm + 4.0) ** 2], _DRAWN // 4)]

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
        dense = self._read(self.survey.hu, around) > _DENSE_HU
        dense &= self._read(self.survey.lung_mm, around) < 0.0
        return np.asarray(dense.reshape(-1, len(offsets)).mean(axis=1))

    def _covered(self, points_mm: Float64, radius_mm: float) -> Float64:
        """Mean coverage [N] by vessels on spheres around places [N, 3]."""
        around = (points_mm[:, None] + radius_mm * self._directions).reshape(-1, 3)
        return np.asarray(
            self._read(self.survey.vessels, around).reshape(-1, len(self._directions)).mean(axis=1)
        )


def draw_rank(count: int, rng: np.random.Generator) -> int:
    """Draw a rank of 1..count: 1, 2 to 3, 4 to 7 and so on are equally likely.

    Example:
        >>> draw_rank(1, np.random.default_rng(0))
        1
    """
    first = 1 << int(rng.integers(count.bit_length()))
    return int(rng.integers(first, min(2 * first, count + 1)))
