"""A whole run with point detectors on small chests with balls, and what it shares with others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medkd.config.run_settings import BenchArm, RunSettings
from medkd.errors import CheckpointError
from medkd.io.luna16_tables import (
    read_annotations,
    read_marks,
    write_annotations,
    write_candidates,
    write_seriesuids,
)
from medkd.io.metaimage import write_mhd
from medkd.jsonio import read_json
from medkd.models.package import WHOLE_SCAN, load_model, read_info, whole_scan_point
from medkd.runs import RunFolder
from medkd.train.plan import plan_students
from medkd.train.run import run_training
from medkd.types import Evaluation, LabelledCandidate, Nodule, Scan
from tests.detect_cases import chest_with_balls
from tests.spheres import sphere_mask

SCANS = 5


def write_set(root: Path) -> Path:
    """Write chests with two balls of 9 to 13 mm each in LUNA16's layout."""
    random = np.random.default_rng(4)
    nodules, candidates = [], []
    for number in range(10):
        (root / f"subset{number}").mkdir(parents=True)
    for number in range(SCANS):
        chest = chest_with_balls(balls=False)
        voxels = chest.voxels_hu + random.normal(0, 20, chest.voxels_hu.shape)
        uid = f"2.25.{number + 1}"
        for x in (-55.0, 55.0):
            place = np.array([x, -112.0, 432.0]) + random.uniform(-18, 18, 3)
            diameter = float(random.uniform(9, 13))
            voxels[sphere_mask(chest.grid, place, diameter)] = 40
            center = (float(place[0]), float(place[1]), float(place[2]))
            nodules.append(Nodule(uid, center, diameter))
            candidates.append(LabelledCandidate(uid, center, 1))
            candidates += [
                LabelledCandidate(uid, (x, -112.0 + shift, 432.0 - shift), 0)
                for shift in (-30.0, 30.0)
            ]
        scan = Scan(uid, voxels.astype(np.int16), chest.grid, uid)
        write_mhd(scan, root / f"subset{number}" / f"{uid}.mhd")
    write_annotations(root / "annotations.csv", nodules)
    write_annotations(root / "annotations_excluded.csv", [])
    write_seriesuids(root / "seriesuids.csv", [f"2.25.{number + 1}" for number in range(SCANS)])
    write_candidates(root / "candidates_V2.csv", candidates)
    return root


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("balls"))


def values(balls: Path, **student: Any) -> dict[str, Any]:
    training = {
        "epochs": 2, "batch_size": 8, "learning_rate": 0.02, "warmup_epochs": 0.2,
        "gradient_clip": 5.0, "ema_decay": 0.9, "keep": "last",
    }  # fmt: skip
    model = {"kind": "detector3d", "channels": [4, 6, 8], "blocks": [1, 1]}
    return {
        "name": "balls",
        "device": "cpu",
        "target": {
            "data": {"kind": "luna16", "root": str(balls)},
            "split": {
                "kind": "folds", "val": [1], "test": [2],
                "limit": {"labelled_cases": 2, "unlabelled": "keep"},
            },
            "loading": [
                {"kind": "load"},
                {"kind": "orientation"},
                {"kind": "spacing", "spacing_mm": [2.0, 2.0, 2.0]},
                {"kind": "crop", "patch_shape": [24, 24, 24]},
                {"kind": "intensity"},
            ],
            "augmentation": {"flip": [0.5, 0.5, 0.5], "intensity_shift": 0.02},
            "crops": {"per_epoch": 200, "mining": {"per_scan": 5}},
        },
        "teacher": {"model": {**model, "channels": [6, 8, 10]}, "training": training},
        "student": {"model": model, "training": training, **student},
        "transfer": {"terms": [{"kind": "soft_points"}, {"kind": "teacher_marks"}]},
        "evaluation": {"bootstrap": 20},
        "detection": {"arms": ["control", "student"]},
    }  # fmt: skip


@pytest.fixture(scope="module")
def finished(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("run") / "run")
    run_training(RunSettings.model_validate(values(balls)), run)
    return run


@pytest.mark.slow
def test_a_detector_learns_candidates_and_whole_scans(finished: RunFolder) -> None:
    tracks = {}
    for arm in ("teacher", "control", "student"):
        info = read_info(finished.model(arm))
        assert info.metrics["val_roc_auc"] == 1.0
        assert info.preprocessing.patch_shape is None
        assert [step["kind"] for step in info.preprocessing.steps] == [
            "load", "orientation", "spacing", "intensity",
        ]  # fmt: skip
    for result in read_json(finished.evaluation, Evaluation).arms:
        tracks[result.name] = {froc.track: froc for froc in result.froc}
    assert set(tracks["student"]) == {"candidates", "whole-scan"}
    differences = read_json(finished.evaluation, Evaluation).differences
    assert [(d.first, d.second, d.metric) for d in differences if "/" in d.metric] == [
        ("student", "control", "candidates/cpm_interpolated"),
        ("student", "control", "whole-scan/cpm_interpolated"),
        ("self_training", "control", "candidates/cpm_interpolated"),
        ("student", "teacher", "candidates/cpm_interpolated"),
        ("student", "self_training", "candidates/cpm_interpolated"),
    ]
    assert tracks["student"]["whole-scan"].cpm_interpolated > 0.9
    points = read_info(finished.model("student")).operating_points
    assert {WHOLE_SCAN, *map(whole_scan_point, (1, 2, 4))} <= set(points)


