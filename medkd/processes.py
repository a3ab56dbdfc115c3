"""Parallel work in processes that may die at any time, without ever waiting for a dead one.

`launched` tells which process of a training this is, if `torchrun` started several.

If a task kills its process (a decoder crashes, or the out-of-memory killer strikes), only that
task is lost. Worker processes end with their parent process, however that ends.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import (
    active_children,
    connection,
    forkserver,
    get_all_start_methods,
    get_context,
    parent_process,
)
from multiprocessing.context import BaseContext
from typing import Generic, TypeVar

from medkd.errors import WorkerError

Task = TypeVar("Task")
Result = TypeVar("Result")
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Launched:
    """Number of this process, from 0, and of all processes that were started together."""

    rank: int
    count: int


def launched() -> Launched:
    """Return which of the processes of `torchrun`, `accelerate launch` or `srun` this is.

    They set RANK and WORLD_SIZE. Without both, this process is the only one.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Launched(0, 1)
    return Launched(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


class Crashed:
    """The result of a task whose process died."""


class SafePool(Generic[Task, Result]):
    """Runs one function over many tasks in worker processes, a few tasks ahead of the caller.

    Args:
        function: importable by name; accepts a task and returns its result.
        workers: number of processes.
        initializer: importable by name; called once in each process.
    """

    def __init__(
        self,
        function: Callable[[Task], Result],
        workers: int,
        initializer: Callable[[], None] | None = None,
    ) -> None:
        self._function = function
        self._workers = workers
        self._initializer = initializer

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Result | Crashed]]:
        """Yield every task in order, with its result or with `Crashed` if its process died.

        Only a few results are held in memory.

        Raises:
            WorkerError: if processes cannot be started here at all.
        """
        waiting = iter(tasks)
        again: list[Task] = []
        while True:
            try:
                yield from self._run_until_broken(waiting, again)
            except BrokenProcessPool as error:
                if isinstance(self._run_alone(int), Crashed):  # a process without a task dies too
                    raise _not_startable(f"each ends at once: {_LIMITS}") from error
                # Run each unfinished task alone to find the one that kills its process.
                for task in again:
                    yield task, self._run_alone(self._function, task)
                again.clear()
                continue
            return

    def _run_until_broken(
        self, tasks: Iterator[Task], under_way: list[Task]
    ) -> Iterator[tuple[Task, Result | Crashed]]:
        queue: deque[tuple[Task, Future[Result]]] = deque()
        with self._executor(self._workers) as executor:
            for task in tasks:
                under_way.append(task)
                with _refuse_if_not_startable():
                    future = executor.submit(self._function, task)
                queue.append((task, future))
                if len(queue) > 2 * self._workers:
                    yield self._next(queue, under_way)
            while queue:
                yield self._next(queue, under_way)

    @staticmethod
    def _next(
        queue: deque[tuple[Task, Future[Result]]], under_way: list[Task]
    ) -> tuple[Task, Result]:
        task, future = queue[0]
        result = future.result()
        queue.popleft()
        under_way.pop(0)
        return task, result

    def _run_alone(self, function: Callable[..., Found], *arguments: object) -> Found | Crashed:
        try:
            with self._executor(1) as executor:
                with _refuse_if_not_startable():
                    future = executor.submit(function, *arguments)
                return future.result()
        except BrokenProcessPool:
            return Crashed()

    @contextmanager
    def _executor(self, workers: int) -> Iterator[ProcessPoolExecutor]:
        """Open a pool; on an error or interruption, kill its processes instead of waiting."""
        before = set(active_children())
        context = _context(self._function.__module__)
        with _refuse_if_not_startable():
            executor = ProcessPoolExecutor(
                workers,
                mp_context=context,
                initializer=_start_worker,
                initargs=(self._initializer,),
            )
        try:
            yield executor
        except BaseException as error:
            # Kill before shutdown: a process that is just starting needs the pool's semaphores.
            for process in set(active_children()) - before:
                process.kill()
            if isinstance(error, KeyboardInterrupt):
                _end_forkserver()
            executor.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            executor.shutdown(cancel_futures=True)


@contextmanager
def _refuse_if_not_startable() -> Iterator[None]:
    """Refuse if the system has too little memory, files or processes for a pool.

    Raises:
        WorkerError: names the limit that was reached; the original error of a full /dev/shm
            looks like a full disk.
    """
    try:
        yield
    except (OSError, EOFError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        if isinstance(error, RuntimeError) and "new thread" not in str(error):
            raise
        if number in (errno.EMFILE, errno.ENFILE):
            reason = "too many open files: raise the limit (ulimit -n 8192)"
        elif number in _MEMORY_FAULTS and getattr(error, "filename", None) is None:
            reason = shared_memory_reason(number or 0)
        else:
            reason = f"{str(error) or type(error).__name__}: {_LIMITS}"
        raise _not_startable(reason) from error


def shared_memory_reason(number: int) -> str:
    """Return what is wrong with the shared memory of processes, and what to do.

    Args:
        number: errno of the error; EROFS and EACCES mean read-only, any other means full.
    """
    if number in (errno.EROFS, errno.EACCES):
        return "shared memory (/dev/shm) is read-only: mount it for writing"
    return "shared memory (/dev/shm) is full: free some, or give the container more (--shm-size)"


_MEMORY_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
_LIMITS = "look for a limit on memory, processes or open files (ulimit -a)"


def _not_startable(reason: str) -> WorkerError:
    return WorkerError(
        "worker processes cannot be started here",
        [reason, "if the command has --workers, try --workers 1"],
    )


def _context(module: str) -> BaseContext:
    """Return a fork server that has imported the module, or "spawn" if the system has none."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([module])  # only for the first pool; later ones import it
    return context


def _end_forkserver() -> None:
    """Kill the fork server: it may be starting a worker that is not known here yet.

    A later pool starts a new server.
    """
    # Only this private attribute has the process id; a Python without it keeps the server.
    number = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None)
    if number is not None:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def _start_worker(initializer: Callable[[], None] | None) -> None:
    # Ctrl-C reaches the whole process group; only the parent decides what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _end_with_parent()
    if initializer is not None:
        initializer()


def _end_with_parent() -> None:
    """End this process when its parent ends; otherwise it would wait for ever for a dead one."""

    def watch(sentinel: int) -> None:
        connection.wait([sentinel])
        os._exit(1)

    parent = parent_process()
    if parent is not None:
        threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()
