"""`teacher: {from: NAME}`: the name of a shipped model stays a name; a folder of that name wins."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from medkd.config.load import dump_settings, load_settings
from medkd.config.run_settings import RunSettings
from medkd.errors import SettingsError
from medkd.train.plan import plan_arms
from tests.models.shipped_models import NAME, ship
from tests.train.conftest import plain_values


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration whose teacher is a shipped model, in another folder than the current one."""
    ship(tmp_path / "models", monkeypatch)
    for folder in ("study", "here"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "study" / "set.npz").touch()
    values = plain_values(Path("set.npz")) | {"teacher": {"from": NAME}}
    path = tmp_path / "study" / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_settings_and_plan_keep_the_name(config: Path) -> None:
    settings = load_settings(config, RunSettings, must_exist=True)
    assert settings.teacher.from_ == NAME
    assert f"from: {NAME}\n" in dump_settings(settings)
    assert plan_arms(settings)[0].taken_from == Path(NAME)


def test_a_folder_of_that_name_beside_the_file_wins(config: Path) -> None:
    (config.parent / NAME).mkdir()
    settings = load_settings(config, RunSettings, must_exist=True)
    assert settings.teacher.from_ == str(config.parent / NAME)


def test_a_name_given_by_set_stays_a_name(config: Path) -> None:
    settings = load_settings(
        config, RunSettings, overrides=[f"teacher.from={NAME}"], must_exist=True
    )
    assert settings.teacher.from_ == NAME


def test_a_mistyped_name_is_refused_with_the_shipped_names(config: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(config, RunSettings, overrides=["teacher.from=ct-nodul"], must_exist=True)
    assert refused.value.reasons[0].endswith(f"the current folder); shipped models: {NAME}")


def test_a_shipped_name_is_no_data_set(config: Path) -> None:
    config.write_text(config.read_text().replace("set.npz", NAME))
    with pytest.raises(SettingsError, match=f"study/{NAME}: no such file"):
        load_settings(config, RunSettings, must_exist=True)
