"""A real scan, measured before nodules are added: its lungs, its response, its free places.

Places where a nodule could be (free, at a vessel, at the pleura) are searched on a map of the
lungs. Each map voxel is a block of whole voxels of the scan, about 1.2 mm wide in the slice. Arrays
are [i, j, k] with slices along k.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.geometry import VoxelGrid
from medkd.lungs import LungField, find_lungs
from medkd.synthetic.implant.response import ScanResponse, measure_response
from medkd.synthetic.phantom.canvas import Bools, Float32, Float64
from medkd.types import Scan

Attachment = Literal["free", "vessel", "pleura"]

Int16 = NDArray[np.int16]

_DENSE_HU = -550.0
"""Voxels above it are vessels, scars or chest wall; voxels below it are aerated lung."""
_PIXEL_MM = 1.2
_CLOSE_MM = 6.0
_AIRWAY_HU = -945.0
_AIRWAY_MM = 2.5
_CROWDED_SHARE = 0.15
"""A nodule is hardly visible among vessels that fill more than this share of its surroundings."""
_WALL_MM = 2.5
"""Dense voxels at less than this depth in the lungs may belong to the chest wall."""
_ALIKE = 0.01
"""Spacings are equal if they differ by less than this share."""
_AS_SHARP_AS_VESSELS = 0.8
"""Factor on the widths that are measured at the pleura, which is curved and oblique and therefore
looks less sharp than a vessel. With it, nodules look as sharp as the vessels of the same scan."""
_VESSEL_PERCENTILE = 98


@dataclass(frozen=True, slots=True, eq=False)
class LungMap:
    """The lungs in one box of a scan.

    Args:
        start: (3,) first voxel of the scan that the map covers.
        step: (3,) number of scan voxels that make one map voxel.
        spacing_mm: (3,) spacing of the map.
        hu: [i, j, k] mean HU.
        depth_mm: [i, j, k] distance to the lungs' surface, negative inside; vessels are inside.
        dense: [i, j, k] vessels and other dense structures within the lungs.
        airway_mm: [i, j, k] distance to the nearest airway or bulla.
    """

    start: NDArray[np.int64]
    step: NDArray[np.int64]
    spacing_mm: Float64
    hu: Float32
    depth_mm: Float32
    dense: Bools
    airway_mm: Float32

    @property
    def vessels(self) -> Bools:
        """Dense voxels [i, j, k] that are too deep in the lungs to belong to the chest wall."""
        return self.dense & (self.depth_mm <= -_WALL_MM)

    def to_scan_vox(self, places: NDArray[np.int64] | Float64) -> Float64:
        """Convert indices [N, 3] of the map, whole or not, to continuous indices of the scan."""
        return np.asarray(self.start + places * self.step + (self.step - 1) / 2.0)

    def depth_at(self, scan_vox: Float64) -> Float64:
        """Interpolate `depth_mm` at continuous indices [N, 3] of the scan."""
        places = (scan_vox - self.start - (self.step - 1) / 2.0) / self.step
        depth = ndimage.map_coordinates(self.depth_mm, places.T, order=1, mode="nearest")
        return np.asarray(depth, dtype=np.float64)


def map_lungs(volume_hu: NDArray[np.int16], grid: VoxelGrid, lungs: LungField) -> LungMap:
    """Map the lungs of a scan.

    Args:
        volume_hu: [i, j, k] the whole scan.
        grid: grid of the scan.
        lungs: result of `medkd.lungs.find_lungs`.
    """
    spacing_mm = grid.spacing_mm
    step = np.maximum(np.rint(_PIXEL_MM / spacing_mm), 1).astype(np.int64)
    start = np.array([s.start for s in lungs.box], dtype=np.int64)
    count = np.array([s.stop for s in lungs.box], dtype=np.int64) - start
    shape = count // step
    inner = volume_hu[
        tuple(slice(a, a + n * s) for a, n, s in zip(start, shape, step, strict=True))
    ]
    blocks = inner.reshape(shape[0], step[0], shape[1], step[1], shape[2], step[2])
    hu = np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))
    spacing = spacing_mm * step
    coarse = _lung_voxels(lungs, grid, start, shape=shape, step=step)
    lung = _closed(coarse & (hu < -500), spacing) & coarse
    inside = ndimage.distance_transform_edt(lung, sampling=spacing)
    outside = ndimage.distance_transform_edt(~lung, sampling=spacing)
    half = 0.5 * float(spacing.mean())
    depth = np.where(lung, half - inside, outside - half).astype(np.float32)
    return LungMap(
        start, step, spacing, hu, depth,
        dense=np.asarray((hu > _DENSE_HU) & lung),
        airway_mm=_airway_mm(hu, coarse, spacing),
    )  # fmt: skip


def _lung_voxels(
    lungs: LungField, grid: VoxelGrid, start: NDArray[np.int64], *,
    shape: NDArray[np.int64], step: NDArray[np.int64],
) -> Bools:  # fmt: skip
    """Resample the lung mask to `shape` voxels, each of `step` scan voxels, from voxel `start`."""
    ratio = np.rint(lungs.grid.spacing_mm / grid.spacing_mm)
    lines = [
        np.minimum(
            np.rint((start[a] + step[a] * (np.arange(shape[a]) + 0.5) - 0.5) / ratio[a]),
            lungs.mask.shape[a] - 1,
        ).astype(np.int64)
        for a in range(3)
    ]
    return np.asarray(lungs.mask[np.ix_(*lines)])


@dataclass(frozen=True, slots=True, eq=False)
class PlaceFinder:
    """Finds places in the lungs of one scan and remembers which are taken.

    Args:
        lungs: map of the lungs.
        vessel_mm: [i, j, k] distance of each map voxel to the nearest vessel.
        taken: [i, j, k] map voxels near nodules that have been added.
    """

    lungs: LungMap
    vessel_mm: Float32
    taken: Bools
    _shares: dict[int, Float32] = field(default_factory=dict, repr=False)

    def find(
        self, attachment: Attachment, radius_mm: float, rng: np.random.Generator, *, count: int = 1
    ) -> NDArray[np.int64]:
        """Draw up to `count` distinct map voxels [N, 3] where a nodule fits."""
        lungs = self.lungs
        depth, near = -lungs.depth_mm, self.vessel_mm
        good = ~self.taken & (lungs.airway_mm > radius_mm + 1.0)
        if attachment == "pleura":
            good &= (depth > 0.1 * radius_mm) & (depth < 0.75 * radius_mm)
        else:
            good &= depth > radius_mm + 1.0
        if attachment == "vessel":
            good &= (near > 0.1 * radius_mm) & (near < 0.8 * radius_mm)
        elif attachment == "free":
            good &= near > radius_mm + 0.5
        good &= self._dense_share(radius_mm) < (0.1 if attachment == "free" else _CROWDED_SHARE)
        places = np.flatnonzero(good)
        chosen = rng.choice(places, size=min(count, len(places)), replace=False)
        return np.stack(np.unravel_index(chosen, good.shape), axis=1).astype(np.int64)

    def take(self, place: NDArray[np.int64], radius_mm: float) -> None:
        """Mark the map voxels around a place (3,) as taken."""
        lungs = self.lungs
        reach = np.ceil(radius_mm / lungs.spacing_mm).astype(int)
        low = np.maximum(place - reach, 0)
        high = np.minimum(place + reach + 1, lungs.depth_mm.shape)
        self.taken[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True

    def _dense_share(self, radius_mm: float) -> Float32:
        """Return the share of dense voxels around each voxel, cached per radius in whole mm."""
        rounded = max(round(radius_mm), 1)
        if rounded not in self._shares:
            dense = self.lungs.dense.astype(np.float32)
            sigma = 0.7 * rounded / self.lungs.spacing_mm
            self._shares[rounded] = ndimage.gaussian_filter(dense, sigma, truncate=2.5)
        return self._shares[rounded]


def place_finder(lungs: LungMap) -> PlaceFinder:
    """Return a finder without taken places."""
    near = ndimage.distance_transform_edt(~lungs.vessels, sampling=lungs.spacing_mm)
    return PlaceFinder(
        lungs, np.asarray(near, dtype=np.float32), np.zeros(lungs.dense.shape, dtype=np.bool_)
    )


def _closed(air: Bools, spacing_mm: Float64) -> Bools:
    """Close the gaps that vessels leave in the air of the lungs, and fill enclosed holes."""
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
    """Return the distance to airways and bullae: air with a radius above `_AIRWAY_MM`."""
    smooth = ndimage.gaussian_filter(hu, 1.5 / spacing_mm)
    air = lung & (smooth < _AIRWAY_HU)
    core = ndimage.distance_transform_edt(air, sampling=spacing_mm) > _AIRWAY_MM
    if not core.any():
        return np.full(hu.shape, 1e3, dtype=np.float32)
    near = ndimage.distance_transform_edt(~core, sampling=spacing_mm) - _AIRWAY_MM
    return np.asarray(np.maximum(near, 0), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredScan:
    """A scan and what is measured in it, with slices along k.

    Args:
        voxels_hu: [i, j, k] HU of the original.
        grid: grid of these axes.
        response: response of the scanner to a nodule.
        finder: finds places in the lungs.
        vessel_hu: density of the vessels.
    """

    voxels_hu: Int16
    grid: VoxelGrid
    response: ScanResponse
    finder: PlaceFinder
    vessel_hu: float


def measure_scan(scan: Scan, rng: np.random.Generator) -> MeasuredScan:
    """Measure a scan with slices along any axis.

    Args:
        scan: a chest CT.
        rng: selects the edges that are used.

    Raises:
        SeriesError: if no lungs are found.
    """
    turned = _turned(scan)
    field = find_lungs(turned)
    start = np.array([s.start for s in field.box], dtype=np.int64)
    count = np.array([s.stop - s.start for s in field.box], dtype=np.int64)
    ones = np.ones(3, dtype=np.int64)
    response = measure_response(
        turned.voxels_hu[field.box].astype(np.float32),
        _lung_voxels(field, turned.grid, start, shape=count, step=ones),
        spacing_mm=turned.grid.spacing_mm,
        thickness_mm=scan.acquisition.slice_thickness_mm,
        rng=rng,
    )
    lungs = map_lungs(turned.voxels_hu, turned.grid, field)
    return MeasuredScan(
        turned.voxels_hu, turned.grid, response.narrowed(_AS_SHARP_AS_VESSELS),
        place_finder(lungs), _vessel_hu(lungs),
    )  # fmt: skip


def slice_axis(grid: VoxelGrid) -> int:
    """Return the axis across the slices: k if the spacings along i and j are equal.

    Otherwise it is the axis whose two other spacings are most similar.
    """
    i, j, k = np.log(grid.spacing_mm).tolist()
    unlike = [abs(j - k), abs(i - k), abs(i - j)]
    return 2 if unlike[2] < _ALIKE else int(np.argmin(unlike))


def _vessel_hu(lungs: LungMap) -> float:
    """Return the density of the densest vessels; 50 HU if no vessel is found."""
    found = lungs.hu[lungs.vessels]
    return float(np.percentile(found, _VESSEL_PERCENTILE)) if len(found) else 50.0


def _turned(scan: Scan) -> Scan:
    """Return a view of a scan with its slices along k."""
    axis = slice_axis(scan.grid)
    order = [a for a in range(3) if a != axis] + [axis]
    affine = scan.grid.affine_lps_mm[:, [*order, 3]]
    voxels = scan.voxels_hu.transpose(order)
    i, j, k = voxels.shape
    return Scan(scan.seriesuid, voxels, VoxelGrid((i, j, k), affine), scan.patient_id,
                scan.acquisition)  # fmt: skip
