"""Places of one phantom that the bench looks at: the blob finder's marks, and true nodules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkd.config.difficulty_settings import BlobSettings
from medkd.synthetic.phantom import PhantomScan
from medkd.synthetic.phantom.blob_log import Peaks
from medkd.synthetic.phantom.false_marks import lung_image
from medkd.types import Nodule, Point

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
    """Let the blob finder look into the true lung; what it finds outside does not count."""
    scan = phantom.scan
    seen = lung_image(
        scan.voxels_hu, np.asarray(phantom.lung, dtype=np.bool_),
        spacing_mm=scan.grid.spacing_mm, step_mm=settings.spacing_mm,
        window_hu=settings.hu_window,
    )  # fmt: skip
    peaks = seen.peaks(sigmas_of(settings), threshold=min(settings.thresholds))
    return LungPeaks(peaks, scan.grid.voxel_to_world(seen.scan_vox(peaks.index_vox)))


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
