"""A shipped model is found by its name, and a path wins over a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from medkd.errors import CheckpointError
from medkd.models.card import model_card
from medkd.models.package import load_model, read_info, save_model
from medkd.models.shipped import CARD_NAME, copy_model, find_model, shipped_models
from tests.models.shipped_models import INFO, NAME, TINY, ship, trained

LIMIT_BYTES = 8_000_000
"""All shipped models together."""


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return ship(tmp_path / "models", monkeypatch)


def test_a_name_is_accepted_where_a_directory_is(shipped: Path) -> None:
    assert find_model(NAME) == shipped
    assert read_info(NAME).purpose == INFO.purpose
    assert load_model(Path(NAME)).info == read_info(shipped)


def test_a_model_directory_of_that_name_wins(shipped: Path) -> None:
    save_model(Path(NAME), trained(TINY, seed=3), INFO)
    assert find_model(NAME) == Path(NAME)
    assert read_info(NAME).weights_sha256 != read_info(shipped).weights_sha256


def test_a_folder_that_hides_a_shipped_model_is_refused_with_the_remedy(shipped: Path) -> None:
    Path(NAME).mkdir()
    with pytest.raises(CheckpointError, match=f"hides the shipped model {NAME}: rename"):
        find_model(NAME)


def test_an_unknown_name_is_refused_with_the_names_and_the_models_nearby(shipped: Path) -> None:
    save_model(Path("run/student"), trained(TINY), INFO)
    for wrong in ("run/studnet", "run"):
        with pytest.raises(CheckpointError, match=f"^{wrong}: not a model") as refused:
            find_model(wrong)
        assert f"shipped models: {NAME}" in refused.value.reasons
        assert "models nearby: run/student" in refused.value.reasons


def test_an_installation_without_models_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medkd.models.shipped.SHIPPED", tmp_path / "none")
    with pytest.raises(CheckpointError, match="shipped models: none in this installation"):
        find_model(NAME)


def test_a_copy_is_an_ordinary_model(shipped: Path, tmp_path: Path) -> None:
    (shipped / CARD_NAME).write_text("card")
    copy_model(NAME, tmp_path / "mine")
    assert load_model(tmp_path / "mine").info == read_info(NAME)
    assert (tmp_path / "mine" / CARD_NAME).read_text() == "card"


def test_a_copy_overwrites_nothing(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(CheckpointError, match="choose another path"):
        copy_model(NAME, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_each_model_of_the_package_loads_and_has_its_card() -> None:
    for name, directory in shipped_models().items():
        info = load_model(name).info
        assert (directory / CARD_NAME).read_text(encoding="utf-8") == model_card(name, info)
        assert info.sources
        assert info.limits
        assert info.licence != "not stated"


def test_the_models_of_the_package_are_small() -> None:
    files = [path for folder in shipped_models().values() for path in folder.iterdir()]
    assert sum(path.stat().st_size for path in files) <= LIMIT_BYTES
