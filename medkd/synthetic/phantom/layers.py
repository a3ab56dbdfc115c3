"""All of a chest on one lattice: signed distances and densities, before edges are drawn.

The lattice lies at whole multiples of its spacing in chest mm (`Canvas.coarse`), so that two
canvases over the same place read the same values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medkd.synthetic.phantom.bones import Bones, build_bones
from medkd.synthetic.phantom.canvas import Canvas, Float32
from medkd.synthetic.phantom.chest import (
    Cage,
    body_distance,
    build_cage,
    diaphragm_height,
    organs,
    wall_distance,
)
from medkd.synthetic.phantom.fields import SmoothField, smooth_max
from medkd.synthetic.phantom.mediastinum import (
    Mediastinum,
    Nodes,
    build_mediastinum,
    draw_nodes,
    lung_distance,
)
from medkd.synthetic.phantom.parenchyma import Parenchyma, build_tissue, draw_parenchyma
from medkd.synthetic.phantom.patient import Frame, Patient

_PLEURA_MM, _BULGE_MM = 1.4, 1.2
_HILUM_MM, _BESIDE_LUNG_MM = 26.0, 8.0
_LATTICES_MM = ((1.6, 2.0), (3.5, 3.0), (np.inf, 6.0))
"""Largest edge of a voxel, and the lattice that serves it."""


@dataclass(frozen=True, slots=True, eq=False)
class Build:
    """What was drawn for a patient besides its sizes: textures, nodes, lung tissue.

    Args:
        patient: sizes and densities.
        outline: bends the lungs' surface, details of 40 mm.
        ripple: the same, 16 mm.
        uneven: makes the layers of fat and muscle uneven, 14 mm.
        nodes: of mediastinum and hila.
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
        lattice: where.
        frame: its points in template mm.
        cage: inside of the ribs.
        bones: all bones.
        middle: the mediastinum.
        height: of the diaphragm, [i, j, 1] template mm.
        texture: smooth field of unit variance, 14 mm.
        lung_mm: [i, j, k] signed distance to the lungs' surface in chest mm.
    """

    lattice: Canvas
    frame: Frame
    cage: Cage
    bones: Bones
    middle: Mediastinum
    height: Float32
    texture: Float32
    lung_mm: Float32


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """A chest on a lattice; distances [i, j, k] in chest mm, negative inside; densities in HU.

    Args:
        body_mm: to the skin.
        lean_mm: to all that is not fat inside the skin.
        lean_hu: density of that.
        bone_mm: to bone and cartilage.
        hard: 1 bone, 0 cartilage.
        lung_mm: to the lungs.
        trees_mm: to where vessels and airways of the lungs are painted: lungs and hila.
        air_mm: to the lumen of windpipe and main bronchi.
        density_hu: of lung tissue.
        major_mm: to the oblique fissures.
        minor_mm: to the horizontal one.
        fissure_hu: what a fissure adds.
    """

    body_mm: Float32
    lean_mm: Float32
    lean_hu: Float32
    bone_mm: Float32
    hard: Float32
    lung_mm: Float32
    trees_mm: Float32
    air_mm: Float32
    density_hu: Float32
    major_mm: Float32
    minor_mm: Float32
    fissure_hu: Float32


def draw_build(rng: np.random.Generator, patient: Patient) -> Build:
    """Draw all that does not hang on vessels."""
    return Build(
        patient,
        outline=SmoothField.drawn(rng, 40.0),
        ripple=SmoothField.drawn(rng, 16.0),
        uneven=SmoothField.drawn(rng, 14.0),
        nodes=draw_nodes(rng, patient),
        parenchyma=draw_parenchyma(rng, patient),
    )


def lattice_of(canvas: Canvas) -> Canvas:
    """Return the lattice that a canvas is read from: finer for finer voxels."""
    spacing = next(spacing for edge, spacing in _LATTICES_MM if canvas.edge_mm <= edge)
    return canvas.coarse(spacing, margin_mm=0.01)


def build_walls(build: Build, lattice: Canvas) -> Walls:
    """Work out the lungs' outline and what it is made by."""
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
    # Bent or not, it stays inside the ribs and hardly bulges between them.
    lung = smooth_max(lung, cage.distance - np.float32(_BULGE_MM), blend_mm=1.5)
    lung = smooth_max(lung, np.float32(_PLEURA_MM) - bones.distance, blend_mm=1.0)
    lung *= np.float32(patient.unit)
    return Walls(lattice, frame, cage, bones, middle, height, texture, lung)


def build_layers(build: Build, lattice: Canvas) -> Layers:
    """Work out a whole chest on a lattice."""
    walls = build_walls(build, lattice)
    frame, texture, cage = walls.frame, walls.texture, walls.cage
    unit = np.float32(build.patient.unit)
    body = body_distance(frame)
    wall = wall_distance(frame, cage, body, texture=texture)
    lower, lower_hu = organs(frame, cage, walls.height, texture=texture)
    # Above the diaphragm and inside the ribs only the mediastinum is lean.
    middle = np.maximum(walls.middle.lean, cage.distance - np.float32(6.0))
    lean = np.minimum(wall, np.minimum(lower, middle))
    values = np.where(lower < middle, lower_hu, walls.middle.lean_hu)
    values = np.where(wall < np.minimum(lower, middle), np.float32(52.0), values)
    tissue = build_tissue(build.parenchyma, frame, lattice, lung=walls.lung_mm)
    return Layers(
        body_mm=body * unit,
        lean_mm=lean * unit,
        lean_hu=values,
        bone_mm=walls.bones.distance * unit,
        hard=walls.bones.hard,
        lung_mm=walls.lung_mm,
        trees_mm=_trees_mm(walls),
        air_mm=walls.middle.air * unit,
        density_hu=tissue.density_hu,
        major_mm=tissue.major_mm,
        minor_mm=tissue.minor_mm,
        fissure_hu=tissue.fissure_hu,
    )


def _trees_mm(walls: Walls) -> Float32:
    """Signed distance to the lungs, near the hila with a margin."""
    trees = walls.lung_mm.copy()
    frame, scale = walls.frame, walls.frame.patient.scale
    for side in (-1.0, 1.0):
        middle = frame.patient.hilum(side).artery_mm / scale
        box = frame.box(middle - 2 * _HILUM_MM, middle + 2 * _HILUM_MM)
        own = frame.part(box)
        if 0 in own.shape:
            continue
        x, y, z = (
            line - np.float32(place)
            for line, place in zip((own.x, own.y, own.z), middle, strict=True)
        )
        near = np.sqrt(x * x + y * y + z * z) - np.float32(_HILUM_MM)
        np.maximum(near, trees[box] - np.float32(_BESIDE_LUNG_MM), out=near)
        np.minimum(trees[box], near, out=trees[box])
    return trees
