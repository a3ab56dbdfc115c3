"""What real structure of a scan looks like around its border, and how like it an implant is.

Vessels, junctions and bumps of the pleura are what a detector has to tell nodules from. A nodule
that stands alone in empty lung can be told from them by its emptier surroundings alone. So several
nodules that could be put in are described, and real blob-like structures of the same scan: in
shells around the place, and along the structure's own outline in the slice. A linear discriminant
(Fisher, Annals of Eugenics 7, 179, 1936) of both gives each nodule its odds of being real, and one
is drawn with these odds (sampling-importance-resampling: Rubin, JASA 82, 543, 1987). Arrays are
[i, j, k] with slices along k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.data.implant.lung_map import LungMap
from medkd.data.implant.response import Float32, Float64
from medkd.data.phantom.blobs import find_blobs

_SHELLS = np.array([0.0, 0.4, 0.7, 0.85, 1.0, 1.15, 1.35, 1.6, 2.0])
"""Edges of the shells in radii."""

_MOST = 300
_LEAST_RESPONSE = 0.15
_FROM_OUTLINE_MM = np.array([-2.0, -1.25, -0.7, -0.2, 0.2, 0.7, 1.25, 2.0, 3.0])
_RIDGE = 0.5
"""Added to the covariance of standardised features: few nodules are described."""
_SHELL_WEIGHT = 0.1
_TRUST = 3.0
"""1 would be the odds as they are; few choices need more."""
_ALIKE = 1.4
"""Largest ratio of a structure's radius to a nodule's."""


@dataclass(frozen=True, slots=True, eq=False)
class RealStructure:
    """Blob-like places of a scan.

    Args:
        center_vox: [N, 3] continuous index in the scan.
        radius_mm: [N].
        density_hu: of the denser ones, vessels mostly.
    """

    center_vox: Float64
    radius_mm: Float64
    density_hu: float

    def like(self, radius_mm: float, rng: np.random.Generator, *, count: int) -> Float64:
        """Draw the centres [count, 3] of structures of about this radius; none if there is none."""
        if not len(self.radius_mm):
            return np.empty((0, 3))
        unlike = np.abs(np.log(self.radius_mm / radius_mm))
        alike = np.flatnonzero(unlike < np.log(_ALIKE))
        if len(alike) < 10:
            alike = np.argsort(unlike, kind="stable")[:10]
        return np.asarray(self.center_vox[rng.choice(alike, size=count)])


def find_structure(lungs: LungMap) -> RealStructure:
    """Find the blob-like places of a scan's lungs."""
    inside = (lungs.depth_mm < 0) & (lungs.airway_mm > 1.0)
    blobs = find_blobs(lungs.hu, lungs.spacing_mm, inside, most=_MOST)
    strong = blobs.response > _LEAST_RESPONSE
    places = blobs.places_vox[strong].astype(np.int64)
    radius = np.sqrt(3.0) * blobs.sigma_mm[strong]
    density = 50.0
    if len(places):
        density = float(np.percentile(lungs.hu[tuple(places.T)], 75))
    return RealStructure(lungs.to_scan_vox(places), radius, density)


def describe(
    volume_hu: NDArray[np.int16],
    center_vox: Float64,
    radius_mm: float,
    *,
    spacing_mm: Float64,
    changes: tuple[tuple[slice, slice, slice], NDArray[np.int16]] | None = None,
) -> Float64:
    """Describe the border at a place.

    Args:
        volume_hu: [i, j, k] the scan.
        center_vox: (3,) continuous index.
        radius_mm: of the border.
        spacing_mm: (3,).
        changes: a box of the scan and what is added to it first.

    Returns:
        [features]; NaN where there are too few voxels.
    """
    reach = (2.0 * radius_mm + 2.0) / spacing_mm + 1.0
    low = np.maximum(np.floor(center_vox - reach).astype(int), 0)
    high = np.minimum(np.ceil(center_vox + reach).astype(int) + 1, volume_hu.shape)
    part = volume_hu[low[0] : high[0], low[1] : high[1], low[2] : high[2]].astype(np.float32)
    if changes is not None:
        _add(part, low, *changes)
    middle = int(np.clip(np.rint(center_vox[2]) - low[2], 0, part.shape[2] - 1))
    beyond = round(0.5 * radius_mm / float(spacing_mm[2]))
    slices = [k for k in (middle, middle - beyond, middle + beyond) if 0 <= k < part.shape[2]]
    here = center_vox - low
    outlines = [
        _outline(part[:, :, k], here[:2], radius_mm, spacing_mm[:2]) for k in sorted(set(slices))
    ]
    return np.concatenate([_shells(part, here, radius_mm, spacing_mm), np.mean(outlines, axis=0)])


def edge_steepness(described: Float64) -> float:
    """Return how steep the two sides of an outline are on the whole: share of its height a mm.

    Args:
        described: [N, features].
    """
    first = 4 * (len(_SHELLS) - 1) + 2 + 2 * (len(_FROM_OUTLINE_MM) - 1)
    beside = described[:, [first + 2, first + 3, first + 4]]
    return float(np.nanmedian(beside)) if np.isfinite(beside).any() else np.nan


