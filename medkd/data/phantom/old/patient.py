"""The sizes and densities of one phantom patient, drawn at random within human limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medkd.data.phantom.old.draw import Float32, Float64


@dataclass(frozen=True, slots=True, eq=False)
class Patient:
    """What is particular to one patient; lengths in chest mm, densities in HU.

    `fat_mm` is the fat below the skin, `contrast_hu` what contrast medium adds to blood,
    `gradient_hu` how much denser the lung is in its back than in its middle, and
    `emphysema_level` how rare holes are (3: none).
    """

    half_width_mm: float
    half_depth_mm: float
    top_mm: float
    fat_mm: float
    dome_right_mm: float
    dome_left_mm: float
    heart_mm: Float64
    heart_half_mm: Float64
    contrast_hu: float
    bone_hu: float
    lung_hu: float
    gradient_hu: float
    dependent_hu: float
    emphysema_level: float
    vessel_ends: int
    end_radius_mm: float

    def cage_half_mm(self, z_mm: Float32) -> tuple[Float32, Float32]:
        """Half axes of the rib cage's inside at heights z: narrowing to the top."""
        up = np.clip((z_mm - 5.0) / (self.top_mm - 5.0), 0.0, 0.9995)
        taper = np.sqrt(1.0 - up**2.6)
        low = 1.0 - 0.07 * np.clip((-z_mm - 70.0) / 70.0, 0.0, 1.0) ** 2
        width = self.half_width_mm * taper * low
        depth = self.half_depth_mm * taper**0.8 * low
        return np.asarray(width, np.float32), np.asarray(depth, np.float32)

    def body_half_mm(self, z_mm: Float32) -> tuple[Float32, Float32]:
        """Half axes of the skin at heights z: wider at the shoulders."""
        shoulder = np.clip((z_mm - 70.0) / 80.0, 0.0, 1.0) ** 1.5
        width = self.half_width_mm + self.fat_mm + 24.0 + 45.0 * shoulder
        depth = self.half_depth_mm + self.fat_mm * 0.8 + 18.0 - 12.0 * shoulder
        return np.asarray(width, np.float32), np.asarray(depth, np.float32)

    def shift_y_mm(self, z_mm: Float32) -> Float32:
        """How far the chest's middle lies to the back at heights z (kyphosis)."""
        return np.asarray(4.0 - 11.0 * (np.clip(z_mm - 40.0, 0, 200) / 100.0) ** 2, np.float32)

    def spine_y_mm(self, z_mm: Float32) -> Float32:
        """Where the middle of the vertebral bodies lies to the back, at heights z."""
        bend = 16.0 * (np.clip(z_mm - 40.0, 0, 200) / 100.0) ** 2
        return np.asarray(self.half_depth_mm - 22.0 - bend, np.float32)

    @property
    def couch_y_mm(self) -> float:
        """How far the couch lies to the back: y of the couch's top in the middle."""
        return self.half_depth_mm + self.fat_mm * 0.8 + 18.0 + 14.0


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw one patient."""
    dome = rng.uniform(-72.0, -48.0)
    size = rng.uniform(0.9, 1.12)
    return Patient(
        half_width_mm=rng.uniform(112.0, 128.0),
        half_depth_mm=rng.uniform(80.0, 92.0),
        top_mm=rng.uniform(122.0, 136.0),
        fat_mm=rng.uniform(6.0, 22.0),
        dome_right_mm=dome,
        dome_left_mm=dome - rng.uniform(6.0, 20.0),
        heart_mm=np.array([rng.uniform(18, 30), rng.uniform(-34, -24), rng.uniform(-56, -44)]),
        heart_half_mm=np.array([56.0, 44.0, 52.0]) * size,
        contrast_hu=float(rng.choice([0.0, rng.uniform(60.0, 220.0)])),
        bone_hu=rng.uniform(420.0, 640.0),
        lung_hu=rng.uniform(-880.0, -835.0),
        gradient_hu=rng.uniform(25.0, 65.0),
        dependent_hu=rng.uniform(10.0, 110.0),
        emphysema_level=rng.choice([3.0, 3.0, rng.uniform(0.4, 1.4)]),
        vessel_ends=int(rng.integers(260, 350)),
        end_radius_mm=rng.uniform(0.55, 0.7),
    )
