"""skimage.feature.blob_log, fast: the same places, sigmas and responses on a whole chest.

The normalised Laplacian of Gaussian (T. Lindeberg, Int. J. Computer Vision 30, 1998, eq. 56) with
the kernels of `scipy.ndimage.gaussian_laplace` (cut at four sigma, edges reflected). Reflected
edges are what the cosine transform DCT-II knows, and there a kernel is one factor a frequency
(S. A. Martucci, IEEE Trans. Signal Processing 42, 1994): one transform there, one back a sigma.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial import cKDTree

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Whole = NDArray[np.intp]

_TRUNCATE = 4.0
_ROOT3 = 3.0**0.5


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """Local maxima over place and scale, the strongest first.

    Args:
        index_vox: [N, 3] voxels.
        level: [N] which sigma.
        response: [N] normalised, in units of the image.
    """

    index_vox: Whole
    level: Whole
    response: Float32

    def kept(self, rows: Whole | NDArray[np.bool_]) -> Peaks:
        """Return some of them, in the order asked for."""
        return Peaks(self.index_vox[rows], self.level[rows], self.response[rows])


def find_peaks(image: Float32, sigmas: Float64, *, threshold: float) -> Peaks:
    """Find every local maximum of the response above a threshold, overlapping ones too.

    Args:
        image: [I, J, K] bright blobs on dark.
        sigmas: [S] voxels, rising.
        threshold: least response.

    Example:
        >>> image = np.zeros((15, 15, 15), dtype=np.float32)
        >>> image[7, 7, 7] = 1.0
        >>> find_peaks(image, np.array([1.0, 2.0]), threshold=0.01).index_vox[0].tolist()
        [7, 7, 7]
    """
    found: list[tuple[Whole, Float32, int]] = []
    window: list[Float32] = []
    for level, response in enumerate(responses(image, sigmas)):
        window = [*window[-2:], response]
        if level:
            found.append((*_maxima(window[-2], window[:-2] + window[-1:], threshold), level - 1))
    if window:
        found.append((*_maxima(window[-1], window[-2:-1], threshold), len(sigmas) - 1))
    places = np.concatenate([place for place, _, _ in found])
    values = np.concatenate([value for _, value, _ in found])
    levels = np.concatenate([np.full(len(place), level) for place, _, level in found])
    # Equal responses stand in the order of their voxels, as in skimage.
    order = np.lexsort((levels, places, -values))
    index = np.stack(np.unravel_index(places[order], image.shape), axis=1)
    return Peaks(index, levels[order], values[order])


def prune_peaks(peaks: Peaks, sigmas: Float64, *, threshold: float, overlap: float) -> Whole:
    """Return the rows [M] of the blobs: of every two that overlap too much the larger stays.

    skimage takes the pairs in the order of a Python set; here the largest blobs come first, and a
    blob that is gone removes no other. Of two equally large blobs the stronger goes, as there.

    Args:
        peaks: as found.
        sigmas: [S] voxels.
        threshold: weaker peaks are no blobs.
        overlap: share of the smaller sphere's volume, 0..1.
    """
    strong = np.flatnonzero(peaks.response > threshold)
    peaks = peaks.kept(strong)
    alive = np.ones(len(strong), dtype=np.bool_)
    trees = {level: cKDTree(peaks.index_vox[rows]) for level, rows in _by_level(peaks)}
    rows_of = dict(_by_level(peaks))
    for large in sorted(trees, reverse=True):
        for small in sorted((level for level in trees if level <= large), reverse=True):
            pairs = _overlapping(trees[large], trees[small], sigmas[[large, small]], overlap)
            for first, second in pairs.tolist():
                one, other = int(rows_of[large][first]), int(rows_of[small][second])
                if alive[one] and alive[other]:
                    alive[min(one, other) if large == small else other] = False
    return strong[alive]


def responses(image: Float32, sigmas: Float64) -> Iterator[Float32]:
    """Yield -sigma^2 times the Laplacian of the smoothed image, for each sigma, [I, J, K]."""
    spectrum = fft.dctn(image, type=2, workers=1)
    for sigma in sigmas.tolist():
        smooth = [_transfer(size, sigma, order=0) for size in image.shape]
        curved = [_transfer(size, sigma, order=2) for size in image.shape]
        factor = np.zeros(image.shape, dtype=np.float32)
        for axis in range(3):
            parts = [curved[a] if a == axis else smooth[a] for a in range(3)]
            lines = [
                part.astype(np.float32).reshape([-1 if a == b else 1 for b in range(3)])
                for a, part in enumerate(parts)
            ]
            factor += lines[0] * lines[1] * lines[2]
        factor *= np.float32(-(sigma**2))
        factor *= spectrum
        yield fft.idctn(factor, type=2, workers=1, overwrite_x=True)


def _transfer(size: int, sigma: float, *, order: int) -> Float64:
    """Return what a kernel of `scipy.ndimage.gaussian_filter1d` does to each cosine, [size]."""
    reach = int(_TRUNCATE * sigma + 0.5)
    x = np.arange(-reach, reach + 1, dtype=np.float64)
    kernel = np.exp(-0.5 * (x / sigma) ** 2)
    kernel /= kernel.sum()
    if order == 2:
        kernel *= x**2 / sigma**4 - 1.0 / sigma**2
    frequency = np.pi * np.arange(size) / size
    return np.asarray((kernel * np.cos(frequency[:, None] * x)).sum(axis=1))


def _maxima(here: Float32, beside: list[Float32], threshold: float) -> tuple[Whole, Float32]:
    """Flat places above the threshold that no neighbour in place or scale exceeds, and values.

    Neighbours are asked one after the other, and only of what is left: few places stay long.
    """
    left = np.flatnonzero(here > threshold)
    i, j, k = np.unravel_index(left, here.shape)
    for level in (here, *beside):
        for step in product((-1, 0, 1), repeat=3):
            near = [
                np.clip(part + move, 0, size - 1)
                for part, move, size in zip((i, j, k), step, here.shape, strict=True)
            ]
            stays = level[near[0], near[1], near[2]] <= here[i, j, k]
            i, j, k = i[stays], j[stays], k[stays]
    return np.ravel_multi_index((i, j, k), here.shape), here[i, j, k]


def _by_level(peaks: Peaks) -> Iterator[tuple[int, Whole]]:
    for level in np.unique(peaks.level).tolist():
        yield level, np.flatnonzero(peaks.level == level)


def _overlapping(large: cKDTree, small: cKDTree, sigmas: Float64, overlap: float) -> Whole:
    """Return [P, 2] rows of the pairs that share more than `overlap` of the smaller sphere.

    Formula: E. W. Weisstein, "Sphere-Sphere Intersection", MathWorld, eq. 16. As in skimage a
    blob's radius is the square root of 3 times its sigma; the larger radius is 1 here.
    """
    unit = float(sigmas[0]) * _ROOT3
    radius = float(sigmas[1] / sigmas[0])
    near = large.sparse_distance_matrix(small, unit * (1.0 + radius), output_type="ndarray")
    first, second, apart = near["i"], near["j"], near["v"] / unit
    if large is small:
        once = first < second
        first, second, apart = first[once], second[once], apart[once]
    apart_from_zero = np.maximum(apart, 1e-9)
    volume = (
        np.pi / (12.0 * apart_from_zero) * (1.0 + radius - apart) ** 2
        * (apart**2 + 2.0 * apart * (1.0 + radius) - 3.0 * (1.0 + radius**2) + 6.0 * radius)
    )  # fmt: skip
    share = volume / (4.0 / 3.0 * np.pi * radius**3)
    share[apart <= 1.0 - radius] = 1.0
    pairs = np.stack([first, second], axis=1)[share > overlap]
    return np.asarray(pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))], dtype=np.intp)
