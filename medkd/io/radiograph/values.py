"""Map the stored values of a DICOM radiograph to 0..1, bright = dense.

The steps follow the standard's order (PS3.3 C.11.1, C.11.2, C.11.6, C.7.6.3.1.2): stored value,
modality LUT, VOI LUT or window, presentation LUT, inversion of MONOCHROME1. Stored values have at
most 16 bits, so the whole mapping is computed once as a table of all possible values. Finally,
padding is set to 0 (dark). The range is never stretched to the pixels of the picture: without a
window it is the range of the bit depth. A look-up table whose entries need fewer bits than it
declares is scaled by its largest entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Dataset = Any
"""A pydicom Dataset; pydicom has no type hints for it."""

MAX_BITS = 16


class ToneError(ValueError):
    """A header whose tables or windows cannot be applied; the message is a reason without code."""


@dataclass(frozen=True, slots=True, eq=False)
class ToneCurve:
    """A table from stored values to displayed values.

    Entry n of each array belongs to the stored value `low + n`.

    Args:
        low: the smallest value that the stored bits can hold.
        values: [N] float32 in 0..1.
        padding: [N], True for values that mark padding.
        notes: deviations from what the header states.
    """

    low: int
    values: NDArray[np.float32]
    padding: NDArray[np.bool_]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Curve:
    """The output of one step of the mapping.

    Args:
        values: the output for every stored value.
        low: the smallest possible output.
        high: the largest possible output.
        note: how `high` was determined, if unusual; only reported if `high` is used.
    """

    values: NDArray[np.float64]
    low: float
    high: float
    note: str = ""

    def unit(self, kind: str, notes: list[str]) -> NDArray[np.float64]:
        """Return the values scaled so that `low` is 0 and `high` is 1; add the note on `high`."""
        if self.note:
            notes.append(f"{kind} {self.note}")
        return (self.values - self.low) / (self.high - self.low)


def tone_curve(header: Dataset) -> ToneCurve:
    """Build the table from stored values to 0..1.

    Args:
        header: a dataset with one sample per pixel.

    Raises:
        ToneError: if a table, a rescale or a window of the header cannot be applied.
    """
    stored = _stored_range(header)
    notes: list[str] = []
    shown = _voi(_modality(stored, header), header, notes)
    tables = header.get("PresentationLUTSequence")
    if tables:
        presented = _look_up(shown * (_entry_count(tables[0]) - 1), tables[0], header)
        shown = presented.unit("presentation", notes)
    if str(header.get("PhotometricInterpretation", "")).strip() == "MONOCHROME1":
        shown = 1.0 - shown
    padding = _is_padding(stored, header)
    shown[padding] = 0.0
    return ToneCurve(int(stored[0]), shown.astype(np.float32), padding, tuple(notes))


def mask_border(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the picture with a burned-in black or white frame set to 0.

    The frame consists, on each side, of the outer lines in which 98 % of the pixels are white, or
    98 % are black (within 1 %), up to a quarter of the picture. Letters in it are removed too.

    Args:
        pixels: [row, col] in 0..1.

    Example:
        >>> film = np.full((8, 8), 0.5, np.float32)
        >>> film[0] = 1.0
        >>> mask_border(film)[:2, 0].tolist()
        [0.0, 0.5]
    """
    inner = inside_frame(pixels)
    masked = np.zeros_like(pixels)
    masked[inner] = pixels[inner]
    return masked


def inside_frame(pixels: NDArray[np.float32]) -> tuple[slice, slice]:
    """Return the rows and columns inside the frame that `mask_border` sets to 0."""
    rows = slice(_frame_lines(pixels), pixels.shape[0] - _frame_lines(pixels[::-1]))
    inner = pixels[rows].T
    return rows, slice(_frame_lines(inner), len(inner) - _frame_lines(inner[::-1]))


