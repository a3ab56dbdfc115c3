"""Work in other processes, of which one may die: a decoder that crashes costs its file alone."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import connection, get_all_start_methods, get_context, parent_process
from multiprocessing.context import BaseContext
from typing import Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class Crashed:
    """Stands for the result of a task whose process died."""


class SafePool(Generic[Task, Result]):
    """Runs one function over many tasks in processes of their own, a few tasks ahead.

    Args:
        function: importable by name; takes a task, returns its result.
        workers: processes.
    """

    def __init__(self, function: Callable[[Task], Result], workers: int) -> None:
        self._function = function
        self._workers = workers

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Result | Crashed]]:
        """Yield every task with its result, in order; at most a few results wait in memory."""
        waiting = iter(tasks)
        again: list[Task] = []
        while True:
            try:
                yield from self._run_until_broken(waiting, again)
            except BrokenProcessPool:
                _check_startable()
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
        with _executor(self._workers) as executor:
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
            with _executor(1) as executor:
                return executor.submit(self._function, task).result()
        except BrokenProcessPool:
            return Crashed()


def _executor(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=_context(), initializer=_end_with_parent)


@lru_cache(maxsize=1)
def _context() -> BaseContext:
    """Processes branch off one that has loaded everything, where the system can do that."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["medkd.archive.assess", "medkd.archive.find"])
    return context


def _check_startable() -> None:
    """Tell a task that kills its process from processes that cannot start at all.

    Raises:
        BrokenProcessPool: in the second case; every task would seem to be at fault.
    """
    with _executor(1) as executor:
        executor.submit(int).result()


def _end_with_parent() -> None:
    """Watch the process that started this one: a killed one would leave it waiting for ever."""

    def watch(sentinel: int) -> None:
        connection.wait([sentinel])
        os._exit(1)

    parent = parent_process()
    if parent is not None:
        threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()
