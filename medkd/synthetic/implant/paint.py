"""Computes what one nodule adds to the voxels of a scan.

The nodule is drawn on a fine grid. It replaces lung by its own density and texture. Denser tissue
is kept: a vessel runs through the nodule, and the chest wall is not changed. The difference is
blurred by the response of the scan and added. The noise of the scan is kept, since noise in a CT
image depends on the whole path of the rays and hardly on the tissue at one place. Structure that
exceeds the noise (the lung's own texture, small vessels) is replaced.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.synthetic.implant.response import ScanResponse
from medkd.synthetic.phantom.canvas import Float32, Float64
from medkd.synthetic.phantom.forms import Form, Keep, box_within, share_of

_FINE_MM = 0.4
_FINE_SLICE_MM = 0.7
_MOST_ENGULFED_HU = 200.0
"""Tissue that is denser than the nodule by more than this is calcium or bone, and is kept."""
_OVER_QUIETEST = 1.5
"""Ratio of the strongest noise of a scan to that in its quietest places."""
_FINE_SIGMA = 0.7
"""Greatest edge of a fine voxel, as a share of the width of the response."""


@dataclass(frozen=True, slots=True)
class Tissue:
    """The tissue of a nodule.

    Args:
        density_hu: density of the solid part.
        share: share of each voxel that the tissue fills: 1 for solid, less for ground glass.
        core: radius of a solid core as a share of the nodule's radius; 0 for none.
        mottle_hu: standard deviation of the density, correlated over about 2 mm.
        edge_mm: width of the soft edge.
        engulfs: whether vessels end in the nodule; otherwise they run through it.
        ragged_mm: standard deviation of the border about the outline, correlated over about 1 mm.
        fade: share of the tissue that is missing at the border, below .5; at .45 the nodule's width
            at half maximum is up to 6 % smaller than its outline.
        fade_mm: depth below the border from which no tissue is missing.
    """

    density_hu: float
    share: float
    core: float
    mottle_hu: float
    edge_mm: float
    engulfs: bool = False
    ragged_mm: float = 0.0
    fade: float = 0.0
    fade_mm: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A box of the scan, and the HU that are added to its voxels."""

    box: tuple[slice, slice, slice]
    added_hu: NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Tag:
    """A vessel or strand that runs outwards from the centre of a nodule and tapers.

    Args:
        direction: unit vector, in the frame of the form.
        bend: vector in mm from the end of the straight line to the end of the tag.
        length_mm: length from the nodule's centre.
        radius_mm: radius at the start; the radius at the end is half of it.
    """

    direction: tuple[float, float, float]
    bend: tuple[float, float, float]
    length_mm: float
    radius_mm: float

    def share(self, offset_mm: Float64) -> Float64:
        """Return the share [N] that the tag fills at offsets [N, 3] from the nodule's centre."""
        x, y, z = offset_mm.T
        along = np.clip(
            x * self.direction[0] + y * self.direction[1] + z * self.direction[2],
            0.0, self.length_mm,
        )  # fmt: skip
        part = along / self.length_mm
        squared = np.zeros_like(part)
        for axis, own in enumerate((x, y, z)):
            squared += (own - along * self.direction[axis] - part * part * self.bend[axis]) ** 2
        radius = self.radius_mm * (1.0 - 0.5 * part)
        return np.asarray(np.clip(0.5 - (np.sqrt(squared) - radius) / 0.3, 0.0, 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """The position of a nodule, and what it is attached to.

    Args:
        center_vox: (3,) continuous index of the form's middle.
        axes_mm: [3, 3] columns: mm per voxel along i, j, k, in the frame of the form.
        keep: returns the share that may be painted at offsets [N, 3] in mm from the middle.
        tags: vessels that run into the nodule; its diameter does not include them.
    """

    center_vox: Float64
    axes_mm: Float64
    keep: Keep | None
    tags: tuple[Tag, ...] = ()

    @property
    def spacing_mm(self) -> Float64:
        """Spacing (3,) of the scan."""
        return np.asarray(np.sqrt((self.axes_mm**2).sum(axis=0)))

    @property
    def tags_mm(self) -> float:
        """Distance from the middle to the farthest end of a tag."""
        return max((tag.length_mm + tag.radius_mm for tag in self.tags), default=0.0)


def draw_patch(
    volume_hu: NDArray[np.int16],
    form: Form,
    tissue: Tissue,
    *,
    place: Place,
    response: ScanResponse,
    rng: np.random.Generator,
) -> Patch:
    """Compute what a nodule adds to a scan.

    Args:
        volume_hu: [i, j, k] the scan, slices along k.
        form: outline of the nodule.
        tissue: tissue of the nodule.
        place: position of the nodule.
        response: response of the scan.
        rng: source of the texture.
    """
    spacing = place.spacing_mm
    wide, along = response.reach_mm
    own_mm = max(form.reach_mm + tissue.edge_mm / 2.0, place.tags_mm)
    reach = (own_mm + np.array([wide, wide, along])) / spacing
    box = box_within(place.center_vox, reach, volume_hu.shape)
    low = np.array([side.start for side in box])
    fine_mm = max(_FINE_MM, _FINE_SIGMA * response.sigma_mm)
    slice_mm = max(_FINE_SLICE_MM, _FINE_SIGMA * response.slice_sigma_mm)
    finer = np.maximum(np.ceil(spacing / (fine_mm, fine_mm, slice_mm)), 1).astype(int)
    finer += 1 - finer % 2  # odd, so a fine voxel is at each voxel's centre
    part = volume_hu[box].astype(np.float32)
    noise_hu = _OVER_QUIETEST * response.noise_hu
    clean = _fine(clean_hu(part, spacing, noise_hu), finer)
    share, density = _substance(form, tissue, place, low=low, size=part.shape, finer=finer, rng=rng)
    step = density - clean
    lowest = -_MOST_ENGULFED_HU if tissue.engulfs and place.keep is None else 0.0
    raised = share * np.where(step > -_MOST_ENGULFED_HU, np.maximum(step, lowest), 0.0)
    return Patch(box, np.rint(response.blurred(raised, spacing, finer)).astype(np.int16))


def clean_hu(volume_hu: Float32, spacing_mm: Float64, noise_hu: float) -> Float32:
    """Estimate the noise-free voxels: the local mean plus structure that exceeds the noise.

    Adaptive Wiener filter (Lim, "Two-Dimensional Signal and Image Processing", 1990, eq. 9.27).
    """
    width = np.array([0.8, 0.8, 0.0]) / spacing_mm
    mean = ndimage.gaussian_filter(volume_hu, np.maximum(width, (0.8, 0.8, 0.0)))
    rest = volume_hu - mean
    power = ndimage.gaussian_filter(rest * rest, np.maximum(2.0 * width, (1.6, 1.6, 0.0)))
    kept = np.maximum(power - noise_hu**2, 0) / np.maximum(power, 1e-3)
    return np.asarray(mean + kept * rest, dtype=np.float32)


def _substance(
    form: Form,
    tissue: Tissue,
    place: Place,
    *,
    low: NDArray[np.int64],
    size: tuple[int, ...],
    finer: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[Float32, Float32]:
    """Return the share of each fine voxel that the nodule fills, and its density there.

    The box begins at voxel `low` and has `size` voxels, each of `finer` fine voxels.
    """
    lines = [
        (
            low[a] - 0.5 + (np.arange(size[a] * finer[a]) + 0.5) / finer[a] - place.center_vox[a]
        ).astype(np.float32)
        for a in range(3)
    ]
    i, j, k = (
        line.reshape([-1 if b == a else 1 for b in range(3)]) for a, line in enumerate(lines)
    )
    x, y, z = (a * i + b * j + c * k for a, b, c in place.axes_mm.tolist())
    away = x * x + y * y + z * z
    near = away < (max(form.reach_mm, place.tags_mm) + tissue.edge_mm) ** 2
    offset = np.stack([x[near], y[near], z[near]], axis=1)
    filled = np.zeros(len(offset), dtype=np.float32)
    for tag in place.tags:
        filled = np.maximum(filled, tag.share(offset))
    own = away[near] < (form.reach_mm + tissue.edge_mm) ** 2
    stray = tissue.ragged_mm * _smooth_noise(0.6, 1.2, size, place, finer, rng)[near][own]
    filled[own] = np.maximum(filled[own], _own_share(form, tissue, place.keep, offset[own], stray))
    whole = np.zeros(near.shape, dtype=np.float32)
    whole[near] = filled
    mottle = _smooth_noise(0.9, 1.5, size, place, finer, rng)
    return whole, tissue.density_hu + tissue.mottle_hu * mottle


def _smooth_noise(
    sigma_mm: float,
    most_px: float,
    size: tuple[int, ...],
    place: Place,
    finer: NDArray[np.int64],
    rng: np.random.Generator,
) -> Float32:
    """Draw noise of unit standard deviation on the fine voxels, blurred by a Gaussian."""
    width = np.minimum(sigma_mm / place.spacing_mm, most_px)
    field = ndimage.gaussian_filter(rng.standard_normal(size), width)
    return _fine((field / max(float(field.std()), 1e-6)).astype(np.float32), finer)


def _own_share(
    form: Form, tissue: Tissue, keep: Keep | None, offset_mm: Float64, stray_mm: Float32
) -> Float64:
    """Return the share that the nodule fills at offsets [N, 3], without its tags."""
    depth = form.depth_mm(offset_mm) + stray_mm
    share = np.clip(0.5 - depth / max(tissue.edge_mm, 0.05), 0.0, 1.0)
    share *= 1.0 - tissue.fade * np.clip(1.0 + depth / tissue.fade_mm, 0.0, 1.0)
    if keep is not None:
        share *= keep(offset_mm)
    filled = tissue.share * share
    if tissue.core > 0:
        core = share_of(form.scaled(tissue.core), offset_mm, edge_mm=1.0)
        filled = np.maximum(filled, np.where(share > 0, core, 0.0))
    return np.asarray(filled)


def _fine(values: Float32, finer: NDArray[np.int64]) -> Float32:
    """Interpolate linearly onto a grid that is `finer` times as fine along each axis."""
    for axis in range(3):
        if finer[axis] > 1:
            weights = _linear(values.shape[axis], int(finer[axis]))
            values = np.moveaxis(np.tensordot(values, weights, axes=(axis, 1)), -1, axis)
    return values


def _linear(count: int, finer: int) -> Float32:
    """Return weights [count * finer, count] of a linear interpolation, constant at the ends."""
    at = np.clip((np.arange(count * finer) + 0.5) / finer - 0.5, 0, count - 1)
    return np.maximum(1.0 - np.abs(at[:, None] - np.arange(count)), 0.0).astype(np.float32)
