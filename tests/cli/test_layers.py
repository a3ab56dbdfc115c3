"""`medkd layers` lists what `teacher_layer` and `student_layer` accept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from medkd.cli import app
from medkd.config.load import find_config, load_settings
from medkd.config.run_settings import RunSettings
from medkd.errors import CheckpointError, SettingsError
from medkd.models.classifiers import Shallow2dSettings
from medkd.models.package import ModelInfo, Preprocessing, save_model
from medkd.models.table import build_architecture
from medkd.transfer.objective import TransferObjective
from medkd.transfer.teacher import FrozenTeacher

LINES = """\
MODEL: shallow2d, 4,881 parameters
one view: 1 x 20 x 12
  layer       module        output       parameters
  features    Sequential    32 x 5 x 3        4,848
  features.0  Conv2d        16 x 10 x 6         144
"""


def medkd(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    settings = Shallow2dSettings()
    info = ModelInfo(settings.model_dump(mode="json"), preprocessing=_patches((20, 12)))
    save_model(tmp_path / "student", build_architecture(settings), info)
    return tmp_path / "student"


def _patches(shape: tuple[int, ...]) -> Preprocessing:
    return Preprocessing(patch_shape=shape)


def test_a_model_is_listed_for_its_own_views_with_its_embedding_and_the_keys(model: Path) -> None:
    done = medkd("layers", model)

    assert done.exit_code == 0
    assert done.output.startswith(LINES.replace("MODEL", str(model)))
    assert "\n  pool        WeightedMean  32                    0  embedding\n" in done.output
    assert "{kind: hint, teacher_layer: NAME, student_layer: NAME}" in done.output
    assert "those of transformers may have them last: terms refuse" in done.output


def test_another_shape_changes_the_outputs(model: Path) -> None:
    (found,) = json.loads(medkd("layers", model, "--shape", "8,8", "--json").output)["networks"]

    assert found["view_shape"] == [1, 8, 8]
    assert {"features": [32, 2, 2], "pool": [32]}.items() <= {
        layer["name"]: layer["output"] for layer in found["layers"]
    }.items()


def test_a_shipped_model_says_that_its_shape_is_assumed() -> None:
    done = medkd("layers", "ct-nodule-small")

    assert "one view: 1 x 32 x 32 x 32 (assumed: --shape gives another)" in done.output
    assert "layers; --all lists every layer" in done.output
    assert len(medkd("layers", "ct-nodule-small", "--all").output) > 2 * len(done.output)


def test_the_networks_of_a_configuration_are_listed_without_data_and_weights() -> None:
    done = medkd("layers", "--config", "transfer/luna16_candidates", "--json")
    teacher, student = json.loads(done.output)["networks"]

    assert (teacher["role"], teacher["network"]) == ("teacher", "resnet3d")
    assert (student["role"], student["network"]) == ("student", "compact3d")
    assert teacher["view_shape"] == student["view_shape"]


def test_a_listed_name_can_be_compared_and_another_is_refused() -> None:
    source = ("--config", "transfer/luna16_candidates", "--set", "teacher.model.width=0.125")
    teacher, student = json.loads(medkd("layers", *source, "--json").output)["networks"]
    names = {
        f"{one['role']}_layer": next(row["name"] for row in one["layers"] if _is_map(row))
        for one in (teacher, student)
    }

    assert set(_objective(names).terms) == {"hint"}
    with pytest.raises(SettingsError, match="no layer 'features'; similar names are "):
        _objective({**names, "teacher_layer": "features"})


def _is_map(row: dict[str, object]) -> bool:
    output = row["output"]
    return bool(row["is_group"]) and isinstance(output, list) and len(output) == 4


def _objective(names: dict[str, str]) -> TransferObjective:
    """Build the objective of the configuration with one hint between the named layers."""
    term = json.dumps([{"kind": "hint", "projector": "linear", **names}])
    path = find_config("transfer/luna16_candidates")
    overrides = ["teacher.model.width=0.125", f"transfer.terms={term}"]
    settings = load_settings(path, RunSettings, overrides=overrides)
    assert settings.student
    assert settings.transfer
    assert settings.teacher
    assert settings.teacher.model
    return TransferObjective(
        build_architecture(settings.student.model),
        FrozenTeacher(build_architecture(settings.teacher.model)),
        settings.transfer,
        view_shape=(1, 32, 32, 32),
        positive_share=(0.5,),
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "medkd layers MODEL"),
        (["ct-nodule-small", "--config", "demo/phantom"], "either a model or a configuration"),
        (["ct-nodule-small", "--set", "seed=1"], "add --config"),
        (["ct-nodule-small", "--shape", "30,30,30"], "expected multiples of 8"),
        (["ct-nodule-small", "--shape", "30,x"], "expected whole numbers above 0"),
        (["--config", "demo/phantom", "--set", "sede=1"], "did you mean 'seed'"),
    ],
)
def test_what_cannot_be_listed_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        medkd("layers", *words)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="shipped models: "):
        medkd("layers", tmp_path)
