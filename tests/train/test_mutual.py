"""Runs in which a student is trained together with other networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medkd.config.run_settings import RunSettings
from medkd.errors import SettingsError
from medkd.models.package import read_info
from medkd.report.render import write_report
from medkd.runs import RunFolder
from medkd.train.bench import run_bench
from medkd.train.run import run_training
from medkd.types import Evaluation
from tests.train.test_run import interrupt_at

Build = Callable[..., RunSettings]
BIGGER = {"kind": "shallow2d", "channels": 6}
MUTUAL = {"mutual": {"models": [BIGGER, {"kind": "shallow2d", "channels": 4}]}}
ALONE = {"teacher": None, "transfer": MUTUAL}


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, image_settings: Build
) -> tuple[RunFolder, Evaluation]:
    run = RunFolder(tmp_path_factory.mktemp("mutual") / "run")
    return run, run_training(image_settings(**ALONE), run)


def test_a_run_without_teacher_has_control_and_student(
    finished: tuple[RunFolder, Evaluation],
) -> None:
    run, evaluation = finished
    assert [arm.name for arm in evaluation.arms] == ["control", "student"]
    control, student = (read_info(run.model(arm)) for arm in ("control", "student"))
    assert control.parameters == student.parameters
    assert control.weights_sha256 != student.weights_sha256


def test_it_is_compared_with_the_control_and_with_no_teacher(
    finished: tuple[RunFolder, Evaluation],
) -> None:
    _, evaluation = finished
    assert {d.second for d in evaluation.differences} == {"control"}
    assert (evaluation.fidelity, evaluation.transfer_took_place) == ((), None)
    assert [term.kind for term in evaluation.terms] == ["hard_label", "mutual"]


def test_its_log_has_the_losses_of_all_networks(finished: tuple[RunFolder, Evaluation]) -> None:
    columns = (finished[0].training("student") / "log.csv").read_text().splitlines()[0].split(",")
    terms = {"hard_label", "hard_label_peer_1", "hard_label_peer_2"}
    terms |= {"mutual", "mutual_peer_1", "mutual_peer_2"}
    assert {name for name in columns if name.startswith("term_")} == {f"term_{t}" for t in terms}


def test_its_report_is_written_without_a_teacher(finished: tuple[RunFolder, Evaluation]) -> None:
    page = write_report(finished[0]).html.read_text(encoding="utf-8")
    assert "taught a small student" not in page


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_interrupted_run_ends_as_one_in_one_go(
    finished: tuple[RunFolder, Evaluation],
    image_settings: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    epoch: int,
) -> None:
    run = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patched:
        interrupt_at(patched, "student", epoch)
        with pytest.raises(KeyboardInterrupt):
            run_training(image_settings(**ALONE), run)
    evaluation = run_training(image_settings(**ALONE), run, resume=True)
    assert evaluation.record.weights_sha256 == finished[1].record.weights_sha256


def test_a_bench_has_an_arm_without_teacher_beside_one_with(
    image_settings: Build, image_values: dict[str, Any], tmp_path: Path
) -> None:
    arms = [
        {"name": "taught", "transfer": image_values["transfer"]},
        {"name": "together", "transfer": MUTUAL},
    ]
    settings = image_settings(transfer=None, bench={"seeds": [0], "arms": arms})
    record = run_bench(settings, tmp_path / "bench")
    assert record.arms() == ("teacher", "control", "taught", "together")
    assert [record.of(arm)[0].teacher for arm in ("taught", "together")] == ["teacher", None]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"terms": [{"kind": "hint"}]}, "hint need a finished teacher"),
        ({"terms": [{"kind": "soft_label"}]}, "soft_label need a finished teacher"),
        ({"targets": {"mode": "stored"}}, "cannot be stored"),
        ({"only_if_better": True}, "only_if_better needs a finished teacher"),
        ({"mutual": {"models": [{"kind": "detector3d"}]}}, "a point detector has maps"),
        ({"mutual": {"models": []}}, "at least 1 item"),
        ({"hard_label": {"weight": 0}}, "nothing teaches the outputs"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_configuration(
    image_settings: Build, changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        image_settings(teacher=None, transfer=MUTUAL | changed)


def test_a_teacher_is_missing_only_where_an_arm_needs_one(image_settings: Build) -> None:
    assert image_settings(**ALONE).teachers() == {}
    with pytest.raises(ValueError, match="teacher: missing"):
        image_settings(teacher=None)


def test_a_network_that_does_not_fit_the_views_is_refused_before_training(
    image_settings: Build, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    transfer = {"mutual": {"models": [{"kind": "compact3d"}]}}
    with pytest.raises(SettingsError, match="student, mutual model 1: "):
        run_training(image_settings(teacher=None, transfer=transfer), run)
    assert not run.model("control").exists()
