"""`medkd tune`: the better settings are found on validation, and the test part is not used."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from medkd.config.load import load_run_settings
from medkd.config.run_settings import RunSettings
from medkd.config.tune_settings import SearchRange
from medkd.data.patches import PatchSource
from medkd.errors import ExtraMissingError, SettingsError
from medkd.models.package import read_info
from medkd.report.render import write_report
from medkd.runs import RunFolder
from medkd.train import domains, loop, tune
from medkd.train.run import run_training
from medkd.train.search_space import check_space
from medkd.train.tune import run_tune
from medkd.train.tune_record import TuneResult
from tests.train.test_run import interrupt_at

Build = Callable[..., RunSettings]

RATE = "student.training.learning_rate"
BOTH = 7
"""A seed whose first two random trials take the first and the second choice."""

TWO_RATES = {RATE: {"choices": [1e-7, 0.02]}}
RANGES = {
    RATE: {"low": 1e-3, "high": 3e-2, "log": True},
    "transfer.terms.0.weight": {"low": 0.0, "high": 2.0},
    "student.model.channels": {"low": 2, "high": 5},
}


def searched(build: Build, space: dict[str, Any], **values: Any) -> RunSettings:
    student = {
        "model": {"kind": "shallow2d", "channels": 4},
        "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.01},
    }
    return build(tune={"space": space, **values}, student=student)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def tried(result: TuneResult) -> list[dict[str, Any]]:
    return [row.values for row in result.rows if row.state != "stopped"]


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, image_settings: Build
) -> tuple[Path, TuneResult, list[str]]:
    folder, steps = tmp_path_factory.mktemp("tune") / "search", []
    settings = searched(image_settings, TWO_RATES, trials=4, metric="loss", seed=BOTH)
    result = run_tune(settings, folder, progress=lambda what, *_: steps.append(what))
    return folder, result, steps


def test_the_better_of_two_learning_rates_is_found(found: tuple) -> None:
    folder, result, _ = found
    scores = {row.values[RATE]: row.score for row in result.rows}
    assert scores.keys() == {1e-7, 0.02}
    assert scores[0.02] < scores[1e-7]
    assert result.best.values == {RATE: 0.02}
    rows = rows_of(folder)
    assert [row["number"] for row in rows] == ["0", "1", "2", "3"]
    assert {float(row["score"]) for row in rows} == set(scores.values())
    assert all(float(row["seconds"]) > 0 for row in rows)


def test_the_score_is_that_of_the_kept_weights_on_validation(found: tuple) -> None:
    folder, result, _ = found
    for row in result.rows[:2]:
        info = read_info(RunFolder(folder / f"trial-000{row.number}").model("student"))
        assert row.score == pytest.approx(info.metrics["val_loss"], abs=1e-6)


def test_values_that_were_already_tried_are_not_trained_again(found: tuple) -> None:
    folder, result, _ = found
    assert [row.reason for row in result.rows[2:]] == [
        "not trained again: same values as trial 0"
    ] * 2
    assert [row.score for row in result.rows[2:]] == [result.rows[0].score] * 2
    assert not (folder / "trial-0002").exists()


def test_a_teacher_that_no_key_changes_is_trained_once_and_not_copied(found: tuple) -> None:
    folder, _, steps = found
    trained = {step for step in steps if step.endswith("teacher: training steps")}
    assert trained == {"teacher: training steps"}
    assert not (folder / "trial-0000" / "teacher").exists()
    assert not any("control" in step for step in steps)


def test_a_teacher_that_a_key_changes_is_trained_in_each_trial(
    image_settings: Build, tmp_path: Path
) -> None:
    space = {"teacher.training.learning_rate": {"low": 0.01, "high": 0.03}}
    run_tune(searched(image_settings, space, trials=2), tmp_path)
    hashes = {
        read_info(RunFolder(tmp_path / f"trial-000{n}").model("teacher")).weights_sha256
        for n in (0, 1)
    }
    assert len(hashes) == 2
    assert not (tmp_path / "shared").exists()


def test_the_best_settings_train_and_the_report_says_where_they_come_from(
    found: tuple, tmp_path: Path
) -> None:
    folder, result, _ = found
    settings = load_run_settings(str(folder / "best.yaml"))
    assert settings.student.training.learning_rate == 0.02
    assert settings.tune is None
    assert (settings.tuned.trials, settings.tuned.study) == (4, "tiny")
    run = RunFolder(tmp_path / "run")
    evaluation = run_training(settings, run)
    words = "settings chosen from 4 trials of medkd tune on validation"
    assert any(words in warning for warning in evaluation.warnings)
    assert words in write_report(run).html.read_text()
    again = read_info(run.model("student")).metrics["val_loss"]
    assert again == pytest.approx(result.best.score, abs=1e-6)  # the same student as in the trial


def test_the_test_part_is_neither_read_nor_predicted(
    image_settings: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[tuple[str, ...]] = []
    whole = domains.build_patches

    def build(index: Any, cases: tuple[str, ...], **named: Any) -> PatchSource:
        built.append(tuple(cases))
        return whole(index, cases, **named)

    monkeypatch.setattr(domains, "build_patches", build)
    settings = searched(image_settings, TWO_RATES, trials=1)
    values = settings.model_dump(by_alias=True)
    source = values["target"] | {"augmentation": {}}  # a domain with a test part of its own
    settings = RunSettings.model_validate(values | {"source": source})
    run_tune(settings, tmp_path)
    assert len(built) == 4  # train and val of both domains, once for all trials
    cases = [case for part in built for case in part]
    assert any("val" in case for case in cases)
    assert not any("test" in case for case in cases)
    assert list(tmp_path.rglob("*_val.csv"))
    assert not list(tmp_path.rglob("*_test.csv"))
    assert not list(tmp_path.rglob("evaluation*"))


def test_an_arm_scored_on_averaged_views_is_searched_too(
    image_settings: Build, tmp_path: Path
) -> None:
    settings = searched(image_settings, TWO_RATES, trials=1)
    evaluation = settings.evaluation.model_copy(update={"views": 2})
    result = run_tune(settings.model_copy(update={"evaluation": evaluation}), tmp_path)
    assert result.rows[0].state == "complete"


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_search_that_is_stopped_tries_the_same_values_as_one_that_runs_through(
    image_settings: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    settings = searched(image_settings, RANGES, trials=3)
    through = run_tune(settings, tmp_path / "through")
    stopped = tmp_path / "stopped"
    first = searched(image_settings, RANGES, trials=1)
    run_tune(first, stopped)
    with monkeypatch.context() as patched:
        interrupt_at(patched, "student", epoch)
        with pytest.raises(KeyboardInterrupt):
            run_tune(settings, stopped, resume=True)
    with pytest.raises(SettingsError, match="--resume"):
        run_tune(settings, stopped)
    result = run_tune(settings, stopped, resume=True)
    assert [row.state for row in result.rows] == ["complete", "stopped", "complete", "complete"]
    assert tried(result) == tried(through)
    scores = [row.score for row in result.rows if row.score is not None]
    assert scores == [row.score for row in through.rows]


def test_proposals_after_the_random_ones_repeat_too(
    image_settings: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainings are replaced by a formula, so that TPE itself is reached."""
    monkeypatch.setattr(tune, "Trials", FakeTrials)
    settings = searched(image_settings, RANGES, trials=16)
    through = run_tune(settings, tmp_path / "through")
    for number in (5, 12, 13, 16):
        part = searched(image_settings, RANGES, trials=number)
        result = run_tune(part, tmp_path / "parts", resume=True)
    assert tried(result) == tried(through)
    assert len({str(values) for values in tried(result)}) == 16


