"""`medkd import` leaves a model directory, or nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

from medkd.cli import app
from medkd.errors import CheckpointError, SettingsError
from medkd.models.package import load_model, read_info
from medkd.models.table import build_architecture, parse_model_settings


@pytest.fixture
def weights(tmp_path: Path) -> tuple[Path, str]:
    settings = parse_model_settings({"kind": "shallow2d", "channels": 4})
    path = tmp_path / "w.safetensors"
    save_file(build_architecture(settings, seed=3).state_dict(), path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def run_import(weights: tuple[Path, str], out: Path, *more: str) -> str:
    path, sha256 = weights
    words = ["import", str(path), "--kind", "shallow2d", "--sha256", sha256, "--out", str(out)]
    result = CliRunner().invoke(app, [*words, *more], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_an_import_leaves_a_model_that_loads(weights: tuple[Path, str], tmp_path: Path) -> None:
    out = tmp_path / "model"

    said = run_import(weights, out, "--set", "channels=4", "--label", "mass", "--licence", "MIT")

    assert "shallow2d" in said
    assert load_model(out).info.label_names == ("mass",)
    assert read_info(out).licence == "MIT"
    assert weights[1] in read_info(out).origin


def test_a_wrong_sha256_leaves_nothing(weights: tuple[Path, str], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not the expected file"):
        run_import((weights[0], "0" * 64), tmp_path / "model", "--set", "channels=4")

    assert not (tmp_path / "model").exists()


def test_a_place_that_is_taken_is_refused(weights: tuple[Path, str], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="choose a new one"):
        run_import(weights, tmp_path)


def test_settings_that_cannot_be_read_are_refused_all_at_once(
    weights: tuple[Path, str], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        run_import(weights, tmp_path / "model", "--set", "channels", "--set", "a=[1")

    assert len(caught.value.reasons) == 2
