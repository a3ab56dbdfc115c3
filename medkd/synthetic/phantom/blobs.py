"""A finder of bright compact blobs: where a phantom looks as if there were a nodule.

The normalised Laplacian of Gaussian (T. Lindeberg, Int. J. Computer Vision 30, 1998, eq. 56) on
voxels of about 2 mm, at a few widths, as `medkd.data.training_places` has it. A phantom's hard
negatives are what this finder finds in the finished scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64

SIGMAS_MM = (1.5, 2.16, 3.11, 4.48, 6.45)
"""Widths of the Gaussians, each 1.44 times the one before."""
_RATIO = 1.2
COARSE_MM = 2.0
_HU_RANGE = (-1000.0, 400.0)
_LEAST_RESPONSE = 0.04
_APART_MM = 6.0


@dataclass(frozen=True, slots=True, eq=False)
class Blobs:
    """What the finder found, the most blob-like first.

    Args:
        places_vox: [N, 3] continuous index of each.
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
    box = ndimage.find_objects(lung.astype(np.int8))[0]
    best, width = _strongest(image_hu[box], lung[box], spacing_mm)
    peak = (best > _LEAST_RESPONSE) & lung[box]
    peak &= best == ndimage.maximum_filter(best, size=3)
    found = np.argwhere(peak)
    answer = best[peak]
    order = np.argsort(-answer, kind="stable")
    kept = order[_apart(found[order] * spacing_mm, most)]
    sigmas = np.asarray(SIGMAS_MM)[width[peak][kept]]
    places = _refined(best, found[kept]) + [part.start for part in box]
    return Blobs(places, sigmas, answer[kept].astype(np.float64))


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


def _strongest(
    image_hu: Float32, lung: NDArray[np.bool_], spacing_mm: Float64
) -> tuple[Float32, NDArray[np.int8]]:
    """Return the largest answer over all widths, and which width gave it.

    The normalised Laplacian is read from the difference of two Gaussians around its width, whose
    scale derivative it is (Lindeberg 1998, eq. 2: the heat equation).
    """
    low, high = _HU_RANGE
    image = np.clip(image_hu, low, high)
    image -= np.float32(low)
    image *= np.float32(1.0 / (high - low))
    image[~lung] = np.median(image[lung])
    best = np.full(image.shape, -np.inf, dtype=np.float32)
    width = np.zeros(image.shape, dtype=np.int8)
    finer_mm = SIGMAS_MM[0] / _RATIO
    finer = ndimage.gaussian_filter(image, finer_mm / spacing_mm, mode="nearest", truncate=3.0)
    for number, sigma_mm in enumerate(SIGMAS_MM):
        wider_mm = sigma_mm * _RATIO
        more = np.sqrt(wider_mm**2 - finer_mm**2) / spacing_mm
        wider = ndimage.gaussian_filter(finer, more, mode="nearest", truncate=3.0)
        answer = finer - wider
        answer *= np.float32(2.0 * sigma_mm**2 / (wider_mm**2 - finer_mm**2))
        np.copyto(width, np.int8(number), where=answer > best)
        np.maximum(best, answer, out=best)
        finer, finer_mm = wider, wider_mm
    return best, width


def _refined(field: Float32, peaks: NDArray[np.intp]) -> Float64:
    """Find each peak [N, 3] between the voxels: the top of a parabola along each axis."""
    places = peaks.astype(np.float64)
    for axis in range(3):
        step = np.zeros(3, dtype=np.intp)
        step[axis] = 1
        upper = np.asarray(field.shape) - 1
        before, here, after = (
            field[tuple(np.clip(peaks + n * step, 0, upper).T)].astype(np.float64)
            for n in (-1, 0, 1)
        )
        bend = np.minimum(before - 2.0 * here + after, -1e-6)
        places[:, axis] += np.clip(0.5 * (before - after) / bend, -0.5, 0.5)
    return places


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
