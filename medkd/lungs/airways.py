"""The trachea and the main bronchi, which are air inside the body but not lung.

On an axial slice the lumen is a small region of very low density; lung at the same density is
larger, or it is speckle. The small regions of neighbouring slices form tubes, and the longest tube
near the midline is the trachea with the bronchi connected to it. Smaller bronchi stay in the lung.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from medkd.lungs.air import AIR_HU, PADDING_HU
from medkd.lungs.sampling import Samples, matching_index, sample_scan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medkd.types import Scan

_APART_MM = (2.0, 2.0, 4.0)
_LUMEN_HU = -900
_LUMEN_CM2 = (0.3, 8.0)
"""Area of the lumen on a slice: from a main bronchus to the bifurcation of a wide trachea."""

_TUBE_CM2 = (0.2, 4.0)
"""Mean area of the whole tube; the density threshold makes it smaller than the true lumen."""

_LEAST_LENGTH_MM = 30.0
_OFF_MIDLINE_MM = 40.0
"""A collapsed lung pulls the trachea to its side."""

_WINDOW_MM = 80.0
"""How far from the midline the airways are looked for; the main bronchi end before."""

_SMOOTHED_BELOW_MM = 2.5
_WALL_SAMPLES = 2
_PLANE = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])
"""Neighbours of a voxel on the same axial slice."""


def find_airway(
    scan: Scan, coarse: Samples, *, inside: NDArray[np.bool_], midline: float
) -> NDArray[np.bool_]:
    """Mark the trachea and the main bronchi.

    Args:
        scan: HU on any grid.
        coarse: samples of the scan.
        inside: [x, y, z] whether a sample is inside the body, on the grid of `coarse`.
        midline: index on axis 0 of `coarse` of the middle of the body.

    Returns:
        [x, y, z] on the grid of `coarse`; nothing is marked if no trachea is found.
    """
    fine = sample_scan(scan, _APART_MM)
    to_coarse = [matching_index(fine.grid, coarse.grid, axis) for axis in range(3)]
    off_mm = np.abs(to_coarse[0] - midline) * coarse.grid.spacing_mm[0]
    middle = np.flatnonzero(off_mm <= _WINDOW_MM)
    hu = np.ascontiguousarray(fine.hu[middle[0] : middle[-1] + 1])
    lumen = _lumen(hu, fine.grid.spacing_mm) & inside[np.ix_(to_coarse[0][middle], *to_coarse[1:])]
    tube = _longest_tube(lumen, fine.grid.spacing_mm, middle=float(off_mm[middle].argmin()))
    tube = ndimage.binary_dilation(
        tube, _PLANE, iterations=_WALL_SAMPLES, mask=(hu < AIR_HU) & (hu > PADDING_HU)
    )
    to_fine = [matching_index(coarse.grid, fine.grid, axis) for axis in range(3)]
    found = np.zeros(coarse.hu.shape, dtype=np.bool_)
    columns = np.flatnonzero((to_fine[0] >= middle[0]) & (to_fine[0] <= middle[-1]))
    found[columns] = tube[np.ix_(to_fine[0][columns] - middle[0], *to_fine[1:])]
    return found


def _lumen(hu: NDArray[np.int16], spacing_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the regions of air on each axial slice that are as large as a trachea or bronchus."""
    smooth = hu.astype(np.float32)
    if spacing_mm[:2].max() < _SMOOTHED_BELOW_MM:
        smooth = ndimage.uniform_filter(smooth, (3, 3, 1))
    labels, _ = ndimage.label((smooth < _LUMEN_HU) & (smooth > PADDING_HU), _PLANE)
    cm2 = np.bincount(labels.reshape(-1)) * float(np.prod(spacing_mm[:2])) / 100
    fit = (cm2 >= _LUMEN_CM2[0]) & (cm2 <= _LUMEN_CM2[1])
    fit[0] = False
    return np.asarray(fit[labels])


def _longest_tube(
    lumen: NDArray[np.bool_], spacing_mm: NDArray[np.float64], *, middle: float
) -> NDArray[np.bool_]:
    """Return the connected region that is the longest along the body, narrow and near the middle.

    Args:
        lumen: [x, y, z] regions of air.
        spacing_mm: (3,) of `lumen`.
        middle: index on axis 0 of the middle of the body.
    """
    labels, count = ndimage.label(lumen)
    counts = np.bincount(labels.reshape(-1), minlength=count + 1)
    best, longest_mm = 0, _LEAST_LENGTH_MM
    for number, where in enumerate(ndimage.find_objects(labels), start=1):
        length_mm = (where[2].stop - where[2].start) * spacing_mm[2]
        if length_mm < longest_mm:
            continue
        mean_cm2 = counts[number] * float(np.prod(spacing_mm)) / length_mm / 100
        columns = (labels[where] == number).sum(axis=(1, 2))
        x = where[0].start + float(np.average(np.arange(len(columns)), weights=columns))
        off_mm = abs(x - middle) * spacing_mm[0]
        if _TUBE_CM2[0] < mean_cm2 < _TUBE_CM2[1] and off_mm < _OFF_MIDLINE_MM:
            best, longest_mm = number, length_mm
    return labels == best if best else np.zeros_like(lumen)
