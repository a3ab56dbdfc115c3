"""Two finders without learning, as a yardstick for how hard the phantoms are.

They get more than a detector gets: the true lung. Both are scored as LUNA16 scores marks.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.data.phantom import PhantomScan
from medkd.types import Candidate

SPACING_MM = 2.0
SIGMAS_MM = tuple(np.linspace(1.5, 9.0, 9).tolist())
BLOB_THRESHOLD = 0.08
MARKS = 100


def find_blobs(phantom: PhantomScan) -> list[Candidate]:
    """Mark blobs by skimage.feature.blob_log: 2 mm voxels, HU -1000..400, score = response.

    Outside the lung the image is filled with the lung's median, so that the chest wall cannot
    hide a nodule on the pleura.
    """
    from skimage.feature import blob_log

    image, lung, to_index = _resampled(phantom)
    image = np.where(lung, image, np.median(image[lung]))
    sigmas = np.asarray(SIGMAS_MM) / SPACING_MM
    found: NDArray[Any] = blob_log(
        image, min_sigma=sigmas[0], max_sigma=sigmas[-1], num_sigma=len(sigmas),
        threshold=BLOB_THRESHOLD, overlap=0.5, exclude_border=False,
    )  # fmt: skip
    response = np.stack([-(s**2) * ndimage.gaussian_laplace(image, s) for s in sigmas])
    index = found[:, :3].astype(int)
    level = np.abs(found[:, 3, None] - sigmas).argmin(axis=1)
    score = response[(level, *index.T)]
    inside = lung[tuple(index.T)]
    return _marks(phantom, to_index(index[inside]), score[inside])


def find_components(phantom: PhantomScan, *, level_hu: float = -450.0) -> list[Candidate]:
    """Mark connected parts of the lung above a level; score = roundness, 4 to 30 mm only."""
    image, lung, to_index = _resampled(phantom)
    labels, _ = ndimage.label((image > (level_hu + 1000.0) / 1400.0) & lung)
    places, scores = [], []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        part = np.argwhere(labels[box] == number)
        diameter = (6 * len(part) / np.pi) ** (1 / 3) * SPACING_MM
        if 4.0 <= diameter <= 30.0:
            places.append(part.mean(axis=0) + [s.start for s in box])
            reach = np.linalg.norm(part - part.mean(axis=0), axis=1).max() + 0.5
            scores.append(diameter / (2 * reach * SPACING_MM))
    return _marks(phantom, to_index(np.asarray(places).reshape(-1, 3)), np.asarray(scores))


def _resampled(
    phantom: PhantomScan,
) -> tuple[NDArray[Any], NDArray[Any], Callable[[NDArray[Any]], NDArray[Any]]]:
    """The image in 0..1 and the lung, cut to the lung's box, with voxels of 2 mm.

    Also returns what turns an index of them into an index of the scan.
    """
    box = ndimage.find_objects(phantom.lung.astype(np.uint8))[0]
    scale = phantom.scan.grid.spacing_mm / SPACING_MM
    voxels = phantom.scan.voxels_hu[box].astype(np.float32)
    image = ndimage.zoom(np.clip((voxels + 1000.0) / 1400.0, 0.0, 1.0), scale, order=1)
    lung = ndimage.zoom(phantom.lung[box].astype(np.float32), scale, order=1) > 0.5
    step = (np.asarray(image.shape) - 1) / (np.asarray(voxels.shape) - 1)
    start = np.asarray([part.start for part in box])
    return image, lung, lambda index: index / step + start


def _marks(phantom: PhantomScan, places: NDArray[Any], scores: NDArray[Any]) -> list[Candidate]:
    best = np.argsort(-scores, kind="stable")[:MARKS]
    points = phantom.scan.grid.voxel_to_world(places[best]).round(3).tolist()
    return [
        Candidate(phantom.scan.seriesuid, (x, y, z), float(score))
        for (x, y, z), score in zip(points, scores[best], strict=True)
    ]
