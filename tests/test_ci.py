"""The check of the demo in `.ci/run` passes a good run and fails a bad one with its numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def check(folder: Path, *, seconds: float, cpm: dict[str, dict[str, float]]) -> tuple[int, str]:
    """Run the check on an evaluation with the CPM of each arm and track."""
    arms = [
        {
            "name": arm,
            "froc": [{"track": t, "cpm_interpolated": value} for t, value in found.items()],
        }
        for arm, found in cpm.items()
    ]
    text = json.dumps({"record": {"seconds": seconds}, "arms": arms})
    (folder / "evaluation.json").write_text(text, encoding="utf-8")
    words = [sys.executable, str(ROOT / ".ci" / "check_demo.py"), str(folder)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)  # noqa: S603  # ours
    return done.returncode, done.stdout + done.stderr


GOOD = {"control": {"candidates": 0.12}, "student": {"candidates": 0.41}}


def test_a_good_run_passes_and_its_numbers_are_shown(tmp_path: Path) -> None:
    code, said = check(tmp_path, seconds=251.4, cpm=GOOD)
    assert code == 0
    assert "251 s" in said
    assert "student, candidates: CPM 0.410" in said
    assert "control, candidates: CPM 0.120" in said


@pytest.mark.parametrize(
    ("seconds", "cpm", "reason"),
    [
        (480.0, GOOD, "expected less than 480 s, got 480 s"),
        (200.0, {"student": {"candidates": 0.3}}, "CPM above 0.3, got 0.300"),
        (200.0, {"student": {"candidates": 0.5, "whole-scan": 0.0}}, "CPM above 0.3, got 0.000"),
        (200.0, {"control": {"candidates": 0.5}}, "expected a CPM of the student, got none"),
        (200.0, {"student": {}}, "expected a CPM of the student, got none"),
    ],
    ids=["too slow", "too weak", "weak where it searches scans", "no student", "no track"],
)
def test_a_bad_run_fails_with_the_reason(
    seconds: float, cpm: dict[str, dict[str, float]], reason: str, tmp_path: Path
) -> None:
    code, said = check(tmp_path, seconds=seconds, cpm=cpm)
    assert code == 1
    assert reason in said


def test_both_faults_are_named_at_once(tmp_path: Path) -> None:
    _, said = check(tmp_path, seconds=900.0, cpm={"student": {"candidates": 0.1}})
    assert said.count("FAILED") == 2


def test_the_ci_runs_the_check_after_the_demo() -> None:
    steps = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert steps.index("run_readme_block demo") < steps.index(".ci/check_demo.py medkd-demo")
