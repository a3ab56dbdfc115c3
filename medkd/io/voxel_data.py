"""The bytes of a volume's voxels: first counted, then read or decompressed to exactly that size.

The header readers (`metaimage.py`, `nrrd.py`, `nifti.py`) determine where the bytes are; this
module does not know headers. A file that is too short, too long, damaged, or too small for the
voxels of its header is refused. Checksums of compressed streams (gzip: CRC-32 and size, zlib:
Adler-32, bzip2: CRC) are verified.
"""

from __future__ import annotations

import bz2
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from medkd.io.dicom.codes import Fault
from medkd.io.foreign import foreign_faults

Packing = Literal["raw", "zlib", "gzip", "bzip2"]

AT_END = -1
"""Value of `skip_bytes`: the voxels are the last bytes of the file."""

CHUNK_BYTES = 1 << 20
_DAMAGED = "damaged_pixels: its voxels are incomplete or damaged: "
GZIP_BITS = 31
"""Value of zlib's `wbits` for a gzip stream."""

MOST_EXPANSION = 1032
"""Largest expansion by deflate: 258 bytes from 2 bits (zlib technical details, "Maximum
Compression Factor"). bzip2 has no useful bound; memory is used only as its data arrive."""


@dataclass(frozen=True, slots=True)
class VoxelData:
    """The place of a volume's voxels in files.

    Args:
        shape: voxels along (i, j, k); i varies fastest in the file.
        element: type of one value with its byte order.
        files: one file for all voxels, or one for each slice k.
        packing: compression of the bytes.
        skip_bytes: bytes of each file before the voxels (or before the compressed stream), or
            `AT_END`.
        skip_unpacked: bytes of the decompressed stream before the voxels.
        packed_bytes: size of the compressed stream; None if the header does not state it.
        countable: False if the header is too faulty to determine the number of bytes.
    """

    shape: tuple[int, int, int]
    element: np.dtype[Any]
    files: tuple[Path, ...]
    packing: Packing = "raw"
    skip_bytes: int = 0
    skip_unpacked: int = 0
    packed_bytes: int | None = None
    countable: bool = True

    @property
    def size_bytes(self) -> int:
        """Uncompressed size of all voxels."""
        return math.prod(self.shape) * self.element.itemsize


def data_faults(data: VoxelData) -> list[Fault]:
    """Check the sizes of the voxel files without reading them.

    Returns:
        Why they do not match the voxels of the header; empty if they match.
    """
    missing = [repr(file.name) for file in data.files if not file.is_file()]
    if missing:
        more = f" (and {len(missing) - 1} more files)" if missing[1:] else ""
        text = f"the voxel file {missing[0]} is missing{more}: put it beside the header"
        return [Fault("truncated_pixels", text)]
    if not data.countable:
        return []
    if data.packing == "raw":
        return _counted_raw(data)
    return _counted_packed(data)


def _counted_raw(data: VoxelData) -> list[Fault]:
    expected = data.size_bytes // len(data.files)
    short, long = [], []
    for file in data.files:
        got = file.stat().st_size - max(data.skip_bytes, 0)
        text = f"the header requires {expected} bytes of voxels, {file.name!r} has {max(got, 0)}"
        if got < expected:
            short.append(text)
        elif got > expected and data.skip_bytes != AT_END:
            long.append(text)
    return [
        Fault(code, texts[0] + (f", and {len(texts) - 1} more files" if texts[1:] else ""))
        for code, texts in (("truncated_pixels", short), ("damaged_pixels", long))
        if texts
    ]


def _counted_packed(data: VoxelData) -> list[Fault]:
    (file,) = data.files
    got = file.stat().st_size - data.skip_bytes
    if data.packed_bytes is not None and got != data.packed_bytes:
        code = "truncated_pixels" if got < data.packed_bytes else "damaged_pixels"
        text = f"the header requires {data.packed_bytes} bytes of compressed voxels"
        return [Fault(code, f"{text}, {file.name!r} has {max(got, 0)}")]
    most = max(got, 0) * MOST_EXPANSION
    if data.packing != "bzip2" and data.size_bytes + data.skip_unpacked > most:
        text = (
            f"the header requires {data.size_bytes} bytes of voxels, the {max(got, 0)} compressed"
        )
        return [Fault("truncated_pixels", f"{text} bytes of {file.name!r} give at most {most}")]
    return []


