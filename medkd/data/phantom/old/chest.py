"""The chest of a phantom without its findings: body, fat, bones, heart, lungs, vessels, airways.

Shapes are implicit: a field of signed distances in mm, negative inside, approximate away from the
surface. Lengths are those of an adult chest; each patient draws its own within limits. Coarse on
purpose: no cartilage joints, no separate muscles, no heart chambers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medkd.data.phantom.old.bones import cartilage_tubes, rib_tubes, spine_and_shoulders
from medkd.data.phantom.old.draw import (
    Canvas,
    Float32,
    Float64,
    Tubes,
    draw_tubes,
    paint,
    smooth_field,
    soft_step,
)
from medkd.data.phantom.old.patient import Patient
from medkd.data.phantom.old.vessels import Tree, grow_tree

_AIR_HU = -1000.0
_FAT_HU = -105.0
_MUSCLE_HU = 48.0


@dataclass(frozen=True, slots=True, eq=False)
class Chest:
    """A chest before findings, physics and noise.

    Args:
        volume_hu: [i, j, k] noise-free HU.
        lung_mm: [i, j, k] signed distance to the lungs' surface, negative in the lungs.
        vessels: [i, j, k] coverage by vessels.
        trees: the vessel trees (arteries and veins of both lungs).
        ribs_mm: [N, 3] points along the ribs.
    """

    volume_hu: Float32
    lung_mm: Float32
    vessels: Float32
    trees: tuple[Tree, ...]
    ribs_mm: Float64


def build_chest(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> Chest:
    """Build a patient's chest on a canvas.

    Args:
        canvas: voxels to fill.
        patient: the drawn sizes and densities.
        rng: source of textures and branchings.
    """
    cage = cage_distance(canvas, patient)
    lung = _lung_distance(canvas, patient, cage)
    lung += 2.4 * smooth_field(rng, canvas, 38.0) + 0.8 * smooth_field(rng, canvas, 15.0)
    volume = _soft_body(canvas, patient, cage=cage, texture=smooth_field(rng, canvas, 13.0))
    _paint_middle(canvas, patient, volume)
    ribs = _paint_bones(canvas, patient, volume, cage=cage)
    inside = soft_step(lung, canvas.edge_mm)
    paint(volume, inside, _lung_hu(canvas, patient, lung, rng))
    vessels, trees = _paint_trees(canvas, patient, volume, lung=lung, inside=inside, rng=rng)
    _paint_windpipe(canvas, volume)
    return Chest(volume, lung, vessels, trees, ribs)


def cage_distance(canvas: Canvas, patient: Patient) -> Float32:
    """Signed distance to the inner surface of the rib cage, negative inside."""
    x, y, z = (canvas.axis_mm(axis) for axis in range(3))
    half_x, half_y = patient.cage_half_mm(z)
    return _radial_distance(x, y - patient.shift_y_mm(z), half_x, half_y, power=2.3)


def _radial_distance(x: Float32, y: Float32, a: Float32, b: Float32, *, power: float) -> Float32:
    """Distance to a superellipse along the ray from its middle (mm, negative inside)."""
    rho = ((np.abs(x) / a) ** power + (np.abs(y) / b) ** power) ** np.float32(1.0 / power)
    return np.asarray(np.sqrt(x * x + y * y) * (1.0 - 1.0 / np.maximum(rho, 1e-3)), np.float32)


def _ellipsoid(canvas: Canvas, middle_mm: Float64, half_mm: Float64, *, tilt: float) -> Float32:
    """Signed distance to an ellipsoid; `tilt` moves x with z (both mm)."""
    x, y, z = (canvas.axis_mm(axis) - np.float32(middle_mm[axis]) for axis in range(3))
    x = x + np.float32(tilt) * z
    a, b, c = half_mm.astype(np.float32)
    rho = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
    return np.asarray((rho - 1.0) * np.float32(half_mm.min()), dtype=np.float32)


def _smooth_max(first: Float32, second: Float32, *, blend_mm: float) -> Float32:
    """Larger of two fields with a rounded edge (polynomial blend)."""
    share = np.clip((first - second) / np.float32(2 * blend_mm) + np.float32(0.5), 0.0, 1.0)
    blended = second + share * (first - second) + np.float32(blend_mm) * share * (1.0 - share)
    return np.asarray(blended, dtype=np.float32)


def _lung_distance(canvas: Canvas, patient: Patient, cage: Float32) -> Float32:
    """Signed distance to both lungs: the cage less mediastinum, heart, spine and diaphragm."""
    x, y, z = (canvas.axis_mm(axis) for axis in range(3))
    lung = _smooth_max(cage, _middle_width(y, z) - np.abs(x), blend_mm=6.0)
    heart = -_ellipsoid(canvas, patient.heart_mm, patient.heart_half_mm + 3.0, tilt=0.25)
    lung = _smooth_max(lung, heart, blend_mm=5.0)
    # Behind the vertebral body the muscles of the back take the same width.
    spine = 23.0 - np.sqrt(x**2 + np.minimum(y - patient.spine_y_mm(z), 0.0) ** 2)
    lung = _smooth_max(lung, spine, blend_mm=5.0)
    aorta = 15.0 - np.sqrt((x - 25.0) ** 2 + (y - patient.spine_y_mm(z) + 13.0) ** 2)
    lung = _smooth_max(lung, np.minimum(aorta, 30.0 - z), blend_mm=6.0)
    return _smooth_max(lung, _above_diaphragm(canvas, patient), blend_mm=4.0)


def _middle_width(y: Float32, z: Float32) -> Float32:
    """Half width of the mediastinum in mm: narrow in front, wide at the hilum, narrow below."""
    wide = 13.0 + 12.0 * np.exp(-(((z - 5.0) / 30.0) ** 2)) + 11.0 * np.exp(-(((z - 75) / 45) ** 2))
    width = 5.0 + (wide - 5.0) * np.exp(-(((y - 5.0) / 46.0) ** 4))
    return np.asarray(width, dtype=np.float32)


def _above_diaphragm(canvas: Canvas, patient: Patient) -> Float32:
    """Height under the diaphragm's two domes in mm, negative above them."""
    x, y, z = (canvas.axis_mm(axis) for axis in range(3))
    right = patient.dome_right_mm - 0.0105 * ((x + 58.0) ** 2 + 0.9 * (y + 12.0) ** 2)
    left = patient.dome_left_mm - 0.0105 * ((x - 60.0) ** 2 + 0.9 * (y + 5.0) ** 2)
    dome = np.maximum(np.where(x < 0, right, left), -142.0)
    return np.asarray((dome - z) * np.float32(0.8), dtype=np.float32)


