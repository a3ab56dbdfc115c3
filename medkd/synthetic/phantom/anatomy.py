"""A patient's chest, painted on any voxel grid: the whole, a slab, a region, coarse or fine.

Everything random is drawn once (`draw_anatomy`). `render_anatomy` then computes signed distances
and densities on a lattice of 2 or 3 mm, interpolates between its points, and draws edges at the
voxels. So skin, bone, lung and airways have sharp edges however coarse the lattice is. The lattice
lies at whole multiples of its spacing in chest mm (`Canvas.coarse`): canvases of the same place
read the same values, and slabs meet without a seam.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from medkd.synthetic.phantom.bones import Bones, build_bones
from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64
from medkd.synthetic.phantom.chest import (
    Cage,
    body_distance,
    build_cage,
    couch_hu,
    diaphragm_height,
    organs,
    wall_distance,
)
from medkd.synthetic.phantom.fields import (
    Plane,
    SmoothField,
    paint,
    smooth_max,
    soft_step,
    upsample,
    upsampled,
)
from medkd.synthetic.phantom.mediastinum import (
    Mediastinum,
    Nodes,
    build_mediastinum,
    draw_nodes,
    lung_distance,
)
from medkd.synthetic.phantom.parenchyma import (
    Parenchyma,
    Tissue,
    build_tissue,
    draw_parenchyma,
    fissure_distances,
)
from medkd.synthetic.phantom.patient import Frame, Patient
from medkd.synthetic.phantom.trees import ENDS, Cover, Vasculature, grow_lung_trees

_PLEURA_MM, _BULGE_MM = 1.4, 1.2
_HILUM_MM, _BESIDE_LUNG_MM = 26.0, 8.0
_LATTICES_MM = ((1.6, 2.0), (3.5, 3.0), (np.inf, 6.0))
"""Largest edge of a voxel, and the spacing of the lattice that is used up to this edge."""


@dataclass(frozen=True, slots=True, eq=False)
class Build:
    """All drawn properties of a patient that do not depend on vessels.

    Args:
        patient: sizes and densities.
        outline: deforms the lungs' surface, with details of 40 mm.
        ripple: the same with details of 16 mm.
        uneven: deforms the layers of fat and muscle, with details of 14 mm.
        nodes: lymph nodes of mediastinum and hila.
        parenchyma: textures, fissures, plates.
    """

    patient: Patient
    outline: SmoothField
    ripple: SmoothField
    uneven: SmoothField
    nodes: Nodes
    parenchyma: Parenchyma


@dataclass(frozen=True, slots=True, eq=False)
class Walls:
    """The lungs and what bounds them, on a lattice.

    Args:
        frame: points of the lattice in template mm.
        cage: inside of the rib cage.
        bones: all bones.
        middle: the mediastinum.
        height: [i, j, 1] height of the diaphragm, template mm.
        texture: [i, j, k] smooth field of unit variance with details of 14 mm.
        lung_mm: [i, j, k] signed distance to the lungs' surface in chest mm.
    """

    frame: Frame
    cage: Cage
    bones: Bones
    middle: Mediastinum
    height: Float32
    texture: Float32
    lung_mm: Float32


@dataclass(frozen=True, slots=True, eq=False)
class Layers(Tissue):
    """A chest on a lattice; distances [i, j, k] in chest mm, negative inside; densities in HU.

    Args besides those of `Tissue`:
        body_mm: distance to the skin.
        lean_mm: distance to everything inside the skin that is not fat.
        lean_hu: density of that tissue.
        bone_mm: distance to bone and cartilage.
        hard: 1 for bone, 0 for cartilage.
        lung_mm: distance to the lungs.
        trees_mm: distance to lungs and hila, where vessels and airways of the lungs are painted.
        air_mm: distance to the lumen of trachea and main bronchi.
    """

    body_mm: Float32
    lean_mm: Float32
    lean_hu: Float32
    bone_mm: Float32
    hard: Float32
    lung_mm: Float32
    trees_mm: Float32
    air_mm: Float32


def _lattice_of(canvas: Canvas) -> Canvas:
    """Return the lattice from which a canvas is interpolated: finer for finer voxels."""
    spacing = next(spacing for edge, spacing in _LATTICES_MM if canvas.edge_mm <= edge)
    return canvas.coarse(spacing, margin_mm=0.01)


def build_walls(build: Build, lattice: Canvas) -> Walls:
    """Compute the lungs' outline and the structures that bound it."""
    patient = build.patient
    frame = Frame.of(patient, lattice)
    texture = build.uneven.on(lattice)
    cage = build_cage(frame)
    bones = build_bones(frame, cage)
    middle = build_mediastinum(frame, cage, build.nodes, texture=texture)
    height = diaphragm_height(frame)
    below = (height - frame.z) * np.float32(0.8)
    lung = lung_distance(cage, middle, below)
    lung += np.float32(1.8) * build.outline.on(lattice)
    lung += np.float32(0.7) * build.ripple.on(lattice)
    # The deformed outline stays inside the ribs and hardly bulges between them.
    lung = smooth_max(lung, cage.distance - np.float32(_BULGE_MM), blend_mm=1.5)
    lung = smooth_max(lung, np.float32(_PLEURA_MM) - bones.distance, blend_mm=1.0)
    lung *= np.float32(patient.unit)
    return Walls(frame, cage, bones, middle, height, texture, lung)


