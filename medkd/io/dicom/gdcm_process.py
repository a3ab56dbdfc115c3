"""Decode JPEG frames with gdcm in a child process; registered as a pydicom plugin.

On some damaged streams gdcm terminates its whole process (std::terminate). On others it fills in
the lost pixels, and its libjpeg only prints a warning. In a child process (`gdcm_child.py`) a crash
costs one frame, and the printed warnings can be read: a stream is refused if the codec complains
about it. Each process that decodes has one child. It is started at the first frame, and again if it
has died.
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
"""Required by pydicom: maps each transfer syntax of the plugin to its dependencies."""

LONGEST_S = 120.0
"""Time limit for decoding one frame; then the stream counts as damaged."""

_PIPE_BYTES = 1 << 20
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "134217728"}
"""Makes glibc reuse the memory of one frame for the next, which is 10 % faster."""

_MOST_PADDING = 2
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

    def decode(self, stream: bytes, layout: dict[str, Any]) -> bytearray:
        """Return the decoded frame.

        Raises:
            StreamError: if the stream is damaged, crashes the child or takes over `LONGEST_S`.
            WorkerError: if the child process cannot be started.
        """
        with self._lock:
            process = self._running()
            try:
                answer, frame = _exchange(process, stream, layout)
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
    # -P: modules next to the script must not shadow those of the standard library.
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
    """Enlarge a pipe to hold about a frame: neither side then blocks on the other (Linux only)."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # the limit of the system can be lower
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _not_startable() -> WorkerError:
    return WorkerError(
        "the process that decodes JPEG cannot be started here",
        ["it exits at once: check the limits on memory and processes (ulimit -a)"],
    )


def _exchange(
    process: subprocess.Popen[bytes], stream: bytes, layout: dict[str, Any]
) -> tuple[dict[str, str], bytearray]:
    """Send one stream to the child; return its answer and the decoded frame."""
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
        TimeoutError: if it takes longer than `LONGEST_S`.
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
    count = int(found[1]) if found else _MOST_PADDING + 1
    end = stream.rfind(b"\xff\xd9")
    return count <= _MOST_PADDING and not any(stream[end - count : end])


def _forget_child() -> None:
    global _DECODER
    _DECODER = GdcmProcess()


_DECODER = GdcmProcess()
atexit.register(lambda: _DECODER.end())
# A forked process must not talk to the decoder process of its parent.
os.register_at_fork(after_in_child=_forget_child)
