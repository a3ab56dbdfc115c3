"""A patient's chest, painted on any voxels: the whole, a slab, a region, coarse or fine.

What is random is drawn once (`draw_anatomy`). `render_anatomy` then works out signed distances
and densities on a lattice of 2 or 3 mm that lies the same for every canvas, reads them between
its points, and draws edges at the voxels: skin, bone, lung and airways stay crisp however large
the lattice, and slabs meet without a seam.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64
from medkd.synthetic.phantom.chest import couch_hu
from medkd.synthetic.phantom.fields import Plane, paint, soft_step, upsample, upsampled
from medkd.synthetic.phantom.layers import (
    Build,
    Layers,
    build_layers,
    build_walls,
    draw_build,
    lattice_of,
)
from medkd.synthetic.phantom.parenchyma import fissure_distances
from medkd.synthetic.phantom.patient import Frame, Patient
from medkd.synthetic.phantom.trees import ENDS, Cover, Vasculature, grow_lung_trees

_FAT_HU, _WALL_HU = -103.0, 15.0
_CARTILAGE_HU = 100.0
_SHELL_MM, _WINDPIPE_WALL_MM = 1.5, 1.7
_FISSURE_MM = 0.9
_LUMEN_HU = -990.0
_LEAST_HU = -1000.0
_SURVEY_MM = 4.0
_END_DEPTH_MM = (2.5, 6.0)
"""How deep under the pleura vessels end."""
_LESS_IN_LUNG = 0.1
_REACH_MM, _MIDDLE_MM = np.array([158.0, 122.0, 168.0]), np.array([0.0, 6.0, -12.0])


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """A patient with all that was drawn for it; nothing here depends on voxels.

    Args:
        build: sizes, densities, textures, nodes, lung tissue.
        lung_box_mm: [2, 3] chest mm of the lungs' lowest and highest corner.
        vasculature: vessels and airways of both lungs.
    """

    build: Build
    lung_box_mm: Float64
    vasculature: Vasculature

    @property
    def patient(self) -> Patient:
        """Sizes and densities."""
        return self.build.patient

    def lung_mm(self, canvas: Canvas) -> Float32:
        """Signed distance [i, j, k] to the lungs' surface in mm, negative in the lungs.

        Vessels and airways in the lungs count as lung.
        """
        lattice = lattice_of(canvas)
        return upsample(build_walls(self.build, lattice).lung_mm, lattice, canvas)

    def fissure_mm(self, canvas: Canvas) -> Float32:
        """Distance [i, j, k] to the nearest fissure in mm."""
        lattice = lattice_of(canvas)
        pair = fissure_distances(self.build.parenchyma, Frame.of(self.patient, lattice), lattice)
        near = [np.abs(upsample(field, lattice, canvas)) for field in pair]
        return np.minimum(near[0], near[1], out=near[0])


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """A chest without findings, noise and blur, on a canvas; arrays [i, j, k].

    Args:
        hu: density.
        lung_mm: signed distance to the lungs' surface, negative in the lungs.
        vessels: coverage 0..1 by the lungs' vessels.
    """

    hu: Float32
    lung_mm: Float32
    vessels: Float32


def draw_anatomy(patient: Patient, rng: np.random.Generator) -> Anatomy:
    """Draw all that is particular to a patient besides its sizes.

    Args:
        patient: sizes and densities.
        rng: source of textures, nodes, fissures and of the vessels' branching.
    """
    build = draw_build(rng, patient)
    survey = _Survey.of(build)
    while (volume := survey.box_volume_mm3) < patient.least_box_mm3:
        taller = np.array([1.0, 1.0, 1.002 * patient.least_box_mm3 / volume])
        build = replace(build, patient=replace(build.patient, scale=build.patient.scale * taller))
        survey = _Survey.of(build)
    points, upper = survey.points_mm(rng, ENDS)
    trees = grow_lung_trees(rng, build.patient, points, upper=upper)
    return Anatomy(build, survey.box_mm, trees)


@dataclass(frozen=True, slots=True, eq=False)
class _Survey:
    """The whole lungs on a rough lattice: distances, and a box [2, 3] around them."""

    lattice: Canvas
    lung_mm: Float32
    major_mm: Float32
    box_mm: Float64

    @classmethod
    def of(cls, build: Build) -> _Survey:
        reach = _REACH_MM * build.patient.scale
        i, j, k = (int(size) for size in np.ceil(2.0 * reach / _SURVEY_MM))
        whole = Canvas((i, j, k), np.full(3, _SURVEY_MM), _MIDDLE_MM - reach, np.zeros(3))
        lattice = whole.coarse(_SURVEY_MM, margin_mm=0.0)
        walls = build_walls(build, lattice)
        major, _ = fissure_distances(build.parenchyma, walls.frame, lattice)
        return cls(lattice, walls.lung_mm, major, _box(lattice, walls.lung_mm))

    @property
    def box_volume_mm3(self) -> float:
        wide, deep, high = (float(size) for size in self.box_mm[1] - self.box_mm[0])
        return wide * deep * high

    def points_mm(self, rng: np.random.Generator, count: int) -> tuple[Float64, NDArray[np.bool_]]:
        """Draw ends of vessels [count, 3] evenly in both lungs; say which are in upper lobes."""
        low, high = self.box_mm
        kept: list[Float64] = []
        while sum(map(len, kept)) < count:
            points = low + rng.random((2 * count, 3)) * (high - low)
            depth = rng.uniform(*_END_DEPTH_MM, 2 * count)
            kept.append(points[self.lattice.sample(self.lung_mm, points) < -depth])
        ends = np.concatenate(kept)[:count]
        return ends, self.lattice.sample(self.major_mm, ends) < 0.0


def _box(lattice: Canvas, lung: Float32) -> Float64:
    """Lowest and highest corner [2, 3] of the lungs in chest mm, read between the points."""
    ends = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        nearest = lung.min(axis=others).astype(np.float64)
        inside = np.flatnonzero(nearest < 0.0)
        first, last = int(inside[0]), int(inside[-1])
        before = nearest[first] / (nearest[first] - nearest[first - 1])
        after = nearest[last] / (nearest[last] - nearest[last + 1])
        ends.append([first - before, last + after])
    return lattice.points_mm(np.array(ends).T)


def render_anatomy(anatomy: Anatomy, canvas: Canvas) -> Rendered:
    """Paint a chest.

    Args:
        anatomy: what was drawn.
        canvas: any voxels: a whole scan, a slab, a region.
    """
    cover = anatomy.vasculature.on(canvas)
    hu, lung = np.empty_like(cover.vessels), np.empty_like(cover.vessels)
    painter = _Painter(anatomy.patient, canvas.edge_mm)
    for i, plane in enumerate(_painted(anatomy, canvas, painter, hu)):
        painter.paint_trees(hu[i], plane, cover, i)
        # Last, since trees begin inside the main bronchi.
        painter.paint_windpipe(hu[i], plane)
        lung[i] = plane.lung_mm
    return Rendered(hu, lung, cover.vessels)


def render_body(anatomy: Anatomy, canvas: Canvas) -> Float32:
    """Paint a chest without the lungs' vessels and airways: HU [i, j, k], for rough purposes."""
    hu = np.empty(canvas.shape, dtype=np.float32)
    painter = _Painter(anatomy.patient, canvas.edge_mm)
    for i, plane in enumerate(_painted(anatomy, canvas, painter, hu)):
        painter.paint_windpipe(hu[i], plane)
    return hu


