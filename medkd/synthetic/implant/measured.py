"""A real scan, measured before nodules are added: its lungs, its response, its free places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkd.geometry import VoxelGrid
from medkd.lungs import find_lungs
from medkd.synthetic.implant.places import (
    LungMap,
    PlaceFinder,
    lung_voxels,
    map_lungs,
    place_finder,
)
from medkd.synthetic.implant.response import ScanResponse, measure_response
from medkd.types import Scan

Int16 = NDArray[np.int16]

_ALIKE = 0.01
"""Spacings are equal if they differ by less than this share."""
_AS_SHARP_AS_VESSELS = 0.8
"""The pleura curves and leans, and so looks less sharp than a vessel. With this share of the widths
that are measured there, nodules look as sharp as the vessels of the same scan."""
_VESSEL_PERCENTILE = 98


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredScan:
    """A scan and what is measured in it. Slices lie along k.

    Args:
        voxels_hu: [i, j, k] of the original.
        grid: grid of these axes.
        response: how the scan shows a nodule.
        finder: finds places in the lungs, and remembers which are taken.
        vessel_hu: density of the vessels.
    """

    voxels_hu: Int16
    grid: VoxelGrid
    response: ScanResponse
    finder: PlaceFinder
    vessel_hu: float


def measure_scan(scan: Scan, rng: np.random.Generator) -> MeasuredScan:
    """Measure a scan whose slices lie along any axis.

    Args:
        scan: a chest CT.
        rng: picks the edges that are used.

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
        lung_voxels(field, turned.grid, start, shape=count, step=ones),
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
    """Return the axis along which slices lie: k if the spacings along i and j are equal.

    Otherwise it is the axis across the two spacings that are most alike.
    """
    i, j, k = np.log(grid.spacing_mm).tolist()
    unlike = [abs(j - k), abs(i - k), abs(i - j)]
    return 2 if unlike[2] < _ALIKE else int(np.argmin(unlike))


def _vessel_hu(lungs: LungMap) -> float:
    """Return the density of the densest vessels, 50 HU where there is none."""
    found = lungs.hu[lungs.vessels]
    return float(np.percentile(found, _VESSEL_PERCENTILE)) if len(found) else 50.0


def _turned(scan: Scan) -> Scan:
    """View a scan with its slices along k."""
    axis = slice_axis(scan.grid)
    order = [a for a in range(3) if a != axis] + [axis]
    affine = scan.grid.affine_lps_mm[:, [*order, 3]]
    voxels = scan.voxels_hu.transpose(order)
    i, j, k = voxels.shape
    return Scan(scan.seriesuid, voxels, VoxelGrid((i, j, k), affine), scan.patient_id,
                scan.acquisition)  # fmt: skip
