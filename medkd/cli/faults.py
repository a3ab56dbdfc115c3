"""What ends a command from outside, in one line: a fault of the disk, a signal, a closed pipe."""

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
"""Signals on which a command ends in order, with exit code 128 + number."""

_FULL = "no space left on the disk: free some"
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EFBIG: "the file became larger than is allowed here (ulimit -f): raise the limit",
    errno.EROFS: "the disk is read-only: name a folder on another one, or mount it for writing",
    errno.EACCES: "no permission: change the rights of it, or name another place",
    errno.EPERM: "no permission: change the rights of it, or name another place",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n 8192), or use fewer workers",
    errno.ENFILE: "the system has too many open files: end other programs",
    errno.ENOMEM: "not enough memory: end other programs, or use fewer workers",
    errno.EAGAIN: "no more processes can be started: end other programs, or use fewer workers",
    errno.ENAMETOOLONG: "the name is too long for this disk: name a shorter one",
    errno.ENOENT: "no such file or folder: name one that is there",
    errno.ENOTDIR: "a part of it is a file, not a folder: name another place",
    errno.EISDIR: "it is a folder, not a file: name another place",
    errno.EEXIST: "something stands there: name another place, or remove it",
    errno.ENOTEMPTY: "the folder is not empty: name another place, or remove it",
    errno.EIO: "the disk reports a fault: look at its health, or name another one",
    errno.ESTALE: "the network disk was lost: mount it again",
    errno.ETIMEDOUT: "the network disk does not answer: try again when it does",
}
_AGAIN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
          errno.EAGAIN, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}  # fmt: skip
"""After these the same command can go on once the cause is gone."""

_AGAIN_S = 0.1

received: list[int] = []
"""Signals that ended the command, first one first."""


def explain(error: BaseException, *, resumes: bool) -> str:
    """Put what ended a command into words; empty for an error of the program itself.

    Args:
        error: any exception.
        resumes: whether the command takes --resume.

    Returns:
        One line with path and remedy; of a refusal of ours its headline and reasons.
    """
    for cause in _causes(error):
        if isinstance(cause, WorkerError):  # it knows best what was full, and what came of that
            return str(cause)
    for cause in _causes(error):
        line = _line_of(cause, resumes=resumes)
        if line and (cause is error or not isinstance(error, MedkdError)):
            return line
        if line and _number_of(cause) in _AGAIN | {errno.EROFS}:
            return line  # why a refusal of ours came about says more than the refusal
        if line and isinstance(cause, PermissionError):
            return f"{error}\n  - {_REMEDIES[errno.EACCES]}"
    return str(error) if isinstance(error, MedkdError) else ""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and the like end the block as Ctrl-C does, and remember which it was.

    A signal that is ignored (nohup) stays ignored.
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


@contextmanager
def kept_for_later(out: Path) -> Iterator[None]:
    """Say after an interruption that what is finished of a folder is kept, and where."""
    try:
        yield
    except KeyboardInterrupt:
        home = unfinished_home(out)
        if home.is_dir():
            sys.stderr.write(
                f"\nwhat is finished is kept in {home}: the same command goes on there\n"
            )
        raise


def leave_pipe_quietly() -> None:
    """Write out what is printed; where nobody reads any more, drop it without a word."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (BrokenPipeError, ValueError):
            _to_nowhere(stream.fileno())
        except OSError:  # a full disk under a redirected output: told already, or untellable
            _to_nowhere(stream.fileno())


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number in ENDING:
        received.append(number)
    if _is_finalizing(frame):  # what is raised there is dropped: try again a moment later
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        return
    raise KeyboardInterrupt


def _is_finalizing(frame: FrameType | None) -> bool:
    """Say whether an object is being taken apart (`__del__`) where a signal came in."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _to_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _number_of(error: BaseException) -> int:
    """Return the errno that an exception stands for; 0 for none."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError):
        return error.errno or (errno.ENOSPC if is_full_disk(error) else 0)
    if is_sqlite_error(error):
        return sqlite_errno(error)
    return errno.ENOSPC if isinstance(error, Exception) and _says_full(error) else 0


def _says_full(error: Exception) -> bool:
    return not isinstance(error, MedkdError) and is_full_disk(error)


def _line_of(error: BaseException, *, resumes: bool) -> str:
    if _is_locked(error):
        return f"{error}: another program works on this file: end it, then run the command again"
    number = _number_of(error)
    if not number and not isinstance(error, OSError):
        return ""
    words = _REMEDIES.get(number) or f"{getattr(error, 'strerror', None) or error}: try again"
    if number in _AGAIN:
        words += " and run it again with --resume" if resumes else " and run the same command again"
    where = [str(name) for name in (getattr(error, "filename", None),) if name not in (None, "")]
    return ": ".join([*where, words])


def _is_locked(error: BaseException) -> bool:
    return is_sqlite_error(error) and "locked" in str(error).lower()
