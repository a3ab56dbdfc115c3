"""What real structure of a scan looks like at its border, and how like it a nodule is.

Vessels, junctions and bumps of the pleura are what a detector has to tell nodules from, and they
show how this scanner draws a border. So borders of nodules that could be put in, and of real
structure that is as thick, are described by the distance from the structure's own outline in the
slice. Boosted trees learn to tell them apart; their odds are the ratio of the two densities (Qin,
Biometrika 85, 619, 1998; Sugiyama, Suzuki, Kanamori, "Density Ratio Estimation in Machine
Learning", 2012, ch. 4), and nodules are drawn by them (sampling-importance-resampling: Rubin, JASA
82, 543, 1987). Arrays are [i, j, k] with slices along k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.data.blobs import find_blobs
from medkd.synthetic.implant.lung_map import LungMap
from medkd.synthetic.implant.paint import Patch
from medkd.synthetic.implant.response import Float32, Float64
from medkd.synthetic.phantom.forms import box_within

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

_MOST = 600
_LEAST_RESPONSE = 0.06
_LEAST = 30
"""Fewer structures tell nothing."""
_FROM_OUTLINE_MM = np.array([-3.0, -2.0, -1.25, -0.7, -0.2, 0.2, 0.7, 1.25, 2.0, 3.0, 4.0])
_CLEAR_MM = 1.5
"""A border nearer to other structure than this is not described."""
_SLICES = 5
_MEASURED_AT_MM = 5.0
_ALIKE = 0.12
"""Largest relative difference of two structures that are as thick."""
_FOLDS = 4
_LEAF = 40
"""Samples: one structure stands for several nodules, and must not be learnt by heart."""


@dataclass(frozen=True, slots=True, eq=False)
class RealStructure:
    """Blob-like places of a scan.

    Args:
        center_vox: [N, 3] continuous index in the scan.
        depth_mm: [N] half the thickness of each in the slice.
        density_hu: of the denser ones, vessels mostly.
    """

    center_vox: Float64
    depth_mm: Float64
    density_hu: float

    @property
    def enough(self) -> bool:
        """Whether there is enough of it to learn from."""
        return len(self.depth_mm) >= _LEAST

    def as_thick(self, depth_mm: float, rng: np.random.Generator) -> Float64:
        """Draw the centre (3,) of a structure that is about as thick."""
        unlike = np.abs(np.log(self.depth_mm / depth_mm)) + 0.01 * rng.random(len(self.depth_mm))
        alike = np.flatnonzero(unlike < _ALIKE)
        if len(alike) < 5:
            alike = np.argsort(unlike, kind="stable")[:5]
        return np.asarray(self.center_vox[rng.choice(alike)])


def find_structure(
    volume_hu: NDArray[np.int16], lungs: LungMap, spacing_mm: Float64
) -> RealStructure:
    """Find the blob-like places of a scan's lungs.

    Args:
        volume_hu: [i, j, k] the scan.
        lungs: map of its lungs.
        spacing_mm: (3,) of the scan.
    """
    inside = (lungs.depth_mm < 0) & (lungs.airway_mm > 1.0)
    blobs = find_blobs(lungs.hu, lungs.spacing_mm, inside, most=_MOST)
    places = blobs.places_vox[blobs.response > _LEAST_RESPONSE]
    density = 50.0
    if len(places):
        nearest = np.rint(places).astype(np.int64)
        density = float(np.percentile(lungs.hu[tuple(nearest.T)], 75))
    centers = lungs.to_scan_vox(places)
    depths = np.array(
        [describe(volume_hu, c, _MEASURED_AT_MM, spacing_mm=spacing_mm)[0] for c in centers]
    )
    there = depths > 0 if len(depths) else np.zeros(0, dtype=np.bool_)
    return RealStructure(centers[there], depths[there], density)


def describe(
    volume_hu: NDArray[np.int16],
    center_vox: Float64,
    radius_mm: float,
    *,
    spacing_mm: Float64,
    patch: Patch | None = None,
) -> Float64:
    """Describe the border of what stands at a place.

    Args:
        volume_hu: [i, j, k] the scan.
        center_vox: (3,) continuous index.
        radius_mm: of the place; structure beyond 1.4 radii is cut off.
        spacing_mm: (3,).
        patch: what is added to the scan first.

    Returns:
        [features]: depth of the structure below its outline in mm, 0 for none; then NaN where there
        are too few voxels.
    """
    reach = np.append((1.4 * radius_mm + 5.0) / spacing_mm[:2], 0.5 * radius_mm / spacing_mm[2])
    box = box_within(center_vox, reach, volume_hu.shape)
    low = np.array([side.start for side in box])
    part = volume_hu[box].astype(np.float32)
    if patch is not None:
        _add(part, low, patch)
    step = max(1, -(-part.shape[2] // _SLICES))
    middle = int(np.clip(np.rint(center_vox[2]) - low[2], 0, part.shape[2] - 1))
    found = [
        _outline(part[:, :, k], center_vox[:2] - low[:2], radius_mm, spacing_mm[:2])
        for k in range(middle % step, part.shape[2], step)
    ]
    heights = np.array([height for height, _ in found])
    samples = np.concatenate([values for _, values in found], axis=1)
    if not samples.size:
        return np.append([0.0, *heights.mean(axis=0)[1:]], np.full(_BINNED, np.nan))
    number = np.digitize(samples[0], _FROM_OUTLINE_MM) - 1
    return np.append(
        [heights[:, 0].max(), *heights[:, 1:].mean(axis=0)], _binned(number, samples[1:])
    )


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """Knows nodules of one generation from real structure.

    Args:
        trees: probability of being real.
        known: [features] those that the trees were shown.
    """

    trees: HistGradientBoostingClassifier
    known: NDArray[np.bool_]

    @classmethod
    def learnt(cls, made: Float64, real: Float64) -> Likeness:
        """Learn from descriptions of nodules [N, features] and of real structure [M, features]."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        both = np.concatenate([made, real])
        known = np.array([np.unique(c[np.isfinite(c)]).size > 10 for c in both.T])
        trees = HistGradientBoostingClassifier(
            max_iter=80, learning_rate=0.08, max_leaf_nodes=6, min_samples_leaf=_LEAF,
            l2_regularization=1.0, random_state=0,
        )  # fmt: skip
        label = np.repeat([0, 1], [len(made), len(real)])
        trees.fit(both[:, known], label)
        return cls(trees, known)

    def odds(self, described: Float64) -> Float64:
        """Return the logarithm of the odds [N] of being real."""
        return np.asarray(self.trees.decision_function(described[:, self.known]))


