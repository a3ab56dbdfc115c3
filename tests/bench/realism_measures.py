"""What is measured alike on real scans and phantoms: lung HU, noise spectrum, vessel widths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.lungs import find_lungs
from medkd.types import Scan

_DEPTH_MM = 8.0
_SLICE_MM = 3.0
_BLUR_MM = 0.9
_VESSEL_HU = -550.0
_TILE_MM = 24.0
_TILES = 60
_BINS_PER_MM = np.arange(0.02, 1.0, 0.04)
_RADII_MM = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0])


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A scan along the patient's axes.

    Args:
        name: for legends.
        hu: [i, j, k] int16.
        spacing_mm: (3,).
        lung: [i, j, k] the lungs with vessels, `_DEPTH_MM` under the pleura.
    """

    name: str
    hu: NDArray[np.int16]
    spacing_mm: NDArray[np.float64]
    lung: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Radial mean of the noise's power in slices; the curve's area is 1, `sd_hu` its size."""

    per_mm: NDArray[np.float64]
    share: NDArray[np.float64]
    sd_hu: float


@dataclass(frozen=True, slots=True, eq=False)
class Widths:
    """How much of the lungs' volume is vessels of each width, in percent."""

    diameter_mm: NDArray[np.float64]
    percent: NDArray[np.float64]


def view_of(scan: Scan, name: str) -> View:
    """Find the lungs of a scan and cut them `_DEPTH_MM` from their surface."""
    field = find_lungs(scan)
    spacing = np.asarray(field.grid.spacing_mm)
    deep = ndimage.distance_transform_edt(field.mask, sampling=spacing) > _DEPTH_MM
    step = spacing / np.asarray(scan.grid.spacing_mm)
    lines = [
        np.minimum(np.rint(np.arange(size) / part).astype(int), wide - 1)
        for size, part, wide in zip(scan.voxels_hu.shape, step, deep.shape, strict=True)
    ]
    lung = deep[np.ix_(*lines)]
    return View(name, scan.voxels_hu, np.asarray(scan.grid.spacing_mm), lung)


def lung_values(view: View) -> NDArray[np.int16]:
    """HU [N] of all voxels of the lungs, vessels included."""
    return view.hu[view.lung]


def noise_spectrum(view: View) -> Spectrum:
    """Measure the noise in the most even tiles of soft tissue (heart, liver, muscle).

    The mean plane of each tile is taken off; what remains is noise and what little structure
    such tissue has.
    """
    size = round(_TILE_MM / view.spacing_mm[0])
    tiles = []
    for k in range(0, view.hu.shape[2], max(1, round(3.0 / view.spacing_mm[2]))):
        plane = view.hu[:, :, k].astype(np.float64)
        for i in range(0, plane.shape[0] - size, size // 2):
            for j in range(0, plane.shape[1] - size, size // 2):
                tile = plane[i : i + size, j : j + size]
                if 0.0 < tile.mean() < 320.0 and tile.min() > -400.0:
                    even = ndimage.uniform_filter(tile, size // 5)
                    tiles.append((np.ptp(even[3:-3, 3:-3]) / tile.std(), len(tiles), tile))
    best = [_without_plane(tile) for _, _, tile in sorted(tiles)[:_TILES]]
    power = np.mean([np.abs(np.fft.fft2(tile)) ** 2 for tile in best], axis=0)
    line = np.fft.fftfreq(size, view.spacing_mm[0])
    radius = np.sqrt(line[:, None] ** 2 + line[None] ** 2)
    number = np.digitize(radius, _BINS_PER_MM)
    share = np.array([
        power[number == n].mean() if (number == n).any() else 0.0
        for n in range(1, len(_BINS_PER_MM))
    ])  # fmt: skip
    middle = (_BINS_PER_MM[1:] + _BINS_PER_MM[:-1]) / 2
    share = share * (middle < 0.5 / view.spacing_mm[0])
    width = float(_BINS_PER_MM[1] - _BINS_PER_MM[0])
    return Spectrum(middle, share / (share.sum() * width), float(np.std(best)))


def _without_plane(tile: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take the best plane off a tile."""
    line = np.linspace(-1.0, 1.0, len(tile))
    i, j = np.meshgrid(line, line, indexing="ij")
    left = tile - tile.mean()
    for way in (i, j):
        left = left - way * (left * way).sum() / (way * way).sum()
    return left


def vessel_widths(view: View) -> Widths:
    """Measure how wide vessels are: openings of what is denser than `_VESSEL_HU` by balls.

    Granulometry (Matheron 1975) on voxels of 1 mm, slices averaged to `_SLICE_MM` before.
    """
    hu, lung = evened(view)
    mask = (hu > _VESSEL_HU) & lung
    inside = ndimage.distance_transform_edt(mask)
    left = [float(mask.sum())]
    for radius in _RADII_MM[1:]:
        core = inside > radius
        reached = ndimage.distance_transform_edt(~core) <= radius if core.any() else core
        left.append(float((reached & mask).sum()))
    part = -np.diff([*left, 0.0]) / lung.sum() * 100.0
    return Widths(2.0 * _RADII_MM, part)


def evened(view: View) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The lungs' box in voxels of 1 mm with slices of `_SLICE_MM`, blurred to quench noise."""
    box = ndimage.find_objects(view.lung.astype(np.int8))[0]
    hu = view.hu[box].astype(np.float32)
    thick = max(1, round(_SLICE_MM / view.spacing_mm[2]))
    hu = ndimage.uniform_filter1d(hu, thick, axis=2)
    blur = _BLUR_MM / view.spacing_mm[0]
    for axis in (0, 1):
        hu = ndimage.gaussian_filter1d(hu, blur, axis=axis)
    even = ndimage.zoom(hu, view.spacing_mm, order=1)
    lung = ndimage.zoom(view.lung[box].astype(np.uint8), view.spacing_mm, order=0) > 0
    return even, lung


def summary(view: View) -> dict[str, object]:
    """All numbers of a view, for `numbers.json`."""
    spectrum, widths = noise_spectrum(view), vessel_widths(view)
    even, lung = evened(view)
    parts = (5, 10, 25, 50, 75, 90, 95)
    peak = float(spectrum.per_mm[spectrum.share.argmax()])
    return {
        "lung_litres": float(view.lung.sum() * np.prod(view.spacing_mm) / 1e6),
        "lung_hu": dict(zip(parts, np.percentile(lung_values(view), parts).tolist(), strict=True)),
        "lung_hu_smooth": dict(zip(parts, np.percentile(even[lung], parts).tolist(), strict=True)),
        "noise_sd_hu": spectrum.sd_hu,
        "noise_peak_per_mm": peak,
        "vessel_percent": dict(
            zip(widths.diameter_mm.tolist(), widths.percent.round(4).tolist(), strict=True)
        ),
    }
