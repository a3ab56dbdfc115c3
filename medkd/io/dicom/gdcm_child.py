"""Child process that decodes JPEG streams with gdcm, one after another; a stream may crash it.

`gdcm_process.py` runs this file as a script, with the file descriptor of a connection as argument.
It does not import medkd, NumPy or pydicom, and therefore starts in a tenth of a second.

A request is two messages: a layout as JSON, and a stream. The answer is two messages: JSON with
`error` (the type of an exception) and `printed` (what the codec printed), and the decoded frame.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, cast

import gdcm


def decode(stream: bytes, layout: dict[str, Any]) -> bytes:
    """Return the samples of one frame as gdcm decodes them."""
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


def serve(connection: Connection) -> None:
    """Answer requests until the parent process closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gdcm.Trace.WarningOff()  # turns off gdcm's own warnings, not those of its libjpeg
    with tempfile.TemporaryFile() as printed:
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
        connection.send_bytes(b"ready")
        while True:
            layout = json.loads(connection.recv_bytes())
            stream = connection.recv_bytes()
            frame, error = b"", ""
            try:
                frame = decode(stream, layout)
            except Exception as fault:  # noqa: BLE001  # gdcm can raise any exception
                error = type(fault).__name__
            answer = {"error": error, "printed": _drain(printed.fileno())}
            connection.send_bytes(json.dumps(answer).encode())
            connection.send_bytes(frame)


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
    with suppress(EOFError):
        serve(Connection(int(sys.argv[1])))
