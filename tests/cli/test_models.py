"""`medkd models`, and `medkd detect` with the name of a shipped model or without a model."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from medkd.cli import app
from medkd.cli.models import model_and_inputs
from medkd.errors import CheckpointError, SettingsError
from medkd.io.luna16_tables import read_marks
from medkd.io.volume import write_mhd
from medkd.models.package import read_info, save_model
from tests.detect_cases import chest_with_balls
from tests.models.shipped_models import INFO, NAME, TINY, ship, trained


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return ship(tmp_path / "models", monkeypatch)


def medkd(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_the_list_states_purpose_size_data_scores_and_licence() -> None:
    done = medkd("models")
    assert done.exit_code == 0
    assert NAME in done.output
    assert "  Finds lung nodules in chest CT.\n" in done.output
    assert f"detector3d, {read_info(NAME).parameters:,} parameters, 0.0 MB" in done.output
    assert "licence: Apache-2.0\n" in done.output
    assert "  trained on real and synthetic scans: set A" in done.output
    assert "  test_cpm 0.842 (95 % 0.811 to 0.871; " in done.output


def test_an_installation_without_models_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medkd.models.shipped.SHIPPED", tmp_path / "none")
    assert medkd("models").output == "no model ships with this installation of medkd\n"


def test_a_name_or_a_directory_prints_the_card() -> None:
    assert medkd("models", NAME).output.startswith(f"# {NAME}\n\nFinds lung nodules")
    save_model(Path("student"), trained(TINY), INFO)
    assert medkd("models", "student").output.startswith("# student\n")


def test_a_copy_is_a_model_to_start_from(tmp_path: Path) -> None:
    done = medkd("models", NAME, "--copy", tmp_path / "mine")
    assert done.exit_code == 0
    assert read_info(tmp_path / "mine") == read_info(NAME)


def test_a_copy_needs_a_name() -> None:
    with pytest.raises(SettingsError, match="medkd models NAME --copy DIR"):
        medkd("models", "--copy", "mine")


@pytest.mark.parametrize("words", [[], [NAME]], ids=["no model", "a name"])
def test_scans_are_searched_with_the_shipped_model(words: list[str], tmp_path: Path) -> None:
    write_mhd(chest_with_balls(), tmp_path / "scans" / "2.25.7.mhd")
    done = medkd("detect", *words, tmp_path / "scans", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"model: {NAME}\n") == (not words)
    assert "1 of 1 scans analysed" in done.output
    assert "trained on 3 synthetic and 2 real scans" in done.output
    read_marks(tmp_path / "out" / "results.csv")


def test_the_first_argument_is_the_model_if_it_is_one() -> None:
    Path("scans").mkdir()
    Path("scan.mhd").touch()
    save_model(Path("student"), trained(TINY), INFO)
    scans, student, name = Path("scans"), Path("student"), Path(NAME)
    assert model_and_inputs([student, scans]) == (student, [scans])
    assert model_and_inputs([name, scans]) == (name, [scans])
    assert model_and_inputs([scans, Path("b")]) == (name, [scans, Path("b")])
    assert model_and_inputs([Path("scan.mhd")]) == (name, [Path("scan.mhd")])


def test_a_mistyped_model_is_not_an_input() -> None:
    save_model(Path("run/student"), trained(TINY), INFO)
    Path("scans").mkdir()
    with pytest.raises(CheckpointError, match="studnet: neither a model nor an input") as refused:
        model_and_inputs([Path("run/studnet"), Path("scans")])
    assert refused.value.reasons[1:] == (f"shipped models: {NAME}", "models nearby: run/student")
    with pytest.raises(CheckpointError, match="models nearby: run/student"):
        model_and_inputs([Path("run"), Path("scans")])


def test_a_model_without_an_input_is_refused() -> None:
    with pytest.raises(SettingsError, match=f"{NAME}: a model without an input"):
        model_and_inputs([Path(NAME)])