@pytest.mark.slow
def test_a_detector_with_a_pool_has_self_training_as_a_control(finished: RunFolder) -> None:
    evaluation = read_json(finished.evaluation, Evaluation)
    assert [arm.name for arm in evaluation.arms] == [
        "teacher", "control", "self_training", "student",
    ]  # fmt: skip
    assert {one.arm for one in evaluation.fidelity} == {"student", "control", "self_training"}
    primary = [(one.first, one.second) for one in evaluation.differences if one.primary]
    assert primary == [("student", "control")]
    weights = [load_model(finished.model(arm)).network for arm in ("control", "self_training")]
    first, second = (list(network.parameters()) for network in weights)
    assert any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("terms", "kept"),
    [
        (["soft_points", "teacher_marks"], ["soft_points", "teacher_marks"]),
        (["soft_points", "hint"], ["soft_points"]),
        (["hint"], ["teacher_marks"]),
    ],
)
def test_self_training_of_a_detector_learns_from_answers_alone(
    balls: Path, terms: list[str], kept: list[str]
) -> None:
    layers = {"teacher_layer": "features.0", "student_layer": "features.0"}
    made = [{"kind": kind, **(layers if kind == "hint" else {})} for kind in terms]
    settings = RunSettings.model_validate({**values(balls), "transfer": {"terms": made}})
    assert settings.transfer is not None
    own = plan_students(settings, [BenchArm(name="student", transfer=settings.transfer)])[1]
    assert (own.name, own.teacher, own.transfer.targets.mode) == (
        "self_training", "control", "live",
    )  # fmt: skip
    assert [term.kind for term in own.transfer.terms] == kept


@pytest.mark.slow
def test_hard_negatives_are_away_from_findings_and_stored_once(
    finished: RunFolder, balls: Path
) -> None:
    (path,) = (finished.path / "mined" / "target").iterdir()
    nodules = read_annotations(balls / "annotations.csv")
    marks = read_marks(path)
    assert 0 < len(marks) <= 5 * 2
    for mark in marks:
        apart = [
            np.linalg.norm(np.subtract(mark.center_mm, n.center_mm)) - n.diameter_mm / 2
            for n in nodules
            if n.seriesuid == mark.seriesuid
        ]
        assert min(apart) > 4.0


@pytest.mark.slow
def test_a_network_starts_from_a_source_model(
    finished: RunFolder, balls: Path, tmp_path: Path
) -> None:
    source = finished.model("student")
    changed = values(balls, initialise={"from": str(source)})
    changed["student"]["training"] = {
        **changed["student"]["training"], "max_steps_per_epoch": 1, "learning_rate": 1e-9,
    }  # fmt: skip
    changed["teacher"] = {"from": str(finished.model("teacher"))}
    run = RunFolder(tmp_path / "run")
    run_training(RunSettings.model_validate({**changed, "detection": None}), run)
    before, after = load_model(source), load_model(run.model("control"))
    assert "all layers from student" in after.info.initialisation
    weights = dict(after.network.named_parameters())
    for name, weight in before.network.named_parameters():
        assert torch.allclose(weight, weights[name], atol=1e-5)


def test_an_arm_that_does_not_exist_cannot_search_scans(balls: Path) -> None:
    changed = {**values(balls), "detection": {"arms": ["studnet", "self_training", "control"]}}
    with pytest.raises(ValueError, match="no arm is called 'studnet'; expected"):
        RunSettings.model_validate(changed)


def test_a_crop_must_divide_into_cells_and_spacings_must_be_equal(balls: Path) -> None:
    changed = values(balls)
    changed["target"]["loading"][3] = {"kind": "crop", "patch_shape": [20, 24, 24]}
    changed["target"]["loading"][2] = {"kind": "spacing", "spacing_mm": [1.0, 1.0, 2.0]}
    with pytest.raises(ValueError, match="multiples of 8 voxels") as refused:
        RunSettings.model_validate(changed)
    assert "spacing step with equal spacings" in str(refused.value)


@pytest.mark.slow
def test_a_source_with_other_layers_is_refused_with_all_of_them(
    finished: RunFolder, balls: Path, tmp_path: Path
) -> None:
    changed = values(balls, initialise={"from": str(finished.model("teacher"))})
    changed["teacher"] = {"from": str(finished.model("teacher"))}
    with pytest.raises(CheckpointError, match="no layer of this detector3d fits") as refused:
        run_training(RunSettings.model_validate(changed), RunFolder(tmp_path / "run"))
    assert any("layer 'stem.0' differs" in reason for reason in refused.value.reasons)
