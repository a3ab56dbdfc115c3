"""Batches that worker processes read ahead, and clear errors if a worker fails.

A batch is returned through a pipe as plain arrays, not through shared memory: /dev/shm is small in
containers, and a worker that finds it full dies or blocks for ever. A fault inside a worker is
returned as a value. If a worker is killed or hangs, the training ends with a message.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import math
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from medkd.data.patches import PatchSource
from medkd.errors import MedkdError, WorkerError
from medkd.files import is_full_disk
from medkd.processes import shared_memory_reason
from medkd.types import PatchBatch

logger = logging.getLogger(__name__)

REMEDY = (
    "training.workers: 0 loads the samples in the main process, which needs no worker processes"
)
RESUMED = "continue with --resume; the number of workers may differ"

_SIGNS = ("dataloader", "shared memory", "shm", "bus error", "ancdata", "too many open files",
          "no space left", "cannot allocate memory", "can't start new")  # fmt: skip
"""Parts of the messages of torch and the system when a worker process or its memory fails."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Takes the place of a batch that could not be read: a refusal, or the words of the fault."""

    refusal: MedkdError | None
    words: str
    trace: str


class _PlainBatches(Dataset[Any]):
    """A source whose batches are plain arrays or a failure; it never raises."""

    def __init__(self, source: PatchSource) -> None:
        self._source = source

    def __getitems__(self, rows: list[int]) -> dict[str, Any] | _Failure:
        try:
            batch = self._source.__getitems__(rows)
        except Exception as error:  # noqa: BLE001  # the main process reports it
            refusal = error if isinstance(error, MedkdError) else None
            return _Failure(refusal, _words_of(error), traceback.format_exc())
        values = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
        return {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in values.items()}


def fetch_ahead(
    source: PatchSource, batches: NDArray[np.int64], *, workers: int, timeout_s: float
) -> Iterator[PatchBatch]:
    """Yield batches of a source in order, read by worker processes.

    Args:
        source: the samples.
        batches: [steps, batch_size] indices.
        workers: number of processes, 1 or more.
        timeout_s: how long one batch may take, s.

    Raises:
        WorkerError: if a worker dies, hangs or fails, or if memory is too small for its batches.
        MedkdError: a refusal of the source itself, with its reasons.
    """
    before = set(active_children())
    watched: set[BaseProcess] = set()
    try:
        with clear_worker_faults():
            loader: DataLoader[Any] = DataLoader(
                _PlainBatches(source),
                batch_sampler=[rows.tolist() for rows in batches],
                num_workers=workers,
                collate_fn=_whole,
                timeout=timeout_s,
                worker_init_fn=_begin,
            )
            arriving = iter(loader)
            watched = set(active_children()) - before
            for _ in batches:  # at its end torch would wait for the workers, even for a hung one
                with _ended_if_late(watched, timeout_s):
                    found = next(arriving)
                yield _batch_of(found)
    finally:  # another loader may have begun meanwhile; its workers go on
        _kill(watched or set(active_children()) - before)


@contextmanager
def clear_worker_faults() -> Iterator[None]:
    """Convert the errors by which torch reports failed workers to a clear refusal.

    torch reports a killed worker from a signal handler, so the error can arise at any line that
    the main process is executing.

    Raises:
        WorkerError: for such a fault; any other exception is not changed.
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        if not _is_of_workers(error):
            raise
        # The cause of "exited unexpectedly" is the message of the signal handler, with the reason.
        first = error.__cause__ if isinstance(error.__cause__, RuntimeError) else error
        raise WorkerError("training: a loader process failed", _reasons(first)) from error


@contextmanager
def _ended_if_late(workers: set[BaseProcess], timeout_s: float) -> Iterator[None]:
    """Kill the workers if the block does not end in time.

    The time limit of torch covers only the first byte of a batch, and restarts with each batch
    that arrives out of order. This longer limit covers a batch that stops half way. A killed
    worker interrupts the main thread, unless another thread receives its signal: the main thread
    is therefore woken now and then, and then looks at the workers.
    """
    waiting = threading.get_ident()
    done, late = threading.Event(), threading.Event()

    def watch() -> None:
        # In slices, so that a computer that was suspended for a while does not count as late.
        slices = max(_SLICES, math.ceil(_LIMITS * timeout_s))
        for _ in range(slices):
            if done.wait(_LIMITS * timeout_s / slices):
                return
            if hasattr(signal, "pthread_kill"):
                signal.pthread_kill(waiting, signal.SIGCHLD)
        late.set()
        for process in workers:
            process.kill()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except RuntimeError:
        if late.is_set():  # torch reports the killed worker; the reason is the time limit
            said = f"DataLoader timed out: no whole batch arrived in {_LIMITS * timeout_s:g} s"
            raise RuntimeError(said) from None
        raise
    finally:
        done.set()
        watcher.join()


_LIMITS = 1.5
_SLICES = 20


def _kill(workers: set[BaseProcess]) -> None:
    """Kill workers: one that hangs does not react to a request to end."""
    # On SIGCHLD torch checks its workers and raises if one was killed, as they are here on purpose.
    # Blocking the signal is not enough, since the threads that feed queues receive it as well.
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGCHLD, lambda *_: None) if in_main else None
    try:
        for process in workers:
            process.kill()
            process.join()
    finally:
        if before is not None:
            signal.signal(signal.SIGCHLD, before)


def _begin(_number: int) -> None:
    torch.set_num_threads(1)


def _batch_of(found: dict[str, Any] | _Failure) -> PatchBatch:
    if isinstance(found, _Failure):
        logger.info("in a loader process: %s", found.trace)
        if found.refusal is not None:
            raise found.refusal
        reasons = [found.words, REMEDY, RESUMED, "medkd -v shows where it failed"]
        raise WorkerError("training: a loader process could not read a batch", reasons)
    values: dict[str, Any] = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in found.items()
    }
    return PatchBatch(**values)


def _is_of_workers(error: Exception) -> bool:
    if isinstance(error, OSError):
        if error.errno in (errno.EROFS, errno.EACCES):
            return error.filename is None  # a semaphore; a file on a disk has a name
        return error.errno in _MEMORY_FAULTS or is_full_disk(error)
    return any(sign in str(error).lower() for sign in _SIGNS)


_MEMORY_FAULTS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


def _reasons(error: Exception) -> list[str]:
    text = str(error).strip()
    reasons = [text.splitlines()[0].strip() if text else type(error).__name__]
    lower = text.lower()
    if "timed out" in lower:
        reasons.append("it hangs: check that the disk or network of the data responds")
    if "killed" in lower or "exited unexpectedly" in lower:
        reasons.append("most likely there was not enough memory: use fewer workers or a smaller "
                       "batch_size")  # fmt: skip
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES):
        reasons.append(shared_memory_reason(error.errno or 0))
    if "bus error" in lower or "shm" in lower or "shared memory" in lower or is_full_disk(error):
        reasons.append(shared_memory_reason(errno.ENOSPC))
    if "open files" in lower or "ancdata" in lower:
        reasons.append("raise the number of open files: ulimit -n 8192")
    return [*reasons, REMEDY, RESUMED]


def _words_of(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _whole(batch: Any) -> Any:  # noqa: ANN401  # torch types a batch as a list of samples
    return batch
