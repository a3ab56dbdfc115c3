"""One nodule into the voxels of a scan: what it adds, as the scanner would have shown it.

The nodule is drawn on a fine grid, with its own density and texture where there was lung and
nothing where there was denser tissue already (a vessel runs on through it, the chest wall stays),
and blurred by the scan's own response. Only the difference is added: the noise of the scan stays
as it is, as the noise of a CT image depends on the whole path of the rays and hardly on what
stands at one place. What exceeds the noise (the lung's own texture, small vessels) gives way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.synthetic.implant.response import Float32, Float64, ScanResponse
from medkd.synthetic.phantom.forms import Form, Keep, box_within, share_of

_FINE_MM = 0.4
_FINE_SLICE_MM = 0.7
_MOST_ENGULFED_HU = 200.0
"""What is denser by more is no vessel but calcium or bone, and stays."""
_OVER_QUIETEST = 1.5
"""Noise that must not be taken for texture, beside that of the scan's quietest places."""
_FINE_SIGMA = 0.7
"""Largest fine voxel in widths of the response."""


@dataclass(frozen=True, slots=True)
class Tissue:
    """What a nodule is made of.

    Args:
        density_hu: of its substance.
        share: part of the place that it fills: 1 solid, less for ground glass.
        core: radius of a solid core as a share of the nodule's; 0 for none.
        mottle_hu: variation of its density within, over about 2 mm.
        edge_mm: width over which it fades into the lung.
        engulfs: whether vessels end in it; else they run on through it.
        ragged_mm: how far its border strays from the outline, over about 1 mm along it.
        fade: share of its substance that is missing at its border, below .5; at .45 the nodule is
            seen up to 6 % less wide at half its height than its outline is.
        fade_mm: depth from which on nothing is missing.
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
    """What changes: a box of the scan, and what is added there in whole HU."""

    box: tuple[slice, slice, slice]
    added_hu: NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Tag:
    """A vessel or strand that runs from a nodule's middle outwards and thins.

    Args:
        direction: unit vector, in the frame of the form.
        bend: where its end lies beside the straight line, as a vector in mm.
        length_mm: from the nodule's middle.
        radius_mm: where it begins; half of it at the end.
    """

    direction: tuple[float, float, float]
    bend: tuple[float, float, float]
    length_mm: float
    radius_mm: float

    def share(self, offset_mm: Float64) -> Float64:
        """Share [N] of it at offsets [N, 3] from the nodule's middle."""
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
    """Where a form stands in a scan.

    Args:
        center_vox: (3,) continuous index of the form's middle.
        axes_mm: [3, 3] columns: mm per voxel along i, j, k, in the frame of the form.
        keep: of offsets [N, 3] mm from the middle, the share that may be painted.
        tags: vessels that run into it; no part of its size.
    """

    center_vox: Float64
    axes_mm: Float64
    keep: Keep | None
    tags: tuple[Tag, ...] = ()

    @property
    def tags_mm(self) -> float:
        """How far the tags reach from the middle."""
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
    """Work out what a nodule adds to a scan.

    Args:
        volume_hu: [i, j, k] the scan, slices along k.
        form: its outline.
        tissue: its substance.
        place: where it stands.
        response: of the scan.
        rng: of its texture.
    """
    spacing = np.sqrt((place.axes_mm**2).sum(axis=0))
    wide, along = response.reach_mm
    own_mm = max(form.reach_mm + tissue.edge_mm / 2.0, place.tags_mm)
    reach = (own_mm + np.array([wide, wide, along])) / spacing
    box = box_within(place.center_vox, reach, volume_hu.shape)
    low = np.array([side.start for side in box])
    fine_mm = max(_FINE_MM, _FINE_SIGMA * response.sigma_mm)
    slice_mm = max(_FINE_SLICE_MM, _FINE_SIGMA * response.slice_sigma_mm)
    finer = np.maximum(np.ceil(spacing / (fine_mm, fine_mm, slice_mm)), 1).astype(int)
    finer += 1 - finer % 2  # odd, so that a fine voxel stands at each voxel's centre
    part = volume_hu[box].astype(np.float32)
    noise_hu = _OVER_QUIETEST * response.noise_hu
    clean = _fine(clean_hu(part, spacing, noise_hu), finer)
    share, density = _substance(form, tissue, place, low=low, size=part.shape, finer=finer, rng=rng)
    step = density - clean
    lowest = -_MOST_ENGULFED_HU if tissue.engulfs and place.keep is None else 0.0
    raised = share * np.where(step > -_MOST_ENGULFED_HU, np.maximum(step, lowest), 0.0)
    return Patch(box, np.rint(response.seen(raised, spacing, finer)).astype(np.int16))


def clean_hu(volume_hu: Float32, spacing_mm: Float64, noise_hu: float) -> Float32:
    """Estimate what lies under the noise: the local mean, and what exceeds the noise beyond it.

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
    """Share of each fine voxel that the nodule fills, and its density there.

    Args:
        form: its outline.
        tissue: its substance.
        place: where it stands.
        low: (3,) first voxel of the box.
        size: voxels of the box.
        finer: (3,) fine voxels a voxel.
        rng: of its texture.
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
    stray = _ragged(size, place, finer, rng)[near][own] * tissue.ragged_mm
    filled[own] = np.maximum(filled[own], _own_share(form, tissue, place.keep, offset[own], stray))
    whole = np.zeros(near.shape, dtype=np.float32)
    whole[near] = filled
    spacing = np.sqrt((place.axes_mm**2).sum(axis=0))
    mottle = ndimage.gaussian_filter(rng.standard_normal(size), np.minimum(0.9 / spacing, 1.5))
    mottle *= tissue.mottle_hu / max(float(mottle.std()), 1e-6)
    density = _fine((tissue.density_hu + mottle).astype(np.float32), finer)
    return whole, density


def _ragged(
    size: tuple[int, ...], place: Place, finer: NDArray[np.int64], rng: np.random.Generator
) -> Float32:
    """Draw a field of unit standard deviation on the fine voxels, smooth over about 1 mm."""
    spacing = np.sqrt((place.axes_mm**2).sum(axis=0))
    field = ndimage.gaussian_filter(rng.standard_normal(size), np.minimum(0.6 / spacing, 1.2))
    field /= max(float(field.std()), 1e-6)
    return _fine(field.astype(np.float32), finer)


def _own_share(
    form: Form, tissue: Tissue, keep: Keep | None, offset_mm: Float64, stray_mm: Float32
) -> Float64:
    """Share of points [N, 3] that the nodule itself fills, its solid core with it."""
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
    """Interpolate onto a grid `finer` times as fine whose middle voxels are those given."""
    for axis in range(3):
        if finer[axis] > 1:
            weights = _linear(values.shape[axis], int(finer[axis]))
            values = np.moveaxis(np.tensordot(values, weights, axes=(axis, 1)), -1, axis)
    return values


def _linear(count: int, finer: int) -> Float32:
    """Weights [count * finer, count] of a linear interpolation, constant beyond the ends."""
    at = np.clip((np.arange(count * finer) + 0.5) / finer - 0.5, 0, count - 1)
    return np.maximum(1.0 - np.abs(at[:, None] - np.arange(count)), 0.0).astype(np.float32)
