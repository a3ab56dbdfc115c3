"""A run that is killed again and again ends, and ends as one in one go."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from medkd.models.package import read_info
from medkd.runs import ARMS, RunFolder

LOADING = [
    {"kind": "load"},
    {"kind": "spacing", "spacing_mm": [2.0, 2.0, 2.0]},
    {"kind": "crop", "patch_shape": [16, 16, 16]},
    {"kind": "intensity"},
]
SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "device": "cpu",
    "target": {
        "data": {"kind": "phantom", "scans": 6, "size": "region", "nodules_per_scan": "3-4"},
        "split": {"kind": "fractions", "val": 0.34, "test": 0.34},
        "loading": LOADING,
    },
    "teacher": {
        "model": {"kind": "shallow3d", "channels": 3},
        "training": {"epochs": 3, "batch_size": 8, "max_steps_per_epoch": 4},
    },
    "student": {
        "model": {"kind": "shallow3d", "channels": 2},
        "training": {"epochs": 2, "batch_size": 8, "max_steps_per_epoch": 4},
    },
    "transfer": {"terms": [{"kind": "soft_label"}]},
    "evaluation": {"bootstrap": 20},
}

KILLED = """
import os, sys
import medkd.cli
from medkd.cli import progress
import medkd.report.render, medkd.train.run

def killed_after(reports):
    whole = progress.reporter
    def reporter(display, clock):
        report, left = whole(display, clock), [reports]
        def counted(*numbers):
            report(*numbers)
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), 9)
        return counted
    return reporter

for attempt in range(14):
    child = os.fork()
    if child == 0:
        progress.reporter = killed_after(3 + 7 * attempt)
        medkd.cli.main()
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        print(attempt)
        sys.exit(0)
sys.exit(3)
"""


def start(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_that_is_killed_at_every_stage_ends_as_one_in_one_go(tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(SETTINGS))
    killed, whole = RunFolder(tmp_path / "killed"), RunFolder(tmp_path / "whole")
    done = start(KILLED, "train", config, "--out", killed.path, "--resume")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) >= 4  # so often was it killed
    begin_with_phantoms_of(killed, whole)
    once = start("import medkd.cli; medkd.cli.main()", "train", config, "--out", whole.path)
    assert once.returncode == 0, once.stderr
    assert weights_of(killed) == weights_of(whole)
    assert made_of(killed) == made_of(whole)
    assert not list(killed.path.rglob(".*"))


def begin_with_phantoms_of(run: RunFolder, other: RunFolder) -> None:
    """Save half of the time: `tests/data/test_phantom.py` compares the bytes of stopped sets."""
    shutil.copytree(run.path / "data", other.path / "data")
    shutil.copy(run.config, other.config)


def weights_of(run: RunFolder) -> list[str]:
    return [read_info(run.model(arm)).weights_sha256 for arm in ARMS]


def made_of(run: RunFolder) -> dict[str, bytes]:
    """Return the bytes of predictions and reference."""
    files = [run.path.glob(pattern) for pattern in ("predictions/*", "reference/*")]
    return {
        path.relative_to(run.path).as_posix(): path.read_bytes()
        for found in files
        for path in found
        if path.is_file()
    }
