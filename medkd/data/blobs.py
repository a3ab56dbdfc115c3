"""Find bright compact blobs in the lungs, which look like nodules.

It computes the normalised Laplacian of Gaussian (T. Lindeberg, Int. J. Computer Vision 30, 1998,
eq. 56) at a few widths on blocks of voxels of at most 2 mm. Blobs are training candidates, models
for the nodules of phantoms, and hard negatives of phantoms. Nothing is learned: it is no detector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

SIGMAS_MM = (1.5, 2.16, 3.11, 4.48, 6.45)
"""Widths of the Gaussians, each 1.44 times the one before."""
_RATIO = 1.2
_BLOCK_MM = 2.0
_HU_RANGE = (-1000.0, 400.0)


@dataclass(frozen=True, slots=True, eq=False)
class Blobs:
    """Blobs, the most blob-like first.

    Args:
        places_vox: [N, 3] continuous index of each.
        sigma_mm: [N] width of the Gaussian that responded most.
        response: [N] its response; 1 for 1400 HU.
    """

    places_vox: Float64
    sigma_mm: Float64
    response: Float64


def find_blobs(
    image_hu: Float32,
    spacing_mm: Float64,
    inside: NDArray[np.bool_],
    *,
    most: int = 400,
    least_response: float = 0.04,
    apart_mm: float = 6.0,
) -> Blobs:
    """Find bright compact places in the lungs.

    Args:
        image_hu: [i, j, k] HU, voxels of about 2 mm.
        spacing_mm: (3,) mm.
        inside: [i, j, k] the searched region. Voxels outside it are replaced by its median, so
            that the chest wall is not found and does not hide blobs beside it.
        most: largest number of blobs to return.
        least_response: blobs with a weaker response (see `Blobs`) are dropped.
        apart_mm: of two blobs nearer than this, the weaker is dropped.

    Returns:
        The blobs; there are none if no voxel is inside.

    Example:
        >>> image = np.full((15, 15, 15), -900.0, dtype=np.float32)
        >>> image[7:9, 7:9, 7:9] = 0.0
        >>> found = find_blobs(image, np.full(3, 2.0), np.ones(image.shape, dtype=np.bool_))
        >>> found.places_vox.round(1).tolist()
        [[7.5, 7.5, 7.5]]
    """
    if not inside.any():
        return Blobs(np.zeros((0, 3)), np.zeros(0), np.zeros(0))
    box = ndimage.find_objects(inside.view(np.int8))[0]
    best, width = _strongest(image_hu[box], inside[box], spacing_mm)
    peak = (best > least_response) & inside[box]
    peak &= best == ndimage.maximum_filter(best, size=3)
    found, response = np.argwhere(peak), best[peak]
    order = np.argsort(-response, kind="stable")
    places = _refined(best, found[order])
    kept = _apart(places * spacing_mm, most, apart_mm)
    return Blobs(
        places[kept] + [part.start for part in box],
        np.asarray(SIGMAS_MM)[width[peak][order][kept]],
        response[order][kept].astype(np.float64),
    )


def block_means(
    voxels: NDArray[np.int16] | NDArray[np.bool_] | Float32, spacing_mm: Float64
) -> tuple[Float32, NDArray[np.int64]]:
    """Average voxels to blocks of at most 2 mm; voxels that do not fill a block are dropped.

    Args:
        voxels: [i, j, k].
        spacing_mm: (3,) mm.

    Returns:
        The means, and the voxels of a block along each axis (3,): the centre of block b is at
        voxel b * count + (count - 1) / 2.
    """
    count = np.maximum(np.floor(_BLOCK_MM / spacing_mm + 1e-6), 1).astype(np.int64)
    count = np.minimum(count, voxels.shape)
    fi, fj, fk = count.tolist()
    a, b, c = (int(n) for n in np.asarray(voxels.shape) // count)
    means = np.empty((a, b, c), dtype=np.float32)
    for k in range(c):  # a full-size float copy of a scan would be large
        slab = voxels[: a * fi, : b * fj, k * fk : (k + 1) * fk]
        total = np.zeros((a, b), dtype=np.float32)
        for i, j, n in np.ndindex(fi, fj, fk):
            total += slab[i::fi, j::fj, n]
        means[:, :, k] = total / np.float32(fi * fj * fk)
    return means, count


def _strongest(
    image_hu: Float32, inside: NDArray[np.bool_], spacing_mm: Float64
) -> tuple[Float32, NDArray[np.int8]]:
    """Return the largest response over all widths, and the index of its width.

    The normalised Laplacian is a scale derivative of the Gaussian (Lindeberg 1998, eq. 2: the heat
    equation), so it is computed from the difference of two Gaussians around each width.
    """
    low, high = _HU_RANGE
    image = np.clip(image_hu, low, high)
    image -= np.float32(low)
    image *= np.float32(1.0 / (high - low))
    image[~inside] = np.median(image[inside])
    best = np.full(image.shape, -np.inf, dtype=np.float32)
    width = np.zeros(image.shape, dtype=np.int8)
    finer_mm = SIGMAS_MM[0] / _RATIO
    finer = ndimage.gaussian_filter(image, finer_mm / spacing_mm, mode="nearest", truncate=3.0)
    for number, sigma_mm in enumerate(SIGMAS_MM):
        wider_mm = sigma_mm * _RATIO
        more = np.sqrt(wider_mm**2 - finer_mm**2) / spacing_mm
        wider = ndimage.gaussian_filter(finer, more, mode="nearest", truncate=3.0)
        response = finer - wider
        response *= np.float32(2.0 * sigma_mm**2 / (wider_mm**2 - finer_mm**2))
        np.copyto(width, np.int8(number), where=response > best)
        np.maximum(best, response, out=best)
        finer, finer_mm = wider, wider_mm
    return best, width


def _refined(field: Float32, peaks: NDArray[np.intp]) -> Float64:
    """Refine each peak [N, 3] to a fraction of a voxel by a parabola along each axis."""
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


def _apart(places_mm: Float64, most: int, apart_mm: float) -> NDArray[np.intp]:
    """Return the rows of the first places that are not too close to an earlier kept place."""
    if not len(places_mm):
        return np.zeros(0, dtype=np.intp)
    near = cKDTree(places_mm).query_ball_point(places_mm, apart_mm)
    taken = np.zeros(len(places_mm), dtype=np.bool_)
    kept: list[int] = []
    for number, beside in enumerate(near):
        if len(kept) == most:
            break
        if not taken[number]:
            kept.append(number)
            taken[beside] = True
    return np.asarray(kept, dtype=np.intp)
