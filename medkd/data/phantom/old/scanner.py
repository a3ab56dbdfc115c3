"""The scanner of a phantom site: sampling, blur of kernel and slice thickness, noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.data.phantom.old.draw import Canvas, Float32

_EXTENT_MM = (340.0, 260.0, 300.0)


@dataclass(frozen=True, slots=True)
class ScannerStyle:
    """How a site scans. Spacings and widths in mm; `noise_hu` is the noise in soft tissue.

    `blur_mm` is the standard deviation of the kernel in the plane, `sharpen` how much of the
    detail is added again (a sharp kernel), `grain_mm` the standard deviation of the noise's
    correlation in the plane.
    """

    pixel_mm: float
    slice_spacing_mm: float
    slice_thickness_mm: float
    kernel: str
    blur_mm: float
    sharpen: float
    noise_hu: float
    grain_mm: float


STYLES: dict[Literal["a", "b"], ScannerStyle] = {
    "a": ScannerStyle(2.1, 1.75, 1.75, "sharp", 0.75, 0.35, 17.0, 0.0),
    "b": ScannerStyle(2.1, 3.0, 4.5, "soft", 1.5, 0.0, 38.0, 1.5),
}


def draw_canvas(style: ScannerStyle, rng: np.random.Generator) -> Canvas:
    """Draw the voxels of one scan: spacing varies by 5 %, the origin lies anywhere."""
    pixel = style.pixel_mm * rng.uniform(0.96, 1.04)
    spacing = np.round([pixel, pixel, style.slice_spacing_mm * rng.uniform(0.95, 1.05)], 4)
    shape = np.round(np.asarray(_EXTENT_MM) / spacing).astype(int)
    middle = rng.uniform([-6.0, -8.0, -8.0], [6.0, 2.0, 4.0])
    offset = np.round(rng.uniform([-15.0, -190.0, -320.0], [15.0, -120.0, -60.0]), 3)
    first = np.round(middle - (shape - 1) / 2 * spacing, 3)
    return Canvas((int(shape[0]), int(shape[1]), int(shape[2])), spacing, first, offset)


def scan_volume(
    volume_hu: Float32, canvas: Canvas, style: ScannerStyle, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Turn true densities into what the site's scanner shows.

    Args:
        volume_hu: [i, j, k] noise-free HU.
        canvas: its voxels.
        style: the site.
        rng: source of the noise.

    Returns:
        [i, j, k] int16 HU, clipped to -1024..3071.
    """
    sigma = [style.blur_mm / canvas.spacing_mm[0], style.blur_mm / canvas.spacing_mm[1], 0.0]
    overlap = max(style.slice_thickness_mm**2 - style.slice_spacing_mm**2, 0.0)
    sigma[2] = np.sqrt(overlap / 12.0) / canvas.spacing_mm[2]
    seen = _blurred(volume_hu, sigma)
    if style.sharpen:
        seen += np.float32(style.sharpen) * (seen - _blurred(seen, [0.8, 0.8, 0.0]))
    seen += _noise(canvas, style, rng)
    return np.clip(np.rint(seen), -1024, 3071).astype(np.int16)


def _blurred(volume: Float32, sigma: list[float]) -> Float32:
    for axis, width in enumerate(sigma):
        if width > 0.05:
            volume = ndimage.gaussian_filter1d(volume, width, axis=axis, truncate=2.5)
    return volume.copy() if volume.base is not None else volume


def _noise(canvas: Canvas, style: ScannerStyle, rng: np.random.Generator) -> Float32:
    """Noise that grows with the path through the body: middle, shoulders, below the diaphragm."""
    noise = rng.standard_normal(canvas.shape, dtype=np.float32)
    grain = style.grain_mm / canvas.spacing_mm[0]
    noise = _blurred(noise, [grain, grain, grain * 0.4])
    noise /= np.float32(noise[::4, ::4, ::4].std())
    x, y, z = (canvas.axis_mm(axis) for axis in range(3))
    plane = 0.62 + 0.5 * np.exp(-((x / 90.0) ** 2) - (y / 70.0) ** 2)
    along = 1.0 + 0.5 * np.clip((z - 80.0) / 60.0, 0.0, 1.0) + 0.3 * (z < -80.0)
    return noise * np.asarray(plane * along * style.noise_hu, dtype=np.float32)