def _build_layers(build: Build, lattice: Canvas) -> Layers:
    """Compute a whole chest on a lattice."""
    walls = build_walls(build, lattice)
    frame, texture, cage = walls.frame, walls.texture, walls.cage
    unit = np.float32(build.patient.unit)
    body = body_distance(frame)
    wall = wall_distance(frame, cage, body, texture=texture)
    lower, lower_hu = organs(frame, cage, walls.height, texture=texture)
    # Above the diaphragm and inside the ribs, only the mediastinum is lean.
    middle = np.maximum(walls.middle.lean, cage.distance - np.float32(6.0))
    lean = np.minimum(wall, np.minimum(lower, middle))
    values = np.where(lower < middle, lower_hu, walls.middle.lean_hu)
    values = np.where(wall < np.minimum(lower, middle), np.float32(52.0), values)
    tissue = build_tissue(build.parenchyma, frame, lattice, lung=walls.lung_mm)
    return Layers(
        tissue.density_hu,
        tissue.major_mm,
        tissue.minor_mm,
        tissue.fissure_hu,
        body_mm=body * unit,
        lean_mm=lean * unit,
        lean_hu=values,
        bone_mm=walls.bones.distance * unit,
        hard=walls.bones.hard,
        lung_mm=walls.lung_mm,
        trees_mm=_trees_mm(walls),
        air_mm=walls.middle.air * unit,
    )


def _trees_mm(walls: Walls) -> Float32:
    """Return the signed distance to the lungs, with a margin near the hila."""
    trees = walls.lung_mm.copy()
    frame, scale = walls.frame, walls.frame.patient.scale
    for side in (-1.0, 1.0):
        middle = frame.patient.hilum(side).artery_mm / scale
        box = frame.box(middle - 2 * _HILUM_MM, middle + 2 * _HILUM_MM)
        own = frame.part(box)
        if 0 in own.shape:
            continue
        x, y, z = own.offsets(middle)
        near = np.sqrt(x * x + y * y + z * z) - np.float32(_HILUM_MM)
        np.maximum(near, trees[box] - np.float32(_BESIDE_LUNG_MM), out=near)
        np.minimum(trees[box], near, out=trees[box])
    return trees


