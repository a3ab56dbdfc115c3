"""Progress: units and an estimate on every count, nothing said twice, and it fits a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from medkd.cli.progress import Bars, LogLines, Task, duration, reporter


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(what: str, total: int, *, step_s: float, first: int = 0, known: bool = True) -> list[str]:
    """Report a task step by step, and return its lines in a log."""
    clock, lines = Clock(), []
    report = reporter(LogLines(lines.append, clock), clock)
    for done in range(first, total + 1):
        report(what, done, total if known else 0, "")
        clock.now += step_s
    return lines


def test_a_task_of_minutes_says_how_far_it_is_and_how_long_it_takes() -> None:
    lines = run("site a: writing phantoms", 40, step_s=3.0)
    assert lines[0] == "site a: writing: 2/40 phantoms, 2 min left"
    assert lines[1] == "site a: writing: 12/40 phantoms, 84 s left"
    assert lines[-1] == "site a: writing: 40/40 phantoms, done in 2 min"
    assert len(lines) == 5


def test_a_task_of_seconds_is_one_line() -> None:
    assert run("evaluating arms", 3, step_s=0.1) == ["evaluating: 3/3 arms, done in 1 s"]


def test_what_an_earlier_run_did_is_not_taken_for_speed() -> None:
    lines = run("teacher: training steps", 400, step_s=1.0, first=380)
    assert lines[0] == "teacher: training: 385/400 steps, 15 s left"


def test_a_total_that_is_not_known_is_not_made_up() -> None:
    lines = run("files", 1200, step_s=0.01, known=False)
    assert lines == ["501 files", *lines[1:]]
    assert "/" not in "".join(lines)


def test_what_is_finished_is_said_once() -> None:
    clock, lines = Clock(), []
    report = reporter(LogLines(lines.append, clock), clock)
    for _ in range(3):
        report("files", 7, 7, "")
    assert lines == ["7/7 files, done in 1 s"]


def test_the_same_task_in_another_place_is_said_again() -> None:
    clock, lines = Clock(), []
    report = reporter(LogLines(lines.append, clock), clock)
    for done in (1, 2, 1, 2):
        report("scans", done, 2, "")
    assert lines == ["2/2 scans, done in 1 s"] * 2


def test_a_name_without_a_unit_counts_steps() -> None:
    task = Task("rehearsal", Clock())
    task.take(3, 8, "")
    assert (task.words, task.count) == ("rehearsal", "3/8 steps")


def test_a_note_ends_the_line() -> None:
    task = Task("teacher: training steps", Clock())
    task.take(40, 40, "stopped early after epoch 4 of 8")
    assert task.line().endswith("40/40 steps, done in 1 s, stopped early after epoch 4 of 8")


@pytest.mark.parametrize("width", [80, 100, 140])
def test_bars_fit_the_terminal_and_finished_ones_become_lines(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, color_system=None)
    bars = Bars(console)
    clock = Clock()
    report = reporter(bars, clock)
    with bars.live:
        for what, total in (
            ("phantom, site a, validation part of a long name: preparing scans", 1200),
            ("teacher: training steps", 96_000),
        ):
            report(what, 0, total, "")
            clock.now += 60
            report(what, total // 3, total, "epoch 3 of 8")
            bars.live.refresh()
            report(what, total, total, "")
    text = out.getvalue()
    lines = [line.rstrip("\r") for line in text.replace("\x1b", "\n").splitlines()]
    assert max(len(line) for line in lines if "done in" not in line) <= width + 4
    assert "32,000/96,000 steps" in text
    assert "2 min left" in text
    assert "epoch 3 of 8" in text
    assert text.count("done in") == 2


@pytest.mark.parametrize(("seconds", "words"), [(0, "1 s"), (99, "99 s"), (3000, "50 min")])
def test_times_are_as_exact_as_they_are_known(seconds: float, words: str) -> None:
    assert duration(seconds) == words