def _soft_body(canvas: Canvas, patient: Patient, *, cage: Float32, texture: Float32) -> Float32:
    """Skin, fat, muscle, the organs below and the couch."""
    x, y, z = (canvas.axis_mm(axis) for axis in range(3))
    half_x, half_y = patient.body_half_mm(z)
    body = _radial_distance(x, y - np.float32(2.0), half_x, half_y, power=2.5)
    volume = np.full(canvas.shape, _AIR_HU, dtype=np.float32)
    bent = y - np.float32(patient.couch_y_mm) + np.float32(0.0006) * x * x
    couch = np.asarray(np.abs(bent) - 6.0, dtype=np.float32)
    paint(volume, soft_step(couch, 3.0) * np.float32(0.22), 0.0)
    under_skin = np.float32(patient.fat_mm) * (1.0 + np.float32(0.25) * texture)
    muscle = soft_step(under_skin + body, 3.0) * soft_step(np.float32(-1.0) - texture, 0.5)
    muscle = np.maximum(
        muscle, soft_step(cage - 7.0, 4.0) * soft_step(np.float32(-4.0) - cage, 3.0)
    )
    organs = soft_step(cage, 3.0) * soft_step(-_above_diaphragm(canvas, patient), 3.0)
    solid = np.asarray(0.02 * np.maximum(x, 0) - 0.9 - texture, dtype=np.float32)
    muscle = np.maximum(muscle, organs * soft_step(solid, 0.6))
    skin = soft_step(np.abs(body + 1.0) - 1.0, 2.0)
    tissue = _FAT_HU + np.maximum(muscle, skin) * (_MUSCLE_HU - _FAT_HU) + 6.0 * texture
    tissue += organs * np.float32(patient.contrast_hu * 0.25)
    paint(volume, soft_step(body, canvas.edge_mm), tissue)
    bubble = _ellipsoid(canvas, np.array([62.0, -38.0, patient.dome_left_mm - 20.0]),
                        np.array([28.0, 22.0, 13.0]), tilt=0.0)  # fmt: skip
    paint(volume, soft_step(bubble, 3.0), _AIR_HU + 60.0)
    return volume


