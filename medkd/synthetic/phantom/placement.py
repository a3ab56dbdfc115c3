"""A phantom's chest as whoever puts findings into it sees it: fields on a lattice, and places.

Units are chest mm and HU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medkd.synthetic.phantom.anatomy import Rendered
from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64
from medkd.synthetic.phantom.findings import Finding, LungSide, render_findings
from medkd.synthetic.phantom.forms import Bools, draw_directions
from medkd.synthetic.phantom.tubes import Tubes, draw_tubes

_WIDE_MM = 4.5
_DIRECTIONS = 40


@dataclass(frozen=True, slots=True, eq=False)
class Sites:
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

    def with_painted(self, findings: Iterable[Finding]) -> Sites:
        """Return the same chest with findings in it."""
        hu = self.hu.copy()
        render_findings(findings, self.canvas, hu)
        return replace(self, hu=hu)


def find_sites(
    canvas: Canvas,
    chest: Rendered,
    *,
    fissure_mm: Float32,
    branches: Tubes,
    blood_hu: float,
) -> Sites:
    """Prepare a chest without findings; the arguments are as in `Sites`."""
    searched = _without_wide(canvas, chest.lung_mm, branches)
    return Sites(
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
        sites: the chest.
        box_mm: [2, 3] low and high corner; None: the whole lattice.
        rng: source of places.
    """

    def __init__(self, sites: Sites, box_mm: Float64 | None, rng: np.random.Generator) -> None:
        self.sites, self._rng = sites, rng
        canvas = sites.canvas
        self._box = np.stack([canvas.low_mm, canvas.high_mm]) if box_mm is None else box_mm
        self._directions = draw_directions(rng, _DIRECTIONS)
        low, high = np.rint(canvas.index_vox(self._box)).astype(int)
        i, j, k = (
            slice(max(int(a), 0), max(int(b), 0) + 1) for a, b in zip(low, high, strict=True)
        )
        self._cut = (i, j, k)
        self._part = canvas.part(self._cut)
        lung = sites.lung_mm[self._cut]
        self._lung = np.flatnonzero(lung < -1.0)
        self._wall = np.flatnonzero((lung < 1.2) & (lung > -1.2))

    @property
    def lung_share(self) -> float:
        """Share of an ordinary pair of lungs that can be chosen from, at most 1."""
        volume = len(self._lung) * float(np.prod(self.sites.canvas.spacing_mm))
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