def read_voxels(data: VoxelData, header: Path) -> NDArray[Any]:
    """Read voxels; `data_faults` must have been called before.

    Args:
        data: place of the voxels.
        header: the file that errors name.

    Returns:
        [i, j, k] of the stored type in native byte order: an (i, j, k) view of a writable
        slice-contiguous buffer.

    Raises:
        SeriesError: if there are too few or too many bytes, or if they are damaged.
        MemoryError: if the voxels do not fit into memory.
    """
    buffer = np.empty(math.prod(data.shape), dtype=data.element)
    target = memoryview(buffer.view(np.uint8))  # type: ignore[arg-type]  # an array is a buffer
    fill = _read_raw if data.packing == "raw" else _read_packed
    with foreign_faults(header, prefix=_DAMAGED):
        fill(data, target)
    if not data.element.isnative:
        buffer = buffer.byteswap(inplace=True).view(data.element.newbyteorder("="))
    return buffer.reshape(data.shape[::-1]).transpose(2, 1, 0)


def _read_raw(data: VoxelData, target: memoryview) -> None:
    share = len(target) // len(data.files)
    for number, file in enumerate(data.files):
        with file.open("rb") as stream:
            if data.skip_bytes == AT_END:
                stream.seek(-share, 2)
            else:
                stream.seek(data.skip_bytes)
            got = stream.readinto(target[number * share : (number + 1) * share])
        if got != share:
            raise EOFError(f"expected {share} bytes, got {got}")


def _read_packed(data: VoxelData, target: memoryview) -> None:
    filled = -data.skip_unpacked
    with data.files[0].open("rb") as stream:
        stream.seek(data.skip_bytes)
        for chunk in _unpacked_chunks(stream, data.packing):
            wanted = chunk[max(-filled, 0) :] if filled < 0 else chunk
            start = max(filled, 0)
            filled += len(chunk)
            if filled > len(target):
                raise ValueError(f"expected {len(target)} bytes of voxels, the stream has more")
            target[start : start + len(wanted)] = wanted
    if filled != len(target):
        raise EOFError(f"expected {len(target)} bytes of voxels, the stream has {filled}")


def unpacked_head(path: Path, size: int) -> bytes:
    """Decompress the first bytes of a gzip file.

    Args:
        path: the file.
        size: number of bytes; fewer are returned if the file is shorter.

    Raises:
        SeriesError: if its beginning is not a gzip stream, or is damaged.
    """
    with foreign_faults(path, prefix=_DAMAGED), path.open("rb") as stream:
        return zlib.decompressobj(GZIP_BITS).decompress(stream.read(CHUNK_BYTES), size)


def _unpacked_chunks(stream: BinaryIO, packing: Packing) -> Iterator[bytes]:
    """Decompress a stream from its current position, at most `CHUNK_BYTES` at a time."""
    if packing == "bzip2":
        return _bunzipped(stream)
    # MetaIO's readers accept gzip where zlib is stated: 47 detects which of them it is.
    return _inflated(stream, 47 if packing == "zlib" else GZIP_BITS)


def _inflated(stream: BinaryIO, window_bits: int) -> Iterator[bytes]:
    waiting = stream.read(CHUNK_BYTES)
    while True:  # once per gzip member: bgzip and pigz write several
        engine = zlib.decompressobj(window_bits)
        while not engine.eof:
            chunk = engine.decompress(waiting, CHUNK_BYTES)
            waiting = engine.unconsumed_tail or stream.read(CHUNK_BYTES)
            if not (chunk or waiting or engine.eof):
                raise EOFError("the compressed stream ends too early")
            yield chunk
        # `waiting` has bytes read beyond the end of the member. gzip ignores zeros there, which
        # pad the last block of a tape.
        waiting = engine.unused_data + waiting
        while window_bits == GZIP_BITS and waiting and not waiting.strip(b"\0"):
            waiting = stream.read(CHUNK_BYTES)
        if not waiting:
            return


def _bunzipped(stream: BinaryIO) -> Iterator[bytes]:
    waiting = stream.read(CHUNK_BYTES)
    while True:
        engine = bz2.BZ2Decompressor()
        while not engine.eof:
            if engine.needs_input and not waiting:
                raise EOFError("the compressed stream ends too early")
            chunk = engine.decompress(waiting if engine.needs_input else b"", CHUNK_BYTES)
            waiting = stream.read(CHUNK_BYTES) if engine.needs_input else b""
            yield chunk
        waiting = engine.unused_data or stream.read(CHUNK_BYTES)
        if not waiting:
            return
