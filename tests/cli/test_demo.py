"""`medkd demo` as a user meets its end; the run itself is tested in tests/train/test_shipped.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from medkd.cli import app
from medkd.jsonio import read_json
from medkd.runs import RunFolder
from medkd.types import Evaluation
from tests.report.run_factory import write_example_run


def test_the_demo_ends_with_the_arms_and_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(_settings: object, run: RunFolder, **_: object) -> Evaluation:
        return read_json(write_example_run(run.path).evaluation, Evaluation)

    monkeypatch.setattr("medkd.train.run.run_training", train)
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert any(line.startswith("Student minus control, ROC AUC: ") for line in lines)
    assert [line.split(" ")[0] for line in lines if " to " in line][:3] == [
        "teacher", "control", "student",
    ]  # fmt: skip
    run = RunFolder(tmp_path / "run")
    assert lines[-2:] == [f"report:  {run.report}", f"next:    medkd review {run.path}"]
    assert run.report.is_file()
