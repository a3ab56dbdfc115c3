"""Lung tissue without its vessels: gravity gradient, texture, fissures, emphysema, atelectasis.

The density of the lung falls with the height above the couch; the smallest vessels and lobules give
it a texture at several scales. Emphysema consists of holes of a lobule's size, more of them in the
upper parts. Plates are thin sheets of collapsed lung near the diaphragm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64
from medkd.synthetic.phantom.fields import SmoothField, soft_step
from medkd.synthetic.phantom.patient import Frame, Patient

_AIRLESS_HU = -30.0


@dataclass(frozen=True, slots=True, eq=False)
class Plates:
    """Plates of collapsed lung.

    Args:
        middle_mm: [N, 3] template mm.
        normal: [N, 3] unit vectors.
        half_mm: [N] half width along the plate, template mm.
        thick_mm: [N] thickness, template mm.
    """

    middle_mm: Float64
    normal: Float64
    half_mm: Float64
    thick_mm: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Parenchyma:
    """The drawn properties of a patient's lung tissue.

    Args:
        lobes: texture of 30 mm, which also bends the fissures.
        lobules: texture of 9 mm.
        grains: texture of 4 mm.
        plates: collapsed lung.
        slope: (2,) slope of the oblique fissure, right and left.
        middle_z_mm: (2,) height of the oblique fissure at y = 0, right and left, template mm.
        minor_z_mm: height of the right horizontal fissure, template mm.
    """

    lobes: SmoothField
    lobules: SmoothField
    grains: SmoothField
    plates: Plates
    slope: Float64
    middle_z_mm: Float64
    minor_z_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Tissue:
    """Lung tissue on a lattice.

    Args:
        density_hu: [i, j, k] HU without vessels and fissures.
        major_mm: [i, j, k] signed distance to the oblique fissure in chest mm, negative above.
        minor_mm: [i, j, k] the same for the right horizontal fissure; large in the left lung.
        fissure_hu: [i, j, k] HU that a fissure adds; 0 where it is incomplete.
    """

    density_hu: Float32
    major_mm: Float32
    minor_mm: Float32
    fissure_hu: Float32


def draw_parenchyma(rng: np.random.Generator, patient: Patient) -> Parenchyma:
    """Draw the textures, fissures and plates of a patient."""
    return Parenchyma(
        lobes=SmoothField.drawn(rng, 30.0),
        lobules=SmoothField.drawn(rng, 9.0, period_mm=290.0),
        grains=SmoothField.drawn(rng, 4.0, period_mm=150.0),
        plates=_draw_plates(rng, patient),
        slope=rng.uniform(0.95, 1.3, 2),
        middle_z_mm=rng.uniform([-6.0, -2.0], [14.0, 18.0]),
        minor_z_mm=float(rng.uniform(-8.0, 10.0)),
    )


def _draw_plates(rng: np.random.Generator, patient: Patient) -> Plates:
    count = patient.atelectases
    side = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    middle = rng.uniform([62.0, -30.0, -62.0], [110.0, 80.0, -20.0], (count, 3))
    middle[:, 0] *= side
    normal = rng.normal(0.0, 0.35, (count, 3)) + np.array([0.0, 0.2, 1.0])
    normal /= np.sqrt((normal * normal).sum(axis=1, keepdims=True))
    return Plates(middle, normal, rng.uniform(12.0, 30.0, count), rng.uniform(1.6, 3.6, count))


def build_tissue(drawn: Parenchyma, frame: Frame, canvas: Canvas, *, lung: Float32) -> Tissue:
    """Compute the lung tissue on a lattice.

    Args:
        drawn: textures and fissures of the patient.
        frame: points of the lattice in template mm.
        canvas: the lattice.
        lung: [i, j, k] signed distance to the lungs' surface in chest mm.
    """
    patient = frame.patient
    lobes, lobules, grains = (f.on(canvas) for f in (drawn.lobes, drawn.lobules, drawn.grains))
    major, minor = _fissures(drawn, frame, lobes)
    density = np.float32(patient.lung_hu) + np.float32(patient.gradient_hu / 200.0) * frame.y
    sway = np.float32(patient.lobule_hu) * (np.float32(0.45) * lobes + np.float32(0.8) * lobules)
    density = density + sway
    density += np.float32(0.9 * patient.lobule_hu) * grains
    density += _dependent(frame, lung, lobes)
    density -= _holes(frame, lobes, lobules, grains)
    _add_plates(drawn.plates, frame, density, lobules)
    complete = np.clip(np.float32(0.75) + np.float32(0.6) * lobes, 0.0, 1.0)
    return Tissue(density, major, minor, complete * np.float32(patient.fissure_hu))


def fissure_distances(drawn: Parenchyma, frame: Frame, canvas: Canvas) -> tuple[Float32, Float32]:
    """Compute only `Tissue.major_mm` and `Tissue.minor_mm`."""
    return _fissures(drawn, frame, drawn.lobes.on(canvas))


def _fissures(drawn: Parenchyma, frame: Frame, lobes: Float32) -> tuple[Float32, Float32]:
    """Return the signed distances in chest mm to oblique and horizontal fissure."""
    x, y, z = frame.x, frame.y, frame.z
    bend = np.float32(4.5) * lobes
    heights = []
    for number, side in enumerate((-1.0, 1.0)):
        slope = np.float32(drawn.slope[number])
        across = (x - np.float32(side * 75.0)) / np.float32(75.0)
        # A propeller: higher at the back, and slightly higher at the side than in the middle.
        height = np.float32(drawn.middle_z_mm[number]) + slope * y
        height = height + np.float32(8.0) * across * across - np.float32(0.0012) * y * y
        heights.append(height)
    steep = np.float32(0.66)
    major = (np.where(x < 0, heights[0], heights[1]) + bend - z) * steep
    minor = z - np.float32(drawn.minor_z_mm) - bend * np.float32(0.8)
    minor = minor + np.float32(0.0011) * ((x + 80.0) ** 2 + (y + 20.0) ** 2)
    # The horizontal fissure exists only in the right lung in front of the oblique one.
    beyond = np.maximum(major, 0.0) * np.float32(8.0) + np.maximum(x, 0.0) * np.float32(8.0)
    minor = np.where(minor < 0, minor - beyond, minor + beyond)
    unit = np.float32(frame.patient.unit)
    return np.asarray(major * unit), np.asarray(minor * unit)


def _dependent(frame: Frame, lung: Float32, lobes: Float32) -> Float32:
    """Return the density that gravity adds next to the pleura at the back."""
    back = np.clip((frame.y - np.float32(45.0)) / np.float32(50.0), 0.0, 1.0)
    near = np.clip((lung + np.float32(16.0)) / np.float32(16.0), 0.0, 1.0)
    share = np.clip(np.float32(0.8) + np.float32(0.5) * lobes, 0.0, 1.8)
    return np.asarray(
        np.float32(frame.patient.dependent_hu) * back * near * near * share, dtype=np.float32
    )


def _holes(frame: Frame, lobes: Float32, lobules: Float32, grains: Float32) -> Float32:
    """Return the density that emphysema removes."""
    severe = frame.patient.emphysema
    if severe <= 0.0:
        return np.zeros((1, 1, 1), dtype=np.float32)
    high = np.clip((frame.z + np.float32(60.0)) / np.float32(150.0), 0.0, 1.0)
    level = np.float32(2.6 - 1.9 * severe) - np.float32(0.9) * high
    holes = np.float32(0.7) * lobules + np.float32(0.9) * grains + np.float32(0.7) * lobes - level
    holes *= np.float32(0.8)
    return np.asarray(np.clip(holes, 0.0, 1.0) * np.float32(85.0), dtype=np.float32)


def _add_plates(plates: Plates, frame: Frame, density: Float32, lobules: Float32) -> None:
    for number in range(len(plates.middle_mm)):
        middle, normal = plates.middle_mm[number], plates.normal[number]
        half = float(plates.half_mm[number])
        box = frame.box(middle - half - 4.0, middle + half + 4.0)
        own = frame.part(box)
        if 0 in own.shape:
            continue
        x, y, z = own.offsets(middle)
        a, b, c = (np.float32(part) for part in normal)
        across = a * x + b * y + c * z
        along = x * x + y * y + z * z - across * across
        thin = np.float32(plates.thick_mm[number] / 2.0) * (
            np.float32(1.0) - along / np.float32(half * half)
        )
        bent = across + np.float32(1.3) * lobules[box] - np.float32(0.006) * along
        cover = soft_step(np.abs(bent) - np.maximum(thin, np.float32(-2.0)), 2.0)
        part = density[box]
        part += cover * (np.float32(_AIRLESS_HU) - part)
