"""Convert the stored values of one CT slice to HU.

HU = stored * RescaleSlope + RescaleIntercept (DICOM PS3.3 C.11.1, modality LUT). Padding is
PixelPaddingValue, or the range from it to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2). It is given
in stored values, with the sign of PixelRepresentation, and becomes `PADDED_HU`.
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
"""Value of padding voxels, which were not measured: below air and below `lungs.PADDING_HU`."""

_HU_LOW, _HU_HIGH = -32768, 32767
_WHOLE = 1e-6


@dataclass(frozen=True, slots=True)
class Rescaled:
    """The outcome of converting one slice.

    Args:
        fault: why the slice could not be converted; None if it was.
        fractional: whether HU were rounded.
        blank: "zero" if all stored values are 0, "one value" if all are equal, else empty.
        spare_bits: whether bits above BitsStored were not empty; they were ignored.
    """

    fault: Fault | None = None
    fractional: bool = False
    blank: str = ""
    spare_bits: bool = False


def to_hu(place: NDArray[np.int16], header: SliceHeader) -> Rescaled:
    """Convert stored bits to HU in place.

    Args:
        place: [row, column] the stored bits of one slice; overwritten with HU.
        header: of that slice; a missing RescaleSlope is 1, a missing RescaleIntercept is 0.
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
    """Return whether bits above BitsStored are neither 0 nor the sign (overlays or lost values)."""
    bits = header.whole("BitsStored") or 16
    if bits >= 16:
        return False
    as_stated = place >> bits == 0
    if header.whole("PixelRepresentation"):
        as_stated |= place >> (bits - 1) == -1
    return not bool(as_stated.all())


def stored_values(place: NDArray[np.int16], header: SliceHeader) -> NDArray[Any]:
    """Return a view of stored bits as signed or unsigned numbers.

    Bits above BitsStored are overwritten in place with 0 or the sign.

    Args:
        place: [row, column] the stored bits of one slice.
        header: of that slice.
    """
    unused = 16 - (header.whole("BitsStored") or 16)
    stored: NDArray[Any] = place if header.whole("PixelRepresentation") else place.view(np.uint16)
    if unused:  # Bits above BitsStored may hold old overlays (PS3.5 8.1.1): drop them.
        np.left_shift(stored, unused, out=stored)
        np.right_shift(stored, unused, out=stored)
    return stored


def padding_range(header: SliceHeader) -> tuple[int, int] | None:
    """Return the lowest and highest stored value that is padding; None if there is no padding."""
    ends = [header.whole(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None
    bits = header.whole("BitsStored") or 16
    is_signed = bool(header.whole("PixelRepresentation"))
    values = [_with_sign(end, bits) if is_signed else end for end in ends if end is not None]
    return min(values), max(values)


def _with_sign(bit_pattern: int, bits: int) -> int:
    """Read 16 bits as a signed number, whether or not the sign is repeated above `bits`."""
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
    """Rescale in place; return whether HU were rounded."""
    if slope == 1 and intercept.is_integer() and abs(intercept) <= _HU_HIGH:
        # Sums that fit int16 are correct modulo 2^16, for signed and unsigned stored values.
        np.add(place, np.int16(intercept), out=place)
        return False
    exact = stored.astype(np.float64) * slope + intercept
    rounded = np.rint(exact)
    place[...] = np.clip(rounded, _HU_LOW, _HU_HIGH)
    return bool(np.abs(exact - rounded).max() > _WHOLE)
