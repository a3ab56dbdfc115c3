"""Detect radiographs without contrast, on the pixels before medkd masks any of them.

A blank picture (an exposure without a patient, a failed export, a window outside the value range)
is refused for any grey value, and so is one of only black and white pixels. A faint one is noted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NEARLY_EQUAL = 0.01
"""Largest distance of a blank picture's pixels from the median, as a fraction of full scale."""
_FRACTION = 0.98
"""Fraction of pixels that must meet a criterion; the others may be a letter or a scratch."""
_BLOCK_PX = 4
"""Largest side of the blocks over which pixels are averaged to suppress noise in blank pictures."""
_MIN_BLOCKS = 16
MIN_PIXELS = 1024
"""In smaller pictures, only black and white pixels, or nearly equal stored values, are no fault."""
_FAINT = 0.1
_SATURATED = 0.75
"""Share of black or white pixels from which a picture gets a note.

The largest share in 1,000 pictures of ChestX-ray14 is .27."""


def is_blank(
    values: NDArray[Any], visible: NDArray[np.bool_], *, tolerance: float = NEARLY_EQUAL
) -> bool:
    """Return whether a picture has a single value, apart from noise and small marks.

    Args:
        values: [row, col], in any unit.
        visible: [row, col], False where the header marks no picture (padding, shutter).
        tolerance: largest distance of a blank picture's values from the median, in that unit.

    Example:
        >>> white = np.ones((64, 64))
        >>> is_blank(white, white > 0), is_blank(np.tile(np.arange(64.0), (64, 1)), white > 0)
        (True, False)
    """
    means = _block_means(values, visible)
    if not len(means):
        return True
    near = np.abs(means - np.median(means)) <= tolerance
    return bool(near.mean() >= _FRACTION)


def contrast_reason(shown: NDArray[np.float32], visible: NDArray[np.bool_]) -> str:
    """Return why a picture has no contrast, without a code; empty if it has.

    Args:
        shown: [row, col] in 0..1, displayed as the header specifies, without masks.
        visible: [row, col], False where the header marks no picture.
    """
    if is_blank(shown, visible):
        level = float(np.median(shown[visible])) if visible.any() else 0.0
        return f"the pixels are nearly equal, at {level:.0%} of full scale"
    ends = _black_or_white_fraction(shown, visible)
    if visible.sum() >= MIN_PIXELS and ends >= _FRACTION:
        return f"{ends:.0%} of the pixels are black or white"
    return ""


def contrast_notes(
    shown: NDArray[np.float32], visible: NDArray[np.bool_], inner: tuple[slice, slice]
) -> tuple[str, ...]:
    """Return notes if most pixels are black or white, or if little of the grey scale is used.

    Args:
        shown: [row, col] in 0..1.
        visible: [row, col], False where the header marks no picture.
        inner: rows and columns inside the frame of the picture.
    """
    notes = []
    ends = _black_or_white_fraction(shown, visible)
    if visible.sum() >= MIN_PIXELS and ends >= _SATURATED:
        notes.append(
            f"saturated: {ends:.0%} of the pixels are black or white; its window may not fit"
        )
    low, high = np.percentile(_block_means(shown[inner], visible[inner]), (1, 99)).tolist()
    if high - low < _FAINT:
        notes.append(
            f"faint: the picture only uses {low:.1%} to {high:.1%} of full scale; its file may "
            "hold fewer bits than it declares"
        )
    return tuple(notes)


def _black_or_white_fraction(shown: NDArray[np.float32], visible: NDArray[np.bool_]) -> float:
    inside = shown[visible]
    return float(((inside <= NEARLY_EQUAL) | (inside >= 1 - NEARLY_EQUAL)).mean())


def _block_means(values: NDArray[Any], visible: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean of the visible pixels of each block that has any."""
    side = max(1, min(_BLOCK_PX, min(values.shape) // _MIN_BLOCKS))
    rows, columns = (length // side for length in values.shape)
    cut = (slice(rows * side), slice(columns * side))
    blocks = (rows, side, columns, side)
    counts = visible[cut].reshape(blocks).sum(axis=(1, 3))
    sums = np.where(visible[cut], values[cut], 0).reshape(blocks).sum(axis=(1, 3), dtype=np.float64)
    return np.asarray(sums[counts > 0] / counts[counts > 0], dtype=np.float64)
