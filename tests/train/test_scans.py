"""A whole run on phantom CT: both FROC tracks, reference, marks, worklist."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medkd.config.run_settings import RunSettings
from medkd.data import cases
from medkd.difficulty import difficulty_words
from medkd.io.luna16_tables import read_annotations, read_marks, read_seriesuids
from medkd.io.scans import read_scan
from medkd.jsonio import read_json, write_json
from medkd.models.package import read_info
from medkd.runs import RunFolder, read_cases
from medkd.synthetic.phantom import generator_stamp
from medkd.train.run import run_training
from medkd.types import CaseResult, Evaluation, Scan

pytestmark = pytest.mark.slow


def site(name: str, **split: Any) -> dict[str, Any]:
    return {
        "data": {"kind": "phantom", "site": name, "scans": 5, "nodules_per_scan": "2-4"},
        "split": {"kind": "fractions", "val": 0.2, "test": 0.4, **split},
        "loading": [
            {"kind": "load"},
            {"kind": "spacing", "spacing_mm": [3, 3, 3]},
            {"kind": "crop", "patch_shape": [12, 12, 12]},
            {"kind": "intensity", "hu_window": [-1000, 400]},
        ],
        "augmentation": {"flip": [0.5, 0.5, 0.5]},
    }


def ct_settings() -> RunSettings:
    training = {"epochs": 2, "batch_size": 32, "learning_rate": 0.01, "max_steps_per_epoch": 4}
    few = {"limit": {"labelled_cases": 1, "unlabelled": "keep"}}
    return RunSettings.model_validate(
        {
            "name": "scans",
            "device": "cpu",
            "source": site("a"),
            "target": site("b", **few),
            "teacher": {"model": {"kind": "shallow3d", "channels": 8}, "training": training},
            "student": {"model": {"kind": "shallow3d", "channels": 4}, "training": training},
            "transfer": {"terms": [{"kind": "soft_label"}, {"kind": "hint", "weight": 0.2}]},
            "evaluation": {"bootstrap": 20},
            "detection": {"arms": ["student"]},
            "controls": {"views": None, "self_training": False},
        }
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("scans") / "run")
    run_training(ct_settings(), run)
    return run


def test_each_arm_is_scored_on_candidates_and_the_asked_one_on_whole_scans(
    finished: RunFolder,
) -> None:
    evaluation = read_json(finished.evaluation, Evaluation)
    tracks = {arm.name: [froc.track for froc in arm.froc] for arm in evaluation.arms}
    assert tracks == {
        "teacher": ["candidates"],
        "control": ["candidates"],
        "student": ["candidates", "whole-scan"],
    }
    assert all(arm.froc[0].scans == 2 for arm in evaluation.arms)


def test_intensities_of_both_sites_are_hu_in_the_body(finished: RunFolder) -> None:
    shift = read_json(finished.evaluation, Evaluation).shift
    source, target = shift.sites
    assert (source.name, target.name) == ("source: phantom, site a", "target: phantom, site b")
    for site in shift.sites:
        assert (site.cases, site.measured, site.unit) == (5, 3, "HU")
        # Lungs are below a quarter of the body at least, soft tissue above its median.
        assert site.quantiles["0.01"] < -700 < -200 < site.quantiles["0.5"] < 100
    assert [d.arm for d in shift.distances] == ["teacher", "control", "student"]
    assert all(d.patients == (3, 3) for d in shift.distances)


def test_the_teacher_is_scored_in_its_own_domain_too(finished: RunFolder) -> None:
    evaluation = read_json(finished.evaluation, Evaluation)
    assert set(evaluation.arm("teacher").classification) == {"val", "test", "source_test"}
    assert evaluation.trained_on_synthetic
    assert read_info(finished.model("student")).trained_on_synthetic


def test_which_phantoms_were_used_and_how_hard_they_are_stands_in_every_result(
    finished: RunFolder,
) -> None:
    stamp = generator_stamp()
    for arm in ("teacher", "control", "student"):
        info = read_info(finished.model(arm))
        assert info.generators == (stamp,)
        assert stamp in info.trained_on
    assert read_json(finished.evaluation, Evaluation).record.phantoms == (difficulty_words(stamp),)


def test_both_curves_of_the_transfer_are_logged(finished: RunFolder) -> None:
    header = finished.log("student").read_text().splitlines()[0].split(",")
    assert {"term_hard_label", "term_soft_label", "term_hint"} <= set(header)
    assert "term_hint" not in finished.log("control").read_text()


def test_reference_and_marks_are_those_of_the_test_scans(finished: RunFolder) -> None:
    uids = set(read_seriesuids(finished.reference / "seriesuids.csv"))
    assert len(uids) == 2
    assert {n.seriesuid for n in read_annotations(finished.reference / "annotations.csv")} <= uids
    assert {mark.seriesuid for mark in read_marks(finished.marks("student"))} <= uids


def test_the_whole_scan_threshold_is_frozen_on_validation(finished: RunFolder) -> None:
    point = read_info(finished.model("student")).operating_points["whole-scan"]
    evaluation = read_json(finished.evaluation, Evaluation)
    scored = evaluation.arm("student").froc[1].at_operating_point
    assert point.chosen_on == "validation"
    assert scored is not None
    assert scored.threshold == point.threshold


def test_the_worklist_points_at_the_scans_inside_the_run(finished: RunFolder) -> None:
    cases = read_cases(finished.cases)
    assert [case.split for case in cases] == ["val", "test", "test"]
    assert all((finished.path / case.path).is_file() for case in cases)
    assert not any(Path(case.path).is_absolute() for case in cases)


def test_a_scan_that_was_refused_keeps_its_reasons(finished: RunFolder, tmp_path: Path) -> None:
    """Resume after the search of one scan ended in a refusal."""
    uid = read_seriesuids(finished.reference / "seriesuids.csv")[0]
    write_json(finished.result("student", uid), CaseResult(uid, (), "not_analysed", ("no lungs",)))
    finished.evaluation.unlink()
    finished.arm_result("student").unlink()
    evaluation = run_training(ct_settings(), finished, resume=True)
    (case,) = [case for case in read_cases(finished.cases) if case.status == "not_analysed"]
    assert (case.case_id, case.reasons, case.score) == (uid, ("no lungs",), None)
    assert any(uid in warning for warning in evaluation.arm("student").froc[1].warnings)


def test_each_scan_is_decoded_once_in_a_run_that_searches_with_three_arms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[str] = Counter()

    def counted(path: Path, **named: Any) -> Scan:
        decoded[Path(path).stem] += 1
        return read_scan(path, **named)

    monkeypatch.setattr(cases, "read_scan", counted)
    values = ct_settings().model_dump(mode="json", by_alias=True)
    values["detection"]["arms"] = ["teacher", "control", "student"]
    run_training(RunSettings.model_validate(values), RunFolder(tmp_path / "run"))
    assert len(decoded) == 10
    assert set(decoded.values()) == {1}