_FAT_HU, _WALL_HU = -103.0, 15.0
_CARTILAGE_HU = 100.0
_SHELL_MM, _WINDPIPE_WALL_MM = 1.5, 1.7
_FISSURE_MM = 0.9
_LUMEN_HU = -990.0
_LEAST_HU = -1000.0
_SURVEY_MM = 4.0
_END_DEPTH_MM = (2.5, 6.0)
"""Range of the depth under the pleura at which vessels end."""
_LESS_IN_LUNG = 0.1
_REACH_MM, _MIDDLE_MM = np.array([158.0, 122.0, 168.0]), np.array([0.0, 6.0, -12.0])


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """A patient with all drawn properties, independent of voxels.

    Args:
        build: sizes, densities, textures, lymph nodes, lung tissue.
        lung_box_mm: [2, 3] chest mm of the low and high corner of the box around the lungs.
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
        """Return the signed distance [i, j, k] to the lungs' surface in mm, negative inside.

        Vessels and airways in the lungs count as lung.
        """
        lattice = _lattice_of(canvas)
        return upsample(build_walls(self.build, lattice).lung_mm, lattice, canvas)

    def fissure_mm(self, canvas: Canvas) -> Float32:
        """Return the distance [i, j, k] to the nearest fissure in mm."""
        lattice = _lattice_of(canvas)
        pair = fissure_distances(self.build.parenchyma, Frame.of(self.patient, lattice), lattice)
        near = [np.abs(upsample(field, lattice, canvas)) for field in pair]
        return np.minimum(near[0], near[1], out=near[0])


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """A chest without findings, noise and blur, on a canvas; arrays [i, j, k].

    Args:
        hu: HU.
        lung_mm: signed distance to the lungs' surface, negative in the lungs.
        vessels: coverage 0..1 by the lungs' vessels.
    """

    hu: Float32
    lung_mm: Float32
    vessels: Float32


def draw_anatomy(patient: Patient, rng: np.random.Generator) -> Anatomy:
    """Draw all properties of a patient besides its sizes and densities.

    Args:
        patient: sizes and densities.
        rng: source of textures, lymph nodes, fissures and of the vessels' branching.
    """
    build = Build(
        patient,
        outline=SmoothField.drawn(rng, 40.0),
        ripple=SmoothField.drawn(rng, 16.0),
        uneven=SmoothField.drawn(rng, 14.0),
        nodes=draw_nodes(rng, patient),
        parenchyma=draw_parenchyma(rng, patient),
    )
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
    """The whole lungs on a coarse lattice: distances, and a box [2, 3] around the lungs."""

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
        """Draw end points of vessels [count, 3] in both lungs; mark those in upper lobes."""
        low, high = self.box_mm
        kept: list[Float64] = []
        while sum(map(len, kept)) < count:
            points = low + rng.random((2 * count, 3)) * (high - low)
            depth = rng.uniform(*_END_DEPTH_MM, 2 * count)
            kept.append(points[self.lattice.sample(self.lung_mm, points) < -depth])
        ends = np.concatenate(kept)[:count]
        return ends, self.lattice.sample(self.major_mm, ends) < 0.0


def _box(lattice: Canvas, lung: Float32) -> Float64:
    """Return the low and high corner [2, 3] of the lungs in chest mm, by interpolation."""
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
        anatomy: the patient.
        canvas: voxel grid of a whole scan, a slab or a region.
    """
    cover = anatomy.vasculature.on(canvas)
    hu, lung = np.empty_like(cover.vessels), np.empty_like(cover.vessels)
    painter = _Painter(anatomy.patient, canvas.edge_mm)
    for i, plane in enumerate(_painted(anatomy, canvas, painter, hu)):
        painter.paint_trees(hu[i], plane, cover, i)
        # Painted last, because trees begin inside the main bronchi.
        painter.paint_windpipe(hu[i], plane)
        lung[i] = plane.lung_mm
    return Rendered(hu, lung, cover.vessels)


def render_body(anatomy: Anatomy, canvas: Canvas) -> Float32:
    """Paint a chest without the lungs' vessels and airways: HU [i, j, k]."""
    hu = np.empty(canvas.shape, dtype=np.float32)
    painter = _Painter(anatomy.patient, canvas.edge_mm)
    for i, plane in enumerate(_painted(anatomy, canvas, painter, hu)):
        painter.paint_windpipe(hu[i], plane)
    return hu


def _painted(anatomy: Anatomy, canvas: Canvas, painter: _Painter, hu: Float32) -> Iterator[Layers]:
    """Paint the planes of `hu` in order, and yield the layers of each."""
    outside = couch_hu(Frame.of(anatomy.patient, canvas))
    lattice = _lattice_of(canvas)
    layers = _build_layers(anatomy.build, lattice)
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
        """Paint fat and lean tissue inside the skin, then bone with its shell."""
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
        """Paint lung tissue with its fissures."""
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
        """Paint trachea and main bronchi as solid, up to the outside of their walls."""
        cover = soft_step(plane.air_mm - np.float32(_WINDPIPE_WALL_MM), self.edge_mm)
        if cover.any():
            paint(hu, cover, _WALL_HU)

    def paint_windpipe(self, hu: Plane, plane: Layers) -> None:
        """Paint the air in trachea and main bronchi."""
        cover = soft_step(plane.air_mm, self.edge_mm)
        if cover.any():
            paint(hu, cover, _LUMEN_HU)

    def paint_trees(self, hu: Plane, plane: Layers, cover: Cover, i: int) -> None:
        """Paint airways and vessels of plane i up to the hila; their coverage is cropped there."""
        walls, lumens, vessels = cover.walls[i], cover.lumens[i], cover.vessels[i]
        if not (walls.any() or vessels.any()):
            return
        near = soft_step(plane.trees_mm, max(self.edge_mm, 1.5))
        walls *= near
        lumens *= near
        vessels *= near
        # In a voxel the lumen of a thin airway replaces its wall, not lung.
        change = walls * (np.float32(_WALL_HU) - hu)
        change += lumens * np.float32(_LUMEN_HU - _WALL_HU)
        hu += change
        paint(hu, vessels, self.patient.blood_hu - _LESS_IN_LUNG * self.patient.contrast_hu)
        vessels *= soft_step(plane.lung_mm, self.edge_mm)
