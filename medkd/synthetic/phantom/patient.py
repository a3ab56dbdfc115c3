"""The sizes and densities of one phantom patient, drawn at random within human limits.

The anatomy is defined once, for a chest with 280 x 208 x 300 mm of lung: the template. A patient is
that template stretched along each axis, with a heart, a diaphragm, layers of fat and muscle and
densities of its own. `Frame` converts the points of a lattice to the template.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from medkd.synthetic.phantom.canvas import Box, Canvas, Float32, Float64, cube_root

Size = Literal["small", "region", "full"]

_LEAST_BOX_MM3 = 24.6e6
"""Least box of a large chest: 24.2 million mm3 plus the error of a rough lattice."""


class Hilum(NamedTuple):
    """Points (3,) in chest mm where vessels and the main bronchus enter one lung."""

    artery_mm: Float64
    upper_vein_mm: Float64
    lower_vein_mm: Float64
    bronchus_mm: Float64


_ROOTS_MM = Hilum(
    artery_mm=np.array([38.0, 12.0, 27.0]),
    upper_vein_mm=np.array([38.0, -4.0, 14.0]),
    lower_vein_mm=np.array([38.0, 24.0, -8.0]),
    bronchus_mm=np.array([37.0, 21.0, 16.0]),
)
"""Template mm, right lung with the sign of x reversed."""


@dataclass(frozen=True, slots=True, eq=False)
class Patient:
    """The properties of one patient; lengths in mm, densities in HU.

    Args:
        scale: (3,) chest mm per template mm along x, y, z.
        fat_mm: thickness of the fat below the skin.
        muscle: thickness of the muscles as a share of the template's.
        breast_mm: height of the breasts; 0 for none.
        dome_right_mm: height of the right dome of the diaphragm, template mm.
        dome_left_mm: height of the left dome, template mm.
        heart: size of the heart as a share of the template's.
        heart_shift_mm: (3,) shift of the heart from the template's, template mm.
        contrast_hu: HU that contrast medium adds to blood.
        bone_hu: density of cortical bone.
        marrow_hu: density of the bone inside the cortex.
        lung_hu: density of the lung in the middle of the chest without larger vessels.
        gradient_hu: difference in density between the back and the front of the lung.
        dependent_hu: density that is added next to the pleura at the back.
        emphysema: severity, 0 (none) to 1 (severe).
        atelectases: number of plates of collapsed lung.
        lobule_hu: standard deviation of the lung's texture at the size of a lobule.
        fissure_hu: density that a fissure adds.
        least_box_mm3: least volume of a box around both lungs; 0 for any.
    """

    scale: Float64
    fat_mm: float
    muscle: float
    breast_mm: float
    dome_right_mm: float
    dome_left_mm: float
    heart: float
    heart_shift_mm: Float64
    contrast_hu: float
    bone_hu: float
    marrow_hu: float
    lung_hu: float
    gradient_hu: float
    dependent_hu: float
    emphysema: float
    atelectases: int
    lobule_hu: float
    fissure_hu: float
    least_box_mm3: float

    @property
    def unit(self) -> float:
        """Chest mm per template mm as one factor for all directions, used for thicknesses."""
        return cube_root(float(self.scale[0] * self.scale[1] * self.scale[2]))

    @property
    def blood_hu(self) -> float:
        """Density of blood in the large vessels."""
        return 42.0 + self.contrast_hu

    def hilum(self, side: float) -> Hilum:
        """Return where vessels and airways enter the lung of one side (-1 right, 1 left)."""
        higher = np.array([4.0, 0.0, 4.0]) if side > 0 else np.array([0.0, 0.0, 0.0])
        turn = np.array([side, 1.0, 1.0])
        return Hilum(*((place + higher) * turn * self.scale for place in _ROOTS_MM))


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The points of a lattice in template mm.

    Args:
        patient: the patient.
        x: [i, 1, 1] template mm, to the left.
        y: [1, j, 1] template mm, to the back.
        z: [1, 1, k] template mm, to the head.
    """

    patient: Patient
    x: Float32
    y: Float32
    z: Float32

    @classmethod
    def of(cls, patient: Patient, canvas: Canvas) -> Frame:
        """Return the frame of a canvas."""
        lines = [
            (canvas.line_mm(axis) / patient.scale[axis]).astype(np.float32) for axis in range(3)
        ]
        return cls(patient, lines[0][:, None, None], lines[1][None, :, None], lines[2][None, None])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of points along (i, j, k)."""
        return self.x.size, self.y.size, self.z.size

    def box(self, low_mm: Float64, high_mm: Float64) -> Box:
        """Return the index box of the points between two corners (template mm); may be empty."""
        lines = (self.x.reshape(-1), self.y.reshape(-1), self.z.reshape(-1))
        i, j, k = (
            slice(int(np.searchsorted(line, low)), int(np.searchsorted(line, high, side="right")))
            for line, low, high in zip(lines, low_mm, high_mm, strict=True)
        )
        return i, j, k

    def part(self, box: Box) -> Frame:
        """Return the frame of a box of points."""
        return Frame(self.patient, self.x[box[0]], self.y[:, box[1]], self.z[..., box[2]])

    def offsets(self, place_mm: Float64) -> tuple[Float32, Float32, Float32]:
        """Return x [i, 1, 1], y [1, j, 1], z [1, 1, k] relative to a place (3,), template mm."""
        x, y, z = np.asarray(place_mm, dtype=np.float32)
        return self.x - x, self.y - y, self.z - z


def draw_patient(rng: np.random.Generator, size: Size = "full") -> Patient:
    """Draw one patient.

    Args:
        rng: source of all draws.
        size: full and region: a large chest in deep inspiration (the box around the lungs is at
            least 24.2 million mm3); small: an ordinary one.
    """
    scale = _draw_scale(rng, size)
    dome = rng.uniform(-70.0, -54.0)
    female = rng.random() < 0.45
    contrast = rng.random() < 0.45
    ill = rng.random()
    return Patient(
        scale=scale,
        fat_mm=float(rng.uniform(5.0, 20.0)),
        muscle=float(rng.uniform(0.75, 1.2)),
        breast_mm=float(rng.uniform(12.0, 34.0)) if female else 0.0,
        dome_right_mm=float(dome),
        dome_left_mm=float(dome - rng.uniform(4.0, 18.0)),
        heart=float(rng.uniform(0.84, 1.04)),
        heart_shift_mm=rng.uniform([-6.0, -3.0, -8.0], [6.0, 4.0, 4.0]),
        contrast_hu=float(rng.uniform(80.0, 220.0)) if contrast else 0.0,
        bone_hu=float(rng.uniform(620.0, 950.0)),
        marrow_hu=float(rng.uniform(110.0, 260.0)),
        lung_hu=float(rng.uniform(-915.0, -858.0)),
        gradient_hu=float(rng.uniform(25.0, 70.0)),
        dependent_hu=float(rng.uniform(0.0, 90.0)),
        emphysema=float(rng.uniform(0.1, 1.0)) if ill < 0.35 else 0.0,
        atelectases=int(rng.integers(1, 4)) if rng.random() < 0.35 else 0,
        lobule_hu=float(rng.uniform(8.0, 16.0)),
        fissure_hu=float(rng.uniform(70.0, 190.0)),
        least_box_mm3=0.0 if size == "small" else _LEAST_BOX_MM3,
    )


def _draw_scale(rng: np.random.Generator, size: Size) -> Float64:
    """Draw the stretch of the template."""
    if size == "small":
        return np.asarray(rng.uniform([0.88, 0.92, 0.84], [1.0, 1.05, 0.98]))
    wide, deep = rng.uniform(1.08, 1.13), rng.uniform(1.13, 1.17)
    return np.array([wide, deep, 1.42 / (wide * deep) * rng.uniform(1.0, 1.04)])
