"""Search for the lungs of a scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from medkd.lungs.air import AIR_HU, LEAST_LITRES, find_air, no_lungs, within_body, without_gas
from medkd.lungs.airways import find_airway
from medkd.lungs.field import Box, LungField
from medkd.lungs.sampling import sample_coarsely
from medkd.lungs.sides import LEFT, RIGHT, close_lungs, split_air

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medkd.geometry import VoxelGrid
    from medkd.types import Scan

_MARGIN_MM = 8.0
_ISLAND_LITRES = 0.02


def find_lungs(scan: Scan) -> LungField:
    """Find the lungs of a scan.

    Args:
        scan: HU on any grid.

    Raises:
        SeriesError: if no region has the density and size of a lung.

    Example:
        >>> from medkd.synthetic.phantom import PhantomSettings, make_phantom
        >>> phantom = make_phantom(PhantomSettings(site="b"), 0)
        >>> 2.0 < find_lungs(phantom.scan).litres < 8.0
        True
    """
    samples = sample_coarsely(scan)
    inside = within_body(samples.hu)
    air = find_air(scan.seriesuid, samples, inside)
    midline = _midline(samples.hu)
    airway = find_airway(scan, samples, inside=inside, midline=midline)
    air = without_gas(air & ~airway, samples)
    if air.sum() * samples.litres < LEAST_LITRES:
        raise no_lungs(scan.seriesuid, "the air within the body is that of the airways and bowel")
    air_sides = split_air(air, midline)
    sides = close_lungs(air_sides, samples.grid.spacing_mm)
    sides[ndimage.binary_dilation(airway) & ~air] = 0
    _drop_islands(sides, samples.litres)
    litres = np.bincount(air_sides.reshape(-1), minlength=3) * samples.litres
    stored = samples.order.undo(sides)
    return LungField(
        box=_box(stored > 0, samples.step, scan.grid),
        sides=np.ascontiguousarray(stored),
        grid=samples.stored_grid,
        right_litres=float(litres[RIGHT]),
        left_litres=float(litres[LEFT]),
    )


def _midline(hu: NDArray[np.int16]) -> float:
    """Return the mean position of the body on axis 0."""
    return float(np.average(np.arange(len(hu)), weights=(hu >= AIR_HU).sum(axis=(1, 2))))


def _drop_islands(sides: NDArray[np.uint8], voxel_litres: float) -> None:
    """Set small regions apart from the lungs to 0, in place."""
    labels, _ = ndimage.label(sides)
    sizes = np.bincount(labels.reshape(-1))
    small = sizes * voxel_litres < _ISLAND_LITRES
    small[1 + sizes[1:].argmax()] = False
    sides[small[labels]] = 0


def _box(mask: NDArray[np.bool_], step: NDArray[np.int64], grid: VoxelGrid) -> Box:
    """Return the bounding box of the coarse mask in voxels of the scan, with a margin.

    Args:
        mask: [i, j, k], not empty.
        step: voxels of the scan per coarse voxel, along each axis.
        grid: of the scan.
    """
    slices = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        index = np.flatnonzero(mask.any(axis=others))
        margin = int(np.ceil(_MARGIN_MM / grid.spacing_mm[axis]))
        low = max(int(index[0] * step[axis]) - margin, 0)
        high = min(int((index[-1] + 1) * step[axis]) + margin, grid.shape[axis])
        slices.append(slice(low, high))
    return slices[0], slices[1], slices[2]
