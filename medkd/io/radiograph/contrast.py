"""Whether a radiograph shows anything, judged on its pixels before medkd alters any of them.

A blank picture (an exposure without a patient, a failed export, a window beside the values) is
refused whatever its grey value; so is one that is black and white alone. A faint one is noted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NEARLY_EQUAL = 0.01
"""How far from the median, as a share of full scale, the pixels of a blank picture may be."""
_SHARE = 0.98
"""Share of a picture that decides what it is; the rest may be a letter or a scratch."""
_BLOCK_PX = 4
"""Noise is averaged over blocks of at most this side: a noisy blank picture is blank."""
_LEAST_BLOCKS = 16
LEAST_PIXELS = 1024
"""Of fewer pixels, black and white alone, or stored values side by side, are no sign of a fault."""
_FAINT = 0.1
_SATURATED = 0.75
"""Of 1,000 pictures of ChestX-ray14, none has more than .27 of its pixels at the two ends."""


def is_blank(
    values: NDArray[Any], seen: NDArray[np.bool_], *, tolerance: float = NEARLY_EQUAL
) -> bool:
    """Say whether a picture has one value all over, apart from noise and small marks.

    Args:
        values: [row, col], in any unit.
        seen: [row, col], False where the file says that nothing is shown (padding, shutter).
        tolerance: how far from the median a blank picture's values may be, in that unit.

    Example:
        >>> white = np.ones((64, 64))
        >>> is_blank(white, white > 0), is_blank(np.tile(np.arange(64.0), (64, 1)), white > 0)
        (True, False)
    """
    means = _block_means(values, seen)
    if not len(means):
        return True
    near = np.abs(means - np.median(means)) <= tolerance
    return bool(near.mean() >= _SHARE)


def contrast_reason(shown: NDArray[np.float32], seen: NDArray[np.bool_]) -> str:
    """Say why a picture shows nothing, without its code; an empty text if it shows something.

    Args:
        shown: [row, col] in 0..1, as the file asks, nothing masked.
        seen: [row, col], False where the file says that nothing is shown.
    """
    if is_blank(shown, seen):
        level = float(np.median(shown[seen])) if seen.any() else 0.0
        return f"the pixels are nearly equal, at {level:.0%} of full scale"
    ends = _share_of_ends(shown, seen)
    if seen.sum() >= LEAST_PIXELS and ends >= _SHARE:
        return f"{ends:.0%} of the pixels are black or white"
    return ""


def faint_note(shown: NDArray[np.float32], seen: NDArray[np.bool_]) -> str:
    """Note a picture (without its frame) that uses little of the grey scale; empty: it does not.

    Args:
        shown: [row, col] in 0..1.
        seen: [row, col], False where nothing is shown.
    """
    low, high = np.percentile(_block_means(shown, seen), (1, 99)).tolist()
    if high - low >= _FAINT:
        return ""
    return (
        f"faint: the picture runs from {low:.1%} to {high:.1%} of full scale alone; its file may "
        "hold fewer bits than it declares"
    )


def saturated_note(shown: NDArray[np.float32], seen: NDArray[np.bool_]) -> str:
    """Note a picture that is mostly black or white; an empty text where it is not.

    Args:
        shown: [row, col] in 0..1.
        seen: [row, col], False where nothing is shown.
    """
    ends = _share_of_ends(shown, seen)
    if seen.sum() < LEAST_PIXELS or ends < _SATURATED:
        return ""
    return f"saturated: {ends:.0%} of the pixels are black or white; its window may not fit"


def _share_of_ends(shown: NDArray[np.float32], seen: NDArray[np.bool_]) -> float:
    inside = shown[seen]
    return float(((inside <= NEARLY_EQUAL) | (inside >= 1 - NEARLY_EQUAL)).mean())


def _block_means(values: NDArray[Any], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean of each block of pixels that are seen."""
    side = max(1, min(_BLOCK_PX, min(values.shape) // _LEAST_BLOCKS))
    rows, columns = (length // side for length in values.shape)
    cut = (slice(rows * side), slice(columns * side))
    blocks = (rows, side, columns, side)
    counts = seen[cut].reshape(blocks).sum(axis=(1, 3))
    sums = np.where(seen[cut], values[cut], 0).reshape(blocks).sum(axis=(1, 3), dtype=np.float64)
    return np.asarray(sums[counts > 0] / counts[counts > 0], dtype=np.float64)