class FakeTrials(tune.Trials):
    """The closer the learning rate is to 0.01, the better from the first epoch on."""

    def check(self, settings: RunSettings) -> None: ...

    def share_teacher(self, settings: RunSettings) -> None: ...

    def run(self, settings: RunSettings, folder: Path, after_epoch: Any) -> dict[str, float]:
        scores = {"roc_auc": 1 - abs(settings.student.training.learning_rate - 0.01)}
        for epoch in (1, 2, 3):
            after_epoch("teacher", epoch, {"roc_auc": 0.0})  # other arms are not judged
            after_epoch("student", epoch, scores)
        return scores


def test_a_trial_that_falls_behind_is_pruned_after_its_first_epoch(
    image_settings: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "Trials", FakeTrials)
    space = {RATE: {"low": 0.001, "high": 0.03}}
    result = run_tune(searched(image_settings, space, trials=12), tmp_path)
    pruned = [row for row in result.rows if row.state == "pruned"]
    assert pruned
    assert all(row.number >= tune.PRUNE_FROM for row in pruned)
    assert {row.reason for row in pruned} == {"pruned after epoch 1"}
    complete = sorted(row.score for row in result.rows if row.state == "complete")
    assert max(row.score for row in pruned) < complete[-1]


def test_a_pruned_training_stops_and_leaves_no_state(
    image_settings: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[float] = []
    monkeypatch.setattr(tune, "PRUNE_FROM", 1)
    monkeypatch.setattr(
        "medkd.train.networks.fit",
        lambda *args, after_epoch, **named: loop.fit(
            *args, **named, after_epoch=lambda *got: (epochs.append(got[1]), after_epoch(*got))
        ),
    )
    space = {"student.training.learning_rate": {"choices": [0.02, 1e-7, 1e-8]}}
    settings = searched(image_settings, space, trials=3, metric="loss", seed=BOTH)
    result = run_tune(settings, tmp_path)
    pruned = [row for row in result.rows if row.state == "pruned"]
    assert pruned
    assert not list(tmp_path.rglob("state.pt"))
    trained = 3 + sum(1 if row.reason.endswith("epoch 1") else 2 for row in result.rows)
    assert len(epochs) == trained  # 3: of the teacher


def test_invalid_values_fail_their_trial_and_the_search_goes_on(
    image_settings: Build, tmp_path: Path
) -> None:
    space = {"student.training.warmup_epochs": {"choices": [0.5, 5.0]}}
    result = run_tune(searched(image_settings, space, trials=3, seed=BOTH), tmp_path)
    states = {row.values["student.training.warmup_epochs"]: row.state for row in result.rows}
    assert states == {0.5: "complete", 5.0: "failed"}
    reasons = {row["reason"] for row in rows_of(tmp_path) if row["state"] == "failed"}
    assert all("warmup_epochs 5.0 must be below epochs 2" in reason for reason in reasons)
    assert load_run_settings(str(tmp_path / "best.yaml")).tuned.trials == sum(
        row.state == "complete" for row in result.rows
    )


def test_a_search_without_any_success_says_why(image_settings: Build, tmp_path: Path) -> None:
    space = {"student.training.warmup_epochs": {"low": 5.0, "high": 6.0}}
    with pytest.raises(SettingsError, match="must be below epochs 2"):
        run_tune(searched(image_settings, space, trials=2), tmp_path)
    assert not (tmp_path / "best.yaml").exists()


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("student.training.learning_rat", "did you mean student.training.learning_rate"),
        ("transfer.terms.2.weight", "did you mean transfer.terms.[01].weight"),
        ("learning_rate", "did you mean .*training.learning_rate"),
        ("student.initialise.from", "student.initialise is null"),
        ("seed", "best by chance"),
        ("target.split.seed", "unknown key"),
        ("target.split.kind", "which cases are in validation"),
        ("target", "which cases are in validation"),
        ("evaluation.bootstrap", "does not change the score"),
        ("student.model", "is a whole section"),
    ],
)
def test_wrong_keys_are_refused_before_anything_is_trained(
    image_settings: Build, tmp_path: Path, key: str, reason: str
) -> None:
    space = {key: {"low": 1, "high": 2}, "nonsense": {"low": 1, "high": 2}}
    folder = tmp_path / "search"
    with pytest.raises(SettingsError, match=f"(?s){key}[: ].*{reason}") as caught:
        run_tune(searched(image_settings, space), folder)
    assert any(line.startswith("tune.space: nonsense") for line in caught.value.reasons)
    assert not folder.exists()


