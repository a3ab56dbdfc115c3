"""What a finder sees in a scan before nodules are put into it: false marks and isolated tissue.

Nodules must lie where the blob finder's false marks do. Pieces of soft tissue that the scan shows
as isolated in the lung (mostly bits of vessels whose thin continuation is blurred away) look like
nodules to any detector, so they count neither way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.data.blobs import Blobs, block_means, find_blobs
from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64, cube_root
from medkd.synthetic.phantom.findings import Finding
from medkd.synthetic.phantom.sizes import MOST_DIAMETER_MM

_SOFT_HU = (-500.0, -450.0, -400.0, -350.0, -300.0, -250.0)
"""Tissue that is isolated above one of these is isolated: how much of a thin vessel holds tissue
together depends on the finder."""
_LEAST_MM = 2.7
"""Below the 3 mm that count, since another finder may see the same piece a little larger."""
_LEAST_VOXELS = 8
_LONGEST = 2.0
"""Longest side of the box around a piece that counts as compact, by the diameter of its volume."""
_INSIDE = 0.5
"""Share of a block, or of the border of a piece of tissue, that must be lung."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A scan without its nodules: what is seen in it, and where a blob finder marks it.

    Args:
        canvas: a lattice of about 2 mm.
        hu: [i, j, k] densities on it.
        blobs: the marks, on that lattice.
    """

    canvas: Canvas
    hu: Float32
    blobs: Blobs

    @property
    def marks_mm(self) -> Float64:
        """The marks [N, 3] in chest mm, the strongest first."""
        return self.canvas.points_mm(self.blobs.places_vox)


def see(voxels_hu: NDArray[np.int16], canvas: Canvas, lung: NDArray[np.bool_]) -> Seen:
    """Let the blob finder look at a scan.

    Args:
        voxels_hu: [i, j, k].
        canvas: its voxels.
        lung: [i, j, k] the true lungs.
    """
    hu, coarse = averaged(voxels_hu, canvas)
    inside = averaged(lung, canvas)[0] > _INSIDE
    return Seen(coarse, hu, find_blobs(hu, coarse.spacing_mm, inside))


def averaged(
    voxels: NDArray[np.int16] | NDArray[np.bool_] | Float32, canvas: Canvas
) -> tuple[Float32, Canvas]:
    """Average voxels [i, j, k] to blocks of at most 2 mm, and say where these lie."""
    means, count = block_means(voxels, canvas.spacing_mm)
    a, b, c = means.shape
    first = canvas.first_mm + (count - 1) / 2.0 * canvas.spacing_mm
    return means, replace(
        canvas, shape=(a, b, c), spacing_mm=canvas.spacing_mm * count, first_mm=first
    )


def find_isolated(
    voxels_hu: NDArray[np.int16],
    canvas: Canvas,
    lung: NDArray[np.bool_],
    listed: Sequence[Finding],
) -> list[Finding]:
    """Find the soft tissue that hangs together with nothing else, as excluded findings.

    Args:
        voxels_hu: [i, j, k] a scan without nodules.
        canvas: its voxels.
        lung: [i, j, k] the true lungs.
        listed: findings that are in a table already; tissue in their spheres is not listed again.

    Returns:
        One finding for each compact piece of about 3 mm or more: the sphere of its volume about
        its centre of mass.
    """
    if not lung.any():
        return []
    i, j, k = ndimage.find_objects(lung.view(np.int8))[0]
    box = (i, j, k)
    smooth, part = voxels_hu[box].astype(np.float32), canvas.part(box)
    for axis in range(3):  # quarters of whole numbers: exact, so the same on every machine
        ndimage.correlate1d(smooth, [0.25, 0.5, 0.25], axis=axis, output=smooth)
    found: list[Finding] = []
    for soft_hu in _SOFT_HU:
        for center_mm, diameter_mm in _pieces(smooth > np.float32(soft_hu), lung[box], part):
            apart = [center_mm - f.center_mm for f in (*listed, *found)]
            radii = [f.diameter_mm / 2.0 for f in (*listed, *found)]
            if all((d * d).sum() > r * r for d, r in zip(apart, radii, strict=True)):
                found.append(
                    Finding("isolated", "solid", "round", "free", center_mm, diameter_mm, (), None)
                )
    return found


def _pieces(
    soft: NDArray[np.bool_], lung: NDArray[np.bool_], canvas: Canvas
) -> Iterator[tuple[Float64, float]]:
    """Yield centre (3,) and diameter of the pieces of a mask that lung surrounds."""
    labels, count = ndimage.label(soft)
    voxels = np.bincount(labels.reshape(-1), minlength=count + 1)
    voxel_mm3 = float(canvas.spacing_mm.prod())
    low, high = (np.pi / 6.0 * d**3 / voxel_mm3 for d in (_LEAST_MM, MOST_DIAMETER_MM))
    fits = (voxels >= max(low, _LEAST_VOXELS)) & (voxels < high)
    boxes = ndimage.find_objects(labels)
    for number in np.flatnonzero(fits[1:]) + 1:
        sides = np.asarray([s.stop - s.start for s in boxes[number - 1]])
        diameter_mm = cube_root(float(6.0 / np.pi * voxels[number] * voxel_mm3))
        if (sides * canvas.spacing_mm).max() > _LONGEST * diameter_mm:
            continue
        box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in boxes[number - 1])
        piece = labels[box] == number
        border = ndimage.binary_dilation(piece) & ~piece
        if lung[box][border].mean() > _INSIDE:
            middle = np.argwhere(piece).mean(axis=0) + [s.start for s in box]
            yield canvas.points_mm(middle[None])[0], diameter_mm
