"""Read DICOM radiographs: dataset, reasons for refusal, pixels displayed as the header specifies.

Only `read` uses this module. `values` maps stored values to 0..1, `gate` checks the header. Call
the functions inside `quiet_dicom`, because pydicom's warnings show header values.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, RLELossless

from medkd.io.dicom.dataset import HEAD_BYTES, HeaderError, looks_like_dicom, parse_file
from medkd.io.dicom.gdcm_process import stream_faults
from medkd.io.dicom.pixels import decoder_advice, plugin_for
from medkd.io.dicom.streams import StreamError, StreamSize, check_stream
from medkd.io.dicom.tags import text_of, texts_of
from medkd.io.file_ref import FileRef
from medkd.io.foreign import foreign_faults
from medkd.io.radiograph.contrast import MIN_PIXELS, is_blank
from medkd.io.radiograph.gate import radiograph_reasons, refusal, split_allowed
from medkd.io.radiograph.values import ToneError, inside_shutter, tone_curve

Dataset = Any
"""A pydicom Dataset; pydicom has no type hints for it."""

LOSSY_GREY = 2
"""Grey levels (of 255) by which the channels of a grey picture may differ after JPEG."""

_EDGE = re.compile(r"(?!.*(?:[LR].*[LR]|[AP].*[AP]|[HF].*[HF]))[LRAPHF]{1,3}")
"""The letters of an edge in PatientOrientation: at most one of each pair."""

_STORED_NOISE = 2.0
"""Largest distance of a blank picture's stored values from their median."""


@dataclass(frozen=True, slots=True, eq=False)
class DisplayedImage:
    """A picture displayed as its header specifies, before any masking.

    Args:
        pixels: [row, col] float32 in 0..1.
        visible: [row, col], False for padding and outside a shutter.
        notes: deviations from what the header states.
    """

    pixels: NDArray[np.float32]
    visible: NDArray[np.bool_]
    notes: tuple[str, ...] = ()


@contextmanager
def refuse_damaged(
    ref: FileRef, prefix: str = "unreadable: copy or export it again: "
) -> Iterator[None]:
    """Turn any exception that a library raises for a damaged file into a refusal.

    The reason does not show the exception's message, which may contain header values.
    """
    with foreign_faults(ref.name, prefix=prefix, show_text=False):
        yield


def read_header(stream: BinaryIO, ref: FileRef) -> tuple[Dataset, bool]:
    """Read a dataset without its pixels; also return whether it has pixels.

    Raises:
        SeriesError: if it is not DICOM, or damaged.
    """
    dataset, _ = _dataset_of(stream, ref, stop_before_pixels=True)
    if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        stream.seek(0)
        return dataset, "PixelData" in _dataset_of(stream, ref, stop_before_pixels=False)[0]
    here = stream.tell()
    return dataset, here < stream.seek(0, io.SEEK_END)


def read_accepted(
    stream: BinaryIO, ref: FileRef, *, allow: Collection[str] | None
) -> tuple[Dataset, tuple[str, ...]]:
    """Read a whole dataset that passes the gate; also return notes on how it was read.

    Raises:
        SeriesError: with all reasons whose codes are not in `allow`.
    """
    dataset, notes = _dataset_of(stream, ref, stop_before_pixels=False)
    refused, _ = split_allowed(dicom_reasons(dataset, has_pixels="PixelData" in dataset), allow)
    if refused:
        raise refusal(ref, *refused)
    return dataset, notes


def dicom_reasons(dataset: Dataset, *, has_pixels: bool) -> list[str]:
    """Return the reasons of the gate and those why the pixels cannot be decoded."""
    reasons = list(radiograph_reasons(dataset))
    if not has_pixels:
        return [*reasons, "no_pixels: it has no Pixel Data"]
    syntax = str(dataset.file_meta.get("TransferSyntaxUID") or "")
    if not syntax:
        return [*reasons, "bad_pixels: TransferSyntaxUID is missing: export it again"]
    advice = decoder_advice(syntax, text_of(dataset, "BitsStored"))
    return [*reasons, f"missing_decoder: {advice}"] if advice else reasons