def test_a_key_without_effect_on_the_arm_is_refused(image_settings: Build) -> None:
    for arm, key in (("teacher", RATE), ("control", "transfer.terms.0.weight")):
        settings = searched(image_settings, {key: {"low": 0.1, "high": 0.2}}, arm=arm)
        with pytest.raises(SettingsError, match=f"no effect on tune.arm: {arm}"):
            check_space(settings)


@pytest.mark.parametrize(
    "space",
    [
        {"low": 1},
        {"low": 2, "high": 1},
        {"low": 0.0, "high": 1.0, "log": True},
        {"choices": [1, 1]},
        {"choices": [1, 2], "low": 1},
    ],
)
def test_ranges_that_mean_nothing_are_refused(space: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SearchRange.model_validate(space)


def test_the_teacher_and_whole_sections_can_be_searched(
    image_settings: Build, tmp_path: Path
) -> None:
    models = [{"kind": "shallow2d", "channels": 2}, {"kind": "shallow2d", "channels": 3}]
    space = {"teacher.model": {"choices": models}}
    settings = searched(image_settings, space, trials=2, arm="teacher", seed=BOTH)
    result = run_tune(settings, tmp_path)
    assert [row.values["teacher.model"] for row in result.rows] == models
    assert all(row.state == "complete" for row in result.rows)
    assert not list(tmp_path.rglob("student"))


def test_a_missing_package_is_explained(
    image_settings: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ExtraMissingError, match=r"pip install 'medkd\[tune\]'"):
        run_tune(searched(image_settings, TWO_RATES), tmp_path)
