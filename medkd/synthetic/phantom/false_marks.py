"""Where a blob finder would mark a finished scan, and what it looks at.

The finder is `blob_log`: the normalised Laplacian of Gaussian inside the true lung. The bench of
difficulty lets it look at finished phantoms; the generator lets it look at a scan before nodules
are put into it, since nodules must lie where such marks do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.synthetic.phantom.blob_log import Peaks, find_peaks, prune_peaks
from medkd.synthetic.phantom.blobs import averaged
from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64

_SIGMAS_MM = (1.0, 1.5, 2.0, 3.0, 4.0, 5.5, 7.0, 9.0)
_STEP_MM = 1.25
_HU_WINDOW = (-1000.0, 400.0)
_THRESHOLD = 0.04
_OVERLAP = 0.5
_FINEST_SIGMA = 0.75
"""In voxels: the answer to narrower Gaussians is that of the lattice."""


@dataclass(frozen=True, slots=True, eq=False)
class LungImage:
    """The true lung as a blob finder sees it.

    Args:
        image: [I, J, K] the window's HU as 0 to 1; the lungs' median outside the lungs, so that
            the chest wall cannot hide a nodule on the pleura.
        inside: [I, J, K] the lungs.
        first_vox: (3,) where the image's first voxel lies in the scan.
        step_vox: (3,) scan voxels from one voxel of the image to the next.
    """

    image: Float32
    inside: NDArray[np.bool_]
    first_vox: Float64
    step_vox: Float64

    def scan_vox(self, index: Float64 | NDArray[np.intp]) -> Float64:
        """Return places [N, 3] of the image as continuous indices of the scan."""
        return np.asarray(self.first_vox + index * self.step_vox)

    def peaks(self, sigmas: Float64, *, threshold: float) -> Peaks:
        """Find the peaks inside the lungs; `sigmas` [S] in voxels of the image, as `find_peaks`."""
        found = find_peaks(self.image, sigmas, threshold=threshold)
        return found.kept(self.inside[tuple(found.index_vox.T)])


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A scan without its nodules: what is seen in it, and where a blob finder marks it.

    Args:
        canvas: a lattice of about 2 mm.
        hu: [i, j, k] densities on it.
        marks_mm: [N, 3] chest mm, the strongest first.
    """

    canvas: Canvas
    hu: Float32
    marks_mm: Float64


def see(voxels_hu: NDArray[np.int16], canvas: Canvas, lung: NDArray[np.bool_]) -> Seen:
    """Look at a scan.

    Args:
        voxels_hu: [i, j, k].
        canvas: its voxels.
        lung: [i, j, k] the true lungs.
    """
    hu, coarse = averaged(voxels_hu, canvas)
    return Seen(coarse, hu, find_marks(voxels_hu, canvas, lung))


def find_marks(voxels_hu: NDArray[np.int16], canvas: Canvas, lung: NDArray[np.bool_]) -> Float64:
    """Return the finder's marks [N, 3] in chest mm, the strongest first; arguments as in `see`."""
    if not lung.any():
        return np.zeros((0, 3))
    step_mm = max(_STEP_MM, float(canvas.spacing_mm[:2].min()))
    seen = lung_image(
        voxels_hu, lung, spacing_mm=canvas.spacing_mm, step_mm=step_mm, window_hu=_HU_WINDOW
    )
    sigmas = np.asarray(_SIGMAS_MM) / step_mm
    sigmas = sigmas[sigmas >= _FINEST_SIGMA]
    peaks = seen.peaks(sigmas, threshold=_THRESHOLD)
    rows = prune_peaks(peaks, sigmas, threshold=_THRESHOLD, overlap=_OVERLAP)
    return canvas.points_mm(seen.scan_vox(peaks.index_vox[rows]))


def lung_image(
    voxels_hu: NDArray[np.int16],
    lung: NDArray[np.bool_],
    *,
    spacing_mm: Float64,
    step_mm: float,
    window_hu: tuple[float, float],
) -> LungImage:
    """Cut the lungs out of a scan, on cubic voxels.

    Args:
        voxels_hu: [i, j, k] the scan.
        lung: [i, j, k] the true lungs, not empty.
        spacing_mm: (3,) of the scan.
        step_mm: side of the cubic voxels.
        window_hu: HU that are read as 0 and 1.
    """
    box = ndimage.find_objects(lung.view(np.uint8))[0]
    low, high = window_hu
    image = _resampled(voxels_hu[box], spacing_mm, step_mm)
    inside = _resampled(lung[box], spacing_mm, step_mm) > 0.5
    image -= np.float32(low)
    image /= np.float32(high - low)
    np.clip(image, 0.0, 1.0, out=image)
    if inside.any():
        image[~inside] = np.median(image[inside])
    first = np.asarray([part.start for part in box], dtype=np.float64)
    return LungImage(image, inside, first, step_mm / spacing_mm)


def _resampled(
    voxels: NDArray[np.int16] | NDArray[np.bool_], spacing_mm: Float64, wanted_mm: float
) -> Float32:
    """Interpolate linearly, axis by axis, from the first voxel's centre on."""
    image: NDArray[np.generic] = voxels
    for axis in (2, 1, 0):
        size = image.shape[axis]
        count = int((size - 1) * spacing_mm[axis] / wanted_mm + 1e-6) + 1
        place = np.arange(count) * (wanted_mm / spacing_mm[axis])
        low = np.minimum(np.floor(place).astype(np.intp), max(size - 2, 0))
        shape = [-1 if a == axis else 1 for a in range(3)]
        part = (place - low).astype(np.float32).reshape(shape)
        first = np.take(image, low, axis=axis).astype(np.float32)
        second = np.take(image, np.minimum(low + 1, size - 1), axis=axis).astype(np.float32)
        second -= first
        second *= part
        first += second
        image = first
    return np.asarray(image, dtype=np.float32)
