"""Candidate places of a phantom: true ones at nodules, and the blob finder's own false marks.

A classifier trained on candidates must learn what a nodule is, so its negatives are what a simple
detector takes for nodules in the finished scan, noise and all; some places anywhere in the lungs
and beside each nodule show it plain lung and where a nodule ends. Units are chest mm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.data.blobs import find_blobs
from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64
from medkd.synthetic.phantom.false_marks import averaged
from medkd.synthetic.phantom.fields import upsample
from medkd.synthetic.phantom.findings import MIMICS, Finding
from medkd.synthetic.phantom.forms import Bools, draw_directions

GAP_MM = 4.0
"""Least distance of a negative to the surface of a nodule or excluded finding."""

_BLOBS = 70
_ANYWHERE = 24
_BESIDE = 3
_RIM_MM = -1.0


class Candidates(NamedTuple):
    """Places [N, 3] in chest mm, and labels [N]: 1 within a nodule, 0 away from all findings."""

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
        canvas: its voxels.
        lung_mm: signed distance to the lungs' surface, negative in the lungs.
        lung_canvas: where `lung_mm` lies; any lattice.
        findings: all that was painted.
        rng: source of jitter and choice.

    Returns:
        For each nodule its centre, a few places within it and the finder's marks on it (1); the
        finder's marks away from nodules and excluded findings, and drawn places (0).
    """
    image, coarse = averaged(voxels_hu, canvas)
    lung = _lung_on(coarse, lung_mm, lung_canvas)
    marks = coarse.points_mm(find_blobs(image, coarse.spacing_mm, lung, most=3 * _BLOBS).places_vox)
    nodules = [f for f in findings if f.kind == "nodule"]
    apart = [f for f in findings if f.kind not in MIMICS]
    hit = _within_any(marks, nodules)
    true = [marks[hit], *(_near(nodule, rng) for nodule in nodules)]
    false = [marks[~hit & ~_within_any(marks, apart, gap_mm=GAP_MM)][:_BLOBS]]
    drawn = [_anywhere(coarse, lung, rng), *(_beside(nodule, rng) for nodule in nodules)]
    rest = np.concatenate(drawn)
    false.append(rest[~_within_any(rest, apart, gap_mm=GAP_MM)])
    positives, negatives = np.concatenate(true), np.concatenate(false)
    positives = positives[canvas.contains(positives, margin_mm=0.01)]
    negatives = negatives[canvas.contains(negatives, margin_mm=0.01)]
    labels = np.repeat([1, 0], [len(positives), len(negatives)])
    return Candidates(np.concatenate([positives, negatives]), labels.astype(np.int64))


def _lung_on(coarse: Canvas, lung_mm: Float32, lung_canvas: Canvas) -> Bools:
    """Mark the voxels of a lattice that lie in the lungs, their rim left out."""
    field = upsample(lung_mm, lung_canvas, coarse)
    mask = field < _RIM_MM
    return np.asarray(mask if mask.any() else ndimage.binary_dilation(field < 0.0))


def _within_any(points_mm: Float64, findings: list[Finding], *, gap_mm: float = 0.0) -> Bools:
    """Say which places [N, 3] lie within a finding's sphere, grown by a gap."""
    within = np.zeros(len(points_mm), dtype=np.bool_)
    for finding in findings:
        apart = points_mm - finding.center_mm
        within |= np.sqrt((apart * apart).sum(axis=1)) < finding.diameter_mm / 2.0 + gap_mm
    return within


def _near(nodule: Finding, rng: np.random.Generator) -> Float64:
    """A nodule's centre, nearly, and up to two more places in its inner half."""
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
