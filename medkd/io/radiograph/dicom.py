"""DICOM radiographs: the dataset, why it is refused, its pixels as the header shows them.

Used by `read` alone. Values go through `values`, scope is `gate`'s.
Call it inside `quiet_dicom`: pydicom's warnings show values.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from struct import error as StructError  # noqa: N812  # its name says nothing
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import apply_color_lut, get_decoder, pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, RLELossless

from medkd.io.dicom.pixels import plugin_for
from medkd.io.dicom.streams import DECODERS, StreamError, StreamSize, check_stream
from medkd.io.file_ref import FileRef
from medkd.io.radiograph.gate import radiograph_reasons, refusal, split_allowed
from medkd.io.radiograph.values import (
    ToneError,
    mask_border,
    mask_shutter,
    stored_range,
    tone_curve,
)

Dataset = Any
"""pydicom's, which has no types."""

BROKEN = (AttributeError, BytesLengthException, EOFError, IndexError, KeyError, MemoryError,
          NotImplementedError, OSError, OverflowError, RuntimeError, StructError, TypeError,
          ValueError, zlib.error)  # fmt: skip
"""What pydicom and its decoders raise on damaged files."""

LOSSY_GREY = 2
"""Levels of 255 by which the channels of a grey picture may differ after JPEG."""


@contextmanager
def refusing_broken(ref: FileRef) -> Iterator[None]:
    """Turn what a damaged header raises, wherever it is first looked at, into a refusal."""
    try:
        yield
    except BROKEN as error:
        kind = type(error).__name__
        raise refusal(ref, f"unreadable: a value of its header cannot be read ({kind})") from None


def read_header(stream: BinaryIO, ref: FileRef) -> tuple[Dataset, bool]:
    """Read a dataset without its pixels, and whether pixels follow.

    Raises:
        SeriesError: if it is no DICOM, or damaged.
    """
    dataset = _dataset_of(stream, ref, stop_before_pixels=True)
    if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        stream.seek(0)
        return dataset, "PixelData" in _dataset_of(stream, ref, stop_before_pixels=False)
    here = stream.tell()
    return dataset, here < stream.seek(0, io.SEEK_END)


def read_shown(stream: BinaryIO, ref: FileRef, *, allow: Collection[str] | None) -> Dataset:
    """Read a whole dataset that the gate lets pass.

    Raises:
        SeriesError: with every reason that is not allowed.
    """
    dataset = _dataset_of(stream, ref, stop_before_pixels=False)
    refused, _ = split_allowed(reasons_of(dataset, has_pixels="PixelData" in dataset), allow)
    if refused:
        raise refusal(ref, *refused)
    return dataset


def reasons_of(dataset: Dataset, *, has_pixels: bool) -> list[str]:
    """Return the gate's reasons and those of the pixels' encoding."""
    reasons = list(radiograph_reasons(dataset))
    if not has_pixels:
        return [*reasons, "no_pixels: it has no Pixel Data"]
    syntax = str(dataset.file_meta.get("TransferSyntaxUID") or "")
    if not syntax:
        return [*reasons, "bad_pixels: TransferSyntaxUID is missing"]
    problem = _decoder_problem(syntax)
    return [*reasons, problem] if problem else reasons


def shown_pixels(dataset: Dataset, ref: FileRef) -> NDArray[np.float32]:
    """Decode a dataset's pixels and show them as its header asks: [row, col] in 0..1.

    Raises:
        SeriesError: if they cannot be decoded, are in colour, or fit the header badly.
    """
    try:
        decoded = _decoded(dataset)
    except StreamError as error:
        raise refusal(ref, f"bad_pixels: {error}") from None
    except BROKEN as error:
        kind = type(error).__name__
        raise refusal(ref, f"bad_pixels: they cannot be decoded ({kind})") from None
    if decoded.ndim == 3:
        full = float(np.iinfo(decoded.dtype).max)
        shown = (grey_of(decoded, ref, tolerance=LOSSY_GREY) / full).astype(np.float32)
    elif decoded.ndim == 2 and decoded.dtype.kind in "iu" and decoded.dtype.itemsize <= 2:
        shown = _toned(decoded, dataset, ref)
    else:
        raise refusal(ref, f"bad_pixels: {decoded.ndim} axes of {decoded.dtype}")
    return mask_border(mask_shutter(shown, dataset))


