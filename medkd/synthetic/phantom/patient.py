"""The sizes and densities of one phantom patient, drawn at random within human limits.

The anatomy is written down once, for a chest of 280 x 208 x 300 mm of lung: the template. A
patient is that template stretched along each axis, with a heart, a diaphragm, layers of fat and
muscle and densities of its own. `Frame` carries the voxels of a lattice into the template.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from medkd.synthetic.phantom.canvas import Box, Canvas, Float32, Float64, cube_root

Size = Literal["small", "region", "full"]

_LEAST_BOX_MM3 = 24.6e6
"""Of a large chest: 24.2 million mm3 and what a rough lattice may be wrong by."""

_ROOTS_MM = {
    "artery": (38.0, 12.0, 27.0),
    "upper_vein": (38.0, -4.0, 14.0),
    "lower_vein": (38.0, 24.0, -8.0),
    "bronchus": (37.0, 21.0, 16.0),
}


@dataclass(frozen=True, slots=True, eq=False)
class Hilum:
    """Where the vessels and the main bronchus of one lung enter it.

    Args:
        side: -1 right (x < 0), 1 left.
        artery_mm: (3,) chest mm of the root of the arteries.
        upper_vein_mm: (3,) chest mm of the superior pulmonary vein.
        lower_vein_mm: (3,) chest mm of the inferior pulmonary vein.
        bronchus_mm: (3,) chest mm of the main bronchus' end.
    """

    side: float
    artery_mm: Float64
    upper_vein_mm: Float64
    lower_vein_mm: Float64
    bronchus_mm: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Patient:
    """What is particular to one patient; lengths in mm, densities in HU.

    Args:
        scale: (3,) chest mm over template mm along x, y, z.
        fat_mm: fat below the skin.
        muscle: thickness of the muscles as a share of the template's.
        breast_mm: how far the breasts stand out; 0 for none.
        dome_right_mm: height of the right dome of the diaphragm, template mm.
        dome_left_mm: height of the left one.
        heart: size of the heart as a share of the template's.
        heart_shift_mm: (3,) how far the heart lies from the template's, template mm.
        contrast_hu: what contrast medium adds to blood.
        bone_hu: of cortical bone.
        marrow_hu: of the bone inside.
        lung_hu: of the lung in the middle of the chest, its larger vessels apart.
        gradient_hu: how much denser the lung is at its back than at its front.
        dependent_hu: added density next to the pleura at the back.
        emphysema: share of holes, 0 for none to 1 for severe.
        atelectases: number of plates of collapsed lung.
        lobule_hu: standard deviation of the lung's texture at the size of a lobule.
        fissure_hu: how much a fissure stands out.
        least_box_mm3: volume that a box around both lungs has at least; 0 for any.
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
        """Chest mm of one template mm, the same for all directions: for thicknesses."""
        return cube_root(float(self.scale[0] * self.scale[1] * self.scale[2]))

    @property
    def blood_hu(self) -> float:
        """Density of blood in the large vessels."""
        return 42.0 + self.contrast_hu

    def hilum(self, side: float) -> Hilum:
        """Return where vessels and airways enter the lung of one side (-1 right, 1 left)."""
        higher = np.array([4.0, 0.0, 4.0]) if side > 0 else np.array([0.0, 0.0, 0.0])
        turn = np.array([side, 1.0, 1.0])
        places = {
            name: (np.array(place) + higher) * turn * self.scale
            for name, place in _ROOTS_MM.items()
        }
        return Hilum(
            side,
            artery_mm=places["artery"],
            upper_vein_mm=places["upper_vein"],
            lower_vein_mm=places["lower_vein"],
            bronchus_mm=places["bronchus"],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The points of a lattice in template mm.

    Args:
        patient: whose chest.
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
        """Points along (i, j, k)."""
        return self.x.size, self.y.size, self.z.size

    def box(self, low_mm: Float64, high_mm: Float64) -> Box:
        """Return the index of the points between two corners (template mm); may be empty."""
        lines = (self.x.reshape(-1), self.y.reshape(-1), self.z.reshape(-1))
        i, j, k = (
            slice(int(np.searchsorted(line, low)), int(np.searchsorted(line, high, side="right")))
            for line, low, high in zip(lines, low_mm, high_mm, strict=True)
        )
        return i, j, k

    def part(self, box: Box) -> Frame:
        """Return the frame of a box of points."""
        return Frame(self.patient, self.x[box[0]], self.y[:, box[1]], self.z[..., box[2]])


def draw_patient(rng: np.random.Generator, size: Size = "full") -> Patient:
    """Draw one patient.

    Args:
        rng: source of all that is particular.
        size: full and region: a large chest in deep inspiration (a box around the lungs holds at
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
