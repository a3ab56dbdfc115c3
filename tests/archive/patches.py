"""Small patches in NODE21's layout: a bright ball in lung, and its segmentation."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import numpy as np
import SimpleITK as sitk  # noqa: N813  # its customary name

SIZE = 24
RADIUS_VOX = 4
ORIGIN_MM = (-100.0, 20.0, -300.0)
CENTER_VOX = (12, 10, 14)
CENTER_MM = (-88.0, 30.0, -286.0)
"""The centre of the ball: origin plus voxel, because voxels are 1 mm wide."""


def ball() -> np.ndarray:
    """Return the segmentation [k, j, i]: voxels within 4 of the centre, off the middle."""
    k, j, i = np.indices((SIZE, SIZE, SIZE))
    ci, cj, ck = CENTER_VOX
    inside = (i - ci) ** 2 + (j - cj) ** 2 + (k - ck) ** 2 <= RADIUS_VOX**2
    return inside.astype(np.uint8)


def write_mha(path: Path, voxels: np.ndarray, origin_mm: tuple[float, ...] = ORIGIN_MM) -> None:
    """Write voxels [k, j, i] of 1 mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(voxels)
    image.SetOrigin(origin_mm)
    sitk.WriteImage(image, str(path), useCompression=True)


def write_image(folder: Path, seriesuid: str, number: int = 0) -> None:
    """Write the CT of a patch; each series and number has its own noise."""
    seed = crc32(f"{seriesuid}_{number}".encode())
    noise = np.random.default_rng(seed).integers(-880, -780, (SIZE,) * 3)
    voxels_hu = np.where(ball() > 0, 40, noise).astype(np.int16)
    write_mha(folder / f"{seriesuid}_dcm_{number}.mha", voxels_hu)


def write_patch(folder: Path, seriesuid: str, number: int = 0) -> None:
    """Write a patch and its segmentation."""
    write_image(folder, seriesuid, number)
    write_mha(folder / f"{seriesuid}_seg_{number}.mha", ball())


def write_findings(path: Path, *rows: tuple[str, tuple[float, float, float], float]) -> Path:
    """Write a table with LUNA16's columns from (seriesuid, offset to the ball in mm, diameter)."""
    lines = ["seriesuid,coordX,coordY,coordZ,diameter_mm"]
    for seriesuid, offset_mm, diameter_mm in rows:
        place = (c + o for c, o in zip(CENTER_MM, offset_mm, strict=True))
        lines.append(",".join(map(str, (seriesuid, *place, diameter_mm))))
    path.write_text("\n".join(lines) + "\n")
    return path
