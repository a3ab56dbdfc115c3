"""`medkd tune` as a user meets it: what it prints, and how a stopped search goes on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from medkd.cli import app
from tests.train.conftest import plain_values, write_images
from tests.train.test_run import interrupt_at

RATE = "student.training.learning_rate"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune with space")
    values: dict[str, Any] = plain_values(write_images(folder / "pneumoniamnist.npz"))
    values["tune"] = {"trials": 2, "space": {RATE: {"low": 0.001, "high": 0.02, "log": True}}}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_stopped_search_continues_with_the_command_it_prints(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["tune", str(config), "--trials", "1", "--set", "evaluation.bootstrap=20"]
    out = tmp_path / "search"
    with monkeypatch.context() as patched:
        interrupt_at(patched, "student", 1)
        stopped = CliRunner().invoke(app, [*words, "--out", str(out)])
    assert stopped.exit_code != 0
    (line,) = (line for line in stopped.output.splitlines() if "To resume, run: " in line)
    command = shlex.split(line.partition("To resume, run: medkd ")[2])
    assert command == [
        "tune", str(config), "--set", "evaluation.bootstrap=20", "--trials", "1",
        "--out", str(out), "--resume",
    ]  # fmt: skip
    resumed = CliRunner().invoke(app, command, catch_exceptions=False)
    assert resumed.exit_code == 0, resumed.output
    assert "2 trials: 1 stopped, 1 complete" in resumed.output
    assert "best roc_auc of the student on validation: " in resumed.output
    assert f"  {RATE}: 0.0" in resumed.output
    assert f"next:   medkd train {out / 'best.yaml'}" in resumed.output
    again = CliRunner().invoke(app, command, catch_exceptions=False)  # nothing is left to do
    assert "2 trials: 1 stopped, 1 complete" in again.output
