"""Work in processes: in order, and a task that kills its process costs itself alone."""

from __future__ import annotations

import os

import pytest

from medkd.archive.pool import Crashed, SafePool


def square_or_die(number: int) -> int:
    if number < 0:
        os._exit(3)
    if number > 100:
        raise ValueError("too large")
    return number * number


def test_results_come_in_the_order_of_their_tasks() -> None:
    pool = SafePool(square_or_die, 2)
    assert list(pool.run(range(9))) == [(n, n * n) for n in range(9)]


def test_a_task_that_kills_its_process_is_named_and_the_others_are_done() -> None:
    tasks = [1, 2, -1, 3, -2, 4, 5, 6, 7, 8]
    results = dict(SafePool(square_or_die, 2).run(tasks))
    assert sorted(results) == sorted(tasks)
    assert {task for task, result in results.items() if isinstance(result, Crashed)} == {-1, -2}
    assert results[8] == 64


def test_an_error_of_the_function_is_an_error() -> None:
    with pytest.raises(ValueError, match="too large"):
        list(SafePool(square_or_die, 1).run([1, 101]))
