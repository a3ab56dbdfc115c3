"""Places of one phantom that the bench looks at: the blob finder's marks, and true nodules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.data.phantom import PhantomScan
from medkd.difficulty_settings import BlobSettings
from medkd.train.difficulty.blobs import Peaks, find_peaks
from medkd.types import Nodule, Point

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PlacedNodule:
    """A nodule with what was painted: kinds in words, "" where the generator does not say."""

    nodule: Nodule
    texture: str = ""
    outline: str = ""
    attachment: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class LungPeaks:
    """What the blob finder answers to in the lung, before it drops overlapping blobs.

    Args:
        peaks: places in voxels of its own image.
        center_mm: [N, 3] LPS mm of each.
    """

    peaks: Peaks
    center_mm: Float64


def sigmas_of(settings: BlobSettings) -> Float64:
    """Return the sigmas [S] in voxels."""
    low, high = settings.sigmas
    return np.linspace(low, high, settings.sigma_steps)


def find_lung_peaks(phantom: PhantomScan, settings: BlobSettings) -> LungPeaks:
    """Let the blob finder look into the true lung.

    Outside the lung its image is filled with the lung's median, so that the chest wall cannot
    hide a nodule on the pleura; what it finds there does not count.
    """
    lung = np.asarray(phantom.lung, dtype=np.bool_)
    box = ndimage.find_objects(lung.view(np.uint8))[0]
    low, high = settings.hu_window
    spacing_mm = phantom.scan.grid.spacing_mm
    image = _resampled(phantom.scan.voxels_hu[box], spacing_mm, settings.spacing_mm)
    inside = _resampled(lung[box], spacing_mm, settings.spacing_mm) > 0.5
    image -= np.float32(low)
    image /= np.float32(high - low)
    np.clip(image, 0.0, 1.0, out=image)
    image[~inside] = np.median(image[inside])
    peaks = find_peaks(image, sigmas_of(settings), threshold=min(settings.thresholds))
    peaks = peaks.kept(inside[tuple(peaks.index_vox.T)])
    start = np.asarray([part.start for part in box])
    index = peaks.index_vox * (settings.spacing_mm / spacing_mm) + start
    return LungPeaks(peaks, phantom.scan.grid.voxel_to_world(index))


def placed_nodules(phantom: PhantomScan) -> tuple[PlacedNodule, ...]:
    """Return the nodules with what was painted at each."""
    painted = [finding for finding in phantom.findings if finding.kind == "nodule"]
    return tuple(
        PlacedNodule(
            nodule,
            *(str(getattr(finding, name, "")) for name in ("texture", "outline", "attachment")),
        )
        for nodule, finding in zip(phantom.nodules, painted, strict=True)
    )


def far_from_findings(
    center_mm: Float64, findings: tuple[Nodule, ...], *, apart_mm: float
) -> NDArray[np.bool_]:
    """Say which places [N, 3] lie farther than `apart_mm` from the rim of every finding."""
    far = np.ones(len(center_mm), dtype=np.bool_)
    for finding in findings:
        away = center_mm - np.asarray(finding.center_mm)
        distance = np.sqrt((away**2).sum(axis=1))
        far &= distance > abs(finding.diameter_mm) / 2.0 + apart_mm
    return far


def as_point(center_mm: Float64) -> Point:
    """Return (3,) mm as a point."""
    x, y, z = np.round(center_mm, 3).tolist()
    return x, y, z


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
