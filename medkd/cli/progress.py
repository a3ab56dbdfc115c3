"""Show the progress of long commands on stderr: as bars on a terminal, as lines in a log file.

The last word of a task's name is the plural of what is counted: "site a: writing phantoms" is
shown as "site a: writing  12/40 phantoms". A total of 0 means that the total is not known yet.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

Report = Callable[[str, int, int, str], None]
"""Called with (name of the task, steps done, total steps, short note)."""

FIRST_S, EVERY_S = 5.0, 30.0
"""In a log file: seconds until the first line of a task, and between later lines."""

_STEADY_S = 2.0
"""The remaining time is estimated only after a task has run for this many seconds."""


@dataclass(slots=True)
class Task:
    """The progress of one task."""

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
        """Store the latest report."""
        self.first = done if self.first is None else self.first
        self.done, self.total, self.note = done, total, note

    @property
    def is_over(self) -> bool:
        """Whether all steps are done; always false while the total is unknown."""
        return 0 < self.total <= self.done

    @property
    def words(self) -> str:
        """The name of the task without the unit that is counted."""
        return self.what.rpartition(" ")[0] if self._names_unit else self.what

    @property
    def count(self) -> str:
        """The steps done, the total if known, and the unit."""
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
        """The estimated remaining time; empty if it cannot be estimated."""
        steps, elapsed = self.done - (self.first or 0), self.elapsed_s
        if self.is_over or not self.total or steps <= 0 or elapsed < _STEADY_S:
            return ""
        return f"{duration((self.total - self.done) * elapsed / steps)} left"

    def line(self) -> str:
        """Return the progress as one line of text."""
        end = f"done in {duration(self.elapsed_s)}" if self.is_over else self.left
        start = f"{self.words}: {self.count}" if self.words else self.count
        return ", ".join(part for part in (start, end, self.note) if part)

    @property
    def _names_unit(self) -> bool:
        return self.what.endswith("s")


def duration(seconds: float) -> str:
    """Format a duration with about two significant digits.

    Example:
        >>> [duration(s) for s in (0.4, 42, 200, 8000)]
        ['1 s', '42 s', '3 min', '2.2 h']
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class LogLines:
    """Progress as lines of a log file: a few while a task runs, one when it is finished.

    Args:
        write: writes a line.
        clock: returns the time in seconds.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._write = write
        self._clock = clock
        self._next: dict[str, float] = {}

    def show(self, task: Task) -> None:
        """Write a line if the last one is old enough."""
        now = self._clock()
        if now >= self._next.setdefault(task.what, task.began + FIRST_S):
            self._next[task.what] = now + EVERY_S
            self._write(task.line())

    def finish(self, task: Task) -> None:
        """Write the last line of the task."""
        self._next.pop(task.what, None)
        self._write(task.line())


class Bars:
    """A bar for each running task, and above the bars a line for each finished task.

    Args:
        console: the terminal.
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
        """Update the bar of the task."""
        total = task.total or None
        if task.what not in self._bars:
            shown = dict.fromkeys(("words", "count", "left", "note"), "")
            self._bars[task.what] = self.live.add_task(task.what, total=total, **shown)  # type: ignore[arg-type]  # fields of ours
        self.live.update(
            self._bars[task.what], completed=task.done, total=total,
            words=task.words, count=task.count, left=task.left, note=task.note,
        )  # fmt: skip

    def finish(self, task: Task) -> None:
        """Replace the bar of the task by its last line."""
        if task.what in self._bars:
            self.live.remove_task(self._bars.pop(task.what))
        self.live.console.print(task.line(), highlight=False, markup=False, soft_wrap=True)


@contextmanager
def progress_bars() -> Iterator[Report]:
    """Yield a `Report` function that shows progress on stderr."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        bars = Bars(console)
        with bars.live, _log_above_bars():
            yield reporter(bars, time.monotonic)
    else:
        lines = LogLines(partial(typer.echo, err=True), time.monotonic)
        yield reporter(lines, time.monotonic)


def reporter(display: LogLines | Bars, clock: Callable[[], float]) -> Report:
    """Return a `Report` function that tracks tasks by name and passes them to a display.

    Args:
        display: shows the tasks.
        clock: returns the time in seconds.
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
        if last.get(what) != task.count:  # a finished task is shown once, even if reported again
            last[what] = task.count
            display.finish(task)

    return report


@contextmanager
def _log_above_bars() -> Iterator[None]:
    """Print log messages above the progress bars, so that they do not overwrite the bars."""
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
