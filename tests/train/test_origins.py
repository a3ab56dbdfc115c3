"""A run on synthetic and real scans states everywhere how many of each trained its models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from medkd.cli import app
from medkd.config.domain_settings import DomainSettings
from medkd.config.run_settings import RunSettings
from medkd.config.training_settings import TrainingSettings
from medkd.data.cases import CaseIndex
from medkd.data.patches import ImagePatches, SampleTable
from medkd.data.splits import Split
from medkd.index.case import Case
from medkd.index.table import read_index, write_index
from medkd.jsonio import read_json
from medkd.models.detector import DetectorSettings
from medkd.models.package import ModelInfo, read_info
from medkd.models.table import build_model
from medkd.report.render import write_report
from medkd.runs import RunFolder
from medkd.synthetic.phantom import generator_stamp
from medkd.train.domains import PARTS, Domain
from medkd.train.networks import _describe, with_origins, with_teacher_origin
from medkd.train.plan import Arm
from medkd.train.run import run_training
from medkd.types import CaseOrigins, CaseResult, Evaluation
from tests.data.archives import write_scan_archive

SYNTHETIC = ("s0", "s1", "s2", "s3")
IMPLANTED = ("s4",)
OTHERS = ("s5", "s6")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven scans: four pass for phantoms, one for a real scan with implants, two for real."""
    path = write_scan_archive(tmp_path_factory.mktemp("archive"), scans=7)
    archive = read_index(path)
    stamps = dict.fromkeys(SYNTHETIC, "medkd phantom 2") | dict.fromkeys(
        IMPLANTED, "medkd implant 1"
    )
    cases = tuple(
        replace(c, generator=stamps.get(c.case_id, ""), synthetic=c.case_id in stamps)
        for c in archive.cases
        if c.case_id in {*SYNTHETIC, *IMPLANTED, *OTHERS}
    )
    write_index(path, replace(archive, cases=cases))
    return path


