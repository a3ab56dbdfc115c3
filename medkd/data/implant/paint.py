"""One nodule into the voxels of a scan: what it adds, as the scanner would have shown it.

The nodule is drawn on a fine grid, with its own density and texture where there was lung and
nothing where there was denser tissue already (a vessel runs on through it, the chest wall stays),
and blurred by the scan's own response. Only the difference is added: the noise of the scan stays
as it is, as the noise of a CT image depends on the whole path of the rays and hardly on what
stands at one place. Where the lung's own texture is stronger than the noise, it is replaced by
noise, since it would not be seen in soft tissue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.data.implant.response import Float32, Float64, ScanResponse
from medkd.data.phantom.forms import Form, Keep, share_of

_FINE_MM = 0.4
_FINE_SLICE_MM = 0.7


@dataclass(frozen=True, slots=True)
class Tissue:
    """What a nodule is made of.

    Args:
        density_hu: of its substance.
        share: part of the place that it fills: 1 solid, less for ground glass.
        core: radius of a solid core as a share of the nodule's; 0 for none.
        mottle_hu: variation of its density within, over about 2 mm.
        edge_mm: width over which it fades into the lung.
    """

    density_hu: float
    share: float
    core: float
    mottle_hu: float
    edge_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What changes: a box of the scan, and what is added there in whole HU."""

    box: tuple[slice, slice, slice]
    added_hu: NDArray[np.int16]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a form stands in a scan.

    Args:
        center_vox: (3,) continuous index of the form's middle.
        axes_mm: [3, 3] columns: mm per voxel along i, j, k, in the frame of the form.
        keep: of offsets [N, 3] mm from the middle, the share that may be painted.
    """

    center_vox: Float64
    axes_mm: Float64
    keep: Keep | None


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
    reach = (form.reach_mm + tissue.edge_mm / 2.0 + np.array([wide, wide, along])) / spacing
    low = np.maximum(np.floor(place.center_vox - reach).astype(int), 0)
    high = np.minimum(np.ceil(place.center_vox + reach).astype(int) + 1, volume_hu.shape)
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    finer = np.maximum(np.ceil(spacing / (_FINE_MM, _FINE_MM, _FINE_SLICE_MM)), 1).astype(int)
    finer += 1 - finer % 2  # odd, so that a fine voxel stands at each voxel's centre
    part = volume_hu[box].astype(np.float32)
    clean = _fine(clean_hu(part, spacing, response.noise_hu), finer)
    share, density = _substance(form, tissue, place, low=low, shape=clean.shape, finer=finer,
                                rng=rng)  # fmt: skip
    raised = share * np.maximum(density - clean, 0.0).astype(np.float32)
    middle = tuple(slice(n // 2, None, n) for n in finer.tolist())
    seen = response.blurred(raised, spacing / finer)[middle]
    return Patch(box, np.rint(seen).astype(np.int16))


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
    shape: tuple[int, ...],
    finer: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[Float32, Float32]:
    """Share of each fine voxel that the nodule fills, and its density there."""
    lines = [low[a] - 0.5 + (np.arange(shape[a]) + 0.5) / finer[a] for a in range(3)]
    index = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 3)
    offset = np.zeros_like(index)
    for axis in range(3):
        offset += (index[:, axis, None] - place.center_vox[axis]) * place.axes_mm[:, axis]
    near = (offset**2).sum(axis=1) < (form.reach_mm + tissue.edge_mm) ** 2
    share = np.zeros(len(index))
    share[near] = share_of(form, offset[near], edge_mm=tissue.edge_mm)
    if place.keep is not None:
        share[near] *= place.keep(offset[near])
    filled = tissue.share * share
    if tissue.core > 0:
        core = form.scaled(tissue.core)
        solid = np.zeros(len(index))
        solid[near] = share_of(core, offset[near], edge_mm=1.0) * (share[near] > 0)
        filled = np.maximum(filled, solid)
    spacing = np.sqrt((place.axes_mm**2).sum(axis=0)) / finer
    mottle = ndimage.gaussian_filter(rng.standard_normal(shape), 0.9 / spacing)
    mottle /= max(float(mottle.std()), 1e-6)
    density = tissue.density_hu + tissue.mottle_hu * mottle
    return filled.reshape(shape).astype(np.float32), density.astype(np.float32)


def _fine(values: Float32, finer: NDArray[np.int64]) -> Float32:
    """Interpolate onto a grid `finer` times as fine whose middle voxels are those given."""
    for axis in range(3):
        n = int(finer[axis])
        if n == 1:
            continue
        size = values.shape[axis]
        at = np.clip((np.arange(size * n) + 0.5) / n - 0.5, 0, size - 1)
        below = np.minimum(np.floor(at).astype(int), max(size - 2, 0))
        part = (at - below).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        above = np.minimum(below + 1, size - 1)
        first, second = np.take(values, below, axis), np.take(values, above, axis)
        values = first + part * (second - first)
    return values
