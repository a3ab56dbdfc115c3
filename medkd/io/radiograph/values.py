"""From a DICOM radiograph's stored values to 0..1, bright = dense.

In the standard's order (PS3.3 C.11.1, C.11.2, C.7.6.3.1.2): stored value, modality LUT, VOI LUT
or window, then inversion of MONOCHROME1. Stored values have at most 16 bits, so the whole way is
one table over all of them. Padding becomes 0 (dark) at the end. Nothing is stretched to the
pixels that happen to be there: without a window the range is what the bit depth can hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Dataset = Any
"""pydicom's, which has no types."""

MAX_BITS = 16


class ToneError(ValueError):
    """A header whose tables or windows cannot be applied; its text is a reason without code."""


@dataclass(frozen=True, slots=True)
class StoredRange:
    """The least and the largest value that the stored bits can hold."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class _Curve:
    """A value for every stored one, and the least and largest that it could take."""

    values: NDArray[np.float64]
    low: float
    high: float


def stored_range(header: Dataset) -> StoredRange:
    """Return what BitsStored and PixelRepresentation allow (PS3.3 C.7.6.3).

    Raises:
        ToneError: if they are missing or senseless.
    """
    try:
        bits, signed = int(header.BitsStored), int(header.PixelRepresentation)
    except (AttributeError, TypeError, ValueError) as error:
        raise ToneError("BitsStored or PixelRepresentation is missing") from error
    if not 2 <= bits <= MAX_BITS or signed not in (0, 1):
        raise ToneError(f"expected 2 to {MAX_BITS} bits, got {bits} (representation {signed})")
    if signed:
        return StoredRange(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return StoredRange(0, 2**bits - 1)


def tone_curve(header: Dataset) -> NDArray[np.float32]:
    """Build the table from stored values to 0..1.

    Args:
        header: a dataset with one sample a pixel.

    Returns:
        [N] float32 in 0..1: entry n belongs to the stored value `stored_range(header).low + n`.

    Raises:
        ToneError: if a table, a rescale or a window of the header cannot be applied.
    """
    span = stored_range(header)
    stored = np.arange(span.low, span.high + 1, dtype=np.float64)
    shown = _voi(_modality(stored, header), header)
    if str(header.get("PhotometricInterpretation", "")).strip() == "MONOCHROME1":
        shown = 1.0 - shown
    shown[_is_padding(stored, header, span)] = 0.0
    return shown.astype(np.float32)


def mask_border(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the picture with the black or white frame around it set to 0.

    A frame is burned in: on each side, the outer lines of which 98 % are all white or all black
    (within 1 %), up to a quarter of the picture. Letters may stand in it; they go too.

    Args:
        pixels: [row, col] in 0..1.

    Example:
        >>> film = np.full((8, 8), 0.5, np.float32)
        >>> film[0] = 1.0
        >>> mask_border(film)[:2, 0].tolist()
        [0.0, 0.5]
    """
    rows = slice(_frame_lines(pixels), pixels.shape[0] - _frame_lines(pixels[::-1]))
    inner = pixels[rows]
    columns = slice(_frame_lines(inner.T), inner.shape[1] - _frame_lines(inner.T[::-1]))
    masked = np.zeros_like(pixels)
    masked[rows, columns] = pixels[rows, columns]
    return masked


def mask_shutter(pixels: NDArray[np.float32], header: Dataset) -> NDArray[np.float32]:
    """Return the picture with all outside a rectangular display shutter (PS3.3 C.7.6.11) at 0."""
    shapes = header.get("ShutterShape") or ()
    if "RECTANGULAR" not in ([shapes] if isinstance(shapes, str) else list(shapes)):
        return pixels
    names = ("UpperHorizontalEdge", "LowerHorizontalEdge", "LeftVerticalEdge", "RightVerticalEdge")
    try:
        top, bottom, left, right = (int(header[f"Shutter{name}"].value) for name in names)
    except (KeyError, TypeError, ValueError):
        return pixels
    # Edges are the first lines hidden, counted from 1.
    inside = (slice(max(top, 0), max(bottom - 1, 0)), slice(max(left, 0), max(right - 1, 0)))
    if pixels[inside].size == 0:
        return pixels
    masked = np.zeros_like(pixels)
    masked[inside] = pixels[inside]
    return masked


def _frame_lines(lines: NDArray[np.float32]) -> int:
    """Count the leading lines that are one black or one white band."""
    first = lines[0]
    level = float(np.median(first))
    if 0.01 < level < 0.99:
        return 0
    limit = len(lines) // 4
    near = np.abs(lines[: limit + 1] - round(level)) <= 0.01
    plain = near.mean(axis=1) >= 0.98
    count = len(plain) if plain.all() else int(np.argmin(plain))
    return min(count, limit)


