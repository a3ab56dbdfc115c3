"""Where in a scan's lungs a nodule could lie: depth below the pleura, vessels, airways.

On a grid of about 1.2 mm in the slice, made of whole voxels; arrays are [i, j, k].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.geometry import VoxelGrid
from medkd.lungs import LungField

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

DENSE_HU = -550.0
"""Vessels, scars, wall: above it a voxel is no aerated lung."""

_PIXEL_MM = 1.2
_CLOSE_MM = 6.0
_AIRWAY_HU = -945.0
_AIRWAY_MM = 2.5


@dataclass(frozen=True, slots=True, eq=False)
class LungMap:
    """The lungs within one box of a scan.

    Args:
        start: (3,) first voxel of the scan that the map covers.
        step: (3,) voxels of the scan a voxel of the map.
        spacing_mm: (3,) of the map.
        hu: [i, j, k] mean HU.
        depth_mm: [i, j, k] distance to the lungs' surface, negative inside; vessels are inside.
        dense: [i, j, k] vessels and other dense structure within the lungs.
        airway_mm: [i, j, k] distance to the nearest airway (or bulla).
    """

    start: NDArray[np.int64]
    step: NDArray[np.int64]
    spacing_mm: Float64
    hu: Float32
    depth_mm: Float32
    dense: Bools
    airway_mm: Float32

    def to_scan_vox(self, places: NDArray[np.int64] | Float64) -> Float64:
        """Turn indices [N, 3] of the map, whole or not, into continuous indices of the scan."""
        return np.asarray(self.start + places * self.step + (self.step - 1) / 2.0)

    def depth_at(self, scan_vox: Float64) -> Float64:
        """Read the depth in mm at continuous indices [N, 3] of the scan."""
        places = (scan_vox - self.start - (self.step - 1) / 2.0) / self.step
        return np.asarray(
            ndimage.map_coordinates(self.depth_mm, places.T, order=1, mode="nearest"),
            dtype=np.float64,
        )


def map_lungs(volume_hu: NDArray[np.int16], grid: VoxelGrid, field: LungField) -> LungMap:
    """Map the lungs of a scan.

    Args:
        volume_hu: [i, j, k] the whole scan.
        grid: of the scan.
        field: its lungs as `medkd.lungs.find_lungs` finds them.
    """
    spacing_mm = grid.spacing_mm
    step = np.maximum(np.rint(_PIXEL_MM / spacing_mm), 1).astype(np.int64)
    start = np.array([s.start for s in field.box], dtype=np.int64)
    count = np.array([s.stop for s in field.box], dtype=np.int64) - start
    shape = count // step
    inner = volume_hu[
        tuple(slice(a, a + n * s) for a, n, s in zip(start, shape, step, strict=True))
    ]
    hu = _block_mean(inner, shape, step)
    spacing = spacing_mm * step
    coarse = lung_voxels(field, grid, start, shape=shape, step=step)
    lung = _closed(coarse & (hu < -500), spacing) & coarse
    inside = ndimage.distance_transform_edt(lung, sampling=spacing)
    outside = ndimage.distance_transform_edt(~lung, sampling=spacing)
    half = 0.5 * float(spacing.mean())
    depth = np.where(lung, half - inside, outside - half).astype(np.float32)
    return LungMap(
        start, step, spacing, hu, depth,
        dense=np.asarray((hu > DENSE_HU) & lung),
        airway_mm=_airway_mm(hu, coarse, spacing),
    )  # fmt: skip


def lung_voxels(
    field: LungField, grid: VoxelGrid, start: NDArray[np.int64], *,
    shape: NDArray[np.int64], step: NDArray[np.int64],
) -> Bools:  # fmt: skip
    """Say which voxels of a box lie in the coarse lungs of `medkd.lungs`.

    Args:
        field: lungs on their own grid.
        grid: of the scan; parallel to that of the lungs.
        start: (3,) first voxel of the box.
        shape: (3,) voxels of the result.
        step: (3,) voxels of the scan a voxel of the result.
    """
    ratio = np.rint(field.grid.spacing_mm / grid.spacing_mm)
    lines = [
        np.minimum(
            np.rint((start[a] + step[a] * (np.arange(shape[a]) + 0.5) - 0.5) / ratio[a]),
            field.mask.shape[a] - 1,
        ).astype(np.int64)
        for a in range(3)
    ]
    return np.asarray(field.mask[np.ix_(*lines)])


def _block_mean(
    values: NDArray[np.int16], shape: NDArray[np.int64], step: NDArray[np.int64]
) -> Float32:
    blocks = values.reshape(shape[0], step[0], shape[1], step[1], shape[2], step[2])
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))


def _closed(air: Bools, spacing_mm: Float64) -> Bools:
    """Close vessels in the air of the lungs and fill what is enclosed."""
    pad = np.ceil(_CLOSE_MM / spacing_mm).astype(int) + 1
    padded = np.pad(air, [(int(n), int(n)) for n in pad])
    grown = ndimage.distance_transform_edt(~padded, sampling=spacing_mm) <= _CLOSE_MM
    shrunk = ndimage.distance_transform_edt(grown, sampling=spacing_mm) > _CLOSE_MM
    inner = tuple(slice(int(n), -int(n)) for n in pad)
    filled = shrunk[inner] | air
    for k in range(filled.shape[2]):
        filled[:, :, k] = ndimage.binary_fill_holes(filled[:, :, k])
    return np.asarray(filled)


def _airway_mm(hu: Float32, lung: Bools, spacing_mm: Float64) -> Float32:
    """Distance to places that hold air over more than `_AIRWAY_MM`."""
    smooth = ndimage.gaussian_filter(hu, 1.5 / spacing_mm)
    air = lung & (smooth < _AIRWAY_HU)
    core = ndimage.distance_transform_edt(air, sampling=spacing_mm) > _AIRWAY_MM
    if not core.any():
        return np.full(hu.shape, 1e3, dtype=np.float32)
    near = ndimage.distance_transform_edt(~core, sampling=spacing_mm) - _AIRWAY_MM
    return np.asarray(np.maximum(near, 0), dtype=np.float32)