def displayed_pixels(dataset: Dataset, ref: FileRef) -> DisplayedImage:
    """Decode the pixels of a dataset and map them to 0..1 as its header specifies.

    Raises:
        SeriesError: if they cannot be decoded, are in colour, have a single value, or do not match
            the header.
    """
    with refuse_damaged(ref, "bad_pixels: they cannot be decoded, copy or export it again: "):
        try:
            decoded = _decoded(dataset)
        except StreamError as error:
            raise refusal(ref, f"bad_pixels: {error}") from None
    if decoded.ndim == 3:
        full = float(np.iinfo(decoded.dtype).max)
        grey = (grey_of(decoded, ref, tolerance=LOSSY_GREY) / full).astype(np.float32)
        return DisplayedImage(grey, inside_shutter(dataset, grey.shape))
    if decoded.ndim == 2 and decoded.dtype.kind in "iu" and decoded.dtype.itemsize <= 2:
        return _displayed(decoded, dataset, ref)
    raise refusal(
        ref,
        f"bad_pixels: expected whole numbers of 8 or 16 bits in rows and columns, got "
        f"{decoded.ndim} axes of {decoded.dtype}: export it again",
    )


def grey_of(pixels: NDArray[Any], ref: FileRef, *, tolerance: int) -> NDArray[Any]:
    """Return the pixels as grey values [row, col].

    Args:
        pixels: [row, col] or [row, col, channel].
        ref: the file, for messages.
        tolerance: largest difference between the channels of a pixel.

    Raises:
        SeriesError: if the channels differ more: the picture is in colour.
    """
    if pixels.ndim == 2:
        return pixels
    spread = pixels.max(axis=2).astype(np.int32) - pixels.min(axis=2)
    if (spread > tolerance).any():
        raise refusal(ref, "colour: expected a grey picture, got one in colour")
    return pixels[..., pixels.shape[2] // 2]


def spacing_of(dataset: Dataset) -> tuple[float, float] | None:
    """Return the spacing of (rows, columns) in mm; None if the header has none.

    PixelSpacing is used first, then ImagerPixelSpacing, then NominalScannedPixelSpacing. The last
    two are not corrected for magnification (PS3.3 10.7.1.3).
    """
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        try:
            first, second = (float(value) for value in dataset.get(name) or ())
        except (TypeError, ValueError):
            continue
        if 0 < first < 10 and 0 < second < 10:
            return first, second
    return None


def orientation_of(dataset: Dataset) -> tuple[str, str] | None:
    """Return PatientOrientation (PS3.3 C.7.6.1.1.1): where rows and columns run to in the body.

    Returns:
        The letters of the right and of the bottom edge; None if the header states none or no valid
        ones, such as those for animals.
    """
    edges = texts_of(dataset, "PatientOrientation")
    if len(edges) != 2 or not all(map(_EDGE.fullmatch, edges)):
        return None
    return edges[0], edges[1]


def _dataset_of(
    stream: BinaryIO, ref: FileRef, *, stop_before_pixels: bool
) -> tuple[Dataset, tuple[str, ...]]:
    """Read a dataset, with or without preamble and file meta; also return notes on the reading."""
    begin = stream.tell()
    is_dicom = looks_like_dicom(stream.read(HEAD_BYTES))
    stream.seek(begin)
    if not is_dicom:
        raise refusal(ref, "unreadable: expected DICOM, PNG or JPEG")
    with refuse_damaged(ref, "unreadable: its DICOM header cannot be read: "):
        dataset = pydicom.dcmread(stream, stop_before_pixels=stop_before_pixels, force=True)
        if dataset.file_meta:
            return dataset, ()
        end = stream.tell()
        stream.seek(begin)
        try:
            parsed = parse_file(stream)  # derives the syntax, as for CT
        except HeaderError as error:
            raise refusal(ref, f"unreadable: {error}") from None
        stream.seek(end)
    syntax = UID(parsed.syntax if parsed else "")
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset, (f"no file meta: read as {syntax.name}",)


def _decoded(dataset: Dataset) -> NDArray[Any]:
    """Decode the single frame of a dataset, and apply its colour palette if it has one.

    Streams are checked first, because codecs make up pixels where a stream is damaged. RLE is
    decoded by pydicom itself: the Rust codec raises a panic that `except Exception` does not catch.
    """
    uid = dataset.file_meta.TransferSyntaxUID
    plugin = ""
    if uid == RLELossless:
        plugin = "pydicom"
    elif uid.is_encapsulated:
        plugin = plugin_for(uid)
        size = StreamSize(dataset.Rows, dataset.Columns, dataset.SamplesPerPixel)
        check_stream(get_frame(dataset.PixelData, 0, number_of_frames=1), uid, size)
    with stream_faults():
        decoded = pixel_array(dataset, decoding_plugin=plugin, correct_unused_bits=False)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        decoded = apply_color_lut(decoded, dataset)
    return np.asarray(decoded).astype(decoded.dtype.newbyteorder("="), copy=False)


def _displayed(decoded: NDArray[Any], dataset: Dataset, ref: FileRef) -> DisplayedImage:
    try:
        curve = tone_curve(dataset)
    except ToneError as error:
        raise refusal(ref, f"bad_lut: {error}") from None
    stored = _stored_values(decoded, dataset)
    entries = stored.astype(np.int32) - curve.low
    visible = inside_shutter(dataset, stored.shape) & ~curve.padding[entries]
    noise = _STORED_NOISE if stored.size >= MIN_PIXELS else 0.0
    if is_blank(stored, visible, tolerance=noise):
        raise refusal(ref, "no_contrast: its stored values are equal, apart from noise")
    notes = (*curve.notes, *_dropped_bits(decoded, stored, dataset))
    return DisplayedImage(curve.values[entries], visible, notes)


def _stored_values(decoded: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Drop bits outside HighBit .. HighBit - BitsStored + 1, which may be overlays (PS3.5 8.1.1).

    For signed values this also extends the sign to the upper bits, which JPEG streams leave 0.
    """
    allocated, high = decoded.dtype.itemsize * 8, _high_bit(decoded, dataset)
    return (decoded << (allocated - 1 - high)) >> (allocated - int(dataset.BitsStored))


def _dropped_bits(decoded: NDArray[Any], stored: NDArray[Any], dataset: Dataset) -> tuple[str, ...]:
    """Return a note if bits were dropped that are not overlays according to the header.

    Upper bits that only repeat the sign of a negative value do not count.
    """
    stored_bits = int(dataset.BitsStored)
    low = _high_bit(decoded, dataset) + 1 - stored_bits
    used = ((1 << stored_bits) - 1) << low
    for bit in () if _is_value_alone(dataset) else _overlay_bits(dataset):
        used |= 1 << bit
    bits = decoded.view(f"u{decoded.dtype.itemsize}")
    unused = ~bits.dtype.type(used & np.iinfo(bits.dtype).max)
    extended = (stored << low).view(bits.dtype)
    count = int(np.count_nonzero((bits & unused != 0) & ((bits ^ extended) & unused != 0)))
    if not count:
        return ()
    return (
        f"{count} pixels have values above the {stored_bits} bits that BitsStored declares "
        f"(up to {int(bits.max())}): the bits outside were dropped (PS3.5 8.1.1)",
    )


def _overlay_bits(dataset: Dataset) -> Iterator[int]:
    """Yield the bit positions of overlays that are stored in the pixels (PS3.3 C.9.2, retired)."""
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x0102) in dataset and (group, 0x3000) not in dataset:
            position = dataset[group, 0x0102].value
            if isinstance(position, int) and 0 <= position < 16:
                yield position


def _is_value_alone(dataset: Dataset) -> bool:
    """Return whether the encoding excludes overlay bits: JPEG-like streams only hold the values."""
    syntax = dataset.file_meta.TransferSyntaxUID
    return syntax.is_compressed and not syntax.name.startswith(("RLE", "Deflated"))


def _high_bit(decoded: NDArray[Any], dataset: Dataset) -> int:
    """Return HighBit; if it is invalid, BitsStored - 1.

    JPEG-like streams store values in the low bits, so HighBit is ignored for them.
    """
    stored_bits = int(dataset.BitsStored)
    if _is_value_alone(dataset):
        return stored_bits - 1
    high = int(dataset.get("HighBit", stored_bits - 1))
    return high if stored_bits - 1 <= high < decoded.dtype.itemsize * 8 else stored_bits - 1
