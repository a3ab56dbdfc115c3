"""Explain system errors (such as a full disk) in one line; handle signals and closed pipes."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from medkd.errors import MedkdError, WorkerError
from medkd.files import is_full_disk, is_sqlite_error, sqlite_errno
from medkd.unfinished import unfinished_home

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals after which a command cleans up and exits with code 128 + signal number."""

_FULL = "no space left on the disk: free some space"
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EFBIG: "the file exceeds the size limit (ulimit -f): raise the limit",
    errno.EROFS: "the disk is read-only: choose a folder on another disk, or mount it for writing",
    errno.EACCES: "no permission: change its permissions, or choose another path",
    errno.EPERM: "no permission: change its permissions, or choose another path",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n 8192), or use fewer workers",
    errno.ENFILE: "the system has too many open files: close other programs",
    errno.ENOMEM: "not enough memory: close other programs, or use fewer workers",
    errno.EAGAIN: "no more processes can be started: close other programs, or use fewer workers",
    errno.ENAMETOOLONG: "the name is too long for this file system: choose a shorter one",
    errno.ENOENT: "no such file or folder: give an existing one",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another path",
    errno.EISDIR: "it is a folder, not a file: choose another path",
    errno.EEXIST: "the path exists already: choose another path, or remove it",
    errno.ENOTEMPTY: "the folder is not empty: choose another path, or remove it",
    errno.EIO: "the disk reports an error: check its health, or use another disk",
    errno.ESTALE: "the connection to the network disk was lost: mount it again",
    errno.ETIMEDOUT: "the network disk does not respond: try again later",
}
_RETRYABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
              errno.EAGAIN, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}  # fmt: skip
"""After these errors the same command can continue once the cause is removed."""

_RETRY_S = 0.1

received: list[int] = []
"""Signals that ended the command, in the order in which they arrived."""


def explain(error: BaseException, *, resumes: bool) -> str:
    """Return a message for the exception that ended a command; empty for a programming error.

    Args:
        error: any exception.
        resumes: whether the command accepts --resume.

    Returns:
        For a system error, one line with path and remedy. For a `MedkdError`, its headline
        and reasons.
    """
    for cause in _causes(error):
        if isinstance(cause, WorkerError):  # its message already names the cause and the remedy
            return str(cause)
    for cause in _causes(error):
        line = _line_of(cause, resumes=resumes)
        if line and (cause is error or not isinstance(error, MedkdError)):
            return line
        if line and _number_of(cause) in _RETRYABLE | {errno.EROFS}:
            return line  # the cause is more useful than the refusal that it led to
        if line and isinstance(cause, PermissionError):
            return f"{error}\n  - {_REMEDIES[errno.EACCES]}"
    return str(error) if isinstance(error, MedkdError) else ""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt on every signal of `ENDING`, and add it to `received`.

    Signals that are ignored (for example by nohup) stay ignored.
    """
    before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGALRM)}
    for number, handler in before.items():
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Ignore the signals of `ENDING` from now on, so that a message is printed completely.

    `torchrun` sends SIGTERM to the other processes as soon as one has failed.
    """
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def kept_for_later(out: Path) -> Iterator[None]:
    """After an interruption, print where the finished parts of a folder are kept."""
    try:
        yield
    except KeyboardInterrupt:
        home = unfinished_home(out)
        if home.is_dir():
            sys.stderr.write(
                f"\nfinished parts are kept in {home}: the same command resumes there\n"
            )
        raise


def leave_pipe_quietly() -> None:
    """Flush stdout and stderr; discard the output silently if it cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # a closed pipe, or a full disk if output is redirected
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number in ENDING:
        received.append(number)
    if _is_finalizing(frame):  # an exception in `__del__` would be ignored: retry shortly
        signal.setitimer(signal.ITIMER_REAL, _RETRY_S)
        return
    raise KeyboardInterrupt


def _is_finalizing(frame: FrameType | None) -> bool:
    """Return whether the signal arrived while a `__del__` method was running."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _number_of(error: BaseException) -> int:
    """Return the errno that corresponds to an exception; 0 if there is none."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError):
        return error.errno or (errno.ENOSPC if is_full_disk(error) else 0)
    if is_sqlite_error(error):
        return sqlite_errno(error)
    if isinstance(error, Exception) and not isinstance(error, MedkdError) and is_full_disk(error):
        return errno.ENOSPC
    return 0


def _line_of(error: BaseException, *, resumes: bool) -> str:
    if is_sqlite_error(error) and "locked" in str(error).lower():
        return f"{error}: another program is using this file: close it, then run the command again"
    number = _number_of(error)
    if not number and not isinstance(error, OSError):
        return ""
    words = _REMEDIES.get(number) or f"{getattr(error, 'strerror', None) or error}: try again"
    if number in _RETRYABLE:
        words += " and run it again with --resume" if resumes else " and run the same command again"
    name = getattr(error, "filename", None)
    return words if name in (None, "") else f"{name}: {words}"