def _painted(anatomy: Anatomy, canvas: Canvas, painter: _Painter, hu: Float32) -> Iterator[Layers]:
    """Paint plane after plane of `hu`, and yield what each was painted from."""
    outside = couch_hu(Frame.of(anatomy.patient, canvas))
    lattice = lattice_of(canvas)
    layers = build_layers(anatomy.build, lattice)
    every = [getattr(layers, field.name) for field in fields(Layers)]
    for i, planes in enumerate(upsampled(every, lattice, canvas)):
        plane = Layers(*planes)
        hu[i] = outside[i]
        painter.paint_body(hu[i], plane)
        painter.paint_lung(hu[i], plane)
        painter.paint_windpipe_wall(hu[i], plane)
        yield plane


@dataclass(frozen=True, slots=True, eq=False)
class _Painter:
    """Paints planes [j, k] of a chest with edges of one voxel."""

    patient: Patient
    edge_mm: float

    def paint_body(self, hu: Plane, plane: Layers) -> None:
        """Fat and lean tissue inside the skin, then bone with its shell."""
        tissue = np.full_like(hu, _FAT_HU)
        paint(tissue, soft_step(plane.lean_mm, self.edge_mm), plane.lean_hu)
        near = plane.bone_mm < np.float32(self.edge_mm)
        if near.any():
            bone = soft_step(plane.bone_mm + np.float32(_SHELL_MM), max(self.edge_mm, 1.2))
            bone *= np.float32(self.patient.marrow_hu - self.patient.bone_hu)
            bone += np.float32(self.patient.bone_hu - _CARTILAGE_HU)
            bone *= plane.hard
            bone += np.float32(_CARTILAGE_HU)
            paint(tissue, soft_step(plane.bone_mm, self.edge_mm), bone)
        paint(hu, soft_step(plane.body_mm, self.edge_mm), np.asarray(tissue))

    def paint_lung(self, hu: Plane, plane: Layers) -> None:
        """Lung tissue with its fissures."""
        inside = soft_step(plane.lung_mm, self.edge_mm)
        if not inside.any():
            return
        near = np.minimum(np.abs(plane.major_mm), np.abs(plane.minor_mm))
        sheet = np.float32(0.5 + _FISSURE_MM / (2 * self.edge_mm)) - near / np.float32(self.edge_mm)
        np.clip(sheet, 0.0, min(1.0, _FISSURE_MM / self.edge_mm), out=sheet)
        sheet *= plane.fissure_hu
        sheet += plane.density_hu
        np.maximum(sheet, np.float32(_LEAST_HU), out=sheet)
        paint(hu, inside, np.asarray(sheet, dtype=np.float32))

    def paint_windpipe_wall(self, hu: Plane, plane: Layers) -> None:
        """Windpipe and main bronchi, filled to the outside of their walls."""
        cover = soft_step(plane.air_mm - np.float32(_WINDPIPE_WALL_MM), self.edge_mm)
        if cover.any():
            paint(hu, cover, _WALL_HU)

    def paint_windpipe(self, hu: Plane, plane: Layers) -> None:
        """The air in windpipe and main bronchi."""
        cover = soft_step(plane.air_mm, self.edge_mm)
        if cover.any():
            paint(hu, cover, _LUMEN_HU)

    def paint_trees(self, hu: Plane, plane: Layers, cover: Cover, i: int) -> None:
        """Airways and vessels of plane i, not beyond the lung's hilum; trims their coverage."""
        walls, lumens, vessels = cover.walls[i], cover.lumens[i], cover.vessels[i]
        if not (walls.any() or vessels.any()):
            return
        near = soft_step(plane.trees_mm, max(self.edge_mm, 1.5))
        walls *= near
        lumens *= near
        vessels *= near
        # What a thin airway's lumen fills of a voxel is taken from its wall, not from the lung.
        change = walls * (np.float32(_WALL_HU) - hu)
        change += lumens * np.float32(_LUMEN_HU - _WALL_HU)
        hu += change
        paint(hu, vessels, self.patient.blood_hu - _LESS_IN_LUNG * self.patient.contrast_hu)
        vessels *= soft_step(plane.lung_mm, self.edge_mm)