@pytest.fixture(scope="module")
def finished(index: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    training = {"epochs": 2, "batch_size": 16, "learning_rate": 0.01, "max_steps_per_epoch": 2}
    settings = RunSettings.model_validate(
        {
            "name": "mixed",
            "device": "cpu",
            "target": {
                "data": {"kind": "archive", "index": str(index), "cases": "scans"},
                "split": {"kind": "fractions", "val": 0.3, "test": 0.3},
                "loading": [
                    {"kind": "load"},
                    {"kind": "spacing", "spacing_mm": [4, 4, 4]},
                    {"kind": "crop", "patch_shape": [8, 8, 8]},
                    {"kind": "intensity", "hu_window": [-1000, 400]},
                ],
            },
            "teacher": {"model": {"kind": "shallow3d", "channels": 2}, "training": training},
            "student": {"model": {"kind": "shallow3d", "channels": 2}, "training": training},
            "transfer": {"terms": [{"kind": "soft_label"}]},
            "evaluation": {"bootstrap": 0},
        }
    )
    run = RunFolder(tmp_path_factory.mktemp("mixed") / "run")
    run_training(settings, run)
    write_report(run)
    return run


@pytest.mark.slow
def test_every_arm_counts_the_scans_that_taught_it(finished: RunFolder) -> None:
    evaluation = read_json(finished.evaluation, Evaluation)
    trained = evaluation.origins["train"]
    assert trained.total == evaluation.splits["train"]["scans"]
    for arm in ("teacher", "control", "student"):
        assert read_info(finished.model(arm)).origins == trained
        assert evaluation.arm(arm).origins == trained
    parts = [evaluation.origins[part] for part in ("train", "val", "test")]
    assert sum(p.phantom for p in parts) == len(SYNTHETIC)
    assert sum(p.implanted for p in parts) == len(IMPLANTED)
    assert sum(p.real for p in parts) == len(OTHERS)


@pytest.mark.slow
def test_report_model_and_terminal_say_how_many(finished: RunFolder, index: Path) -> None:
    whole = "4 synthetic scans, 1 real scan with synthetic nodules and 2 real scans"
    report = finished.report.read_text()
    assert f"Origin of the cases in this run: {whole}" in report
    info = read_info(finished.model("student"))
    words = ["detect", str(finished.model("student")), str(index), "--out"]
    done = CliRunner().invoke(app, [*words, str(finished.path / "found")])
    assert f"searched: {whole}" in done.output
    results = [read_json(p, CaseResult) for p in sorted((finished.path / "found").glob("s?.json"))]
    notes = {r.seriesuid: " ".join(r.notes) for r in results}
    assert "synthetic scan: medkd phantom 2: difficulty" in notes["s0"]
    assert "synthetic nodules in a real scan: medkd implant 1" in notes["s4"]
    assert "synthetic scan:" not in notes["s4"] + notes["s5"]
    assert info.trained_on_synthetic
    assert info.trained_on.startswith("real and synthetic scans: ")
    if info.origins and info.origins.synthetic:
        assert "trained on" in done.output
        assert "training" in info.trained_on


def facts(origins: CaseOrigins | None, fingerprint: str, *, synthetic: bool) -> ModelInfo:
    return ModelInfo(
        settings={}, origins=origins, training_fingerprint=fingerprint,
        trained_on_synthetic=synthetic,
    )  # fmt: skip


def test_a_student_counts_its_teachers_scans_too_but_the_same_ones_once() -> None:
    own = facts(CaseOrigins(real=4), "a", synthetic=False)
    teacher = facts(CaseOrigins(phantom=7), "b", synthetic=True)
    assert with_teacher_origin(own, teacher).origins == CaseOrigins(real=4, phantom=7)
    same = facts(CaseOrigins(real=4), "a", synthetic=False)
    assert with_teacher_origin(own, same).origins == CaseOrigins(real=4)


def test_cases_of_which_start_and_teacher_learned_are_counted_once() -> None:
    own = facts(CaseOrigins(real=4), "a", synthetic=False)
    teacher = facts(CaseOrigins(phantom=7), "b", synthetic=True)
    other = facts(CaseOrigins(phantom=2), "c", synthetic=True)
    both = with_origins(own, start=teacher, teacher=teacher)
    assert (both.origins, both.trained_on_synthetic) == (CaseOrigins(real=4, phantom=7), True)
    found = with_origins(own, start=other, teacher=teacher).origins
    assert found == CaseOrigins(real=4, phantom=9)
    assert with_origins(own, start=other, teacher=None).origins == CaseOrigins(real=4, phantom=2)
    unknown = [facts(CaseOrigins(phantom=n), "", synthetic=True) for n in (2, 3)]
    found = with_origins(own, start=unknown[0], teacher=unknown[1]).origins
    assert found == CaseOrigins(real=4, phantom=5)


def test_where_a_teachers_scans_were_not_counted_no_count_is_claimed() -> None:
    own = facts(CaseOrigins(real=4), "a", synthetic=False)
    found = with_teacher_origin(own, facts(None, "b", synthetic=True))
    assert (found.origins, found.trained_on_synthetic) == (None, True)
    imported = with_teacher_origin(own, facts(None, "b", synthetic=False))
    assert imported.origins == CaseOrigins(real=4)


def test_patches_of_further_sets_are_counted_apart() -> None:
    def case(name: str, extent: str, generator: str = "") -> Case:
        return Case(name, name, "scan", generator=generator, extent=extent)

    own = CaseIndex("own", (case("a", "whole", "medkd phantom 2"),), {}, ("nodule",), "f")
    further = CaseIndex("b", (case("b", "patch"), case("c", "whole")), {}, ("nodule",), "g")
    settings = SimpleNamespace(is_ct=True)
    split = SimpleNamespace(train=("a",), unlabelled=(), val=(), test=())
    domain = Domain(settings, own, split, {}, None, {"further": further})  # type: ignore[arg-type]
    assert domain.origins()["train"] == CaseOrigins(real=1, phantom=1, patches=1)
    assert domain.origins()["val"].total == 0


def test_phantoms_made_during_the_training_count_as_synthetic(index: Path) -> None:
    archive = {"kind": "archive", "index": str(index), "cases": "scans"}
    settings = DomainSettings.model_validate(
        {
            "data": archive,
            "split": {"kind": "fractions"},
            "loading": [{"kind": "load"}, {"kind": "crop"}, {"kind": "intensity"}],
            "crops": {"phantoms": {"share": 1.0}},
        }
    )
    own = CaseIndex("own", (Case("a", "a", "scan"),), {}, ("nodule",), "f")
    parts = {part: ImagePatches(no_samples(), np.zeros((0, 1, 4, 4), np.uint8)) for part in PARTS}
    split = Split(train=("a",), val=(), test=(), fingerprint="s")
    network = build_model(DetectorSettings(channels=(4, 6, 8), blocks=(1, 1)), seed=0)
    arm = Arm("teacher", "teacher", TrainingSettings())
    info = _describe(arm, Domain(settings, own, split, parts, None), network, {})  # type: ignore[arg-type]
    assert info.trained_on_synthetic
    assert info.generators == (generator_stamp(),)
    assert "phantoms made during the training" in info.trained_on


def no_samples() -> SampleTable:
    empty = torch.zeros(0, 1)
    return SampleTable((), (), (), None, empty, empty.bool())