def _paint_middle(canvas: Canvas, patient: Patient, volume: Float32) -> None:
    """Heart and great vessels in the fat of the mediastinum."""
    blood = np.float32(_MUSCLE_HU + patient.contrast_hu)
    heart = _ellipsoid(canvas, patient.heart_mm, patient.heart_half_mm, tilt=0.25)
    cavity = _ellipsoid(canvas, patient.heart_mm, patient.heart_half_mm - 12.0, tilt=0.25)
    paint(volume, soft_step(heart, 3.0), _MUSCLE_HU)
    wall = _septum(canvas, patient)
    paint(volume, soft_step(cavity, 5.0) * wall, blood)
    back = patient.half_depth_mm - 35.0
    arch = np.array([
        [-14, -24, -5], [-18, -22, 20], [-12, -14, 42], [4, 4, 53], [18, 24, 50], [25, back, 36],
        [25, back, 0], [24, back, -60], [16, back, -150],
    ], dtype=np.float64)  # fmt: skip
    trunk = np.array([[8, -30, -10], [12, -20, 8], [0, -6, 8], [-30, 2, 2]], dtype=np.float64)
    left = np.array([[12, -20, 8], [24, 0, 10], [34, 6, 4]], dtype=np.float64)
    hollow = np.array([[-24, -14, 90], [-26, -12, 40], [-26, -10, -20]], dtype=np.float64)
    neck = [
        np.array([[side, -8, 48], [side * 1.5, -10, 90], [side * 2.2, -12, 152]], dtype=np.float64)
        for side in (-10.0, 4.0, 14.0)
    ]
    large = [Tubes.along(arch, 12.5), Tubes.along(trunk, 10.5), Tubes.along(left, 10.0)]
    large += [Tubes.along(hollow, 8.5), *(Tubes.along(line, 5.0) for line in neck)]
    paint(volume, draw_tubes(canvas, Tubes.joined(large)), blood)
    gullet = np.array([[6, 26, 150], [6, 30, 40], [4, 32, -100]], dtype=np.float64)
    paint(volume, draw_tubes(canvas, Tubes.along(gullet, 6.0)), 35.0)


def _septum(canvas: Canvas, patient: Patient) -> Float32:
    """Coverage by blood around the wall that parts the heart in two, slanted to the left."""
    x, y, z = (canvas.axis_mm(a) - np.float32(patient.heart_mm[a]) for a in range(3))
    across = np.float32(0.72) * x + np.float32(0.58) * y + np.float32(0.3) * z
    return 1.0 - soft_step(np.abs(across + 4.0) - np.float32(3.0), 4.0)


def _paint_bones(canvas: Canvas, patient: Patient, volume: Float32, *, cage: Float32) -> Float64:
    """Ribs, spine, sternum, shoulders; returns points along the ribs."""
    ribs = rib_tubes(patient)
    bones = Tubes.joined([ribs, spine_and_shoulders(patient)])
    inside_body = soft_step(cage - np.float32(60.0), 3.0)
    paint(volume, draw_tubes(canvas, bones) * inside_body, patient.bone_hu)
    paint(volume, draw_tubes(canvas, bones.shrunk(2.0)) * inside_body, 190.0)
    paint(volume, draw_tubes(canvas, cartilage_tubes(patient)), 95.0)
    return ribs.start_mm