def _modality(stored: NDArray[np.float64], header: Dataset) -> _Curve:
    """Apply the modality LUT sequence, or rescale slope and intercept (PS3.3 C.11.1)."""
    tables = header.get("ModalityLUTSequence")
    if tables:
        return _look_up(stored, tables[0], header)
    slope, intercept = (
        _number(header, name, default)
        for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if slope == 0:
        raise ToneError("RescaleSlope is 0")
    low, high = sorted((stored[0] * slope + intercept, stored[-1] * slope + intercept))
    return _Curve(stored * slope + intercept, low, high)


def _voi(curve: _Curve, header: Dataset) -> NDArray[np.float64]:
    """Apply the first VOI LUT, else the first window, else the whole range (PS3.3 C.11.2)."""
    tables = header.get("VOILUTSequence")
    if tables:
        shown = _look_up(curve.values, tables[0], header)
        return shown.values / shown.high
    center, width = (_first(header, name) for name in ("WindowCenter", "WindowWidth"))
    if center is None or width is None:
        return (curve.values - curve.low) / (curve.high - curve.low)
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    return _window(curve.values, center, width=width, function=function)


def _window(
    values: NDArray[np.float64], center: float, *, width: float, function: str
) -> NDArray[np.float64]:
    """Apply a window: PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2, output 0..1."""
    least = 1.0 if function == "LINEAR" else 0.0
    if width < least or (width == 0 and function != "LINEAR"):
        raise ToneError(f"expected a window at least {least:g} wide, got {width:g}")
    if function == "SIGMOID":
        with np.errstate(over="ignore"):  # exp of a far value is infinite, its share 0
            return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (values - center) / width)))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1.0
    elif function != "LINEAR_EXACT":
        raise ToneError("expected a VOILUTFunction LINEAR, LINEAR_EXACT or SIGMOID")
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0.0, 1.0)


def _look_up(values: NDArray[np.float64], item: Dataset, header: Dataset) -> _Curve:
    """Apply a LUT item (PS3.3 C.11.1.1.1): below its first value the first entry, above the last.

    Its output runs from 0 to 2^bits - 1, whatever entries there are.
    """
    try:
        count, first, bits = (int(number) for number in item.LUTDescriptor)
        entries = _entries(item["LUTData"].value, count or 65536, header=header)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ToneError("a look-up table without a sound descriptor and data") from error
    if first > 32767 and values.min() < 0:
        first -= 65536  # written as signed, read as unsigned
    full = 2**bits - 1
    if not 8 <= bits <= 16 or entries.max() > full:
        raise ToneError(f"a look-up table of {bits} bits with entries up to {entries.max()}")
    index = np.clip(np.floor(values) - first, 0, len(entries) - 1).astype(np.intp)
    return _Curve(entries[index].astype(np.float64), 0.0, float(full))


def _entries(data: Any, count: int, *, header: Dataset) -> NDArray[np.int64]:  # noqa: ANN401  # untyped
    """Return a table's entries; bytes hold 16-bit words, or 8-bit entries two a word."""
    if isinstance(data, bytes):
        big = header.original_encoding[1] is False
        words = len(data) >= 2 * count
        dtype = (">u2" if big else "<u2") if words else "u1"
        entries = np.frombuffer(data[: count * (2 if words else 1)], dtype).astype(np.int64)
    else:
        entries = np.atleast_1d(np.asarray(data, dtype=np.int64))[:count] & 0xFFFF
    if len(entries) != count:
        raise ValueError(f"expected {count} entries, got {len(entries)}")
    return entries


def _is_padding(
    stored: NDArray[np.float64], header: Dataset, span: StoredRange
) -> NDArray[np.bool_]:
    """Mark Pixel Padding Value, up to Pixel Padding Range Limit: stored units (C.7.5.1.1.2)."""
    value = _first(header, "PixelPaddingValue")
    if value is None:
        return np.zeros(len(stored), dtype=np.bool_)
    limit = _first(header, "PixelPaddingRangeLimit")
    ends = [_signed_as(v, span) for v in (value, value if limit is None else limit)]
    return (stored >= min(ends)) & (stored <= max(ends))


def _signed_as(value: float, span: StoredRange) -> float:
    """Read a 16-bit value with the sign of the pixels, whatever sign it was written with."""
    if span.low < 0 and value > 32767:
        return value - 65536
    return value + 65536 if span.low == 0 and value < 0 else value


def _number(header: Dataset, name: str, default: float) -> float:
    value = _first(header, name)
    return default if value is None else value


def _first(header: Dataset, name: str) -> float | None:
    """Return an attribute's first number; None where it is missing or empty."""
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
