"""What a simple blob finder sees in a phantom scan: false marks, isolated tissue, candidates.

Nodules are placed where the finder makes false marks in the scan without nodules. Pieces of soft
tissue that look isolated in that scan (mostly bits of vessels whose thin continuation is blurred
away) look like nodules to any detector, so they count neither way.

A classifier that is trained on candidates must learn what a nodule is. Its negatives are therefore
the finder's marks in the finished scan, noise included. Random points in the lungs and beside each
nodule add plain lung and the borders of nodules. Units are chest mm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.data.blobs import Blobs, block_means, find_blobs
from medkd.synthetic.phantom.canvas import Bools, Canvas, Float32, Float64, cube_root
from medkd.synthetic.phantom.fields import upsample
from medkd.synthetic.phantom.findings import MIMICS, Finding, clear_of
from medkd.synthetic.phantom.forms import MOST_DIAMETER_MM, draw_directions

_SOFT_HU = (-500.0, -450.0, -400.0, -350.0, -300.0, -250.0)
"""Tissue is isolated if it is so above one of these thresholds, because it depends on the threshold
of a finder whether a thin vessel connects two pieces."""
_LEAST_MM = 2.7
"""Less than the 3 mm that count, because another finder may measure a slightly larger piece."""
_LEAST_VOXELS = 8
_LONGEST = 2.0
"""Greatest side of a compact piece's bounding box, over the diameter of its volume's sphere."""
_INSIDE = 0.5
"""Least share of lung in a block, or in the border of a piece of tissue."""
GAP_MM = 4.0
"""Least distance of a negative to the surface of a nodule or excluded finding."""
_BLOBS = 70
_ANYWHERE = 24
_BESIDE = 3
_DEPTH_MM = 1.0
"""Least depth in the lungs of a voxel that is searched."""


@dataclass(frozen=True, slots=True, eq=False)
class MarkedScan:
    """A scan without its nodules on a coarse lattice, and the marks of the blob finder in it.

    Args:
        canvas: a lattice of about 2 mm.
        hu: [i, j, k] HU on this lattice.
        blobs: the marks on this lattice.
    """

    canvas: Canvas
    hu: Float32
    blobs: Blobs

    @property
    def marks_mm(self) -> Float64:
        """The marks [N, 3] in chest mm, the strongest first."""
        return self.canvas.points_mm(self.blobs.places_vox)


def mark_scan(voxels_hu: NDArray[np.int16], canvas: Canvas, lung: NDArray[np.bool_]) -> MarkedScan:
    """Run the blob finder on a scan.

    Args:
        voxels_hu: [i, j, k] HU.
        canvas: voxel grid of the scan.
        lung: [i, j, k] true lung mask.
    """
    hu, coarse = averaged(voxels_hu, canvas)
    inside = averaged(lung, canvas)[0] > _INSIDE
    return MarkedScan(coarse, hu, find_blobs(hu, coarse.spacing_mm, inside))


def averaged(
    voxels: NDArray[np.int16] | NDArray[np.bool_] | Float32, canvas: Canvas
) -> tuple[Float32, Canvas]:
    """Average voxels [i, j, k] to blocks of at most 2 mm; return the blocks and their canvas."""
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
    """Find soft tissue in the lungs that is connected to nothing else, as excluded findings.

    Args:
        voxels_hu: [i, j, k] a scan without nodules.
        canvas: voxel grid of the scan.
        lung: [i, j, k] true lung mask.
        listed: findings that are already in a table; tissue in their spheres is not listed again.

    Returns:
        One finding for each compact piece of about 3 mm or more: the sphere of the same volume
        around its centre of mass.
    """
    if not lung.any():
        return []
    i, j, k = ndimage.find_objects(lung.view(np.int8))[0]
    box = (i, j, k)
    smooth, part = voxels_hu[box].astype(np.float32), canvas.part(box)
    for axis in range(3):  # these quotients are exact, so the same on every machine
        ndimage.correlate1d(smooth, [0.25, 0.5, 0.25], axis=axis, output=smooth)
    found: list[Finding] = []
    for soft_hu in _SOFT_HU:
        for center_mm, diameter_mm in _pieces(smooth > np.float32(soft_hu), lung[box], part):
            if clear_of(center_mm[None], (*listed, *found), 0.0)[0]:
                found.append(
                    Finding("isolated", "solid", "round", "free", center_mm, diameter_mm, (), None)
                )
    return found


def _pieces(
    soft: NDArray[np.bool_], lung: NDArray[np.bool_], canvas: Canvas
) -> Iterator[tuple[Float64, float]]:
    """Yield centre (3,) and diameter in mm of the pieces of a mask that lung surrounds."""
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


class Candidates(NamedTuple):
    """Points [N, 3] in chest mm, and labels [N]: 1 inside a nodule, 0 away from all findings."""

    places_mm: Float64
    labels: NDArray[np.int64]


def draw_candidates(
    voxels_hu: NDArray[np.int16] | Float32,
    canvas: Canvas,
    lung_mm: Float32,
    *,
    lung_canvas: Canvas,
    findings: list[Finding],
    rng: np.random.Generator,
) -> Candidates:
    """Draw the candidates of one scan.

    Args:
        voxels_hu: [i, j, k] the finished scan.
        canvas: voxel grid of the scan.
        lung_mm: signed distance to the lungs' surface, negative in the lungs.
        lung_canvas: lattice of `lung_mm`.
        findings: all painted findings.
        rng: source of the random points.

    Returns:
        Positives: the finder's marks on nodules, and for each nodule a few points in its inner
        half. Negatives: the finder's marks away from nodules and excluded findings, and random
        points.
    """
    image, coarse = averaged(voxels_hu, canvas)
    depth = upsample(lung_mm, lung_canvas, coarse)
    inner = depth < -_DEPTH_MM
    lung = np.asarray(inner if inner.any() else ndimage.binary_dilation(depth < 0.0))
    marks = coarse.points_mm(find_blobs(image, coarse.spacing_mm, lung, most=3 * _BLOBS).places_vox)
    nodules = [f for f in findings if f.kind == "nodule"]
    apart = [f for f in findings if f.kind not in MIMICS]
    missed = clear_of(marks, nodules, 0.0)
    true = [marks[~missed], *(_near(nodule, rng) for nodule in nodules)]
    false = [marks[clear_of(marks, apart, GAP_MM)][:_BLOBS]]
    drawn = [_anywhere(coarse, lung, rng), *(_beside(nodule, rng) for nodule in nodules)]
    rest = np.concatenate(drawn)
    false.append(rest[clear_of(rest, apart, GAP_MM)])
    positives, negatives = np.concatenate(true), np.concatenate(false)
    positives = positives[canvas.contains(positives, margin_mm=0.01)]
    negatives = negatives[canvas.contains(negatives, margin_mm=0.01)]
    labels = np.repeat([1, 0], [len(positives), len(negatives)])
    return Candidates(np.concatenate([positives, negatives]), labels.astype(np.int64))


def _near(nodule: Finding, rng: np.random.Generator) -> Float64:
    """Draw one to three points in the inner half of a nodule."""
    count = int(rng.integers(1, 4))
    reach = np.minimum(0.25 * nodule.diameter_mm, 2.5) * np.cbrt(rng.random((count, 1)))
    return np.asarray(nodule.center_mm + draw_directions(rng, count) * reach)


def _beside(nodule: Finding, rng: np.random.Generator) -> Float64:
    apart = nodule.diameter_mm / 2.0 + GAP_MM + rng.uniform(0.2, 9.0, size=(_BESIDE, 1))
    return np.asarray(nodule.center_mm + draw_directions(rng, _BESIDE) * apart)


def _anywhere(coarse: Canvas, lung: Bools, rng: np.random.Generator) -> Float64:
    inside = np.argwhere(lung)
    if not len(inside):
        return np.zeros((0, 3))
    chosen = inside[rng.integers(len(inside), size=_ANYWHERE)]
    return coarse.points_mm(chosen + rng.uniform(-0.5, 0.5, size=chosen.shape))