def draw_most_real(made: Float64, real: Float64, rng: np.random.Generator, *, choices: int) -> int:
    """Draw one of the last nodules with its odds of being real structure.

    Args:
        made: [N, features] of all nodules described so far, those to choose from last.
        real: [M, features] of real structure.
        rng: source of the draw.
        choices: how many there are to choose from.
    """
    both = np.concatenate([made, real])
    middle = np.nanmedian(np.where(np.isfinite(both).any(axis=0), both, 0.0), axis=0)
    filled = np.where(np.isfinite(both), both, middle)
    scale = filled.std(axis=0) + 1e-6
    scaled = (filled - filled.mean(axis=0)) / scale * _weights(both.shape[1])
    first, second = scaled[: len(made)], scaled[len(made) :]
    spread = 0.5 * (np.cov(first.T) + np.cov(second.T)) + _RIDGE * np.eye(both.shape[1])
    weights = np.linalg.solve(spread, second.mean(axis=0) - first.mean(axis=0))
    odds = first[-choices:] @ weights
    chance = np.exp(np.clip(_TRUST * (odds - odds.max()), -30.0, 0.0))
    return int(rng.choice(choices, p=chance / chance.sum()))


def _weights(count: int) -> Float64:
    """Weight of each feature: the outline's count most, the shells see shape as well."""
    shells = 4 * (len(_SHELLS) - 1)
    return np.where(np.arange(count) < shells, _SHELL_WEIGHT, 1.0)


def _add(
    part: Float32, low: NDArray[np.int64], box: tuple[slice, slice, slice], added: NDArray[np.int16]
) -> None:
    """Add what overlaps."""
    own, other = [], []
    for axis in range(3):
        first = max(box[axis].start, int(low[axis]))
        last = min(box[axis].stop, int(low[axis]) + part.shape[axis])
        if last <= first:
            return
        own.append(slice(first - int(low[axis]), last - int(low[axis])))
        other.append(slice(first - box[axis].start, last - box[axis].start))
    part[tuple(own)] += added[tuple(other)]


def _shells(part: Float32, center: Float64, radius_mm: float, spacing_mm: Float64) -> Float64:
    """Mean HU, spread, outward slope and its spread in shells around a place."""
    lines = [
        ((np.arange(part.shape[a]) - center[a]) * spacing_mm[a]).reshape(
            [-1 if b == a else 1 for b in range(3)]
        )
        for a in range(3)
    ]
    distance = np.sqrt(lines[0] ** 2 + lines[1] ** 2 + lines[2] ** 2)
    slope = np.zeros(part.shape)
    for axis in range(3):
        if part.shape[axis] > 1:
            slope += np.gradient(part, float(spacing_mm[axis]), axis=axis) * lines[axis]
    slope /= np.maximum(distance, 1e-6)
    return _binned(np.digitize(distance / radius_mm, _SHELLS) - 1, len(_SHELLS) - 1, (part, slope))


def _outline(image: Float32, center: Float64, radius_mm: float, spacing_mm: Float64) -> Float64:
    """Height, and HU, steepness and roughness by the distance from the structure's own outline."""
    i, j = ((np.arange(image.shape[a]) - center[a]) * spacing_mm[a] for a in (0, 1))
    away = np.hypot(i[:, None], j[None, :])
    smooth = ndimage.gaussian_filter(image, 0.5 / spacing_mm)
    core = float(np.percentile(smooth[away <= max(0.35 * radius_mm, away.min() + 0.6)], 75))
    around = float(np.percentile(smooth, 15))
    dense = smooth > 0.5 * (core + around)
    labels, _ = ndimage.label(dense & (away < 1.4 * radius_mm))
    number = labels[np.unravel_index(np.where(away < 0.6 * radius_mm, smooth, -1e4).argmax(),
                                     smooth.shape)]  # fmt: skip
    region = labels == number if number else away < radius_mm
    outside = ndimage.distance_transform_edt(~region, sampling=spacing_mm)
    signed = outside - ndimage.distance_transform_edt(region, sampling=spacing_mm)
    signed[dense & ~region] = np.inf
    height = max(core - around, 50.0)
    steep = np.hypot(*np.gradient(image, *spacing_mm.tolist())) / height
    found = _binned(
        np.digitize(signed, _FROM_OUTLINE_MM) - 1, len(_FROM_OUTLINE_MM) - 1,
        ((image - around) / height, steep, ndimage.laplace(image) / height),
    )  # fmt: skip
    return np.concatenate([[core, around], found])


def _binned(
    number: NDArray[np.int64], count: int, values: tuple[NDArray[np.floating], ...]
) -> Float64:
    """Mean and standard deviation of values in numbered bins; NaN for fewer than 3 voxels."""
    inside = (number >= 0) & (number < count)
    chosen = number[inside]
    size = np.bincount(chosen, minlength=count).astype(np.float64)
    size[size < 3] = np.nan
    out = []
    for value in values:
        own = value[inside].astype(np.float64)
        mean = np.bincount(chosen, own, minlength=count) / size
        square = np.bincount(chosen, own**2, minlength=count) / size
        out += [mean, np.sqrt(np.maximum(square - mean**2, 0.0))]
    return np.concatenate(out)
