"""Every shipped configuration is short, says what it is for, and can be built."""

from __future__ import annotations

from pathlib import Path

import pytest

from medkd.config.keys import command_of, configuration_kinds, keys_text, sections_of
from medkd.config.load import load_settings, shipped_configs
from medkd.config.run_settings import RunSettings
from medkd.models.table import build_model, check_student_size
from medkd.yaml_data import read_document

SHIPPED = shipped_configs()
OF_RUNS = [name for name in SHIPPED if not name.startswith("data/")]
ROOT = Path(__file__).resolve().parents[2]


def test_the_shipped_configurations_are_those_promised() -> None:
    assert {
        "demo/phantom",
        "transfer/luna16_candidates",
        "bench/pneumoniamnist",
        "bench/nodulemnist3d",
    } <= set(SHIPPED)
    assert any(name.startswith("teacher/") for name in SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_configuration_is_short_and_opens_with_purpose_data_and_command(name: str) -> None:
    lines = SHIPPED[name].read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 80
    assert lines[0].startswith("# ")
    assert lines[1].startswith("# Data: ")
    assert lines[2].startswith("# Run: medkd ")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_configuration_fits_the_command_that_it_names(name: str) -> None:
    document = read_document(SHIPPED[name])
    command = command_of(document.values)
    assert command == ("medkd train" if name in OF_RUNS else "medkd index")
    load_settings(SHIPPED[name], configuration_kinds()[command])


@pytest.mark.parametrize("name", OF_RUNS)
def test_a_configuration_names_networks_that_can_be_built(name: str) -> None:
    settings = load_settings(SHIPPED[name], RunSettings)
    if settings.student:
        assert check_student_size(settings.student.model) == ()
        build_model(settings.student.model, seed=0)


def test_the_key_table_is_in_step_with_the_settings() -> None:
    """Write it anew with: medkd config keys > configs/README.md."""
    assert (ROOT / "configs" / "README.md").read_text(encoding="utf-8") == keys_text(
        configuration_kinds()
    )


def test_every_key_is_explained() -> None:
    silent = [
        f"{section.__name__}.{name}"
        for kind in configuration_kinds().values()
        for section in sections_of(kind)
        for name, info in section.model_fields.items()
        if not info.description and name not in {"kind", "given_as"}
    ]
    assert silent == []
