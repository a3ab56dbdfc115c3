"""Whole runs on a tiny image task: what they leave, how they go on, what they refuse."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from medkd.config.run_settings import RunSettings
from medkd.errors import SettingsError
from medkd.jsonio import read_json
from medkd.models.package import load_model, read_info
from medkd.runs import ARMS, RunFolder, read_cases, read_disagreements, read_predictions
from medkd.train import loop
from medkd.train.folder import open_folder
from medkd.train.plan import plan_arms
from medkd.train.run import run_training
from medkd.types import Evaluation

Build = Callable[..., RunSettings]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, image_settings: Build) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("finished") / "run")
    run_training(image_settings(), run)
    return run


def test_a_run_leaves_three_models_and_an_evaluation(finished: RunFolder) -> None:
    evaluation = read_json(finished.evaluation, Evaluation)
    assert tuple(arm.name for arm in evaluation.arms) == ARMS
    assert all(read_info(finished.model(arm)).parameters for arm in ARMS)
    assert set(evaluation.arm("student").classification) == {"val", "test"}
    assert evaluation.record.weights_sha256.keys() == set(ARMS)
    assert len(read_cases(finished.cases)) == 48


def test_a_run_compares_layers_and_lists_disagreements(finished: RunFolder) -> None:
    evaluation = read_json(finished.evaluation, Evaluation)
    rows = read_disagreements(finished.explained.disagreements)
    student, teacher = (
        {row.sample_id: row for row in read_predictions(finished.predictions(arm, "test"))}
        for arm in ("student", "teacher")
    )
    widest = max(
        abs(row.probabilities[0] - teacher[name].probabilities[0]) for name, row in student.items()
    )

    assert [one.arm for one in evaluation.similarity] == ["control", "student"]
    assert evaluation.similarity[0].layers == ("pool", "features")
    assert evaluation.no_similarity == ""
    assert abs(rows[0].difference) >= widest
    assert len(rows) == 48


def test_temperature_and_threshold_are_frozen_in_the_model(finished: RunFolder) -> None:
    info = read_info(finished.model("student"))
    point = info.operating_points["classification"]
    evaluation = read_json(finished.evaluation, Evaluation)
    tested = evaluation.arm("student").classification["test"][0]
    assert point.chosen_on == "validation"
    assert tested.at_operating_point.threshold == point.threshold
    assert info.calibration.temperature != (1.0,)


def test_predictions_are_what_the_saved_model_says(finished: RunFolder) -> None:
    row = read_predictions(finished.predictions("student", "test"))[0]
    calibration = read_info(finished.model("student")).calibration
    shown = torch.sigmoid(
        torch.tensor(row.logits[0], dtype=torch.float64) / calibration.temperature[0]
        + calibration.logit_shift[0]
    )
    assert float(shown) == pytest.approx(row.probabilities[0], abs=1e-9)


def test_no_state_and_no_pickle_is_left(finished: RunFolder) -> None:
    suffixes = {path.suffix for path in finished.path.rglob("*") if path.is_file()}
    assert not suffixes & {".pt", ".pkl", ".pth"}


def test_the_primary_comparison_is_student_minus_control(finished: RunFolder) -> None:
    evaluation = read_json(finished.evaluation, Evaluation)
    (primary,) = [d for d in evaluation.differences if d.primary]
    assert (primary.first, primary.second, primary.metric) == ("student", "control", "roc_auc")
    seconds = {d.second for d in evaluation.differences}
    assert seconds == {"control", "teacher"}


def test_a_finished_run_is_given_back_without_training(
    finished: RunFolder, image_settings: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medkd.train.networks.fit", lambda *_, **__: pytest.fail("trained again"))
    evaluation = run_training(image_settings(), finished, resume=True)
    assert evaluation == read_json(finished.evaluation, Evaluation)


def test_a_folder_that_holds_a_run_is_refused_without_resume(
    finished: RunFolder, image_settings: Build
) -> None:
    with pytest.raises(SettingsError, match="--resume"):
        run_training(image_settings(), finished)


def test_a_folder_in_which_nothing_was_trained_yet_is_begun_anew(
    tmp_path: Path, image_settings: Build
) -> None:
    run = RunFolder(tmp_path / "run")
    open_folder(run.path, run.config, image_settings(), resume=False)
    open_folder(run.path, run.config, image_settings(seed=7), resume=False)
    assert "seed: 7" in run.config.read_text()


def test_resume_with_other_settings_names_the_differing_keys(
    finished: RunFolder, image_settings: Build
) -> None:
    with pytest.raises(SettingsError) as refused:
        run_training(image_settings(seed=7), finished, resume=True)
    assert refused.value.reasons[0] == "seed: 0 there, 7 now"


def test_a_folder_of_something_else_is_refused(tmp_path: Path, image_settings: Build) -> None:
    (tmp_path / "thesis.doc").write_text("precious")
    with pytest.raises(SettingsError, match=r"it holds thesis\.doc"):
        run_training(image_settings(), RunFolder(tmp_path), resume=True)


@pytest.mark.parametrize(("arm", "epoch"), [("teacher", 1), ("student", 0), ("student", 1)])
def test_an_interrupted_run_ends_as_one_in_one_go(
    finished: RunFolder,
    image_settings: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arm: str,
    epoch: int,
) -> None:
    run = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patched:
        interrupt_at(patched, arm, epoch)
        with pytest.raises(KeyboardInterrupt):
            run_training(image_settings(), run)
    assert not run.evaluation.exists()
    run_training(image_settings(), run, resume=True)
    for name in ARMS:
        assert (
            read_info(run.model(name)).weights_sha256
            == read_info(finished.model(name)).weights_sha256
        )


def interrupt_at(patched: pytest.MonkeyPatch, arm: str, epoch: int) -> None:
    """Press Ctrl-C after the second batch of an epoch of an arm."""
    whole = loop.Engine.views

    def views(self: loop.Engine, batches: object, view: object) -> object:
        number = self.step // self.steps_per_epoch
        for count, batch in enumerate(whole(self, batches, view)):
            if (self.title, number, count) == (arm, epoch, 2):
                raise KeyboardInterrupt
            yield batch

    patched.setattr(loop.Engine, "views", views)


def test_finished_arms_are_not_trained_again(
    image_settings: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patched:
        interrupt_at(patched, "student", 0)
        with pytest.raises(KeyboardInterrupt):
            run_training(image_settings(), run)
    trained = []
    monkeypatch.setattr(
        "medkd.train.networks.fit",
        lambda *args, plan, **named: (
            trained.append(plan.title) or loop.fit(*args, plan=plan, **named)
        ),
    )
    run_training(image_settings(), run, resume=True)
    assert trained == ["student"]


def test_a_weak_teacher_raises_a_loud_warning(
    image_settings: Build, image_values: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    untrained = {"epochs": 1, "warmup_epochs": 0, "learning_rate": 1e-9}
    weak = {"model": {"kind": "shallow2d", "channels": 1}, "training": untrained}
    learning = {"epochs": 6, "batch_size": 8, "learning_rate": 0.02}
    student = image_values["student"] | {"training": learning}
    with caplog.at_level(logging.WARNING):
        evaluation = run_training(
            image_settings(teacher=weak, student=student), RunFolder(tmp_path / "run")
        )
    assert any("TEACHER NOT BETTER" in warning for warning in evaluation.warnings)
    assert "TEACHER NOT BETTER" in caplog.text


def test_a_given_teacher_is_taken_and_calibrated_here(
    finished: RunFolder, image_settings: Build, tmp_path: Path
) -> None:
    given = finished.model("teacher")
    run = RunFolder(tmp_path / "run")
    run_training(image_settings(teacher={"from": str(given)}), run)
    assert read_info(run.model("teacher")).weights_sha256 == read_info(given).weights_sha256
    assert not run.training("teacher").exists()


def test_a_teacher_alone_is_trained_and_scored(image_settings: Build, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    evaluation = run_training(image_settings(student=None, transfer=None), run)
    assert [arm.name for arm in evaluation.arms] == ["teacher"]
    assert (evaluation.differences, evaluation.transfer_took_place) == ((), None)
    assert (evaluation.similarity, evaluation.no_similarity) == ((), "")
    assert not run.explained.disagreements.exists()


def test_a_student_that_is_too_big_is_refused_before_training(
    image_settings: Build, tmp_path: Path
) -> None:
    big = {"model": {"kind": "compact2d", "channels": [64, 64, 128, 256]}}
    run = RunFolder(tmp_path / "run")
    with pytest.raises(SettingsError, match="at most 500,000 parameters"):
        run_training(image_settings(student=big), run)
    assert not run.model("teacher").exists()


@pytest.mark.parametrize(
    ("term", "reason"),
    [
        ({"kind": "hint", "student_layer": "conb", "teacher_layer": "conv"}, "similar names are"),
        ({"kind": "attention", "student_layer": "pool", "teacher_layer": "pool"}, "two positions"),
    ],
)
def test_a_term_that_does_not_fit_the_layers_is_refused_before_the_teacher_is_trained(
    image_settings: Build, tmp_path: Path, term: dict[str, object], reason: str
) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(SettingsError, match=f"student: .*{reason}"):
        run_training(image_settings(transfer={"terms": [term]}), run)
    assert not run.model("teacher").exists()


def test_control_and_student_differ_by_their_terms_alone(
    image_settings: Build, tmp_path: Path
) -> None:
    nothing = {"terms": [{"kind": "soft_label", "weight": 1e-12}]}
    run = RunFolder(tmp_path / "run")
    run_training(image_settings(transfer=nothing), run)
    control = load_model(run.model("control")).network.state_dict()
    student = load_model(run.model("student")).network.state_dict()
    assert all(torch.allclose(control[n], student[n], atol=1e-6) for n in control)


def test_projectors_and_heads_of_terms_are_not_saved_with_the_student(
    image_settings: Build, tmp_path: Path
) -> None:
    terms = [
        {"kind": "adversarial"},
        {"kind": "subclass", "subclasses": 2},
        {"kind": "rkd_distance"},
        {"kind": "soft_label", "divergence": "reverse"},
    ]
    run = RunFolder(tmp_path / "run")
    run_training(image_settings(transfer={"terms": terms}), run)
    control, student = (load_model(run.model(a)).network.state_dict() for a in ARMS[1:])
    assert control.keys() == student.keys()
    assert any(not torch.equal(control[name], student[name]) for name in control)
    sizes = [read_info(run.model(arm)).parameters for arm in ARMS[1:]]
    assert sizes[0] == sizes[1]


def test_a_run_without_a_student_plans_its_teacher_alone(image_settings: Build) -> None:
    (teacher,) = plan_arms(image_settings(student=None, transfer=None))
    assert teacher.role == "teacher"
