"""A published model: half precision, facts and scores in its card, the same bytes each time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medkd.errors import CheckpointError
from medkd.jsonio import read_json, write_json
from medkd.models.package import load_model, read_info, save_model
from medkd.runs import RunFolder
from medkd.types import ArmResult, FrocResult, Interval
from tests.bench.publish_models import FACTS, NAMES, ModelFacts, main, publish_model
from tests.models.shipped_models import INFO, TINY, trained

PLAIN = replace(INFO, purpose="", sources=(), limits=(), licence="not stated", metric_intervals={})


def facts(name: str = NAMES[1]) -> ModelFacts:
    return read_json(FACTS / f"{name}.json", ModelFacts)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with two models, and an evaluation of the student on whole scans."""
    run = RunFolder(tmp_path / "run")
    for seed, arm in enumerate(("teacher", "student")):
        save_model(run.model(arm), trained(TINY, seed=seed), PLAIN)
    froc = FrocResult(
        "whole-scan", 9, 8, 7, 6, 5, 2, 0, 0, 0.71, 0.7, {}, (), (), (),
        interval=Interval(0.6, 0.8, unit="series"),
    )  # fmt: skip
    result = ArmResult("student", "detector3d", "random", "set A", classification={}, froc=(froc,))
    write_json(run.arm_result("student"), result)
    return run


def test_a_model_is_published_with_facts_and_scores(run: RunFolder, tmp_path: Path) -> None:
    info = publish_model(run.model("student"), facts(), tmp_path / NAMES[1])
    assert read_info(tmp_path / NAMES[1]) == info
    assert (info.precision, info.config, info.seed) == ("float16", "source/ct_nodule", 7)
    assert info.metrics["test_cpm_whole-scan"] == 0.71
    card = (tmp_path / NAMES[1] / "MODEL_CARD.md").read_text()
    assert "- test_cpm_whole-scan: 0.710 (95 % 0.600 to 0.800; 1000 bootstrap" in card
    for words in ("LUNA16", "CC BY 4.0", "LIDC-IDRI", "CC BY 3.0", "NODE21", "## Limits\n\n- No"):
        assert words in card
    assert str(tmp_path) not in card + (tmp_path / NAMES[1] / "model.json").read_text()


def test_both_models_are_published_twice_with_the_same_bytes(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for _ in range(2):
        monkeypatch.setattr("tests.bench.publish_models.SHIPPED", tmp_path / "models")
        main(str(run.model("teacher")), str(run.model("student")))
        files = sorted((tmp_path / "models").rglob("*.*"))
        found.append({str(p): p.read_bytes() for p in files if p.is_file()})
    assert found[0] == found[1]
    assert len(found[0]) == 6


def test_a_model_that_half_precision_changes_is_not_published(
    run: RunFolder, tmp_path: Path
) -> None:
    """Weights of 1e4 in the head turn rounding by 1/2048 into errors above .01."""
    loaded = load_model(run.model("student"))
    with torch.no_grad():
        loaded.network.head.weight.mul_(1e4)
    save_model(run.model("student"), loaded.network, loaded.info)
    with pytest.raises(CheckpointError, match="half precision changes the output by"):
        publish_model(run.model("student"), facts(), tmp_path / NAMES[1])
    assert not (tmp_path / NAMES[1]).exists()


@pytest.mark.parametrize("name", NAMES)
def test_the_facts_name_every_licence_and_attribution(name: str) -> None:
    text = json.loads((FACTS / f"{name}.json").read_text())
    assert all(source["licence"] and source["attribution"] for source in text["sources"])
    assert any("clinical performance" in limit for limit in text["limits"])
