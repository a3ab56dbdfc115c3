"""Decode JPEG frames with gdcm in a child process; registered as a pydicom plugin.

On some damaged streams gdcm terminates its whole process (std::terminate). On others it fills in
the lost pixels, and its libjpeg only prints a warning. In a child process (`gdcm_child.py`) a crash
costs one frame, and the printed warnings can be read: a stream is refused if there are any. Each
process that decodes has one child, which is started at the first frame, and again if it has died.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from multiprocessing import Pipe
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
)

from medkd.errors import WorkerError
from medkd.io.dicom.streams import GDCM_PLUGIN, StreamError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from pydicom.pixels.decoders.base import DecodeRunner

DECODER_DEPENDENCIES = dict.fromkeys(
    (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1), ("python-gdcm>=3.0.24",)
)
"""Required by pydicom: maps each transfer syntax of the plugin to its dependencies."""

TIME_LIMIT_S = 120.0
"""Time limit for decoding one frame; then the stream counts as damaged."""

_MALLOC_SETTINGS = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "134217728"}
"""Makes glibc reuse the memory of one frame for the next, which is 10 % faster."""

_MAX_PADDING = 2
_EXTRANEOUS = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_FAULT: ContextVar[Exception | None] = ContextVar("fault", default=None)


def is_available(uid: str) -> bool:
    """Return whether the plugin can decode a transfer syntax; called by pydicom."""
    return uid in DECODER_DEPENDENCIES and find_spec("gdcm") is not None


@cache
def register() -> None:
    """Register the plugin with pydicom's decoders, once, if gdcm is installed."""
    for uid in DECODER_DEPENDENCIES:
        decoder = get_decoder(uid)
        if is_available(uid) and GDCM_PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(GDCM_PLUGIN, (__name__, "decode_frame"))


def decode_frame(src: bytes, runner: DecodeRunner) -> bytearray:
    """Decode one frame; called by pydicom.

    pydicom replaces the exceptions by a RuntimeError; `stream_faults` restores them.

    Raises:
        StreamError: if the stream is damaged.
        WorkerError: if the child process cannot be started.
    """
    layout = {
        "rows": runner.rows,
        "columns": runner.columns,
        "samples": runner.samples_per_pixel,
        "planar": runner.planar_configuration if runner.samples_per_pixel > 1 else 0,
        "photometric": str(runner.photometric_interpretation),
        "syntax": str(UID(runner.transfer_syntax)),
        "bits": runner.bits_allocated,
        "signed": runner.pixel_representation,
    }
    try:
        return _DECODER.decode(src, layout)
    except (StreamError, WorkerError) as error:
        _FAULT.set(error)
        raise


@contextmanager
def stream_faults() -> Iterator[None]:
    """Re-raise the exception of `decode_frame` that pydicom replaced by a RuntimeError."""
    before = _FAULT.set(None)
    try:
        yield
    except RuntimeError as error:
        if (fault := _FAULT.get()) is not None:
            raise fault from error
        raise
    finally:
        _FAULT.reset(before)


class GdcmProcess:
    """A child process that decodes one frame at a time; it may be shared by threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def decode(self, stream: bytes, layout: dict[str, Any]) -> bytearray:
        """Return the decoded frame.

        Raises:
            StreamError: if the stream is damaged, crashes the child or takes over `TIME_LIMIT_S`.
            WorkerError: if the child process cannot be started.
        """
        with self._lock:
            connection = self._connected()
            try:
                answer, frame = _exchange(connection, stream, layout)
            except (EOFError, OSError) as error:
                self.end()
                raise StreamError(
                    "its compressed stream is damaged: the decoder crashed on it"
                ) from error
            except BaseException:  # the pending answer would be read as that of the next frame
                self.end()
                raise
        if fault := _fault_of(answer, stream):
            raise StreamError(fault)
        return frame

    def end(self) -> None:
        """Kill the child process, if there is one."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._connection = None

    def _connected(self) -> Connection:
        """Return the connection to the child, which is started if it is not running."""
        if self._connection is not None and self._process and self._process.poll() is None:
            return self._connection
        self.end()
        script = str(Path(__file__).with_name("gdcm_child.py"))
        try:
            connection, child_end = Pipe()
            # -P: modules next to the script must not shadow those of the standard library.
            command = [sys.executable, "-P", script, str(child_end.fileno())]
            with child_end:
                self._process = subprocess.Popen(  # noqa: S603  # the interpreter and a file of medkd
                    command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[child_end.fileno()],
                    env={**os.environ, **_MALLOC_SETTINGS},
                )
            connection.recv_bytes()
        except (EOFError, OSError) as error:
            self.end()
            raise WorkerError(
                "the process that decodes JPEG cannot be started here",
                ["it exits at once: check the limits on memory and processes (ulimit -a)"],
            ) from error
        self._connection = connection
        return connection


def _exchange(
    connection: Connection, stream: bytes, layout: dict[str, Any]
) -> tuple[dict[str, str], bytearray]:
    connection.send_bytes(json.dumps(layout).encode())
    connection.send_bytes(stream)
    if not connection.poll(TIME_LIMIT_S):
        raise TimeoutError
    answer: dict[str, str] = json.loads(connection.recv_bytes())
    return answer, bytearray(connection.recv_bytes())


def _fault_of(answer: dict[str, str], stream: bytes) -> str:
    """Return what is wrong with a stream, according to the child's answer; empty if nothing is."""
    printed = answer["printed"].strip()
    if not answer["error"] and (not printed or _is_padding(printed, stream)):
        return ""
    if "premature end" in printed.lower():
        return "its compressed stream is damaged: a part is missing"
    return "its compressed stream is damaged"


def _is_padding(printed: str, stream: bytes) -> bool:
    """Return whether the codec only complains about a few zeros before the end of the image."""
    found = _EXTRANEOUS.fullmatch(printed)
    count = int(found[1]) if found else _MAX_PADDING + 1
    end = stream.rfind(b"\xff\xd9")
    return count <= _MAX_PADDING and not any(stream[end - count : end])


def _forget_child() -> None:
    global _DECODER
    _DECODER = GdcmProcess()


_DECODER = GdcmProcess()
atexit.register(lambda: _DECODER.end())
# A forked process must not talk to the decoder process of its parent.
os.register_at_fork(after_in_child=_forget_child)