def _lung_hu(canvas: Canvas, patient: Patient, lung: Float32, rng: np.random.Generator) -> Float32:
    """Parenchyma: gradient to the back, texture, fissures, emphysema, dependent density."""
    x, y, z = (canvas.axis_mm(axis) for axis in range(3))
    coarse, fine = smooth_field(rng, canvas, 22.0), smooth_field(rng, canvas, 5.5)
    density = np.float32(patient.lung_hu) + np.float32(patient.gradient_hu / 90.0) * y
    density = density + 13.0 * coarse + 11.0 * fine
    holes = np.clip(coarse + 0.8 * fine - np.float32(patient.emphysema_level), 0.0, 1.0)
    density -= 75.0 * holes
    low = np.clip((y - 52.0) / 40.0, 0.0, 1.0) * np.clip((lung + 14.0) / 14.0, 0.0, 1.0)
    density += np.float32(patient.dependent_hu) * low * (1.0 + 0.5 * coarse)
    main = np.abs(z - (-6.0 - 1.05 * y + 3.5 * coarse)) * np.float32(0.69)
    side = np.abs(z - (-8.0 + 3.0 * coarse)) + 100.0 * ((x > 0) | (y > 0))
    fissure = np.clip(1.0 - np.minimum(main, side) / 1.6, 0.0, 1.0)
    density += 105.0 * fissure * np.clip(0.6 + 0.5 * coarse, 0.0, 1.0)
    return np.asarray(np.maximum(density, -985.0), dtype=np.float32)


def _paint_trees(
    canvas: Canvas,
    patient: Patient,
    volume: Float32,
    *,
    lung: Float32,
    inside: Float32,
    rng: np.random.Generator,
) -> tuple[Float32, tuple[Tree, ...]]:
    """Arteries, veins and airways of both lungs; returns vessel coverage and vessel trees."""
    trees, airways = [], []
    points = _points_inside(canvas, lung, depth_mm=2.5, count=2400, rng=rng)
    for side in (-1.0, 1.0):
        own = points[points[:, 0] * side > 0]
        root = np.array([side * 30.0, 4.0, 4.0])
        arteries, veins = (
            own[: patient.vessel_ends],
            own[patient.vessel_ends :][: patient.vessel_ends],
        )
        trees.append(grow_tree(rng, root, arteries, end_radius_mm=patient.end_radius_mm))
        lower = np.array([side * 26.0, 10.0, -16.0])
        trees.append(grow_tree(rng, lower, veins, end_radius_mm=patient.end_radius_mm))
        bronchi = own[2 * patient.vessel_ends :][:26]
        airways.append(
            grow_tree(rng, root + np.array([0.0, 8.0, 0.0]), bronchi, end_radius_mm=0.75)
        )
    vessels = draw_tubes(canvas, Tubes.joined([tree.tubes() for tree in trees]))
    lumen = Tubes.joined([tree.tubes() for tree in airways])
    paint(volume, draw_tubes(canvas, lumen.scaled(1.45)) * inside, -20.0)
    paint(volume, draw_tubes(canvas, lumen), -960.0)
    paint(volume, vessels * inside, np.float32(_MUSCLE_HU + 0.9 * patient.contrast_hu))
    return vessels * inside, tuple(trees)


def _points_inside(
    canvas: Canvas, lung: Float32, *, depth_mm: float, count: int, rng: np.random.Generator
) -> Float64:
    """Random places [count, 3] in the lungs, at least this deep."""
    voxels = np.flatnonzero(lung.reshape(-1) < -depth_mm)
    chosen = voxels[rng.integers(0, len(voxels), size=count)]
    index = np.stack(np.unravel_index(chosen, canvas.shape), axis=1) + rng.random((count, 3)) - 0.5
    return np.asarray(canvas.first_mm + index * canvas.spacing_mm)


def _paint_windpipe(canvas: Canvas, volume: Float32) -> None:
    """Windpipe and main bronchi."""
    trachea = np.array([[0, 14, 160], [0, 16, 80], [1, 18, 34]], dtype=np.float64)
    right = np.array([[1, 18, 34], [-20, 14, 14], [-32, 12, 5]], dtype=np.float64)
    left = np.array([[1, 18, 34], [22, 16, 16], [36, 12, 6]], dtype=np.float64)
    wide = Tubes.joined(
        [Tubes.along(trachea, 8.0), Tubes.along(right, 6.0), Tubes.along(left, 5.5)]
    )
    paint(volume, draw_tubes(canvas, wide.scaled(1.22)), 10.0)
    paint(volume, draw_tubes(canvas, wide), _AIR_HU + 15.0)
