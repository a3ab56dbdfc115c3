"""What the surroundings of a place look like, the place itself masked out.

Whether a detector could find nodules without looking at them: by other noise, other gradients,
other neighbours than those of places without a nodule. The features are of every voxel beyond
the mask, in shells of rising distance: gradients, and the noise that is left when each voxel's
neighbours are subtracted. No feature reads a voxel of the mask. How dense the surroundings are is
left out: that nodules keep away from the widest vessels is anatomy and no trace of the drawing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.config.difficulty_settings import SurroundingsSettings
from medkd.geometry import VoxelGrid
from medkd.types import Scan

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

_HU_RANGE = (-1000.0, 400.0)
_GRADIENT_PERCENTILES = (10, 50, 90)
_LAGS = ((1, 0, 0), (0, 1, 0), (2, 0, 0), (0, 0, 1))
_LEAST_VOXELS = 20

_OF_SHELL = (
    "gradient mean", *(f"gradient p{p}" for p in _GRADIENT_PERCENTILES),
    "gradient along k", "noise sd", "noise mad",
    *(f"correlation {i}{j}{k}" for i, j, k in _LAGS),
)  # fmt: skip


def feature_names(settings: SurroundingsSettings) -> tuple[str, ...]:
    """Name the features, shell by shell, as `read_surroundings` gives them."""
    return tuple(
        f"to {outer_mm:g} mm: {name}" for outer_mm in settings.shells_mm for name in _OF_SHELL
    )


def read_surroundings(
    scan: Scan, center_mm: Float64, *, radius_mm: float, settings: SurroundingsSettings
) -> Float64:
    """Read the features of one place.

    Args:
        scan: the image.
        center_mm: (3,) LPS mm.
        radius_mm: of what is masked out, before the margin.
        settings: margin and shells.

    Returns:
        [features]; NaN in shells with hardly a voxel.
    """
    hidden_mm = radius_mm + settings.margin_mm
    image, away_mm, step_mm = _cut(scan, center_mm, hidden_mm + settings.shells_mm[-1])
    open_to = away_mm > hidden_mm
    inner = ndimage.binary_erosion(open_to, np.ones((3, 3, 3), dtype=np.bool_), border_value=0)
    gradient = [g / s for g, s in zip(np.gradient(image), step_mm, strict=True)]
    slope = np.sqrt(gradient[0] ** 2 + gradient[1] ** 2 + gradient[2] ** 2)
    noise = image - ndimage.uniform_filter(image, (3, 3, 1))
    features: list[float] = []
    start_mm = hidden_mm
    for outer_mm in settings.shells_mm:
        shell = (away_mm > start_mm) & (away_mm <= hidden_mm + outer_mm)
        features += _of_shell((slope, np.abs(gradient[2]), noise), shell & inner)
        start_mm = hidden_mm + outer_mm
    return np.asarray(features)


def _of_shell(images: tuple[Float32, Float32, Float32], derived: Bools) -> Iterator[float]:
    """Yield the features of one shell, of its voxels without a masked neighbour."""
    slope, along_k, noise = images
    if derived.sum() < _LEAST_VOXELS:
        yield from [np.nan] * len(_OF_SHELL)
        return
    slopes = slope[derived]
    yield float(slopes.mean())
    yield from np.percentile(slopes, _GRADIENT_PERCENTILES).tolist()
    yield float(along_k[derived].mean())
    left = noise[derived]
    yield from (float(left.std()), float(np.median(np.abs(left))))
    for lag in _LAGS:
        yield _correlation(noise, derived, lag)


def _correlation(noise: Float32, mask: Bools, lag: tuple[int, int, int]) -> float:
    """Pearson correlation of the noise with itself a few voxels on, both voxels in the mask."""
    here = tuple(slice(0, n - step) for n, step in zip(mask.shape, lag, strict=True))
    there = tuple(slice(step, None) for step in lag)
    both = mask[here] & mask[there]
    first, second = noise[here][both], noise[there][both]
    if len(first) < _LEAST_VOXELS:
        return float("nan")
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / scale if scale > 0 else 0.0


def _cut(scan: Scan, center_mm: Float64, reach_mm: float) -> tuple[Float32, Float32, Float64]:
    """Cut the box about a place: clipped HU, each voxel's distance to it in mm, and the steps."""
    grid: VoxelGrid = scan.grid
    step_mm = grid.spacing_mm
    middle = grid.world_to_voxel(center_mm)
    low = np.clip(np.floor(middle - reach_mm / step_mm), 0, None).astype(int)
    high = np.minimum(np.ceil(middle + reach_mm / step_mm).astype(int) + 1, grid.shape)
    box = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    image = np.clip(scan.voxels_hu[box], *_HU_RANGE).astype(np.float32)
    lines = [
        ((np.arange(a, b) - m) * s) ** 2
        for a, b, m, s in zip(low, high, middle, step_mm, strict=True)
    ]
    square = lines[0][:, None, None] + lines[1][:, None] + lines[2]
    return image, np.sqrt(square).astype(np.float32), step_mm