def drawn_by(odds: Float64, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw `count` of some nodules, again and again, by their log odds [N] of being real."""
    chance = np.exp(np.clip(odds - odds.max(), -30.0, 0.0))
    return np.asarray(rng.choice(len(odds), size=count, p=chance / chance.sum()))


def odds_without_own(made: Float64, real: Float64, group: NDArray[np.int64]) -> Float64:
    """Return log odds of nodules [N] from trees that never saw a nodule of the same group.

    Args:
        made: [N, features] of nodules.
        real: [N, features] of real structure, each drawn for the nodule of the same row.
        group: [N] of both.
    """
    odds = np.zeros(len(made))
    for fold in range(_FOLDS):
        left_out = group % _FOLDS == fold
        odds[left_out] = Likeness.learnt(made[~left_out], real[~left_out]).odds(made[left_out])
    return odds


def _add(part: Float32, low: NDArray[np.int64], patch: Patch) -> None:
    """Add what of a patch lies in a part of the scan that begins at voxel `low`."""
    own, other = [], []
    for axis, side in enumerate(patch.box):
        start = int(low[axis])
        first, last = max(side.start, start), min(side.stop, start + part.shape[axis])
        if last <= first:
            return
        own.append(slice(first - start, last - start))
        other.append(slice(first - side.start, last - side.start))
    part[tuple(own)] += patch.added_hu[tuple(other)]


_VALUES = 6
_BINNED = 2 * (_VALUES - 1) * (len(_FROM_OUTLINE_MM) - 1)


def _outline(
    image: Float32, center: Float64, radius_mm: float, spacing_mm: Float64
) -> tuple[Float64, Float64]:
    """Cut out what stands at a place of a slice, at half its height.

    Returns:
        Its depth in mm, HU of its core and around it; and of each voxel near its outline the
        distance in mm (negative inside), HU as a share of the height, steepness and slope
        outwards as shares of the height per mm, Laplacian and roughness in HU [6, voxels].
    """
    i, j = ((np.arange(image.shape[a]) - center[a]) * spacing_mm[a] for a in (0, 1))
    away = np.hypot(i[:, None], j[None, :])
    smooth = ndimage.gaussian_filter(image, 0.5 / spacing_mm)
    core = float(np.percentile(smooth[away <= max(0.35 * radius_mm, away.min() + 0.8)], 75))
    around = float(np.percentile(smooth[away < 1.4 * radius_mm + 4.0], 15))
    dense = smooth > 0.5 * (core + around)
    inside = away < 1.4 * radius_mm
    labels, _ = ndimage.label(dense & inside)
    number = labels[np.unravel_index(np.where(away < 0.5 * radius_mm + 0.5, smooth, -1e4).argmax(),
                                     smooth.shape)]  # fmt: skip
    if not number or core - around < 100.0:
        return np.array([0.0, core, around]), np.empty((_VALUES, 0))
    region = labels == number
    within = ndimage.distance_transform_edt(region, sampling=spacing_mm)
    signed = ndimage.distance_transform_edt(~region, sampling=spacing_mm) - within
    other = (dense & ~region) | (region & (away > 1.4 * radius_mm - 1.0))
    use = (signed > _FROM_OUTLINE_MM[0]) & (signed < _FROM_OUTLINE_MM[-1])
    if other.any():
        use &= ndimage.distance_transform_edt(~other, sampling=spacing_mm) > _CLEAR_MM
    height = core - around
    slopes = np.gradient(image, *spacing_mm.tolist())
    normal = np.gradient(ndimage.gaussian_filter(signed, 1.0))
    outward = (slopes[0] * normal[0] + slopes[1] * normal[1]) / np.maximum(np.hypot(*normal), 1e-6)
    rough = image - ndimage.median_filter(image, 3)
    values = (signed, (image - around) / height, np.hypot(*slopes) / height, outward / height,
              ndimage.laplace(image), rough)  # fmt: skip
    return np.array([within.max(), core, around]), np.array([value[use] for value in values])


def _binned(number: NDArray[np.int64], values: Float64) -> Float64:
    """Mean and standard deviation of values [V, N] in numbered bins; NaN for fewer than 4."""
    count = len(_FROM_OUTLINE_MM) - 1
    size = np.bincount(number, minlength=count).astype(np.float64)
    size[size < 4] = np.nan
    out = []
    for value in values:
        mean = np.bincount(number, value, minlength=count) / size
        square = np.bincount(number, value**2, minlength=count) / size
        out += [mean, np.sqrt(np.maximum(square - mean**2, 0.0))]
    return np.concatenate(out)
