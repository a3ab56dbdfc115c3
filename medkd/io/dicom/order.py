"""Detect slices whose header position is wrong, from slice numbers and from pixels.

Slices are ordered by position, and positions can be wrong. If InstanceNumber or SliceLocation
agrees with the positions for all but a few slices, those few were swapped. Also, a slice resembles
its neighbours more than slices further away. If exchanging two slices would clearly improve their
fit, or if a slice fits nowhere, headers and pixels do not match. It is unknown which of them is
correct, so the series is refused. Small images and images of noise or of one value cannot be
judged; they are accepted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medkd.io.dicom.codes import Fault, join_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medkd.io.dicom.header import SliceHeader

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_MIN_NUMBERED = 10
"""With fewer slices, a random numbering could look like one with two slices swapped."""

_MIN_SLICES, _MIN_BLOCKS = 8, 256
_SAMPLES = 128
_WINDOW_HU = (-1100, 300)
_MIN_CHANGE_HU = 2.0
"""With a smaller mean difference between neighbours, all slices are too similar to be judged."""

_MAX_LAG = 3
"""Largest distance, in slices, at which swaps are searched.

Slices swapped over a larger distance are detected because they fit nowhere."""

_MAX_SUSPECTS = 24

SWAP_RATIO = 1.1
"""A slice is misplaced if moving it reduces the difference between neighbours by more than this
factor. Real and synthetic chests reach .92; with two slices swapped it is at least 1.15."""

SWAP_RATIO_REFORMATTED = 1.6
"""The same for sagittal and coronal slices, which change abruptly at the skin or the table: real
ones reach 1.37."""


def numbering_faults(ordered: Sequence[SliceHeader]) -> list[Fault]:
    """Return a fault for a few slices whose number or location contradicts their position."""
    for name in ("SliceLocation", "InstanceNumber"):
        values = [h.number(name) for h in ordered if h.frames == 1]
        known = [value for value in values if value is not None]
        if not _MIN_NUMBERED <= len(ordered) == len(known) == len(set(known)):
            continue
        falling = _longest_rise([-value for value in known])
        kept = max(_longest_rise(known), falling, key=len)
        odd = sorted(set(range(len(known))) - kept)
        if odd and len(odd) <= max(2, len(known) // 20):
            text = f"{join_names(ordered[n] for n in odd)}: {name} disagrees with the position"
            return [Fault("disordered_slices", text)]
    return []


def _longest_rise(values: Sequence[float]) -> set[int]:
    """Return the indices of a longest increasing subsequence."""
    best = np.ones(len(values), dtype=int)
    before = np.full(len(values), -1)
    array = np.asarray(values)
    for n in range(1, len(values)):
        lower = np.flatnonzero(array[:n] < array[n])
        if len(lower):
            before[n] = lower[best[lower].argmax()]
            best[n] = best[before[n]] + 1
    place, kept = int(best.argmax()), set()
    while place >= 0:
        kept.add(place)
        place = int(before[place])
    return kept


def order_faults(
    ordered: Sequence[SliceHeader], slices_hu: NDArray[np.int16], *, axial: bool = True
) -> list[Fault]:
    """Return a fault for slices whose pixels do not fit their position.

    Args:
        ordered: the slices along the normal.
        slices_hu: [k, row, column] HU.
        axial: whether the slices are axial.
    """
    odd = misplaced(slices_hu, better=SWAP_RATIO if axial else SWAP_RATIO_REFORMATTED)
    if not odd:
        return []
    text = f"{join_names(ordered[k] for k in odd)}: the pixels do not fit the adjacent slices"
    return [Fault("disordered_slices", text)]


def misplaced(slices_hu: NDArray[np.int16], *, better: float = SWAP_RATIO) -> list[int]:
    """Return the slices whose pixels do not fit their position.

    Args:
        slices_hu: [k, row, column] HU.
        better: factor by which the difference to the neighbours must fall.

    Returns:
        Their k in ascending order; at the ends of the scan only one of two swapped slices.
    """
    blocks = _blocks(slices_hu)
    if len(blocks) < _MIN_SLICES or blocks[0].size < _MIN_BLOCKS:
        return []
    differences = [_differences(blocks, lag) for lag in range(1, _MAX_LAG + 2)]
    usual = float(np.median(differences[0]))
    if usual < _MIN_CHANGE_HU:
        return []
    # With more blocks, their mean is less noisy and the limit can be lower.
    limit = 1 + max(better - 1, 4 / np.sqrt(blocks[0].size))
    suspects = _suspects(differences, floor=0.3 * usual, limit=limit)
    return _swapped(blocks, suspects, min_gain_hu=usual) if suspects else []


def _blocks(slices_hu: NDArray[np.int16]) -> Float32:
    """Subsample each slice to about 128 x 128 pixels and average blocks of 2 x 2."""
    step = max(1, min(slices_hu.shape[1:]) // _SAMPLES)
    few = np.clip(slices_hu[:, ::step, ::step], *_WINDOW_HU).astype(np.float32)
    rows, columns = few.shape[1] // 2 * 2, few.shape[2] // 2 * 2
    few = few[:, :rows, :columns]
    mean = (few[:, ::2, ::2] + few[:, 1::2, ::2] + few[:, ::2, 1::2] + few[:, 1::2, 1::2]) / 4
    return np.asarray(mean, dtype=np.float32)


def _differences(blocks: Float32, lag: int) -> Float64:
    """Return, for each slice, the mean absolute difference to the slice `lag` further on."""
    pairs = zip(blocks[:-lag], blocks[lag:], strict=True)
    return np.asarray([float(np.abs(one - other).mean()) for one, other in pairs])


def _suspects(differences: list[Float64], *, floor: float, limit: float) -> list[int]:
    """Return slices after whose removal or exchange neighbouring slices are more similar.

    Removal: compare the smaller of a slice's differences to its two neighbours with the difference
    between these neighbours. Exchange: compare the differences at both positions before and after.
    """
    near = differences[0]
    alone = np.minimum(near[:-1], near[1:]) / np.maximum(differences[1], floor)
    found = {int(k) + 1 for k in np.flatnonzero(alone > limit)}
    for lag in range(1, _MAX_LAG + 1):
        before = near[: len(near) - lag - 1] + near[lag + 1 :]
        after = np.maximum(differences[lag][:-1] + differences[lag][1:], 2 * floor)
        for k in np.flatnonzero(before / after > limit):
            found |= {int(k) + 1, int(k) + 1 + lag}
    return sorted(found)


def _swapped(blocks: Float32, suspects: list[int], *, min_gain_hu: float) -> list[int]:
    """Find pairs of slices near the suspects whose exchange makes neighbours most similar.

    Returns the slices of these pairs, or the suspects themselves if no exchange helps.
    """
    order = list(range(len(blocks)))
    swapped: set[int] = set()
    near = {k + step for k in suspects for step in (-2, -1, 0, 1, 2)} & set(order)
    left = sorted(near) if len(suspects) <= _MAX_SUSPECTS else []
    while len(left) > 1:
        pairs = [(one, other) for n, one in enumerate(left) for other in left[n + 1 :]]
        gains = [_gain(blocks, order, pair) for pair in pairs]
        best = int(np.argmax(gains))
        if gains[best] < min_gain_hu:
            break
        one, other = pairs[best]
        order[one], order[other] = order[other], order[one]
        swapped |= {one, other}
        left = [k for k in left if min(abs(k - one), abs(k - other)) > _MAX_LAG + 1]
    return sorted(swapped or suspects)


def _gain(blocks: Float32, order: list[int], pair: tuple[int, int]) -> float:
    """Return by how many HU the differences between neighbours fall if two slices are exchanged."""
    one, other = pair
    changed = order.copy()
    changed[one], changed[other] = changed[other], changed[one]
    edges = {k for place in pair for k in (place - 1, place) if 0 <= k < len(order) - 1}

    def length(slices: list[int]) -> float:
        return sum(float(np.abs(blocks[slices[k]] - blocks[slices[k + 1]]).mean()) for k in edges)

    return length(order) - length(changed)
