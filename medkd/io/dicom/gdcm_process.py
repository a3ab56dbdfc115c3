"""JPEG frames decoded by gdcm in a process of its own, offered to pydicom as a plugin.

On some damaged streams gdcm ends its whole process (std::terminate). Of others it fills what is
lost, and its libjpeg only prints a warning. In a process of its own (`gdcm_child.py`) the first
costs one frame, and what is printed can be read: a stream that the codec does not find whole is
refused. There is one such process for each process that decodes; it is started at the first frame
and again after it died.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, Any, cast

from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
)

from medkd.errors import WorkerError
from medkd.io.dicom.gdcm_child import LENGTHS, READY
from medkd.io.dicom.streams import GDCM_PLUGIN, StreamError

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

DECODER_DEPENDENCIES = dict.fromkeys(
    (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1), ("python-gdcm>=3.0.24",)
)
"""As pydicom asks of a plugin: which syntaxes it decodes, and what it needs."""

LONGEST_S = 120.0
"""A frame that takes longer is given up."""

_PIPE_BYTES = 1 << 20
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "134217728"}
"""The C library (glibc alone) keeps the memory of one frame for the next: a tenth faster."""

_MOST_PADDING = 2
_EXTRANEOUS = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_FAULT: ContextVar[Exception | None] = ContextVar("fault", default=None)


def is_available(uid: str) -> bool:
    """Say if the plugin decodes a transfer syntax here; asked by pydicom."""
    return uid in DECODER_DEPENDENCIES and find_spec("gdcm") is not None


@cache
def register() -> None:
    """Make the plugin known to pydicom's decoders, once."""
    for uid in DECODER_DEPENDENCIES:
        decoder = get_decoder(uid)
        if is_available(uid) and GDCM_PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(GDCM_PLUGIN, (__name__, "decode_frame"))


def decode_frame(src: bytes, runner: DecodeRunner) -> bytearray:
    """Decode one frame; called by pydicom.

    Raises:
        StreamError: if the stream is not whole; pydicom shows its text at most, see
            `stream_faults`.
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
    """Raise what `decode_frame` raised inside the block: pydicom replaces it by a RuntimeError."""
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
    """The process that decodes, and one conversation with it at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, stream: bytes, layout: dict[str, Any]) -> bytearray:
        """Return the decoded frame.

        Raises:
            StreamError: if the stream ends the process, or is not whole.
            WorkerError: if no process can be started.
        """
        with self._lock:
            process = self._running()
            try:
                answer, frame = _exchange(process, stream, layout)
            except (EOFError, OSError) as error:
                self.end()
                raise StreamError(
                    "its compressed stream is damaged: the decoder ended over it"
                ) from error
            except BaseException:  # what is still to come would be taken for the next answer
                self.end()
                raise
        if fault := _fault_of(answer, stream):
            raise StreamError(fault)
        return frame

    def end(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.end()
            self._process = _started()
        return self._process


def _started() -> subprocess.Popen[bytes]:
    # -P: the modules beside the script must not hide those of the standard library.
    command = [sys.executable, "-P", str(Path(__file__).with_name("gdcm_child.py"))]
    try:
        process = subprocess.Popen(  # noqa: S603  # the interpreter and a file of medkd
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **_KEPT_MEMORY},
        )
    except OSError as error:
        raise _not_startable() from error
    for pipe in (process.stdin, process.stdout):
        _widen(cast("IO[bytes]", pipe))
    try:
        _read(process, len(READY))
    except (EOFError, OSError) as error:
        process.kill()
        process.communicate()
        raise _not_startable() from error
    return process


def _widen(pipe: IO[bytes]) -> None:
    """Let a pipe hold a frame, so that neither side waits for the other (Linux alone)."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # the system's limit is lower
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _not_startable() -> WorkerError:
    return WorkerError(
        "the process that decodes JPEG cannot be started here",
        ["it ends at once: look for a limit on memory or on processes (ulimit -a)"],
    )


def _exchange(
    process: subprocess.Popen[bytes], stream: bytes, layout: dict[str, Any]
) -> tuple[dict[str, str], bytearray]:
    """Ask for one frame; return what is said of it, and the frame."""
    words = json.dumps(layout).encode()
    request = memoryview(LENGTHS.pack(len(words), len(stream)) + words + stream)
    pipe = cast("IO[bytes]", process.stdin)
    while request:
        request = request[pipe.write(request) :]
    _wait(process)
    head, size = LENGTHS.unpack(_read(process, LENGTHS.size))
    answer: dict[str, str] = json.loads(_read(process, head))
    return answer, _read(process, size)


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for the first byte of an answer.

    Raises:
        TimeoutError: if it takes longer than any frame can.
    """
    waiting = select.poll()
    waiting.register(cast("IO[bytes]", process.stdout), select.POLLIN)
    if not waiting.poll(LONGEST_S * 1000):
        raise TimeoutError


def _read(process: subprocess.Popen[bytes], size: int) -> bytearray:
    pipe = cast("IO[bytes]", process.stdout)
    content = bytearray(size)
    rest = memoryview(content)
    while rest:
        count = pipe.readinto(rest)  # type: ignore[attr-defined]  # raw pipes have it
        if not count:
            raise EOFError
        rest = rest[count:]
    return content


def _fault_of(answer: dict[str, str], stream: bytes) -> str:
    """Say what is wrong with a stream that was decoded; empty if nothing is."""
    said = answer["said"].strip()
    if not answer["error"] and (not said or _is_padding(said, stream)):
        return ""
    if "premature end" in said.lower():
        return "its compressed stream is damaged: it lacks a part"
    return "its compressed stream is damaged"


def _is_padding(said: str, stream: bytes) -> bool:
    """Say if all that was found are a few zeros before the end of the image."""
    found = _EXTRANEOUS.fullmatch(said)
    count = int(found[1]) if found else _MOST_PADDING + 1
    end = stream.rfind(b"\xff\xd9")
    return count <= _MOST_PADDING and not any(stream[end - count : end])


def _begin_anew() -> None:
    global _DECODER
    _DECODER = GdcmProcess()


_DECODER = GdcmProcess()
atexit.register(lambda: _DECODER.end())
# A process that branches off must not talk to the decoder of the one that it came from.
os.register_at_fork(after_in_child=_begin_anew)
