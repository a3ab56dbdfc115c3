"""A network starts from a source model: whole layers, by an explicit rule, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medkd.errors import CheckpointError
from medkd.models.classifiers import Shallow3dSettings
from medkd.models.detector import DetectorSettings
from medkd.models.initialise import initialise_from
from medkd.models.package import ModelInfo, read_info, save_model
from medkd.models.table import build_model
from tests.models.shipped_models import NAME, TINY, ship

WIDER = DetectorSettings(channels=(5, 6, 8), blocks=(1, 2))
"""Differs from `TINY` in the layers at stride 2, and has one block more at stride 8."""


@pytest.fixture(autouse=True)
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return ship(tmp_path / "models", monkeypatch)


def test_all_layers_of_an_equal_network_are_copied(source: Path) -> None:
    network = build_model(TINY, seed=1)
    report = initialise_from(network, NAME, mismatched="refuse")
    assert report.differences == ()
    again = build_model(TINY, seed=2)
    initialise_from(again, source, mismatched="refuse")
    own = network.state_dict()
    assert all(torch.equal(own[k], v) for k, v in again.state_dict().items())
    assert not torch.equal(own["head.weight"], build_model(TINY, seed=1).head.weight)


def test_a_network_says_what_it_started_from(source: Path) -> None:
    network = build_model(TINY, seed=1)
    report = initialise_from(network, NAME, mismatched="refuse")
    sha256 = read_info(source).weights_sha256[:12]
    assert network.initialisation.startswith(f"all layers from {NAME} (sha256 {sha256}, trained")
    assert network.initialisation.endswith("licence: Apache-2.0)")
    assert str(source.parent) not in network.initialisation
    assert report.source.trained_on_synthetic


def test_refuse_lists_every_difference_and_changes_nothing() -> None:
    network = build_model(WIDER, seed=1)
    with pytest.raises(CheckpointError, match=f"^{NAME}: the layers") as refused:
        initialise_from(network, NAME, mismatched="refuse")
    reasons = refused.value.reasons
    assert (
        "layer 'head' differs: weight (5, 4, 1, 1, 1) in the source, (5, 5, 1, 1, 1) here"
        in reasons
    )
    assert any(reason.startswith("layer 'stem.0' differs") for reason in reasons)
    assert "layer 'down8.2.first.0' is not in the source" in reasons
    untouched = build_model(WIDER, seed=1).state_dict()
    assert all(torch.equal(untouched[k], v) for k, v in network.state_dict().items())
    assert network.initialisation == "random"


def test_skip_copies_whole_layers_only() -> None:
    """The bias of the head has the same shape, but its weight has not: both stay new."""
    network = build_model(WIDER, seed=1)
    network.head.bias.data.fill_(3.0)
    report = initialise_from(network, NAME, mismatched="skip")
    assert set(report.skipped) == {
        "stem.0", "stem.1", "down4.0.0", "up2", "join2.0", "join2.1", "head"
    }  # fmt: skip
    assert network.head.bias.tolist() == [3.0] * 5
    assert {name.split(".")[1] for name in report.missing} == {"2"}
    total = len(report.copied) + len(report.skipped) + len(report.missing)
    assert network.initialisation.startswith(f"{len(report.copied)} of {total} layers from")


def test_the_layers_that_only_the_source_has_are_listed(tmp_path: Path) -> None:
    deeper = DetectorSettings(channels=(4, 6, 8), blocks=(1, 2))
    save_model(tmp_path / "deeper", build_model(deeper, seed=0), ModelInfo(deeper.model_dump()))
    report = initialise_from(build_model(TINY, seed=1), tmp_path / "deeper", mismatched="skip")
    assert (report.skipped, report.missing) == ({}, ())
    assert {name.rpartition(".")[0] for name in report.unused} == {
        "down8.2.first",
        "down8.2.second",
    }
    assert report.differences[0] == "layer 'down8.2.first.0' is only in the source"


@pytest.mark.parametrize("mismatched", ["refuse", "skip"])
def test_a_source_without_any_fitting_layer_is_refused(mismatched) -> None:
    network = build_model(Shallow3dSettings(channels=2), seed=0)
    with pytest.raises(CheckpointError, match="no layer of this detector3d fits"):
        initialise_from(network, NAME, mismatched=mismatched)
