"""Work in processes: in order, and a task that kills its process costs itself alone."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_all_start_methods
from pathlib import Path

import pytest

from medkd.errors import ExtraMissingError, MedkdError, SeriesError, WorkerError
from medkd.files import attribute_errors_to
from medkd.processes import Crashed, SafePool


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


def refuse(number: int) -> int:
    if number:
        raise ExtraMissingError("timm", "pretrained")
    raise SeriesError("a scan", ["no lungs", "too short"])


@pytest.mark.parametrize(("number", "kind"), [(0, SeriesError), (1, ExtraMissingError)])
def test_a_refusal_keeps_its_reasons_on_the_way(number: int, kind: type[MedkdError]) -> None:
    with pytest.raises(kind) as refused:
        list(SafePool(refuse, 1).run([number]))
    assert len(refused.value.reasons) == (1 if number else 2)


def kill_itself_once(path: Path) -> int:
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


def test_a_task_whose_process_was_killed_is_tried_again(tmp_path: Path) -> None:
    tasks = [tmp_path / str(n) for n in range(5)]
    for task in (*tasks[:3], tasks[4]):
        task.touch()
    assert list(SafePool(kill_itself_once, 2).run(tasks)) == [(task, 1) for task in tasks]


@pytest.mark.parametrize("method", ["__init__", "submit"])
@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "shared memory"), (errno.EROFS, "shared memory"), (errno.EMFILE, "ulimit -n"),
     (errno.EAGAIN, "ulimit -a")],
)  # fmt: skip
def test_processes_that_cannot_be_started_are_refused_with_what_is_short(
    monkeypatch: pytest.MonkeyPatch, number: int, words: str, method: str
) -> None:
    def short(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(ProcessPoolExecutor, method, short)
    with (
        pytest.raises(WorkerError, match="try --workers 1") as refused,
        attribute_errors_to(Path("a folder")),
    ):
        list(SafePool(square_or_die, 2).run([1, 2]))
    assert words in str(refused.value)


SLEEPERS = """
import sys, time
from medkd.processes import SafePool
import tests.test_processes as module
print("begun", flush=True)
list(SafePool(module.note_and_sleep, 2).run(sys.argv[1:]))
"""


def note_and_sleep(place: str) -> None:
    Path(place).write_text(str(os.getpid()))
    time.sleep(60)


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(tmp_path: Path, by: signal.Signals) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    before = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    words = [sys.executable, "-c", before + SLEEPERS, *map(str, places)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603  # our own program
    wait_until(lambda: all(place.exists() and place.read_text() for place in places))
    process.send_signal(by)
    process.wait(20)
    wait_until(lambda: not any(is_alive(int(place.read_text())) for place in places))


SLOW = """
import os, time
from pathlib import Path
with Path(os.environ["MARK"]).open("a") as stream:
    stream.write("x")
if Path(os.environ["MARK"]).stat().st_size > 1:
    time.sleep(1.5)  # in the process that others branch off
def work(number):
    return number
"""
INTERRUPTED = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from medkd.processes import SafePool
from slow_to_load import work
try:
    list(SafePool(work, 2).run([1, 2]))
except KeyboardInterrupt:
    pass
time.sleep(2.5)
"""


@pytest.mark.skipif(
    "forkserver" not in get_all_start_methods(),
    reason="this test interrupts the start of a fork server, and this platform has none",
)
def test_an_interruption_while_processes_start_is_quiet(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "slow_to_load.py").write_text(SLOW)
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    process = subprocess.Popen(  # noqa: S603  # our own program
        [sys.executable, "-c", INTERRUPTED],
        stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths, "MARK": str(mark)},
    )  # fmt: skip
    wait_until(lambda: mark.exists() and mark.stat().st_size > 1)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == b""
    assert process.returncode == 0


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(400):
        if is_so():
            return
        time.sleep(0.05)
    pytest.fail("it never came to that")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
