"""Several processes under `torchrun` train as one does, and end together if one of them fails."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from medkd.config.run_settings import RunSettings
from medkd.data.sampling import WHOLE, Share
from medkd.errors import SettingsError
from medkd.jsonio import read_json
from medkd.models.package import read_info
from medkd.report.render import write_report
from medkd.runs import ARMS, RunFolder, read_predictions
from medkd.train.engine import build_accelerator
from medkd.train.ranks import ALONE
from medkd.train.run import run_training
from medkd.train.shared_layers import shared_layers
from medkd.transfer.table import ALIGNMENTS, TERMS
from medkd.types import Evaluation
from tests.train.test_run import interrupt_at

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def in_processes(count: int, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program under `torchrun`."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(  # noqa: S603
        [sys.executable, *launch, *map(str, words)],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def config(image_values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with batches of odd size, dropout, a term between samples, and stored answers."""
    values = json.loads(json.dumps(image_values))
    values["target"] |= {
        "cache_dir": "${run_dir}/cache",
        "augmentation": {"shift_vox": 1.0, "views": 2},
    }
    values["teacher"]["training"] |= {"batch_size": 15, "accumulate": 2, "gradient_clip": 1.0}
    values["student"]["training"] |= {"batch_size": 15, "epochs": 4}
    values["student"]["model"] = {
        "kind": "compact2d", "stem_channels": 4, "channels": [4, 8], "strides": [1, 2],
        "dropout": 0.2,
    }  # fmt: skip
    values["transfer"] = {
        "terms": [{"kind": "soft_label"}, {"kind": "hint"}, {"kind": "similarity"}],
        "targets": {"mode": "stored", "precision": "float32"},
    }
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def alone(config: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same run in one process."""
    run = RunFolder(tmp_path_factory.mktemp("alone") / "run")
    run_training(settings_of(config), run)
    write_report(run)
    return run


def settings_of(config: Path) -> RunSettings:
    return RunSettings.model_validate(yaml.safe_load(config.read_text()))


def assert_same(run: RunFolder, alone: RunFolder) -> None:
    """Expect the same course, best epoch, scores and answers within 1e-4, and the same files."""
    for arm in ARMS:
        ours, theirs = rows(run, arm), rows(alone, arm)
        assert [row["best"] for row in ours] == [row["best"] for row in theirs]
        for row, other in zip(ours, theirs, strict=True):
            assert row == pytest.approx(other, rel=1e-4, abs=1e-6)
        assert read_info(run.model(arm)).metrics == pytest.approx(
            read_info(alone.model(arm)).metrics, rel=1e-4
        )
        np.testing.assert_allclose(logits(run, arm), logits(alone, arm), atol=1e-4)
    assert scores_of(run) == pytest.approx(scores_of(alone), abs=1e-4)
    assert file_names(run) == file_names(alone)


def rows(run: RunFolder, arm: str) -> list[dict[str, float]]:
    with run.log(arm).open(newline="") as stream:
        read = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read]


def scores_of(run: RunFolder) -> list[float]:
    arms = read_json(run.evaluation, Evaluation).arms
    return [
        value
        for one in (arm.classification["test"][0] for arm in arms)
        for value in (one.roc_auc.value, one.pr_auc.value, one.brier.value)
    ]


def logits(run: RunFolder, arm: str) -> list[float]:
    return [value for row in read_predictions(run.predictions(arm, "test")) for value in row.logits]


def file_names(run: RunFolder) -> set[str]:
    """Names of all files; stores and events are named by what they hold and by the time."""
    found = (path.relative_to(run.path) for path in run.path.rglob("*") if path.is_file())
    return {
        "/".join(part for part in path.parts if len(part) != 32).partition("tfevents")[0]
        for path in found
    }


def stores(run: RunFolder) -> list[Path]:
    return list((run.path / "cache" / "targets").glob("*/targets.json"))


@pytest.mark.slow
def test_two_processes_give_the_run_of_one(config: Path, alone: RunFolder, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    done = in_processes(2, "-m", "medkd", "train", config, "--out", "run", cwd=work)

    assert done.returncode == 0, done.stderr
    run = RunFolder(work / "run")
    assert_same(run, alone)
    assert len(stores(run)) == len(stores(alone)) == 1
    assert [path.name for path in work.iterdir()] == ["run"]
    assert done.stdout.count("report:") == 1
    assert done.stderr.count("student: training") == 1
    record = yaml.safe_load(run.record.read_text())
    assert record["device"] == "cpu, 2 processes"


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_with_two_also_after_one_of_them_failed(
    config: Path, alone: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patched:
        interrupt_at(patched, "control", 2)
        with pytest.raises(KeyboardInterrupt):
            run_training(settings_of(config), run)
    words = ("train", config, "--out", run.path, "--resume")
    failed = in_processes(2, HERE / "failing_rank.py", *words, cwd=tmp_path)
    check_failure(failed, run)
    resumed = in_processes(2, "-m", "medkd", *words, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert_same(run, alone)


def check_failure(failed: subprocess.CompletedProcess[str], run: RunFolder) -> None:
    """Expect one message of the failing process, one of the first, and no half of a student."""
    assert failed.returncode != 0
    assert failed.stderr.count("process 1: scan-7: the file is broken") == 1
    endings = ("medkd: another process of this training has ended", "medkd: stopped by SIGTERM")
    assert sum(map(failed.stderr.count, endings)) == 1  # torchrun may be faster than the network
    assert "medkd/train/engine.py" not in failed.stderr  # no traceback
    assert run.model("control").is_dir()
    assert len(rows(run, "student")) == 1
    assert not run.model("student").exists()
    assert not run.evaluation.exists()


@pytest.mark.slow
def test_the_gradient_of_shared_batches_is_that_of_whole_batches(tmp_path: Path) -> None:
    """Every term, every alignment, unknown labels, dropout, batch norm; odd and tiny batches.

    In double precision, so that only the order of sums differs.
    """
    done = in_processes(2, HERE / "rank_program.py", tmp_path / "found.json", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert {*TERMS, *ALIGNMENTS, "mutual", "known labels in one share"} < found.keys()
    assert {name: apart for name, apart in found.items() if not apart < 1e-7} == {}


@pytest.mark.parametrize("total", [1, 3, 4, 7, 32])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_shares_are_all_rows_in_order_or_not_divided(total: int, ranks: int) -> None:
    parts = [list(range(total))[Share(rank, ranks).rows(total)] for rank in range(ranks)]
    if total < ranks:
        assert parts == [list(range(total))] * ranks
        return
    assert [row for part in parts for row in part] == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_has_all_rows_and_changes_no_layer() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5))
    with shared_layers([network], ALONE, 4):
        assert all("forward" not in vars(layer) for layer in network)
    rows = torch.rand(4, 2)
    assert ALONE.join(rows, 4) is rows
    assert ALONE.share == WHOLE
    assert ALONE.from_first("order") == "order"


@pytest.mark.parametrize("command", ["bench", "tune", "demo", "models"])
def test_only_training_runs_in_several_processes(command: str, tmp_path: Path) -> None:
    ended = []
    for rank in "01":
        environment = os.environ | {"RANK": rank, "WORLD_SIZE": "2", "PYTHONPATH": str(ROOT)}
        ended.append(
            subprocess.run(  # noqa: S603
                [sys.executable, "-m", "medkd", command, "demo/phantom"],
                cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
            )
        )  # fmt: skip
    assert [one.returncode for one in ended] == [1, 1]
    assert f"`medkd {command}` cannot run in several processes" in ended[0].stderr
    assert "start it without torchrun" in ended[0].stderr
    assert ended[1].stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_no_one_connects_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingsError, match="only `medkd train` runs in several processes"):
        build_accelerator("no", "cpu")
