"""Progress of long commands: rooms report steps, this shows them on the error stream.

A task's name ends with what it counts, in the plural: "site a: writing phantoms" is shown as
"site a: writing  12/40 phantoms". A total of 0 means that it is not known yet. On a terminal each
task has one bar while it runs and one line when it is done; elsewhere (a log file) it has a line
now and then, and the same one when it is done.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

Report = Callable[[str, int, int, str], None]
"""Called as (what is being done, done, in all, a few words)."""

FIRST_S, EVERY_S = 5.0, 30.0
"""In a log file: seconds to the first line of a task, and between its later ones."""

_STEADY_S = 2.0
"""A rate that was measured for less than this says nothing of the time that is left."""


@dataclass(slots=True)
class Task:
    """How far one task is."""

    what: str
    clock: Callable[[], float]
    done: int = 0
    total: int = 0
    note: str = ""
    began: float = field(init=False)
    first: int | None = None

    def __post_init__(self) -> None:
        self.began = self.clock()

    def take(self, done: int, total: int, note: str) -> None:
        """Take in a report."""
        self.first = done if self.first is None else self.first
        self.done, self.total, self.note = done, total, note

    @property
    def is_over(self) -> bool:
        """Whether everything is done; never while the total is not known."""
        return 0 < self.total <= self.done

    @property
    def words(self) -> str:
        """What is being done, without what is counted."""
        return self.what.rpartition(" ")[0] if self._names_unit else self.what

    @property
    def count(self) -> str:
        """What is counted, with its unit."""
        unit = self.what.rpartition(" ")[2] if self._names_unit else "steps"
        if not self.total:
            return f"{self.done:,} {unit}"
        return f"{self.done:,}/{self.total:,} {unit}"

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first report."""
        return self.clock() - self.began

    @property
    def left(self) -> str:
        """About how long it still takes; empty where that cannot be said."""
        made, elapsed = self.done - (self.first or 0), self.elapsed_s
        if self.is_over or not self.total or made <= 0 or elapsed < _STEADY_S:
            return ""
        return f"{duration((self.total - self.done) * elapsed / made)} left"

    def line(self) -> str:
        """Say all of it in one line."""
        end = f"done in {duration(self.elapsed_s)}" if self.is_over else self.left
        start = f"{self.words}: {self.count}" if self.words else self.count
        return ", ".join(part for part in (start, end, self.note) if part)

    @property
    def _names_unit(self) -> bool:
        return self.what.endswith("s")


def duration(seconds: float) -> str:
    """Put a time into words that are as exact as it is known.

    Example:
        >>> [duration(s) for s in (0.4, 42, 200, 8000)]
        ['1 s', '42 s', '3 min', '2.2 h']
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class _Display(Protocol):
    """Where tasks are shown."""

    def show(self, task: Task) -> None:
        """Show how far a task is."""

    def finish(self, task: Task) -> None:
        """Show its last line."""


class LogLines:
    """Lines for a file: some while a task runs, one when it is done.

    Args:
        write: takes a line.
        clock: seconds.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._write = write
        self._clock = clock
        self._next: dict[str, float] = {}

    def show(self, task: Task) -> None:
        """Write a line if the task had none for a while."""
        now = self._clock()
        if now >= self._next.setdefault(task.what, task.began + FIRST_S):
            self._next[task.what] = now + EVERY_S
            self._write(task.line())

    def finish(self, task: Task) -> None:
        """Write its last line."""
        self._next.pop(task.what, None)
        self._write(task.line())


class Bars:
    """One bar for each task that runs; a line above them for each that is done.

    Args:
        console: of the terminal.
    """

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TaskID, TextColumn
        from rich.table import Column

        def cell(text: str, **options: object) -> TextColumn:
            column = Column(no_wrap=True, overflow="ellipsis", **options)  # type: ignore[arg-type]  # rich's own
            return TextColumn(text, table_column=column, markup=False)

        self.live = Progress(
            cell("{task.fields[words]}", ratio=1), BarColumn(10),
            cell("{task.fields[count]}", justify="right"), cell("{task.fields[left]}"),
            cell("{task.fields[note]}", max_width=24),
            console=console, expand=console.width < 100,
        )  # fmt: skip
        self._bars: dict[str, TaskID] = {}

    def show(self, task: Task) -> None:
        """Move its bar."""
        total = task.total or None
        if task.what not in self._bars:
            shown = dict.fromkeys(("words", "count", "left", "note"), "")
            self._bars[task.what] = self.live.add_task(task.what, total=total, **shown)  # type: ignore[arg-type]  # fields of ours
        self.live.update(
            self._bars[task.what], completed=task.done, total=total,
            words=task.words, count=task.count, left=task.left, note=task.note,
        )  # fmt: skip

    def finish(self, task: Task) -> None:
        """Replace its bar by its last line."""
        if task.what in self._bars:
            self.live.remove_task(self._bars.pop(task.what))
        self.live.console.print(task.line(), highlight=False, markup=False, soft_wrap=True)


@contextmanager
def progress_bars() -> Iterator[Report]:
    """Give the function (what, done, in all, note) that shows how far each task is."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        bars = Bars(console)
        with bars.live, _log_above_bars():
            yield reporter(bars, time.monotonic)
    else:
        yield reporter(LogLines(_write_error_line, time.monotonic), time.monotonic)


def reporter(display: _Display, clock: Callable[[], float]) -> Report:
    """Give the function that keeps tasks apart and shows each where it belongs.

    Args:
        display: where they are shown.
        clock: seconds.
    """
    running: dict[str, Task] = {}
    last: dict[str, str] = {}

    def report(what: str, done: int, total: int, note: str = "") -> None:
        task = running.setdefault(what, Task(what, clock))
        task.take(done, total, note)
        if not task.is_over:
            last.pop(what, None)
            display.show(task)
            return
        del running[what]
        if last.get(what) != task.count:  # said once, however often it is reported
            last[what] = task.count
            display.finish(task)

    return report


@contextmanager
def _log_above_bars() -> Iterator[None]:
    """Let what is logged meanwhile go above the bars, not through them."""
    handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.StreamHandler)]
    streams = [handler.stream for handler in handlers]
    for handler in handlers:
        if handler.stream in (sys.__stderr__, sys.__stdout__):
            handler.setStream(sys.stderr)
    try:
        yield
    finally:
        for handler, stream in zip(handlers, streams, strict=True):
            handler.setStream(stream)


def _write_error_line(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