def inside_shutter(header: Dataset, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return [row, col], False outside a rectangular display shutter (PS3.3 C.7.6.11).

    All values are True if there is no shutter or if its edges are invalid.
    """
    whole = np.ones(shape, dtype=np.bool_)
    shapes = header.get("ShutterShape") or ()
    if "RECTANGULAR" not in ([shapes] if isinstance(shapes, str) else list(shapes)):
        return whole
    names = ("UpperHorizontalEdge", "LowerHorizontalEdge", "LeftVerticalEdge", "RightVerticalEdge")
    try:
        top, bottom, left, right = (int(header[f"Shutter{name}"].value) for name in names)
    except (KeyError, TypeError, ValueError):
        return whole
    # An edge is the number, from 1, of the first hidden line.
    inside = np.zeros(shape, dtype=np.bool_)
    inside[max(top, 0) : max(bottom - 1, 0), max(left, 0) : max(right - 1, 0)] = True
    return inside if inside.any() else whole


def _stored_range(header: Dataset) -> NDArray[np.float64]:
    """Return all values that BitsStored and PixelRepresentation allow (PS3.3 C.7.6.3)."""
    try:
        bits, signed = int(header.BitsStored), int(header.PixelRepresentation)
    except (AttributeError, TypeError, ValueError) as error:
        raise ToneError("BitsStored or PixelRepresentation is missing") from error
    if not 2 <= bits <= MAX_BITS or signed not in (0, 1):
        raise ToneError(f"expected 2 to {MAX_BITS} bits, got {bits} (representation {signed})")
    low = -signed * 2 ** (bits - 1)
    return np.arange(low, low + 2**bits, dtype=np.float64)


def _frame_lines(lines: NDArray[np.float32]) -> int:
    """Count the leading lines that form one black or one white band."""
    first = lines[0]
    level = float(np.median(first))
    if 0.01 < level < 0.99:
        return 0
    near = np.abs(lines[: len(lines) // 4] - round(level)) <= 0.01
    is_plain = near.mean(axis=1) >= 0.98
    return int(np.argmin(np.append(is_plain, False)))


def _modality(stored: NDArray[np.float64], header: Dataset) -> _Curve:
    """Apply the modality LUT sequence, or rescale slope and intercept (PS3.3 C.11.1)."""
    tables = header.get("ModalityLUTSequence")
    if tables:
        return _look_up(stored, tables[0], header)
    slope, intercept = _first(header, "RescaleSlope"), _first(header, "RescaleIntercept") or 0.0
    slope = 1.0 if slope is None else slope
    if slope == 0:
        raise ToneError("RescaleSlope is 0")
    low, high = sorted((stored[0] * slope + intercept, stored[-1] * slope + intercept))
    return _Curve(stored * slope + intercept, low, high)


def _voi(curve: _Curve, header: Dataset, notes: list[str]) -> NDArray[np.float64]:
    """Apply the first VOI LUT, else the first window, else the full range (PS3.3 C.11.2)."""
    tables = header.get("VOILUTSequence")
    if tables:
        return _look_up(curve.values, tables[0], header).unit("VOI", notes)
    center, width = (_first(header, name) for name in ("WindowCenter", "WindowWidth"))
    if center is None or width is None:
        return curve.unit("modality", notes)
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    return _window(curve.values, center, width=width, function=function)


def _window(
    values: NDArray[np.float64], center: float, *, width: float, function: str
) -> NDArray[np.float64]:
    """Apply a window (PS3.3 C.11.2.1.2.1, C.11.2.1.3.1, C.11.2.1.3.2); the output is 0..1."""
    least = 1.0 if function == "LINEAR" else 0.0
    if width < least or (width == 0 and function != "LINEAR"):
        raise ToneError(f"expected a window width of at least {least:g}, got {width:g}")
    if function == "SIGMOID":
        with np.errstate(over="ignore"):  # where exp overflows, the result is 0
            return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (values - center) / width)))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1.0
    elif function != "LINEAR_EXACT":
        raise ToneError("expected LINEAR, LINEAR_EXACT or SIGMOID as VOILUTFunction")
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0.0, 1.0)


def _look_up(values: NDArray[np.float64], item: Dataset, header: Dataset) -> _Curve:
    """Apply a LUT item (PS3.3 C.11.1.1.1).

    Values below the first mapped value get the first entry, values above the last one the last
    entry. The output range is 0 to 2^bits - 1. If the entries need fewer bits than the descriptor
    states, it ends at the largest entry: some devices declare 16 bits and write entries up to 4095,
    or to 2200.
    """
    try:
        # The number of entries and the first value have 16 bits, signed or unsigned.
        _, first, bits = (int(number) for number in item.LUTDescriptor)
        entries = _entries(item["LUTData"].value, _entry_count(item), bits, header=header)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ToneError("a look-up table with a missing or invalid descriptor or data") from error
    largest = int(entries.max())
    held = largest.bit_length()
    if not 8 <= bits <= 16 or held > bits:
        raise ToneError(f"a look-up table of {bits} bits with entries up to {largest}")
    if held == 0:
        raise ToneError("a look-up table whose entries are all 0")
    first = _first_mapped(first, len(entries), values)
    index = np.clip(np.floor(values) - first, 0, len(entries) - 1).astype(np.intp)
    values = entries[index].astype(np.float64)
    if held == bits:
        return _Curve(values, 0.0, float(2**bits - 1))
    note = f"LUT declares {bits} bits and its largest entry is {largest}: scaled to that"
    return _Curve(values, 0.0, float(largest), note)


def _entry_count(item: Dataset) -> int:
    """Return the number of entries of a LUT: unsigned 16 bits, where 0 means 65536."""
    return (int(item.LUTDescriptor[0]) & 0xFFFF) or 65536


def _first_mapped(first: int, count: int, values: NDArray[np.float64]) -> int:
    """Return a table's first mapped value, signed or unsigned: whichever covers more of the values.

    Its signedness in the file is not reliable.
    """

    def covered(start: int) -> float:
        return min(start + count - 1, float(values.max())) - max(start, float(values.min()))

    low = first & 0xFFFF
    readings = {first, low, low - 65536}
    return max(readings, key=lambda start: (covered(start), start == first))


def _entries(data: Any, count: int, bits: int, *, header: Dataset) -> NDArray[np.int64]:  # noqa: ANN401  # untyped
    """Return the entries of a table: one per 16-bit word, or two of 8 bits, the low byte first."""
    order = ">u2" if header.original_encoding[1] is False else "<u2"
    if isinstance(data, bytes):
        words = np.frombuffer(data[: len(data) // 2 * 2], order).astype(np.int64)
    else:
        words = np.atleast_1d(np.asarray(data, dtype=np.int64)) & 0xFFFF
    if len(words) < count and bits <= 8:
        tail = data[-1:] if isinstance(data, bytes) and len(data) % 2 else b""
        packed = words.astype("<u2").tobytes() + tail
        words = np.frombuffer(packed, np.uint8).astype(np.int64)
    if len(words) < count:
        raise ValueError(f"expected {count} entries, got {len(words)}")
    return words[:count]


def _is_padding(stored: NDArray[np.float64], header: Dataset) -> NDArray[np.bool_]:
    """Return which stored values are padding.

    These are PixelPaddingValue, or the range to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2).
    """
    value = _first(header, "PixelPaddingValue")
    if value is None:
        return np.zeros(len(stored), dtype=np.bool_)
    limit = _first(header, "PixelPaddingRangeLimit")
    ends = [_signed_as(v, signed=stored[0] < 0) for v in (value, value if limit is None else limit)]
    return (stored >= min(ends)) & (stored <= max(ends))


def _signed_as(value: float, *, signed: bool) -> float:
    """Convert a 16-bit value to the signedness of the pixels, in case it was written otherwise."""
    if signed and value > 32767:
        return value - 65536
    return value + 65536 if not signed and value < 0 else value


def _first(header: Dataset, name: str) -> float | None:
    """Return the first number of an attribute; None if it is missing or empty."""
    try:
        value = header.get(name)
        if value is None or (not isinstance(value, (int, float)) and len(value) == 0):
            return None
        number = float(value[0] if not isinstance(value, (int, float, str)) else value)
    except (TypeError, ValueError, IndexError) as error:
        raise ToneError(f"{name} is not a number") from error
    if not np.isfinite(number):
        raise ToneError(f"{name} is not finite")
    return number
