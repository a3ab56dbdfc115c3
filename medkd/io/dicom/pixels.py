"""Read the stored pixels of DICOM slices directly into the caller's arrays.

Uncompressed little-endian pixels are read without conversion. Compressed ones are checked
(`streams.py`) and decoded by the fastest installed codec. The results are stored values with the
sign of PixelRepresentation; `hu.py` converts them to HU. Slices are read one after another; to read
several series in parallel, use one process for each series.
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
from medkd.io.dicom.codes import Fault, named
from medkd.io.dicom.gdcm_process import register, stream_faults
from medkd.io.dicom.hu import stored_values
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

Stored = NDArray[np.int16]

_MEANING = (
    "RescaleSlope", "RescaleIntercept", "BitsStored", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)  # fmt: skip


def decoder_faults(headers: Sequence[SliceHeader]) -> list[Fault]:
    """Return faults for slices that no installed package can decode."""
    found: dict[str, list[SliceHeader]] = {}
    for header in headers:
        if header.has_pixels:
            bits = str(header.whole("BitsStored") or "")
            found.setdefault(decoder_advice(header.syntax, bits), []).append(header)
    found.pop("", None)
    return [
        Fault("missing_decoder", f"{named(which)}: {advice}")
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
    meanings = {tuple(header.text(name) for name in _MEANING) for header in headers}
    first = _stored(headers[0])
    return (
        first is not None
        and len(meanings) == 1
        and all(
            (other := _stored(header)) is not None and np.array_equal(first, other)
            for header in headers[1:]
        )
    )


def _stored(header: SliceHeader) -> NDArray[Any] | None:
    if claim_faults([header]):
        return None
    rows, columns = header.whole("Rows") or 0, header.whole("Columns") or 0
    place = np.empty((rows, columns), dtype=np.int16)
    return None if PixelReader().read_into(place, header) else stored_values(place, header)


@dataclass(slots=True)
class PixelReader:
    """Reads slices one after another, and caches the frames of the last multi-frame file."""

    _ref: FileRef | None = None
    _frames: list[bytes] = field(default_factory=list)

    def read_into(self, place: Stored, header: SliceHeader) -> Fault | None:
        """Read the stored bits of a slice into `place` [row, column].

        Returns:
            The fault if the slice cannot be read, else None. After a fault, the contents of
            `place` are undefined.

        Raises:
            WorkerError: if the process that decodes JPEG cannot be started.
        """
        try:
            if header.is_raw:
                return _read_raw(place, header)
            with quiet_dicom():
                decoded = self._decode(header)
        except StreamError as error:
            code = "truncated_pixels" if "ends within" in str(error) else "damaged_pixels"
            return Fault(code, f"{header.name}: {error}")
        except WorkerError:
            raise
        except Exception as error:  # noqa: BLE001  # codecs can raise any exception
            return _undecodable(header, describe_error(error, show_text=False))
        except BaseException as error:
            # A panic of a Rust codec is not an Exception; other BaseExceptions are passed on.
            if type(error).__name__ != "PanicException":
                raise
            return _undecodable(header, "PanicException")
        if decoded.shape != place.shape or decoded.dtype.itemsize != 2:
            got = f"{decoded.shape} {decoded.dtype}"
            text = f"{header.name}: expected {place.shape} pixels of 16 bit, got {got}"
            return Fault("damaged_pixels", text)
        np.copyto(place.view(decoded.dtype.newbyteorder("=")), decoded)
        return None

    def _decode(self, header: SliceHeader) -> NDArray[Any]:
        uid = uid_of(header.syntax)
        if not uid.is_encapsulated:
            with header.ref.open() as stream:
                dataset = pydicom.dcmread(stream, force=True)
            # Without file meta the syntax was derived from the elements of the file.
            dataset.file_meta.TransferSyntaxUID = uid
            # The conversion to HU drops and notes bits above BitsStored.
            return _frame(np.asarray(pixel_array(dataset, correct_unused_bits=False)), header)
        if self._ref != header.ref:
            with header.ref.open() as stream:
                stream.seek(header.pixel_start)
                element = stream.read()
            self._frames = join_frames(fragments_of(element), header.frames)
            self._ref = header.ref if header.frames > 1 else None
        return _decoded(self._frames[header.frame], uid, header)


def _undecodable(header: SliceHeader, kind: str) -> Fault:
    return Fault("damaged_pixels", f"{header.name}: its pixels cannot be decoded ({kind})")


def _frame(pixels: NDArray[Any], header: SliceHeader) -> NDArray[Any]:
    return pixels if header.frames == 1 else np.asarray(pixels[header.frame])


def claim_faults(headers: Sequence[SliceHeader]) -> list[Fault]:
    """Return faults if files have fewer or more pixels than stated, or if memory is too small.

    Call this before allocating arrays of the sizes that headers state.
    """
    claims = [2 * (h.whole("Rows") or 0) * (h.whole("Columns") or 0) for h in headers]
    faults = [
        fault
        for header, wanted in zip(headers, claims, strict=True)
        if header.is_raw and (fault := _size_fault(header, wanted))
    ]
    if sum(claims) > _memory_bytes():
        text = f"{sum(claims) / 1e9:.3g} GB of pixels do not fit into the memory of this machine"
        faults.append(Fault("damaged_pixels", text))
    return faults


def _size_fault(header: SliceHeader, wanted: int) -> Fault | None:
    if header.pixel_bytes == wanted:
        return None
    text = f"expected {wanted} bytes of pixels, got {header.pixel_bytes}"
    return Fault("truncated_pixels", f"{header.name}: {text}")


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _read_raw(place: Stored, header: SliceHeader) -> Fault | None:
    if fault := _size_fault(header, place.nbytes):
        return fault
    with header.ref.open() as stream:
        stream.seek(header.pixel_start)
        count = stream.readinto(place.data.cast("B"))  # type: ignore[attr-defined]  # files have it
    if count != place.nbytes:
        text = f"expected {place.nbytes} bytes of pixels, got {count}"
        return Fault("truncated_pixels", f"{header.name}: {text}")
    return None


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
