"""Child process that decodes JPEG streams with gdcm, one after another; a stream may crash it.

`gdcm_process.py` runs this file as a script. It does not import medkd, NumPy or pydicom, and
therefore starts in a tenth of a second. gdcm is imported only inside the functions that use it.

A request on standard input is two lengths (unsigned, 4 bytes, little endian), then a layout as JSON
and a stream of these lengths. The answer on standard output is two lengths, then JSON with `error`
(the type of an exception) and `printed` (what the codec printed), then the decoded frame.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
import tempfile
from typing import Any, cast

LENGTHS = struct.Struct("<II")
READY = b"ready"


def decode(stream: bytes, layout: dict[str, Any]) -> bytes:
    """Return the samples of one frame as gdcm decodes them."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(stream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())

    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((layout["columns"], layout["rows"], 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(layout["photometric"])
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    if layout["samples"] > 1:
        image.SetPlanarConfiguration(layout["planar"])
    syntax = gdcm.TransferSyntax.GetTSType(layout["syntax"])
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    # BitsStored is not passed on: gdcm would silently drop the bits above it, and it aborts on
    # valid streams of less than 8 bits.
    bits = layout["bits"]
    image.SetPixelFormat(
        gdcm.PixelFormat(layout["samples"], bits, bits, bits - 1, layout["signed"])
    )
    # gdcm returns its bytes as a str.
    return cast("bytes", image.GetBuffer().encode("utf-8", "surrogateescape"))


def serve() -> None:
    """Answer requests until standard input ends."""
    import gdcm

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gdcm.Trace.WarningOff()  # turns off gdcm's own warnings, not those of its libjpeg
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    with tempfile.TemporaryFile() as printed, answers:
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
        answers.write(READY)
        answers.flush()
        while len(lengths := requests.read(LENGTHS.size)) == LENGTHS.size:
            layout_size, stream_size = LENGTHS.unpack(lengths)
            layout = json.loads(requests.read(layout_size))
            stream = requests.read(stream_size)
            frame, error = b"", ""
            try:
                frame = decode(stream, layout)
            except Exception as fault:  # noqa: BLE001  # gdcm can raise any exception
                error = type(fault).__name__
            head = json.dumps({"error": error, "printed": _drain(printed.fileno())}).encode()
            answers.write(LENGTHS.pack(len(head), len(frame)) + head)
            answers.write(frame)
            answers.flush()


def _drain(file: int) -> str:
    """Return the first 4096 bytes written to a file since the last call as text, and empty it."""
    size = os.fstat(file).st_size
    if not size:
        return ""
    text = os.pread(file, min(size, 4096), 0).decode("utf-8", "replace")
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    return text


if __name__ == "__main__":
    serve()
