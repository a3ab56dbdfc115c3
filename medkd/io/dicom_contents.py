"""What only the pixels of a series show: blank slices, and slices in another's place.

Headers can be right and the pixels of two slices swapped. In a scan a slice resembles the next one
more than the one after it; where a single slice breaks that, far beyond noise, it is named. Small
images and images of mere noise say nothing and pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medkd.io.dicom_codes import Fault, named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medkd.io.dicom_header import SliceHeader

Float64 = NDArray[np.float64]

_LEAST_SLICES, _LEAST_PIXELS = 8, 2500
_STEP = 4
_WINDOW_HU = (-1100, 300)
_STRANGE = 1.35
"""A slice is out of place if both neighbours differ from it so many times more than from each
other; real and synthetic chests stay below 1.1."""


def blank_faults(ordered: Sequence[SliceHeader], blanks: Sequence[str]) -> list[Fault]:
    """Name slices whose stored bits are all 0, unless most are.

    Args:
        ordered: the slices.
        blanks: for each "zero", "one value" or empty (`dicom_hu.Rescaled`).
    """
    zero = [h for h, blank in zip(ordered, blanks, strict=True) if blank == "zero"]
    if not zero or 2 * len(zero) >= len(ordered):
        return []
    return [Fault("blank_slices", f"{named(zero)}: all pixels are 0")]


def order_faults(ordered: Sequence[SliceHeader], slices_hu: NDArray[np.int16]) -> list[Fault]:
    """Name slices that do not fit between their neighbours.

    Args:
        ordered: the slices along the normal.
        slices_hu: [k, row, column] HU.
    """
    few = slices_hu[:, ::_STEP, ::_STEP]
    if len(few) < _LEAST_SLICES or few[0].size < _LEAST_PIXELS:
        return []
    strange = misplaced(few)
    if not strange or len(strange) > max(4, len(ordered) // 20):
        return []
    text = f"{named(ordered[k] for k in strange)}: unlike both neighbours, which are alike"
    return [Fault("disordered_slices", text)]


def misplaced(slices_hu: NDArray[np.int16]) -> list[int]:
    """Find slices that are far less like both neighbours than these are like each other.

    Args:
        slices_hu: [k, row, column] HU, sampled.
    """
    near, next_but_one = _differences(slices_hu, 1), _differences(slices_hu, 2)
    floor = 1e-3 * float(np.median(near)) + 1e-9
    worse = np.minimum(near[:-1], near[1:]) > _STRANGE * np.maximum(next_but_one, floor)
    return [int(k) + 1 for k in np.flatnonzero(worse)]


def _differences(slices_hu: NDArray[np.int16], lag: int) -> Float64:
    """Mean absolute difference of slices that lie `lag` apart."""
    low, high = _WINDOW_HU
    previous = [np.clip(part, low, high) for part in slices_hu[:lag]]
    found = []
    for part in slices_hu[lag:]:
        current = np.clip(part, low, high)
        found.append(float(np.abs(current - previous.pop(0)).mean()))
        previous.append(current)
    return np.asarray(found)
