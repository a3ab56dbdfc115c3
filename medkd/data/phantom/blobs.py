"""A finder of bright compact blobs: where a phantom looks as if there were a nodule.

The normalised Laplacian of Gaussian (T. Lindeberg, Int. J. Computer Vision 30, 1998, eq. 56) on
voxels of about 2 mm, at a few widths, as `medkd.data.proposals` has it. A phantom's nodules are put
where this finder finds something in the chest without them, and its hard negatives are what it
finds in the finished scan: so the surroundings of both are alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from medkd.data.phantom.canvas import Canvas, Float32, Float64

SIGMAS_MM = (1.5, 2.2, 3.2, 4.7, 6.8)
COARSE_MM = 2.0
_HU_RANGE = (-1000.0, 400.0)
_LEAST_RESPONSE = 0.04
_APART_MM = 6.0


@dataclass(frozen=True, slots=True, eq=False)
class Blobs:
    """What the finder found, the most blob-like first.

    Args:
        places_vox: [N, 3] index of each.
        sigma_mm: [N] width of the Gaussian that answered most.
        response: [N] that answer; 1 for 1400 HU.
    """

    places_vox: Float64
    sigma_mm: Float64
    response: Float64


def find_blobs(
    image_hu: Float32,
    spacing_mm: Float64,
    lung: NDArray[np.bool_],
    *,
    most: int = 400,
) -> Blobs:
    """Find bright compact places in the lungs.

    Args:
        image_hu: [i, j, k] HU, voxels of about 2 mm.
        spacing_mm: (3,) mm.
        lung: [i, j, k] where to look; the rest is filled with the lungs' median.
        most: how many to give at most.

    Returns:
        Places at least 6 mm apart; none if the mask is empty.
    """
    if not lung.any():
        return Blobs(np.zeros((0, 3)), np.zeros(0), np.zeros(0))
    low, high = _HU_RANGE
    image = (np.clip(image_hu, low, high) - np.float32(low)) * np.float32(1.0 / (high - low))
    image[~lung] = np.median(image[lung])
    best = np.full(image.shape, -np.inf, dtype=np.float32)
    width = np.zeros(image.shape, dtype=np.int8)
    for number, sigma_mm in enumerate(SIGMAS_MM):
        response = _response(image, sigma_mm, spacing_mm)
        width[response > best] = number
        np.maximum(best, response, out=best)
    peak = (best == ndimage.maximum_filter(best, size=3)) & (best > _LEAST_RESPONSE) & lung
    found = np.argwhere(peak)
    answer = best[peak]
    order = np.argsort(-answer, kind="stable")
    kept = order[_apart(found[order] * spacing_mm, most)]
    sigmas = np.asarray(SIGMAS_MM)[width[peak][kept]]
    return Blobs(found[kept].astype(np.float64), sigmas, answer[kept].astype(np.float64))


def averaged(voxels: NDArray[np.int16] | Float32, canvas: Canvas) -> tuple[Float32, Canvas]:
    """Average voxels to blocks of at most 2 mm; what does not fill a block is left out.

    Args:
        voxels: [i, j, k] of any number type.
        canvas: their places.

    Returns:
        The means, and where they lie.
    """
    factor = np.maximum(np.floor(COARSE_MM / canvas.spacing_mm + 1e-6), 1).astype(int)
    factor = np.minimum(factor, canvas.shape)
    fi, fj, fk = factor.tolist()
    a, b, c = (int(n) for n in np.asarray(canvas.shape) // factor)
    means = np.empty((a, b, c), dtype=np.float32)
    for k in range(c):  # a full-size float copy of a scan would be large
        slab = voxels[: a * fi, : b * fj, k * fk : (k + 1) * fk]
        total = np.zeros((a, b), dtype=np.float32)
        for i, j, n in np.ndindex(fi, fj, fk):
            total += slab[i::fi, j::fj, n]
        means[:, :, k] = total / np.float32(fi * fj * fk)
    first = canvas.first_mm + (factor - 1) / 2.0 * canvas.spacing_mm
    spacing = canvas.spacing_mm * factor
    return means, Canvas((a, b, c), spacing, first, canvas.offset_mm, canvas.turn)


def _response(image: Float32, sigma_mm: float, spacing_mm: Float64) -> Float32:
    """Return -sigma^2 (f_xx + f_yy + f_zz) of the smoothed image."""
    smooth = ndimage.gaussian_filter(image, sigma_mm / spacing_mm, truncate=3.0)
    curvature = np.zeros_like(smooth)
    for axis, width_mm in enumerate(spacing_mm.tolist()):
        along = ndimage.correlate1d(smooth, [1.0, -2.0, 1.0], axis=axis)
        curvature += along * np.float32(-(sigma_mm**2) / width_mm**2)
    return curvature


def _apart(places_mm: Float64, most: int) -> NDArray[np.intp]:
    """Indices of the first places that keep their distance from all kept before."""
    if not len(places_mm):
        return np.zeros(0, dtype=np.intp)
    near = cKDTree(places_mm).query_ball_point(places_mm, _APART_MM)
    taken = np.zeros(len(places_mm), dtype=np.bool_)
    kept: list[int] = []
    for number, beside in enumerate(near):
        if len(kept) == most:
            break
        if not taken[number]:
            kept.append(number)
            taken[beside] = True
    return np.asarray(kept, dtype=np.intp)
