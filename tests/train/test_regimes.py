"""Every row of the table of regimes in `medkd/transfer/README.md` runs as it is printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from medkd.config.run_settings import RunSettings
from medkd.runs import RunFolder
from medkd.train.bench import run_bench
from medkd.train.run import run_training

Build = Callable[..., RunSettings]
README = Path(__file__).resolve().parents[2] / "medkd" / "transfer" / "README.md"
TEXT = README.read_text(encoding="utf-8").partition("## Regimes")[2].partition("\n## ")[0]
LINES = dict(re.findall(r"^\| ([a-z][^|]+) \| (`[^|]+`) \|", TEXT, re.M))
WHOLE = {"transfer", "bench"}
"""Keys that a row gives completely; the others are added to those of the tiny run."""

PLAIN = ["teacher", "control", "student"]
ARMS = {
    "simultaneous": PLAIN,
    "iterative": ["teacher", "control", "first", "second"],
    "teacher-assistant chain": ["teacher", "control", "assistant", "last"],
    "semi-supervised": ["teacher", "control", "control_views", "self_training", "student"],
    "self-training": ["teacher", "control", "control_views", "self_training", "student"],
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, image_settings: Build) -> RunFolder:
    """Trained networks to start from: of the teacher's and of the student's kind."""
    run = RunFolder(tmp_path_factory.mktemp("models") / "run")
    run_training(image_settings(), run)
    return run


def merged(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return values with those of `more`, section by section."""
    both = dict(values)
    for key, value in more.items():
        own = values.get(key)
        deep = isinstance(own, dict) and isinstance(value, dict) and key not in WHOLE
        both[key] = merged(own, value) if deep and "kind" not in value else value
    return both


def values_of(regime: str, models: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in re.findall(r"`([^`]+)`", LINES[regime]):
        arm = "teacher" if line.startswith("teacher") else "control"
        found |= yaml.safe_load(line.replace("MODEL", f'"{models.model(arm)}"'))
    return found


def test_the_table_lists_the_regimes_that_are_tried() -> None:
    assert len(LINES) == 12
    assert set(ARMS) <= set(LINES)


@pytest.mark.parametrize("regime", LINES)
def test_every_regime_of_the_table_runs(
    regime: str, models: RunFolder, image_values: dict[str, Any], tmp_path: Path
) -> None:
    values = merged(image_values, values_of(regime, models))
    settings = RunSettings.model_validate(values)
    arms = ARMS.get(regime, PLAIN)
    if settings.bench is not None:
        record = run_bench(settings, tmp_path / "run")
        assert list(record.arms()) == arms
        assert [record.of(arm)[0].teacher for arm in arms[2:]] == ["teacher", arms[2]]
        return
    evaluation = run_training(settings, RunFolder(tmp_path / "run"))
    assert [arm.name for arm in evaluation.arms] == arms
    if "MODEL" in LINES[regime]:
        started = evaluation.arm("teacher" if "teacher" in LINES[regime] else "control")
        assert started.initialisation.startswith("all layers from ")
