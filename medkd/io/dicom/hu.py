"""Stored values of one CT slice into HU: HU = stored * RescaleSlope + RescaleIntercept.

DICOM PS3.3 C.11.1 (modality LUT). Padding (PixelPaddingValue, or the range to
PixelPaddingRangeLimit, PS3.3 C.7.5.1.1.2) is given in stored values, with the sign of
PixelRepresentation; it becomes `PADDED_HU` before anything is clipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medkd.io.dicom.codes import Fault

if TYPE_CHECKING:
    from medkd.io.dicom.header import SliceHeader

PADDED_HU = -2000
"""What a voxel holds that was not measured: below air, and below `lungs.PADDING_HU`."""

_HU_LOW, _HU_HIGH = -32768, 32767
_WHOLE = 1e-6


@dataclass(frozen=True, slots=True)
class Rescaled:
    """What became of one slice: a fault, if HU were rounded, if all pixels have one value.

    `blank` is "zero" where all stored bits are 0, "one value" where all are alike, else empty;
    `spare_bits`: bits above BitsStored held something that was left out.
    """

    fault: Fault | None = None
    fractional: bool = False
    blank: str = ""
    spare_bits: bool = False


def to_hu(place: NDArray[np.int16], header: SliceHeader) -> Rescaled:
    """Turn stored bits into HU in place.

    Args:
        place: [row, column] the bits of one slice as stored.
        header: of that slice; a rescale that is missing counts as none.
    """
    spare_bits = _has_spare_bits(place, header)
    stored = stored_values(place, header)
    low, high = int(stored.min()), int(stored.max())
    blank = "" if low < high else "one value" if low else "zero"
    padding = _padding_of(stored, header)
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    edges = sorted((slope * low + intercept, slope * high + intercept))
    if edges[0] < _HU_LOW or edges[1] > _HU_HIGH:
        kept = stored if padding is None else stored[~padding]
        values = kept.astype(np.float64) * slope + intercept
        if kept.size and (values.min() < _HU_LOW or values.max() > _HU_HIGH):
            got = f"{values.min():g} to {values.max():g}"
            text = f"{header.name}: expected HU within {(_HU_LOW, _HU_HIGH)}, got {got}"
            return Rescaled(Fault("hu_range", text))
    fractional = _rescale(place, stored, slope, intercept)
    if padding is not None:
        np.copyto(place, np.int16(PADDED_HU), where=padding)
    return Rescaled(None, fractional, blank, spare_bits)


def _has_spare_bits(place: NDArray[np.int16], header: SliceHeader) -> bool:
    """Say if bits above BitsStored are neither 0 nor the sign: old overlays, or lost values."""
    bits = header.whole("BitsStored") or 16
    if bits >= 16:
        return False
    as_stated = place >> bits == 0
    if header.whole("PixelRepresentation"):
        as_stated |= place >> (bits - 1) == -1
    return not bool(as_stated.all())


def stored_values(place: NDArray[np.int16], header: SliceHeader) -> NDArray[Any]:
    """View stored bits as the numbers that they store; bits above BitsStored are cleared in place.

    Args:
        place: [row, column] the bits of one slice.
        header: of that slice.
    """
    unused = 16 - (header.whole("BitsStored") or 16)
    stored: NDArray[Any] = place if header.whole("PixelRepresentation") else place.view(np.uint16)
    if unused:  # Bits above BitsStored may hold old overlays (PS3.5 8.1.1): drop them.
        np.left_shift(stored, unused, out=stored)
        np.right_shift(stored, unused, out=stored)
    return stored


def padding_range(header: SliceHeader) -> tuple[int, int] | None:
    """Return the lowest and highest stored value that is padding; None where none is stated."""
    ends = [header.whole(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None
    bits = header.whole("BitsStored") or 16
    is_signed = bool(header.whole("PixelRepresentation"))
    values = [_with_sign(end, bits) if is_signed else end for end in ends if end is not None]
    return min(values), max(values)


def _with_sign(bit_pattern: int, bits: int) -> int:
    """Read 16 bits as a signed number, whether or not the sign fills those above `bits`."""
    if bit_pattern >= 0x8000:
        return bit_pattern - 0x10000
    return bit_pattern - (1 << bits) if bit_pattern >= 1 << (bits - 1) else bit_pattern


def _padding_of(stored: NDArray[Any], header: SliceHeader) -> NDArray[np.bool_] | None:
    ends = padding_range(header)
    if ends is None:
        return None
    if ends[0] == ends[1]:
        return np.asarray(stored == ends[0])
    return np.asarray((stored >= ends[0]) & (stored <= ends[1]))


def _rescale(
    place: NDArray[np.int16], stored: NDArray[Any], slope: float, intercept: float
) -> bool:
    """Rescale in place; say if HU were rounded."""
    if slope == 1 and intercept.is_integer() and abs(intercept) <= _HU_HIGH:
        # Sums that fit int16 come out right modulo 2^16, whatever the sign of the stored bits.
        np.add(place, np.int16(intercept), out=place)
        return False
    exact = stored.astype(np.float64) * slope + intercept
    rounded = np.rint(exact)
    place[...] = np.clip(rounded, _HU_LOW, _HU_HIGH)
    return bool(np.abs(exact - rounded).max() > _WHOLE)
