"""The air of the lungs: connected regions of lung density inside the body."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from medkd.errors import SeriesError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medkd.lungs.sampling import Samples

AIR_HU = -400
"""Threshold between lung and soft tissue."""

PADDING_HU = -1500
"""Lower values are padding outside the field of view, not a measured tissue."""

LUNG_HU = (-965.0, -450.0)
"""Range of the median density of a lung; bowel gas and room air are lower."""

LEAST_LITRES = 0.15
"""Least volume of a connected lung region; even an excerpt of a few slices has more."""

NOT_IN_VIEW = "lungs_not_in_view"
"""Code of the reasons why lungs are missing or incomplete."""

_SHARE_OF_LARGEST = 0.1
_SIDES_WITH_BODY = 3
_LEAST_CORE_LITRES = 0.0005
_MOST_GAS = 0.3
"""Most volume of a pocket of gas as a share of the largest region."""


def find_air(seriesuid: str, samples: Samples, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the air regions that are lung: large, of lung density, inside the body.

    The airways are included as far as they are connected to the lungs.

    Args:
        seriesuid: name of the scan in errors.
        samples: HU about 4 mm apart.
        inside: [x, y, z] result of `within_body`.

    Returns:
        [x, y, z] on the grid of the samples.

    Raises:
        SeriesError: if no region has the density and size of a lung.
    """
    hu = samples.hu
    # Padding does not count as air: it would join lungs that a round field of view cuts.
    air = (hu < AIR_HU) & (hu > PADDING_HU)
    if not air.any():
        raise no_lungs(seriesuid, f"no voxel lies between {PADDING_HU} and {AIR_HU} HU")
    # Restricted before labelling: a thin chest wall may have gaps between samples.
    labels, count = ndimage.label(air & inside)
    litres = np.bincount(labels.reshape(-1), minlength=count + 1)[1:] * samples.litres
    numbers = np.flatnonzero(litres >= LEAST_LITRES) + 1
    if not len(numbers):
        raise no_lungs(
            seriesuid,
            f"the largest region below {AIR_HU} HU within the body has "
            f"{litres.max(initial=0):.2f} litres, expected at least {LEAST_LITRES}",
        )
    middle_hu = np.array([np.median(hu[labels == number]) for number in numbers])
    fit = (middle_hu > LUNG_HU[0]) & (middle_hu < LUNG_HU[1])
    if not fit.any():
        found = ", ".join(
            f"{litres[n - 1]:.2f} litres of {median:.0f} HU"
            for n, median in zip(numbers, middle_hu, strict=True)
        )
        expected = f"{LUNG_HU[0]:.0f} to {LUNG_HU[1]:.0f} HU within the body"
        raise no_lungs(seriesuid, f"no air of {expected}; found {found}")
    wanted = numbers[fit]
    volume = litres[wanted - 1]
    return np.isin(labels, wanted[volume >= _SHARE_OF_LARGEST * volume.max()])


def without_gas(air: NDArray[np.bool_], samples: Samples) -> NDArray[np.bool_]:
    """Remove gas of the bowel that touches the lungs through gaps between the samples.

    Args:
        air: [x, y, z] air of the lungs on the grid of the samples.
        samples: HU about 4 mm apart.
    """
    labels, count = ndimage.label(ndimage.binary_erosion(air))
    names = labels.reshape(-1)
    sizes = np.bincount(names, minlength=count + 1)
    sums = np.bincount(names, weights=samples.hu.reshape(-1), minlength=count + 1)
    known = sizes * samples.litres > _LEAST_CORE_LITRES
    known[0] = False
    gas = known & (sums < LUNG_HU[0] * sizes)
    # Emphysema can be as light as gas, but then the region is as large as a lung.
    gas &= sizes < _MOST_GAS * sizes[1:].max(initial=0)
    if not gas.any():
        return air
    nearest = ndimage.distance_transform_edt(
        ~known[labels], return_distances=False, return_indices=True
    )
    return np.asarray(air & ~gas[labels[tuple(nearest)]])


def within_body(hu: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Mark the voxels that have body on at least three of four sides: left, right, front, back.

    Lung has body on all four sides, or on three where the field of view cuts it. Air around the
    patient has body on one or two.

    Args:
        hu: [x, y, z] in anatomical order.
    """
    labels, count = ndimage.label(hu >= AIR_HU)
    body = labels == (np.bincount(labels.reshape(-1))[1:].argmax() + 1 if count else -1)
    sides = np.zeros(hu.shape, dtype=np.int8)
    for axis in (0, 1):
        sides += np.logical_or.accumulate(body, axis=axis)
        sides += np.flip(np.logical_or.accumulate(np.flip(body, axis), axis=axis), axis)
    return np.asarray(sides >= _SIDES_WITH_BODY)


def no_lungs(seriesuid: str, reason: str) -> SeriesError:
    """Return the refusal of a scan without lungs."""
    return SeriesError(
        f"{seriesuid}: no lungs found",
        [
            f"{NOT_IN_VIEW}: no lungs found: {reason}",
            "expected a chest CT with air-filled lungs",  # without a code: cannot be allowed
        ],
    )
