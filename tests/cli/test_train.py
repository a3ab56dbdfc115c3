"""`medkd train` as a user meets it: what it leaves, and how it is stopped and goes on."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from medkd.cli import app
from medkd.runs import ARMS, RunFolder
from tests.train.conftest import plain_values, write_images

EPOCHS = 40


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    values: dict[str, Any] = plain_values(write_images(folder / "pneumoniamnist.npz"))
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def invoke(*words: object) -> str:
    result = CliRunner().invoke(app, ["train", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_run_ends_with_what_was_found_and_what_to_do_next(config: Path, tmp_path: Path) -> None:
    output = invoke(config, "--out", tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert output.splitlines()[-2:] == [
        f"report:  {run.report}",
        f"next:    medkd review {run.path}",
    ]
    assert run.report.is_file()
    assert all((run.model(arm) / "model.safetensors").is_file() for arm in ARMS)


def test_a_run_with_cases_without_labels_says_what_to_label_next(
    config: Path, tmp_path: Path
) -> None:
    limit = "target.split.limit={labelled_fraction: 0.5, unlabelled: keep}"
    output = invoke(config, "--out", tmp_path / "run", "--set", limit)
    run = RunFolder(tmp_path / "run")
    assert f"label:   {run.label_next} lists the cases without labels" in output
    assert "label_next.csv ranks 24 training cases without labels" in run.report.read_text()


# A shell starts what it runs in the background with SIGINT ignored, nohup with SIGHUP ignored; a
# test may be started so.
INTERRUPTIBLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL); from medkd.cli import main; main()"
)


def start(config: Path, out: Path) -> subprocess.Popen[str]:
    words = ["train", str(config), "--out", str(out), "--set", f"teacher.training.epochs={EPOCHS}"]
    return subprocess.Popen(  # noqa: S603  # our own program
        [sys.executable, "-c", INTERRUPTIBLE, "-v", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "code"),
    [
        (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)  # fmt: skip
def test_a_stopped_run_says_so_and_goes_on(
    config: Path, tmp_path: Path, by: signal.Signals, code: int
) -> None:
    out = tmp_path / "run"
    process = start(config, out)
    assert process.stderr is not None
    for line in process.stderr:
        if "medkd.train.loop: teacher:" in line:
            break
    process.send_signal(by)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert ("--resume" in errors) == (by != signal.SIGKILL)
    assert errors.count("no file is partially written") == int(by != signal.SIGKILL)
    (out / "training" / ".log.csv.x.part").touch()  # as a kill while writing leaves
    invoke(config, "--out", out, "--resume", "--set", f"teacher.training.epochs={EPOCHS}")
    assert not list(out.rglob("*.part*"))
    with RunFolder(out).log("teacher").open(newline="") as stream:
        assert [int(row["epoch"]) for row in csv.DictReader(stream)] == list(range(1, EPOCHS + 1))
