"""Scans searched in several processes or by a foreign executor; processes that are killed."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from pathlib import Path

import pytest

from medkd.detect.batch import WORKER_KILLED, search_scans
from medkd.detect.jobs import run_job, scan_job
from medkd.errors import CheckpointError, WorkerError
from medkd.index.scan_inputs import ScanInput, find_inputs
from medkd.io.volume import write_mhd
from medkd.models.package import LoadedModel, save_model
from medkd.models.table import build_model, parse_model_settings
from medkd.types import CaseResult
from tests.detect_cases import chest_with_balls, write_detector


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for number in (1, 2, 3, 4):
        write_mhd(chest_with_balls(balls=number > 2), folder / f"2.25.{number}.mhd")
    (folder / "2.25.4.mhd").write_text("no header")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return write_detector(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def expected(scans: Path, model: LoadedModel) -> list[CaseResult]:
    return search(scans, model)


def search(scans: Path, model: LoadedModel, workers: int | Executor = 1) -> list[CaseResult]:
    found = search_scans(find_inputs([scans]).scans, model, workers=workers)
    return [replace(result, seconds=0.0) for result in found]


class OneByOne(Executor):
    """An executor that sends everything through pickle, as a cluster does."""

    def __init__(self, broken_after: int = 99) -> None:
        self.left = broken_after

    def submit(  # type: ignore[override]
        self, function: Callable[..., object], /, *arguments: object
    ) -> Future[object]:
        future: Future[object] = Future()
        self.left -= 1
        if self.left < 0:
            future.set_exception(BrokenExecutor("a worker died"))
        else:
            sent, given = pickle.loads(pickle.dumps((function, arguments)))  # noqa: S301  # our own
            future.set_result(sent(*given))
        return future


def test_any_executor_gives_the_results_of_one_process_in_their_order(
    scans: Path, model: LoadedModel, expected: list[CaseResult]
) -> None:
    assert [r.status for r in expected] == ["analysed"] * 3 + ["not_analysed"]
    with ThreadPoolExecutor(2) as pool:
        assert search(scans, model, pool) == expected
    assert search(scans, model, OneByOne()) == expected


def test_an_executor_that_breaks_ends_the_search_and_it_can_be_resumed(
    scans: Path, model: LoadedModel, expected: list[CaseResult], tmp_path: Path
) -> None:
    job = scan_job([scans], model, workers=OneByOne(broken_after=2))
    with pytest.raises(WorkerError, match="resume the search"):
        run_job(job, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("2.25.*.json"))) == 2
    again = run_job(scan_job([scans], model), tmp_path / "out", resume=True)
    assert [replace(result, seconds=0.0) for result in again] == expected


@dataclass(frozen=True)
class DeadlyScan(ScanInput):
    """A scan whose reading kills the worker process: always, or if `once` does not exist yet.

    With `after`, it first waits until that file exists.
    """

    once: Path | None = None
    after: Path | None = None

    @property
    def generator(self) -> str:  # type: ignore[override]
        while parent_process() is not None and self.after and not self.after.exists():
            time.sleep(0.01)
        if parent_process() is not None and (self.once is None or not self.once.exists()):
            if self.once is not None:
                self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return ""


def test_the_scans_of_a_killed_process_are_searched_again_but_not_for_ever(
    scans: Path, model: LoadedModel, expected: list[CaseResult], tmp_path: Path
) -> None:
    one, two, three, four = find_inputs([scans]).scans
    inputs = [
        DeadlyScan(one.path, place=one.place, once=tmp_path / "died"),
        DeadlyScan(two.path, place=two.place, after=tmp_path / "died"),
        three,
        four,
    ]
    found = list(search_scans(inputs, model, workers=2))
    assert (tmp_path / "died").exists()
    assert [result.candidates for result in found] == [
        expected[0].candidates, (), expected[2].candidates, (),
    ]  # fmt: skip
    assert found[1].reasons == (WORKER_KILLED,)
    assert found[1].seriesuid == "2.25.2"
    assert [replace(r, seconds=0.0) for r in found[2:]] == expected[2:]


def test_a_model_is_sent_as_its_directory_and_loaded_once(model: LoadedModel) -> None:
    sent = pickle.dumps(model)
    first, second = pickle.loads(sent), pickle.loads(sent)  # noqa: S301  # our own
    assert first is second
    assert first.info == model.info
    assert len(sent) < 1000


def test_a_model_that_was_replaced_meanwhile_is_refused(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "model")
    sent = pickle.dumps(model)
    other = build_model(parse_model_settings(model.info.settings), seed=1)
    save_model(tmp_path / "model", other, model.info)
    with pytest.raises(CheckpointError, match="the model was replaced"):
        pickle.loads(sent)  # noqa: S301  # our own
