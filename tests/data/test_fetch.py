"""Loader processes that die, hang, refuse or find no memory: a clear end that names workers: 0."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from medkd.data.fetch import clear_worker_faults
from medkd.data.loader import TrainLoader
from medkd.data.patches import ImagePatches
from medkd.errors import SeriesError, WorkerError
from tests.data.conftest import make_table


class Spoilt(ImagePatches):
    """Does something once it is asked for its third batch, in whichever process that is."""

    def __init__(self, act: Callable[[], None], marks: Path) -> None:
        super().__init__(make_table([0, 1] * 40), np.zeros((80, 1, 4, 4), np.uint8))
        self.act = act
        self.marks = marks

    def images(self, rows: Tensor) -> Tensor:
        with self.marks.open("a") as stream:
            stream.write("x")
        if self.marks.stat().st_size == 3:
            self.act()
        return super().images(rows)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def break_the_bus() -> None:
    os.kill(os.getpid(), signal.SIGBUS)


def leave() -> None:
    os._exit(0)


def hang() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def stop_half_way() -> None:
    def send_half(self: Connection, data: bytes) -> None:
        os.write(self.fileno(), data[: len(data) // 2])
        stop()
        time.sleep(600)  # this thread may go on for a moment

    Connection._send = send_half  # type: ignore[attr-defined]  # in this process alone


def fail() -> None:
    raise KeyError("lung")


def run_out_of_memory() -> None:
    raise MemoryError


def find_no_shared_memory() -> None:
    raise RuntimeError("unable to open shared memory object </torch_1> in read-write mode")


def fill_the_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def refuse() -> None:
    raise SeriesError("scan 3: cannot be read", ["a file of it is gone", "copy it again"])


def loader_of(act: Callable[[], None], folder: Path, timeout_s: float) -> TrainLoader:
    source = Spoilt(act, folder / "marks")
    loader = TrainLoader(source, batch_size=8, balanced=True, seed=0, workers=2)
    loader.timeout_s = timeout_s
    return loader


LATE = (hang, stop, stop_half_way, leave)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (kill, "killed by signal"),
        (crash, "killed by signal"),
        (break_the_bus, "--shm-size"),
        (leave, "loader process failed"),
        (hang, "timed out"),
        (stop, "timed out"),
        (stop_half_way, "timed out"),
        (fail, "KeyError: 'lung'"),
        (run_out_of_memory, "MemoryError"),
        (find_no_shared_memory, "unable to open shared memory"),
        (fill_the_disk, "No space left"),
    ],
)
def test_a_failed_worker_ends_the_epoch_and_names_the_remedy(
    tmp_path: Path, act: Callable[[], None], words: str
) -> None:
    loader = loader_of(act, tmp_path, timeout_s=3.0 if act in LATE else 60.0)
    started = time.monotonic()
    with pytest.raises(WorkerError) as failed:
        list(loader.epoch(0))
    assert words.lower() in str(failed.value).lower()
    assert "workers: 0" in str(failed.value)
    assert "--resume" in str(failed.value)
    assert time.monotonic() - started < 30
    assert multiprocessing.active_children() == []


def test_what_a_source_refuses_in_a_worker_keeps_its_reasons(tmp_path: Path) -> None:
    with pytest.raises(SeriesError) as refused:
        list(loader_of(refuse, tmp_path, 60.0).epoch(0))
    assert refused.value.reasons == ("a file of it is gone", "copy it again")


def test_an_epoch_that_is_left_early_leaves_no_process(tmp_path: Path) -> None:
    batches = loader_of(lambda: None, tmp_path, 60.0).epoch(0)
    next(batches)
    batches.close()
    assert multiprocessing.active_children() == []


def test_a_worker_that_is_stopped_after_its_last_batch_is_ended(tmp_path: Path) -> None:
    loader = loader_of(lambda: None, tmp_path, 60.0)
    for number, _ in enumerate(loader.epoch(0), 1):
        if number == len(loader):
            for process in multiprocessing.active_children():
                os.kill(process.pid or 0, signal.SIGSTOP)
    assert multiprocessing.active_children() == []


def test_workers_need_no_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("unable to write to file </torch_1>: No space left on device")

    monkeypatch.setattr(torch.UntypedStorage, "_share_filename_cpu_", full)
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", full)
    batches = list(loader_of(lambda: None, tmp_path, 20.0).epoch(0))
    assert len(batches) == 10
    batches[0].image.mul_(2.0)  # its memory is its own


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
        RuntimeError("received 0 items of ancdata"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_faults_of_workers_are_known_wherever_they_are_raised(error: Exception) -> None:
    with pytest.raises(WorkerError, match="workers: 0"), clear_worker_faults():
        raise error


def test_other_faults_of_a_training_go_on_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), clear_worker_faults():
        raise RuntimeError("shapes cannot be multiplied")


def test_a_refusal_is_pickled_whole() -> None:
    refusal = SeriesError("a", ["b", "c"])
    assert pickle.loads(pickle.dumps(refusal)).reasons == ("b", "c")  # noqa: S301  # our own bytes
