"""Work in other processes, of which any may die at any time: nothing waits for ever for one.

A task that kills its process (a decoder that crashes, the system's out-of-memory killer) costs
itself alone. Processes end with the one that started them, whatever ends it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import (
    active_children,
    connection,
    get_all_start_methods,
    get_context,
    parent_process,
)
from multiprocessing.context import BaseContext
from typing import Generic, TypeVar

from medkd.errors import WorkerError

Task = TypeVar("Task")
Result = TypeVar("Result")


class Crashed:
    """Stands for the result of a task whose process died."""


class SafePool(Generic[Task, Result]):
    """Runs one function over many tasks in processes of their own, a few tasks ahead.

    Args:
        function: importable by name; takes a task, returns its result.
        workers: processes.
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
        """Yield every task with its result, in order; at most a few results wait in memory.

        Raises:
            WorkerError: if processes cannot be started here at all.
        """
        waiting = iter(tasks)
        again: list[Task] = []
        while True:
            try:
                yield from self._run_until_broken(waiting, again)
            except BrokenProcessPool:
                self._check_startable()
                # Which of the tasks under way killed its process is found by running each alone.
                for task in again:
                    yield task, self._run_alone(task)
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
                queue.append((task, executor.submit(self._function, task)))
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

    def _run_alone(self, task: Task) -> Result | Crashed:
        try:
            with self._executor(1) as executor:
                return executor.submit(self._function, task).result()
        except BrokenProcessPool:
            return Crashed()

    def _check_startable(self) -> None:
        """Tell a task that kills its process from processes that cannot start at all."""
        try:
            with self._executor(1) as executor:
                executor.submit(int).result()
        except BrokenProcessPool as error:
            raise WorkerError(
                "helper processes cannot be started here",
                ["each ends at once: look for a limit on memory or on processes (ulimit -a)",
                 "where the command takes --workers, 1 may work"],
            ) from error  # fmt: skip

    @contextmanager
    def _executor(self, workers: int) -> Iterator[ProcessPoolExecutor]:
        """Open a pool; on an error or interruption its processes are ended, not waited for."""
        before = set(active_children())
        context = _context(self._function.__module__)
        executor = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_begin, initargs=(self._initializer,)
        )
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            for process in set(active_children()) - before:
                process.kill()
            raise
        finally:
            executor.shutdown(cancel_futures=True)


def _context(module: str) -> BaseContext:
    """Processes branch off one that has loaded the module, where the system can do that."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([module])  # of the first pool; later ones load their own
    return context


def _begin(initializer: Callable[[], None] | None) -> None:
    # Ctrl-C goes to the whole group: the process that started this one says what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _end_with_parent()
    if initializer is not None:
        initializer()


def _end_with_parent() -> None:
    """Watch the process that started this one: a killed one would leave it waiting for ever."""

    def watch(sentinel: int) -> None:
        connection.wait([sentinel])
        os._exit(1)

    parent = parent_process()
    if parent is not None:
        threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()
