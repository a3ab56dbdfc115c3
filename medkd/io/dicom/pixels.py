"""Read the pixels of DICOM slices directly into the caller's arrays, and convert them to HU.

Uncompressed little-endian pixels are read without conversion. Compressed ones are checked
(`streams.py`) and decoded by the fastest installed codec. HU = stored * RescaleSlope +
RescaleIntercept (DICOM PS3.3 C.11.1). Padding is PixelPaddingValue, or the range from it to
PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2), in stored values with the sign of PixelRepresentation;
it becomes `PADDED_HU`. To read several series in parallel, use one process for each series.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import JPEGExtended12Bit

from medkd.errors import WorkerError
from medkd.io.dicom.codes import Fault, join_names
from medkd.io.dicom.gdcm_process import register, stream_faults
from medkd.io.dicom.quiet import quiet_dicom
from medkd.io.dicom.streams import (
    DECODERS,
    StreamError,
    StreamSize,
    check_stream,
    fragments_of,
    join_frames,
)
from medkd.io.dicom.tags import uid_of
from medkd.io.foreign import describe_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.uid import UID

    from medkd.io.dicom.header import SliceHeader
    from medkd.io.file_ref import FileRef

PADDED_HU = -2000
"""Value of padding voxels, which were not measured: below air and below `lungs.PADDING_HU`."""

_HU_LOW, _HU_HIGH = -32768, 32767

_INTERPRETATION = (
    "RescaleSlope", "RescaleIntercept", "BitsStored", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)  # fmt: skip


def decoder_faults(headers: Sequence[SliceHeader]) -> list[Fault]:
    """Return faults for slices that no installed package can decode."""
    found: dict[str, list[SliceHeader]] = {}
    for header in headers:
        if header.pixels.present:
            bits = str(header.whole("BitsStored") or "")
            found.setdefault(decoder_advice(header.syntax, bits), []).append(header)
    found.pop("", None)
    return [
        Fault("missing_decoder", f"{join_names(which)}: {advice}")
        for advice, which in sorted(found.items())
    ]


def decoder_advice(syntax: str, bits_stored: str) -> str:
    """Return why a transfer syntax cannot be decoded, and what to install; empty if it can.

    Args:
        syntax: its UID.
        bits_stored: BitsStored in the header.
    """
    uid = uid_of(syntax)
    if not uid.is_transfer_syntax:  # the value can be any text, so it is not shown
        return "medkd knows no package that decodes its transfer syntax"
    if not uid.is_encapsulated:
        return ""
    if uid == JPEGExtended12Bit and bits_stored != "8":
        return f"{uid.name} of more than 8 bits; medkd knows no package that decodes it"
    if plugin_for(uid):
        return ""
    if uid not in DECODERS:
        return f"{uid.name}; medkd knows no package that decodes it"
    return f"{uid.name}; run: pip install {DECODERS[uid].package}"


def plugin_for(uid: UID) -> str:
    """Return the fastest installed pydicom plugin for a transfer syntax; empty if there is none."""
    if uid not in DECODERS:
        return ""
    register()
    available = get_decoder(uid).available_plugins
    return next((plugin for plugin in DECODERS[uid].plugins if plugin in available), "")


def same_pixels(headers: Sequence[SliceHeader]) -> bool:
    """Return whether slices have equal stored values and equal attributes for their interpretation.

    Returns False if a slice cannot be read.
    """
    meanings = {tuple(header.text(name) for name in _INTERPRETATION) for header in headers}
    first, *others = map(_stored, headers)
    return (
        first is not None
        and len(meanings) == 1
        and all(other is not None and np.array_equal(first, other) for other in others)
    )


def _stored(header: SliceHeader) -> NDArray[Any] | None:
    if size_faults([header]):
        return None
    array = np.empty((header.whole("Rows") or 0, header.whole("Columns") or 0), dtype=np.int16)
    return None if PixelReader().read_into(array, header) else stored_values(array, header)


@dataclass(slots=True)
class PixelReader:
    """Reads slices one after another, and caches the frames of the last multi-frame file."""

    _ref: FileRef | None = None
    _frames: list[bytes] = field(default_factory=list)

    def read_into(self, array: NDArray[np.int16], header: SliceHeader) -> Fault | None:
        """Read the stored bits of a slice into `array` [row, column].

        Returns:
            The fault if the slice cannot be read, else None. After a fault, the contents of
            `array` are undefined.

        Raises:
            WorkerError: if the process that decodes JPEG cannot be started.
        """
        try:
            if header.pixels.is_raw:
                return _read_raw(array, header)
            with quiet_dicom():
                decoded = self._decode(header)
        except StreamError as error:
            code = "truncated_pixels" if "ends within" in str(error) else "damaged_pixels"
            return Fault(code, f"{header.name}: {error}")
        except WorkerError:
            raise
        except BaseException as error:
            # Codecs can raise any exception; a panic of a Rust codec is not an Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            kind = describe_error(error, show_text=False)
            return Fault("damaged_pixels", f"{header.name}: its pixels cannot be decoded ({kind})")
        if decoded.shape != array.shape or decoded.dtype.itemsize != 2:
            got = f"{decoded.shape} {decoded.dtype}"
            text = f"{header.name}: expected {array.shape} pixels of 16 bit, got {got}"
            return Fault("damaged_pixels", text)
        np.copyto(array.view(decoded.dtype.newbyteorder("=")), decoded)
        return None

    def _decode(self, header: SliceHeader) -> NDArray[Any]:
        uid = uid_of(header.syntax)
        if not uid.is_encapsulated:
            with header.ref.open() as stream:
                dataset = pydicom.dcmread(stream, force=True)
            # Without file meta the syntax was derived from the elements of the file.
            dataset.file_meta.TransferSyntaxUID = uid
            # The conversion to HU drops and notes bits above BitsStored.
            pixels = pixel_array(dataset, correct_unused_bits=False)
            return np.asarray(pixels if header.frames == 1 else pixels[header.frame])
        if self._ref != header.ref:
            with header.ref.open() as stream:
                stream.seek(header.pixels.start)
                element = stream.read()
            self._frames = join_frames(fragments_of(element), header.frames)
            self._ref = header.ref if header.frames > 1 else None
        return _decoded(self._frames[header.frame], uid, header)


def size_faults(headers: Sequence[SliceHeader]) -> list[Fault]:
    """Return faults if files have fewer or more pixels than stated, or if memory is too small.

    Call this before allocating arrays of the sizes that headers state.
    """
    sizes = [2 * (h.whole("Rows") or 0) * (h.whole("Columns") or 0) for h in headers]
    faults = [
        fault
        for header, size in zip(headers, sizes, strict=True)
        if header.pixels.is_raw and (fault := _size_fault(header, size, header.pixels.size))
    ]
    if sum(sizes) > _memory_bytes():
        text = f"{sum(sizes) / 1e9:.3g} GB of pixels do not fit into the memory of this machine"
        faults.append(Fault("damaged_pixels", text))
    return faults


def _size_fault(header: SliceHeader, expected: int, found: int) -> Fault | None:
    if found == expected:
        return None
    text = f"{header.name}: expected {expected} bytes of pixels, got {found}"
    return Fault("truncated_pixels", text)


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _read_raw(array: NDArray[np.int16], header: SliceHeader) -> Fault | None:
    if fault := _size_fault(header, array.nbytes, header.pixels.size):
        return fault
    with header.ref.open() as stream:
        stream.seek(header.pixels.start)
        count = stream.readinto(array.data.cast("B"))  # type: ignore[attr-defined]  # files have it
    return _size_fault(header, array.nbytes, count)


def _decoded(stream: bytes, uid: UID, header: SliceHeader) -> NDArray[Any]:
    """Check and decode one frame, with the image size of the header."""
    rows, columns = header.whole("Rows") or 0, header.whole("Columns") or 0
    bits = header.whole("BitsStored") or 16
    check_stream(stream, uid, StreamSize(rows, columns))
    with stream_faults():
        pixels, _ = get_decoder(uid).as_array(
            encapsulate([stream], has_bot=False),
            index=0,
            raw=True,
            decoding_plugin=plugin_for(uid),
            correct_unused_bits=False,
            pixel_keyword="PixelData",
            transfer_syntax_uid=uid,
            rows=rows,
            columns=columns,
            number_of_frames=1,
            samples_per_pixel=1,
            photometric_interpretation="MONOCHROME2",
            bits_allocated=16,
            bits_stored=bits,
            pixel_representation=header.whole("PixelRepresentation") or 0,
        )
    return np.asarray(pixels)


@dataclass(frozen=True, slots=True)
class Rescaled:
    """The outcome of converting one slice.

    Args:
        fault: why the slice could not be converted; None if it was.
        fractional: whether HU were rounded.
        blank: whether all stored values are 0.
        extra_bits: whether bits above BitsStored were not empty; they were ignored.
    """

    fault: Fault | None = None
    fractional: bool = False
    blank: bool = False
    extra_bits: bool = False


def to_hu(array: NDArray[np.int16], header: SliceHeader) -> Rescaled:
    """Convert stored bits to HU in place.

    Args:
        array: [row, column] the stored bits of one slice; overwritten with HU.
        header: of that slice; a missing RescaleSlope is 1, a missing RescaleIntercept is 0.
    """
    extra_bits = _has_extra_bits(array, header)
    stored = stored_values(array, header)
    low, high = int(stored.min()), int(stored.max())
    ends = padding_range(header)
    padding = None if ends is None else (stored >= ends[0]) & (stored <= ends[1])
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
    fractional = _rescale(array, stored, slope, intercept)
    if padding is not None:
        np.copyto(array, np.int16(PADDED_HU), where=padding)
    return Rescaled(None, fractional, low == high == 0, extra_bits)


def _has_extra_bits(array: NDArray[np.int16], header: SliceHeader) -> bool:
    """Return whether bits above BitsStored are neither 0 nor the sign (overlays or lost values)."""
    bits = header.whole("BitsStored") or 16
    if bits >= 16:
        return False
    as_stated = array >> bits == 0
    if header.whole("PixelRepresentation"):
        as_stated |= array >> (bits - 1) == -1
    return not bool(as_stated.all())


def stored_values(array: NDArray[np.int16], header: SliceHeader) -> NDArray[Any]:
    """Return a view of stored bits as signed or unsigned numbers.

    Bits above BitsStored are overwritten in place with 0 or the sign.

    Args:
        array: [row, column] the stored bits of one slice.
        header: of that slice.
    """
    unused = 16 - (header.whole("BitsStored") or 16)
    stored: NDArray[Any] = array if header.whole("PixelRepresentation") else array.view(np.uint16)
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


def _rescale(
    array: NDArray[np.int16], stored: NDArray[Any], slope: float, intercept: float
) -> bool:
    """Rescale in place; return whether HU were rounded."""
    if slope == 1 and intercept.is_integer() and abs(intercept) <= _HU_HIGH:
        # Sums that fit int16 are correct modulo 2^16, for signed and unsigned stored values.
        np.add(array, np.int16(intercept), out=array)
        return False
    exact = stored.astype(np.float64) * slope + intercept
    rounded = np.rint(exact)
    array[...] = np.clip(rounded, _HU_LOW, _HU_HIGH)
    return bool(np.abs(exact - rounded).max() > 1e-6)