def grey_of(pixels: NDArray[Any], ref: FileRef, *, tolerance: int) -> NDArray[Any]:
    """Return [row, col]; channels must be equal, within a tolerance after lossy compression.

    Raises:
        SeriesError: if it is a picture in colour.
    """
    if pixels.ndim == 2:
        return pixels
    spread = pixels.max(axis=2).astype(np.int32) - pixels.min(axis=2)
    if (spread > tolerance).any():
        raise refusal(ref, "colour: expected a grey picture, got one in colour")
    return pixels[..., pixels.shape[2] // 2]


def spacing_of(dataset: Dataset) -> tuple[float, float] | None:
    """Return mm between rows and columns: in the body, else at the detector, else as scanned.

    The second and third are not corrected for magnification (PS3.3 10.7.1.3).
    """
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        try:
            first, second = (float(value) for value in dataset.get(name) or ())
        except (TypeError, ValueError):
            continue
        if 0 < first < 10 and 0 < second < 10:
            return first, second
    return None


def _dataset_of(stream: BinaryIO, ref: FileRef, *, stop_before_pixels: bool) -> Dataset:
    try:
        return pydicom.dcmread(stream, stop_before_pixels=stop_before_pixels)
    except InvalidDicomError:
        raise refusal(ref, "unreadable: expected DICOM, PNG or JPEG") from None
    except BROKEN as error:
        kind = type(error).__name__
        raise refusal(ref, f"unreadable: its DICOM header cannot be read ({kind})") from None


def _decoder_problem(syntax: str) -> str:
    uid = UID(syntax)
    try:
        get_decoder(uid)
    except NotImplementedError:
        return "missing_decoder: no package known here decodes its transfer syntax"
    if not uid.is_encapsulated or plugin_for(uid):
        return ""
    advice = f"run: pip install {DECODERS[uid].package}" if uid in DECODERS else "none is known"
    return f"missing_decoder: {uid.name}; {advice}"


def _decoded(dataset: Dataset) -> NDArray[Any]:
    """Decode a dataset's one frame; colours of a palette are looked up.

    Codecs abort on broken streams: each is checked before. That of Rust for RLE panics past every
    except, so pydicom's own decodes that.
    """
    uid = dataset.file_meta.TransferSyntaxUID
    plugin = ""
    if uid == RLELossless:
        plugin = "pydicom"
    elif uid.is_encapsulated:
        plugin = plugin_for(uid)
        size = StreamSize(dataset.Rows, dataset.Columns, dataset.SamplesPerPixel)
        check_stream(get_frame(dataset.PixelData, 0, number_of_frames=1), uid, size)
    decoded = pixel_array(dataset, decoding_plugin=plugin, correct_unused_bits=False)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        decoded = apply_color_lut(decoded, dataset)
    return np.asarray(decoded)


def _toned(decoded: NDArray[Any], dataset: Dataset, ref: FileRef) -> NDArray[np.float32]:
    try:
        span = stored_range(dataset)
        curve = tone_curve(dataset)
    except ToneError as error:
        raise refusal(ref, f"bad_lut: {error}") from None
    stored = _stored_values(decoded, dataset)
    if stored.size and not span.low <= stored.min() <= stored.max() <= span.high:
        got = f"{stored.min()} to {stored.max()}"
        raise refusal(ref, f"bad_pixels: expected {span.low} to {span.high}, got {got}")
    return curve[stored.astype(np.int32) - span.low]


def _stored_values(decoded: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Drop bits outside HighBit .. HighBit - BitsStored + 1: they may hold overlays (PS3.5 8.1.1).

    Streams of JPEG and its kin hold the value alone, without such bits.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not syntax.name.startswith(("RLE", "Deflated")):
        return decoded
    allocated, stored_bits = decoded.dtype.itemsize * 8, int(dataset.BitsStored)
    high = int(dataset.get("HighBit", stored_bits - 1))
    if not stored_bits - 1 <= high < allocated:
        high = stored_bits - 1
    return (decoded << (allocated - 1 - high)) >> (allocated - stored_bits)
