"""The edge response and the noise of a scan, measured in the scan itself.

A nodule that is added to a scan must be as sharp as that scan. The in-plane edge response is
measured at the pleura, which is a straight edge of high contrast: profiles across it are aligned
and averaged, as for an edge spread function from patient images (Sanders, Hurwitz, Samei:
"Patient-specific quantification of image quality", Med Phys 43:5330, 2016, who use the skin). A
sharp kernel overshoots, so the response is fitted by the difference of two Gaussians,

    line spread(t) = (1 + a) N(t; sigma) - a N(t; wide),

which is applied as two Gaussian filters. Along the slices' normal the sensitivity profile is a
Gaussian of the slice thickness.
Arrays are [i, j, k] with slices along k.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from medkd.synthetic.phantom.canvas import Bools, Float32, Float64

_SLICE_SIGMA = 0.34
"""Standard deviation of a slice sensitivity profile, as a share of the slice thickness (its full
width at half maximum): 0.29 for a box, 0.42 for a Gaussian; those of spiral CT are in between."""

_REACH_MM = 6.0
_STEP_MM = 0.25
_OFFSETS_MM = np.arange(-_REACH_MM, _REACH_MM + _STEP_MM / 2, _STEP_MM)
"""Positions [T] along a profile."""
_PLATEAU_MM = 2.5
_LEAST_PROFILES = 60
_MOST_PROFILES = 6000
_WIDER = (1.5, 2.0, 3.0)
_TRUNCATE = 4.0
_NOISE_SLICES = 40


@dataclass(frozen=True, slots=True)
class ScanResponse:
    """The edge response of a scan, and its noise.

    Args:
        sigma_mm: narrow Gaussian of the in-plane response.
        wide_mm: wide Gaussian, which is subtracted.
        overshoot: weight a of the wide Gaussian; 0 for a soft kernel.
        slice_sigma_mm: Gaussian of the slice sensitivity profile.
        noise_hu: standard deviation of the noise in soft tissue or quiet lung.
        profiles: number of averaged edge profiles; 0 if there were too few and a standard kernel
            was assumed.
    """

    sigma_mm: float
    wide_mm: float
    overshoot: float
    slice_sigma_mm: float
    noise_hu: float
    profiles: int

    @property
    def reach_mm(self) -> tuple[float, float]:
        """Distance up to which an edge changes voxels, in the slice and across slices."""
        wide = self.wide_mm if self.overshoot > 0.02 else self.sigma_mm
        return 3.5 * wide, 3.0 * self.slice_sigma_mm

    def narrowed(self, factor: float) -> ScanResponse:
        """Return the response with all widths multiplied by a factor."""
        return replace(
            self, sigma_mm=factor * self.sigma_mm, wide_mm=factor * self.wide_mm,
            slice_sigma_mm=factor * self.slice_sigma_mm,
        )  # fmt: skip

    def blurred(self, field: Float32, spacing_mm: Float64, finer: NDArray[np.int64]) -> Float32:
        """Return the voxels [i, j, k] in which the scanner shows a field on a fine grid.

        Args:
            field: [i, j, k] values on the fine grid, zero at the borders.
            spacing_mm: (3,) spacing of the voxels.
            finer: (3,) number of fine voxels per voxel; odd, so one is at the voxel's centre.
        """
        along_k = _read(field, 2, self.slice_sigma_mm / float(spacing_mm[2]), int(finer[2]))
        narrow = _in_plane(along_k, self.sigma_mm, spacing_mm, finer)
        if self.overshoot <= 0.02:
            return narrow
        wide = _in_plane(along_k, self.wide_mm, spacing_mm, finer)
        return np.asarray((1 + self.overshoot) * narrow - self.overshoot * wide, dtype=np.float32)


def measure_response(
    volume_hu: Float32,
    lung: Bools,
    *,
    spacing_mm: Float64,
    thickness_mm: float | None,
    rng: np.random.Generator,
) -> ScanResponse:
    """Measure the response of a scan.

    Args:
        volume_hu: [i, j, k] HU in the box around the lungs.
        lung: [i, j, k] coarse lung mask, which includes vessels and some chest wall.
        spacing_mm: (3,) mm.
        thickness_mm: slice thickness; if it is None, the slice spacing is used.
        rng: selects the edges that are used.
    """
    noise_hu = measure_noise(volume_hu, lung, spacing_mm)
    slice_sigma_mm = _SLICE_SIGMA * (thickness_mm or float(spacing_mm[2]))
    profiles = _profiles(volume_hu, lung, spacing_mm, rng)
    if len(profiles) < _LEAST_PROFILES:
        sigma_mm = max(0.6, 0.6 * float(spacing_mm[:2].mean()))
        return ScanResponse(sigma_mm, 2 * sigma_mm, 0.0, slice_sigma_mm, noise_hu, 0)
    sigma_mm, wide_mm, overshoot = _fitted(_aligned_median(profiles))
    return ScanResponse(sigma_mm, wide_mm, overshoot, slice_sigma_mm, noise_hu, len(profiles))


def measure_noise(volume_hu: Float32, lung: Bools, spacing_mm: Float64) -> float:
    """Return the standard deviation of the noise in HU.

    Structures larger than about 1.7 mm in a slice are subtracted first. The result is the lower of
    two percentiles of the local deviation: the 20th in soft tissue, and the 10th in aerated lung.
    Only the middle `_NOISE_SLICES` slices are read, which is faster and enough.
    """
    first = max((volume_hu.shape[2] - _NOISE_SLICES) // 2, 0)
    middle = slice(first, first + _NOISE_SLICES)
    volume_hu, lung = volume_hu[:, :, middle], lung[:, :, middle]
    pixel_mm = float(spacing_mm[:2].mean())
    smooth = ndimage.gaussian_filter(volume_hu, (1.7 / pixel_mm, 1.7 / pixel_mm, 0))
    rough = volume_hu - smooth
    width = 3.5 / pixel_mm
    local = np.sqrt(ndimage.gaussian_filter(rough * rough, (width, width, 0)))
    tissue = ndimage.binary_erosion((smooth > 0) & (smooth < 150), iterations=4)
    aerated = lung & (smooth < -700)
    found = [
        float(np.percentile(local[places], share))
        for places, share in ((tissue, 20), (aerated, 10))
        if places.sum() > 500
    ]
    return min(found, default=20.0)


def _in_plane(
    field: Float32, sigma_mm: float, spacing_mm: Float64, finer: NDArray[np.int64]
) -> Float32:
    for axis in (0, 1):
        field = _read(field, axis, sigma_mm / float(spacing_mm[axis]), int(finer[axis]))
    return field


def _read(field: Float32, axis: int, sigma_vox: float, finer: int) -> Float32:
    """Blur a field along an axis and keep every `finer`-th sample, that at each voxel's centre."""
    count = field.shape[axis] // finer
    fine = (np.arange(count * finer) - finer // 2) / finer
    away = (fine[None, :] - np.arange(count)[:, None]) / max(sigma_vox, 1e-3)
    weights = np.where(np.abs(away) < _TRUNCATE, np.exp(-0.5 * away**2), 0.0)
    weights /= finer * max(sigma_vox, 1e-3) * np.sqrt(2.0 * np.pi)
    return np.moveaxis(np.tensordot(field, weights.astype(np.float32), axes=(axis, 1)), -1, axis)


def _profiles(
    volume_hu: Float32, lung: Bools, spacing_mm: Float64, rng: np.random.Generator
) -> Float64:
    """Read profiles [N, T] from the lung (0) to the chest wall (1).

    They are read where the normal of the pleura is in the slice.
    """
    smooth = ndimage.gaussian_filter(volume_hu, 1.2 / spacing_mm)
    slopes = [ndimage.sobel(smooth, axis=a) / (32 * float(spacing_mm[a])) for a in range(3)]
    steep = np.sqrt(slopes[0] ** 2 + slopes[1] ** 2)
    edge = (smooth > -600) & (smooth < -350) & (steep > 60) & ndimage.binary_dilation(lung)
    edge &= np.abs(slopes[2]) < 0.15 * steep
    points = np.argwhere(edge)
    points = points[np.sort(rng.permutation(len(points))[:_MOST_PROFILES])]
    if not len(points):
        return np.empty((0, len(_OFFSETS_MM)))
    normal = np.stack([slopes[a][tuple(points.T)] for a in (0, 1)], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    values = np.empty((len(points), len(_OFFSETS_MM)))
    for k in np.unique(points[:, 2]):
        own = points[:, 2] == k
        lines = [
            points[own, a, None] + normal[own, a, None] * _OFFSETS_MM / spacing_mm[a]
            for a in (0, 1)
        ]
        values[own] = ndimage.map_coordinates(volume_hu[:, :, k], lines, order=3, mode="nearest")
    return _selected(values, steep[tuple(points.T)])


def _selected(values: Float64, steep: Float64) -> Float64:
    """Select profiles with flat lung on one side and flat soft tissue on the other; scale to 0..1.

    Only the steeper half is kept, because a pleura that is oblique within the slice or has a layer
    of fat is not a sharp edge.
    """
    low, high = _OFFSETS_MM < -_PLATEAU_MM, _OFFSETS_MM > _PLATEAU_MM
    lung_hu, wall_hu = values[:, low].mean(axis=1), values[:, high].mean(axis=1)
    good = (lung_hu < -700) & (wall_hu > -80) & (wall_hu < 200)
    for side in (low, high):
        centred = _OFFSETS_MM[side] - _OFFSETS_MM[side].mean()
        slope = (values[:, side] * centred).sum(axis=1) / (centred**2).sum()
        good &= np.abs(slope) < 25
    if not good.any():
        return np.asarray(values[good])
    steepness = steep / np.maximum(wall_hu - lung_hu, 1.0)
    good &= steepness >= np.median(steepness[good])
    scaled = (values - lung_hu[:, None]) / (wall_hu - lung_hu)[:, None]
    return np.asarray(scaled[good])


def _aligned_median(profiles: Float64) -> Float64:
    """Align profiles [N, T]; return their median [T], shifted so that it is 1/2 at position 0."""
    offsets = _OFFSETS_MM
    near = np.abs(offsets) < 3
    shifts = np.arange(-1.5, 1.51, 0.1)
    mean = special.ndtr(offsets / 0.8)
    for _ in range(5):
        errors = [
            ((profiles - np.interp(offsets - shift, offsets, mean))[:, near] ** 2).sum(axis=1)
            for shift in shifts
        ]
        best = shifts[np.argmin(errors, axis=0)]
        moved = np.stack(
            [np.interp(offsets, offsets - s, p) for s, p in zip(best, profiles, strict=True)]
        )
        mean = np.median(moved[np.abs(best) < 1.3], axis=0)
    middle = np.interp(0.5, mean[np.abs(offsets) < 1], offsets[np.abs(offsets) < 1])
    return np.asarray(np.interp(offsets, offsets - middle, mean))


def _fitted(mean: Float64) -> tuple[float, float, float]:
    """Fit the edge spread of two Gaussians; return narrow width, wide width, overshoot."""
    offsets = _OFFSETS_MM
    near = np.abs(offsets) < 4
    best = (np.inf, 0.6, 1.2, 0.0)
    for sigma_mm in np.arange(0.2, 2.51, 0.05):
        narrow = special.ndtr(offsets / sigma_mm)[near]
        for wider in _WIDER:
            gap = narrow - special.ndtr(offsets / (wider * sigma_mm))[near]
            weight = max(float(((mean[near] - narrow) * gap).sum() / (gap**2).sum()), 0.0)
            error = float(((narrow + weight * gap - mean[near]) ** 2).sum())
            if error < best[0]:
                best = (error, float(sigma_mm), float(wider * sigma_mm), weight)
    return best[1:]
