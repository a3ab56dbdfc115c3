"""`medkd explain`: heat maps of RESULTS and of a RUN, and the table of disagreements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from medkd.cli import app
from medkd.errors import SettingsError
from medkd.io.heat_maps import read_heat_map
from medkd.io.volume import write_mhd
from medkd.models.package import LoadedModel, ModelInfo, Preprocessing, load_model, save_model
from medkd.models.table import build_model, parse_model_settings
from medkd.runs import Prediction, RunFolder, read_disagreements, write_predictions
from medkd.types import RunCase
from tests.data.archives import write_xray_archive
from tests.detect_cases import chest_with_balls, write_detector
from tests.viewer import factory


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def write_classifier(folder: Path, *, seed: int) -> LoadedModel:
    settings = parse_model_settings({"kind": "shallow2d"})
    steps = ({"kind": "image", "source": "memory"},)
    info = ModelInfo(
        settings.model_dump(mode="json"),
        preprocessing=Preprocessing(steps=steps, patch_shape=(28, 28)),
        label_names=("pneumonia",),
    )
    save_model(folder, build_model(settings, seed=seed), info)
    return load_model(folder)


def test_results_get_a_map_on_the_grid_of_their_model(tmp_path: Path) -> None:
    write_mhd(chest_with_balls(), tmp_path / "scan.mhd")
    write_detector(tmp_path / "model")
    out = tmp_path / "found"
    run("detect", tmp_path / "model", tmp_path / "scan.mhd", "--out", out)
    said = run("explain", out, "--model", tmp_path / "model")
    (path,) = (out / "explain").glob("*/*.npz")
    heat_map = read_heat_map(path)
    np.testing.assert_allclose(heat_map.grid.spacing_mm, 6.0)  # voxels of 3 mm, two to a cell
    assert (heat_map.kind, heat_map.arm) == ("probability", "")
    assert "1 cases, 1 heat maps" in said
    assert "0 cases" in run("explain", out, "--model", tmp_path / "model", "--resume")


def test_another_model_than_that_of_the_results_is_refused(tmp_path: Path) -> None:
    write_mhd(chest_with_balls(), tmp_path / "scan.mhd")
    write_detector(tmp_path / "model")
    run("detect", tmp_path / "model", tmp_path / "scan.mhd", "--out", tmp_path / "found")
    with pytest.raises(SettingsError, match="not the model of"):
        run("explain", tmp_path / "found")


@pytest.fixture
def xrays(tmp_path: Path) -> RunFolder:
    """Write a RUN of two classifiers and three images of a MedMNIST file."""
    cases = [
        RunCase(f"xray-{n}", "p", "image", "data/chests.npz", "test", n, n % 2, 0.5,
                "analysed")
        for n in range(3)
    ]  # fmt: skip
    folder = factory.write_bare_run(tmp_path / "run", cases)
    (folder.path / "data").mkdir()
    factory.write_images(folder.path / "data")
    for seed, arm in enumerate(("teacher", "student")):
        write_classifier(folder.model(arm), seed=seed)
        rows = [
            Prediction(f"xray-{n}", "p", f"xray-{n}", (1,), (0.0,), (0.5 + 0.2 * seed * n,))
            for n in range(3)
        ]
        write_predictions(folder.predictions(arm, "test"), rows)
    return folder


def test_a_run_gets_maps_of_both_arms_and_a_table_of_disagreements(xrays: RunFolder) -> None:
    said = run("explain", xrays.path)
    names = {path.name for path in xrays.explained.heat_maps("xray-1").iterdir()}
    assert names == {f"{arm}-grad-cam-pneumonia.npz" for arm in ("student", "teacher")}
    rows = read_disagreements(xrays.explained.disagreements)
    assert [row.case_id for row in rows] == ["xray-2", "xray-1", "xray-0"]
    assert (rows[0].teacher, rows[0].student, rows[0].center_mm) == (0.5, 0.9, None)
    assert "xray-2: teacher 0.500, student 0.900" in said


def test_only_the_named_cases_are_explained(xrays: RunFolder) -> None:
    run("explain", xrays.path, "--cases", "xray-2")
    assert [path.parent for path in xrays.explained.path.glob("*/*.npz")] == [
        xrays.explained.heat_maps("xray-2")
    ] * 2


def test_an_index_has_no_model_to_explain(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="an INDEX has no model to explain"):
        run("explain", write_xray_archive(tmp_path, patients=2))
