"""What the surroundings of a place look like, the place itself masked out.

A detector could find nodules without looking at them, by other noise or other gradients than
those of places without a nodule. The features are of every voxel beyond the mask, in shells of
rising distance: gradients, and the noise that is left when the mean of each voxel's neighbours is
subtracted. The density of the surroundings is left out: nodules keep away from the widest vessels
by anatomy.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.types import Scan

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

MARGIN_MM = 2.0
"""Masked beyond a nodule's radius."""
SHELLS_MM = (3.0, 7.0, 12.0)
"""Outer ends of the shells beyond the mask."""
_HU_RANGE = (-1000.0, 400.0)
_PERCENTILES = (10, 50, 90)
_LAGS = ((1, 0, 0), (0, 1, 0), (2, 0, 0), (0, 0, 1))
_LEAST_VOXELS = 20

_OF_SHELL = (
    "gradient mean", *(f"gradient p{p}" for p in _PERCENTILES),
    "gradient along k", "noise sd", "noise mad",
    *(f"correlation {i}{j}{k}" for i, j, k in _LAGS),
)  # fmt: skip
FEATURES = tuple(f"to {outer_mm:g} mm: {name}" for outer_mm in SHELLS_MM for name in _OF_SHELL)


def read_surroundings(
    scan: Scan, center_mm: Float64, *, radius_mm: float
) -> tuple[float | None, ...]:
    """Read the `FEATURES` of one place; None in shells with hardly a voxel.

    Args:
        scan: the image.
        center_mm: (3,) LPS mm.
        radius_mm: of what is masked out, before the margin.
    """
    hidden_mm = radius_mm + MARGIN_MM
    image, away_mm = _cut(scan, center_mm, hidden_mm + SHELLS_MM[-1])
    open_to = ndimage.binary_erosion(away_mm > hidden_mm, np.ones((3, 3, 3)), border_value=0)
    gradient = np.gradient(image, *scan.grid.spacing_mm)
    slope = np.sqrt(gradient[0] ** 2 + gradient[1] ** 2 + gradient[2] ** 2)
    noise = image - ndimage.uniform_filter(image, (3, 3, 1))
    features: list[float] = []
    start_mm = hidden_mm
    for outer_mm in SHELLS_MM:
        shell = (away_mm > start_mm) & (away_mm <= hidden_mm + outer_mm)
        features += _of_shell(slope, np.abs(gradient[2]), noise, shell=shell & open_to)
        start_mm = hidden_mm + outer_mm
    return tuple(round(value, 5) if np.isfinite(value) else None for value in features)


def _of_shell(slope: Float32, along_k: Float32, noise: Float32, *, shell: Bools) -> Iterator[float]:
    """Yield the features of the voxels of one shell."""
    if shell.sum() < _LEAST_VOXELS:
        yield from [np.nan] * len(_OF_SHELL)
        return
    yield float(slope[shell].mean())
    yield from np.percentile(slope[shell], _PERCENTILES).tolist()
    yield float(along_k[shell].mean())
    yield float(noise[shell].std())
    yield float(np.median(np.abs(noise[shell])))
    for lag in _LAGS:
        yield _correlation(noise, shell, lag)


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


def _cut(scan: Scan, center_mm: Float64, reach_mm: float) -> tuple[Float32, Float32]:
    """Cut the box about a place: clipped HU, and each voxel's distance to it in mm."""
    step_mm = scan.grid.spacing_mm
    middle = scan.grid.world_to_voxel(center_mm)
    low = np.clip(np.floor(middle - reach_mm / step_mm), 0, None).astype(int)
    high = np.minimum(np.ceil(middle + reach_mm / step_mm).astype(int) + 1, scan.grid.shape)
    box = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    image = np.clip(scan.voxels_hu[box], *_HU_RANGE).astype(np.float32)
    lines = [
        ((np.arange(a, b) - m) * s) ** 2
        for a, b, m, s in zip(low, high, middle, step_mm, strict=True)
    ]
    square = lines[0][:, None, None] + lines[1][:, None] + lines[2]
    return image, np.sqrt(square).astype(np.float32)
