"""Batches that helper processes read ahead, and a clear end where one of them fails.

A batch comes back through a pipe as plain arrays, not through shared memory: /dev/shm is small in
containers, and a worker that finds it full dies or is never heard of again. A fault inside a
worker comes back as a value. A worker that is killed, or hangs, ends the training with a message.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
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

REMEDY = "training.workers: 0 loads the samples in the main process, which needs no helpers"
RESUMED = "go on with --resume; the number of workers may differ"

_SIGNS = ("dataloader", "shared memory", "shm", "bus error", "ancdata", "too many open files",
          "no space left", "cannot allocate memory", "can't start new")  # fmt: skip
"""What torch and the system say when a helper process or its memory fails."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Stands for a batch that could not be read: the refusal, or what is known of the fault."""

    refusal: MedkdError | None
    words: str
    trace: str


class _PlainBatches(Dataset[Any]):
    """A source whose batches are plain arrays, or a failure; it never raises."""

    def __init__(self, source: PatchSource) -> None:
        self._source = source

    def __getitems__(self, rows: list[int]) -> dict[str, Any] | _Failure:
        try:
            batch = self._source.__getitems__(rows)
        except Exception as error:  # noqa: BLE001  # any fault is told by the main process
            refusal = error if isinstance(error, MedkdError) else None
            return _Failure(refusal, _words_of(error), traceback.format_exc())
        values = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
        return {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in values.items()}


def fetch_ahead(
    source: PatchSource, batches: NDArray[np.int64], *, workers: int, timeout_s: float
) -> Iterator[PatchBatch]:
    """Yield batches of a source in order, read by helper processes.

    Args:
        source: where samples come from.
        batches: [steps, batch_size] indices.
        workers: helper processes, 1 or more.
        timeout_s: how long one batch may take, s.

    Raises:
        WorkerError: if a worker dies, hangs or fails, or there is no memory for what it sends.
        MedkdError: what the source itself refuses, with its reasons.
    """
    before = set(active_children())
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
            for _ in batches:  # torch is not asked to end the workers: one that stops holds it up
                with _ended_if_late(watched, timeout_s):
                    found = next(arriving)
                yield _batch_of(found)
    finally:
        _kill(set(active_children()) - before)


@contextmanager
def clear_worker_faults() -> Iterator[None]:
    """Turn what torch says of failed workers, wherever it says it, into a clear refusal.

    torch reports a killed worker from a signal handler: in whatever line the main process is.

    Raises:
        WorkerError: for such a fault; any other exception goes on as it is.
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        if not _is_of_workers(error):
            raise
        # What the signal handler said stands behind "exited unexpectedly", and says why.
        first = error.__cause__ if isinstance(error.__cause__, RuntimeError) else error
        raise WorkerError("training: a loader process failed", _reasons(first)) from error


@contextmanager
def _ended_if_late(workers: set[BaseProcess], timeout_s: float) -> Iterator[None]:
    """End the workers if the block does not end: a batch that has begun to come stands still.

    torch's own time limit ends with the first byte of a batch, and begins anew with each batch
    that comes out of turn: this one is longer. A killed worker interrupts the main process.
    """
    done, late = threading.Event(), threading.Event()

    def watch() -> None:
        # In slices: a computer, or all processes, that stood still for a while is not late.
        for _ in range(_SLICES):
            if done.wait(_LIMITS * timeout_s / _SLICES):
                return
        late.set()
        for process in workers:
            process.kill()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except RuntimeError:
        if late.is_set():  # torch saw the killed worker: that it was late says more
            said = f"DataLoader timed out: no whole batch came in {_LIMITS * timeout_s:g} s"
            raise RuntimeError(said) from None
        raise
    finally:
        done.set()
        watcher.join()


_LIMITS = 1.5
_SLICES = 20


def _kill(workers: set[BaseProcess]) -> None:
    """End workers at once: one that hangs does not end when it is asked to."""
    # torch looks at its workers at each SIGCHLD and raises if one was killed: here they are to be.
    # To block the signal is not enough, since threads that feed queues receive it as well.
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
            return error.filename is None  # a semaphore; what is on a disk has a name
        return error.errno in _MEMORY_FAULTS or is_full_disk(error)
    return any(sign in str(error).lower() for sign in _SIGNS)


_MEMORY_FAULTS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


def _reasons(error: Exception) -> list[str]:
    text = str(error).strip()
    reasons = [text.splitlines()[0].strip() if text else type(error).__name__]
    lower = text.lower()
    if "timed out" in lower:
        reasons.append("it hangs: look whether the disk or network that holds the data answers")
    if "killed" in lower or "exited unexpectedly" in lower:
        reasons.append("most likely there was not enough memory: take fewer workers or a smaller "
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
