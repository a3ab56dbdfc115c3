"""A teacher that is no better than the control on validation, and students that then do without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medkd.config.run_settings import RunSettings
from medkd.data.splits import LabelLimit
from medkd.models.package import read_info
from medkd.report.render import write_report
from medkd.runs import RunFolder
from medkd.train.arm import read_arm
from medkd.train.bench import run_bench
from medkd.train.bench_record import bench_notes
from medkd.train.compare import warn_of_weak_teacher
from medkd.train.run import run_training
from medkd.transfer.settings import TransferSettings
from medkd.types import Evaluation
from tests.train.test_run import interrupt_at

Build = Callable[..., RunSettings]
UNTRAINED = {"epochs": 1, "warmup_epochs": 0, "learning_rate": 1e-9}
LEARNING = {"epochs": 6, "batch_size": 8, "learning_rate": 0.02}
WEAK = {"model": {"kind": "shallow2d", "channels": 1}, "training": UNTRAINED}
WORDS = "the student was trained without transfer: on validation teacher has ROC AUC"


@pytest.fixture(scope="module")
def with_weak_teacher(image_settings: Build, image_values: dict[str, Any]) -> RunSettings:
    student = image_values["student"] | {"training": LEARNING}
    return image_settings(teacher=WEAK, student=student, transfer="auto")


@pytest.fixture(scope="module")
def untaught(
    tmp_path_factory: pytest.TempPathFactory, with_weak_teacher: RunSettings
) -> tuple[RunFolder, Evaluation]:
    run = RunFolder(tmp_path_factory.mktemp("untaught") / "run")
    return run, run_training(with_weak_teacher, run)


def test_auto_is_short_for_soft_labels_of_a_better_teacher() -> None:
    long = {"terms": [{"kind": "soft_label"}], "only_if_better": True}
    assert TransferSettings.model_validate("auto") == TransferSettings.model_validate(long)


def test_a_student_of_a_weak_teacher_is_the_control(
    untaught: tuple[RunFolder, Evaluation],
) -> None:
    run, _ = untaught
    control, student = (read_info(run.model(arm)) for arm in ("control", "student"))
    assert student.weights_sha256 == control.weights_sha256
    assert "distilled" not in student.origin


def test_record_and_warnings_say_that_there_was_no_transfer(
    untaught: tuple[RunFolder, Evaluation],
) -> None:
    _, evaluation = untaught
    assert evaluation.record.without_transfer["student"].startswith(WORDS)
    assert any(warning.startswith(f"student: {WORDS}") for warning in evaluation.warnings)


def test_nothing_that_judges_a_transfer_speaks_of_it(
    untaught: tuple[RunFolder, Evaluation],
) -> None:
    _, evaluation = untaught
    assert (evaluation.fidelity, evaluation.transfer_took_place) == ((), None)
    assert [term.kind for term in evaluation.terms] == ["hard_label"]
    assert {d.second for d in evaluation.differences} == {"control"}
    assert not any("NO TRANSFER TOOK PLACE" in warning for warning in evaluation.warnings)


def test_cases_without_labels_are_not_said_to_teach_an_untaught_student(
    with_weak_teacher: RunSettings, tmp_path: Path
) -> None:
    limit = {"labelled_fraction": 0.5, "unlabelled": "keep", "validation": "limited"}
    split = with_weak_teacher.target.split.model_copy(
        update={"limit": LabelLimit.model_validate(limit)}
    )
    target = with_weak_teacher.target.model_copy(update={"split": split})
    settings = with_weak_teacher.model_copy(update={"target": target})
    evaluation = run_training(settings, RunFolder(tmp_path / "run"))
    assert "student" in evaluation.record.without_transfer
    assert "self_training" in {arm.name for arm in evaluation.arms}
    assert not any("teach the student" in warning for warning in evaluation.warnings)


def test_the_report_says_it_instead_of_a_verdict(untaught: tuple[RunFolder, Evaluation]) -> None:
    page = write_report(untaught[0]).html.read_text(encoding="utf-8").casefold()
    assert WORDS.casefold() in page
    assert "taught a small student" not in page
    assert "transfer took place" not in page


def test_a_stopped_run_decides_again_as_before(
    untaught: tuple[RunFolder, Evaluation],
    with_weak_teacher: RunSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patched:
        interrupt_at(patched, "student", 1)
        with pytest.raises(KeyboardInterrupt):
            run_training(with_weak_teacher, run)
    evaluation = run_training(with_weak_teacher, run, resume=True)
    whole = untaught[1]
    assert evaluation.record.without_transfer == whole.record.without_transfer
    assert evaluation.record.weights_sha256 == whole.record.weights_sha256


def test_a_student_of_a_better_teacher_is_taught(
    image_settings: Build, image_values: dict[str, Any], tmp_path: Path
) -> None:
    student = image_values["student"] | {"training": UNTRAINED}
    teacher = image_values["teacher"] | {"training": LEARNING}
    settings = image_settings(teacher=teacher, student=student, transfer="auto")
    evaluation = run_training(settings, RunFolder(tmp_path / "run"))
    assert evaluation.record.without_transfer == {}
    assert [found.arm for found in evaluation.fidelity] == ["control", "student"]
    assert [term.kind for term in evaluation.terms] == ["hard_label", "soft_label"]


def test_a_warning_says_that_the_control_is_a_pretrained_student(
    untaught: tuple[RunFolder, Evaluation],
) -> None:
    teacher, control = (read_arm(untaught[0], arm) for arm in ("teacher", "control"))
    (plain,) = warn_of_weak_teacher(teacher, control)
    (pretrained,) = warn_of_weak_teacher(teacher, control, pretrained=True)
    assert "the student's network without a teacher" in plain
    assert "the pretrained student without a teacher" in pretrained


def test_a_run_from_a_source_model_warns_of_the_pretrained_student(
    untaught: tuple[RunFolder, Evaluation], with_weak_teacher: RunSettings, tmp_path: Path
) -> None:
    values = with_weak_teacher.model_dump(mode="json", by_alias=True)
    values["student"]["initialise"] = {"from": str(untaught[0].model("control"))}
    run = RunFolder(tmp_path / "run")
    evaluation = run_training(RunSettings.model_validate(values), run)
    weak = [w for w in evaluation.warnings if "TEACHER NOT BETTER" in w]
    assert len(weak) == 1
    assert "the pretrained student without a teacher" in weak[0]
    assert "the pretrained student" in evaluation.record.without_transfer["student"]


def test_a_bench_counts_the_cells_without_transfer(
    with_weak_teacher: RunSettings, tmp_path: Path
) -> None:
    values = with_weak_teacher.model_dump(mode="json", by_alias=True) | {"bench": {"seeds": [0]}}
    record = run_bench(RunSettings.model_validate(values), tmp_path / "bench")
    (row,) = record.of("student")
    assert (row.teacher, row.kl_to_teacher) == (None, None)
    notes = " ".join(bench_notes(record))
    assert "student: trained without transfer in 1 of 1 cells" in notes
    assert "mean KL to its teacher" not in notes


def test_the_control_cannot_be_better_than_itself(image_settings: Build) -> None:
    arm = {"name": "own", "teacher": "control", "transfer": "auto"}
    with pytest.raises(ValueError, match="the control is its own teacher"):
        image_settings(bench={"arms": [arm]})
