"""The second look: a patch classifier scores the best marks of a detector again."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from medkd.acceptance.results import AcceptanceSettings
from medkd.cli import app
from medkd.data.prepared import PreparedScan, ScanFacts
from medkd.detect import DetectSettings, detect_nodules
from medkd.detect.second_look import MARKS, load_second, look_again
from medkd.errors import CheckpointError
from medkd.geometry import VoxelGrid
from medkd.io.metaimage import write_mhd
from medkd.models.package import LoadedModel, ModelInfo, Preprocessing, save_model
from medkd.models.table import build_model, parse_model_settings
from medkd.types import Candidate
from tests.detect_cases import chest_with_balls, write_detector

SHAPE = (6, 6, 6)


class MeanNetwork(torch.nn.Module):
    """Logit: 4 times the mean of the patch, less 2."""

    finds_points, spatial_dims, label_count = False, 3, 1

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(4.0))

    def forward(self, view: torch.Tensor) -> torch.Tensor:
        return self.factor * view.mean(dim=(2, 3, 4)) - 2


def mean_model(spacing_mm: float) -> LoadedModel:
    steps = (
        {"kind": "load"},
        {"kind": "spacing", "spacing_mm": [spacing_mm] * 3},
        {"kind": "crop", "patch_shape": list(SHAPE)},
        {"kind": "intensity", "hu_window": [0.0, 100.0]},
    )
    info = ModelInfo(settings={"kind": "mean"}, preprocessing=Preprocessing(steps=steps))
    return LoadedModel(MeanNetwork().eval(), info)  # type: ignore[arg-type]  # no `Network`


def ramp() -> PreparedScan:
    """A scan of 1 mm voxels whose HU are their i."""
    hu = torch.arange(60.0).reshape(1, 60, 1, 1).expand(1, 60, 30, 30)
    grid = VoxelGrid.from_parts((60, 30, 30), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    return PreparedScan(ScanFacts("2.25.1", grid, None, (), ()), hu, grid)


@pytest.mark.parametrize("spacing_mm", [1.0, 2.0])
def test_the_score_is_the_mean_of_both_logits_in_the_voxels_of_the_classifier(
    spacing_mm: float,
) -> None:
    marks = [Candidate("2.25.1", (x, 15.0, 15.0), 0.5, 7.0) for x in (20.0, 35.0)]
    first, second = look_again(marks, ramp(), mean_model(spacing_mm))
    # The mean HU of a patch around x is x: logits 4 x / 100 - 2, and 0 of the first look.
    assert (first.center_mm[0], second.center_mm[0]) == (35.0, 20.0)
    assert first.score == pytest.approx(1 / (1 + math.exp(0.3)), abs=1e-4)
    assert second.score == pytest.approx(1 / (1 + math.exp(0.6)), abs=1e-4)
    assert first.diameter_mm == 7.0


def test_only_the_best_marks_are_kept() -> None:
    marks = [Candidate("2.25.1", (30.0, 15.0, 15.0), 0.9 - n / 100) for n in range(MARKS + 5)]
    assert len(look_again(marks, ramp(), mean_model(1.0))) == MARKS
    assert look_again([], ramp(), mean_model(1.0)) == ()


def classifier(folder: Path) -> Path:
    """Write a small patch classifier."""
    settings = parse_model_settings({"kind": "shallow3d", "channels": 2})
    steps = (
        {"kind": "load"},
        {"kind": "spacing", "spacing_mm": [2.0, 2.0, 2.0]},
        {"kind": "crop", "patch_shape": [16, 16, 16]},
        {"kind": "intensity", "hu_window": [-1000.0, 400.0]},
    )
    info = ModelInfo(settings.model_dump(mode="json"), preprocessing=Preprocessing(steps=steps))
    save_model(folder, build_model(settings, seed=0), info)
    return folder


def test_a_search_with_a_second_look_ranks_its_best_marks_anew(tmp_path: Path) -> None:
    detector = write_detector(tmp_path / "detector")
    plain = detect_nodules(chest_with_balls(), detector)
    path = str(classifier(tmp_path / "classifier"))
    found = detect_nodules(chest_with_balls(), detector, DetectSettings(second_look=path))
    assert len(found.candidates) == min(MARKS, len(plain.candidates)) == len(found.places)
    scores = [mark.score for mark in found.candidates]
    assert scores == sorted(scores, reverse=True)
    assert any(note.startswith("second look: the best 40") for note in found.notes)
    places = {mark.center_mm for mark in plain.candidates[:MARKS]}
    assert {mark.center_mm for mark in found.candidates} == places


def test_a_detector_takes_no_second_look(tmp_path: Path) -> None:
    write_detector(tmp_path / "detector")
    with pytest.raises(CheckpointError, match="cannot take a second look"):
        load_second(str(tmp_path / "detector"), torch.device("cpu"))


def test_the_command_states_no_threshold_after_a_second_look(tmp_path: Path) -> None:
    scan = tmp_path / "chest.mhd"
    write_mhd(chest_with_balls(), scan)
    write_detector(tmp_path / "detector")
    words = ["detect", str(tmp_path / "detector"), str(scan)]
    options = ["--second-look", str(classifier(tmp_path / "classifier"))]
    done = CliRunner().invoke(app, [*words, *options, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "no stored threshold" in done.output
    both = [*words, *options, "--fp-per-scan", "1", "--out", str(tmp_path / "other")]
    refused = CliRunner().invoke(app, both)
    assert refused.exit_code != 0
    assert "cannot be combined" in str(refused.exception)
    three = CliRunner().invoke(app, [*words, "--flips", "3", "--out", str(tmp_path / "third")])
    assert "--flips" in str(three.exception)


def test_an_acceptance_test_takes_one_look() -> None:
    with pytest.raises(ValueError, match="only for `medkd detect`"):
        AcceptanceSettings.model_validate({"search": {"second_look": "ct-nodule-small"}})
