"""A run with one of four classes for each image, from settings to report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medkd.config.run_settings import RunSettings
from medkd.errors import SettingsError
from medkd.jsonio import read_json
from medkd.models.package import load_model, read_info
from medkd.report.render import write_report
from medkd.runs import RunFolder, read_predictions
from medkd.train.bench import run_bench
from medkd.train.bench_record import BenchRecord, bench_markdown
from medkd.train.run import run_training
from medkd.types import Evaluation

CLASSES = 4
DECOUPLED = {
    "outputs": "exclusive",
    "terms": [{"kind": "dkd", "weight": 0.1}, {"kind": "logit_standardisation"}],
}


def write_quadrants(path: Path, labels_of: Any) -> Path:
    """Write a file in MedMNIST's layout: the bright quadrant of an image is its class.

    Args:
        path: the file.
        labels_of: maps the classes [N] to the labels [N, columns].
    """
    random = np.random.default_rng(5)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 64), ("val", 32), ("test", 32)):
        classes = np.arange(count) % CLASSES
        images = random.normal(90, 25, (count, 12, 12))
        for image, number in zip(images, classes, strict=True):
            row, column = divmod(int(number), 2)
            image[6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += 80
        arrays[f"{part}_images"] = images.clip(0, 255).astype(np.uint8)
        arrays[f"{part}_labels"] = labels_of(classes).astype(np.uint8)
    np.savez_compressed(path, **arrays)
    return path


def one_column(classes: np.ndarray) -> np.ndarray:
    return classes[:, None]


def top_or_not(classes: np.ndarray) -> np.ndarray:
    return (classes < 2)[:, None]


def top_and_left(classes: np.ndarray) -> np.ndarray:
    return np.stack([classes < 2, classes % 2 == 0], axis=1)


def settings_for(
    path: Path, values: dict[str, Any], *, labels: int = CLASSES, **changed: Any
) -> RunSettings:
    networks = {
        name: {
            "model": {**values[name]["model"], "label_count": labels},
            "training": {**values[name]["training"], "epochs": 12},
        }
        for name in ("teacher", "student")
    }
    target = {**values["target"], "data": {"kind": "medmnist", "path": str(path)}}
    own = {**values, **networks, "target": target, "transfer": DECOUPLED}
    return RunSettings.model_validate({**own, **changed})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, image_values: dict[str, Any]) -> RunFolder:
    folder = tmp_path_factory.mktemp("classes")
    run = RunFolder(folder / "run")
    path = write_quadrants(folder / "quadrants.npz", one_column)
    run_training(settings_for(path, image_values), run)
    return run


@pytest.mark.parametrize("arm", ["teacher", "control", "student"])
def test_the_probabilities_of_the_classes_are_one_softmax(finished: RunFolder, arm: str) -> None:
    rows = read_predictions(finished.predictions(arm, "test"))
    assert [sum(row.probabilities) for row in rows] == pytest.approx([1.0] * len(rows), abs=1e-4)
    info = read_info(finished.model(arm))
    assert info.outputs == "exclusive"
    assert len(set(info.calibration.temperature)) == 1


def test_every_class_is_scored_against_the_rest(finished: RunFolder) -> None:
    names = read_info(finished.model("student")).label_names
    assert len(names) == CLASSES
    for arm in read_json(finished.evaluation, Evaluation).arms:
        scored = arm.classification["test"]
        assert tuple(found.label for found in scored) == names
        assert [found.positives for found in scored] == [8] * CLASSES  # 32 images, 4 classes
        assert np.mean([found.roc_auc.value for found in scored]) > 0.8


def test_the_most_probable_class_is_counted(finished: RunFolder) -> None:
    for arm in read_json(finished.evaluation, Evaluation).arms:
        rows = read_predictions(finished.predictions(arm.name, "test"))
        right = [np.argmax(row.probabilities) == row.labels.index(1) for row in rows]
        assert arm.class_accuracy["test"].value == np.mean(right)
        assert np.mean(right) > 0.25  # 4 classes of equal size


def test_samples_of_the_smallest_class_are_counted_and_not_positive_ones(
    finished: RunFolder,
) -> None:
    evaluation = read_json(finished.evaluation, Evaluation)
    assert evaluation.splits["test"]["smallest_class"] == 8
    assert "positives" not in evaluation.splits["test"]
    assert "target domain: few samples of a class in test: 8" in evaluation.warnings


def test_both_terms_for_classes_are_trained(finished: RunFolder) -> None:
    head = (finished.training("student") / "log.csv").read_text(encoding="utf-8").splitlines()[0]
    assert {"term_dkd", "term_logit_standardisation"} <= set(head.split(","))


def test_the_report_names_every_class(finished: RunFolder) -> None:
    names = read_info(finished.model("student")).label_names
    page = write_report(finished, None).html.read_text(encoding="utf-8")
    assert all(f"test split, {name}" in page for name in names)
    assert "Share of test samples whose most probable class is the right one: teacher" in page
    assert "Each class is scored against all others together" in page
    assert "KL divergence of the classes" in page
    assert "Bernoulli" not in page
    assert "means over all labels or classes" in page


@pytest.mark.parametrize(
    ("labels_of", "labels", "reason"),
    [
        (top_and_left, 2, "independent labels, of which a sample may have several or none"),
        (top_or_not, 2, "one yes-or-no label: use outputs: independent with label_count: 1"),
    ],
)
def test_a_softmax_over_labels_that_are_no_classes_is_refused(
    tmp_path: Path, image_values: dict[str, Any], labels_of: Any, labels: int, reason: str
) -> None:
    path = write_quadrants(tmp_path / "quadrants.npz", labels_of)
    transfer = {"outputs": "exclusive", "terms": [{"kind": "soft_label"}]}
    settings = settings_for(path, image_values, labels=labels, transfer=transfer)
    with pytest.raises(SettingsError) as refused:
        run_training(settings, RunFolder(tmp_path / "run"))
    assert any(reason in one for one in refused.value.reasons)
    assert not list(tmp_path.rglob("model.json"))


def test_a_given_teacher_keeps_the_prevalence_of_its_classes(
    finished: RunFolder, tmp_path: Path, image_values: dict[str, Any]
) -> None:
    given = {"from": str(finished.model("teacher"))}
    path = finished.path.parent / "quadrants.npz"
    run = RunFolder(tmp_path / "run")
    run_training(settings_for(path, image_values, teacher=given), run)
    first, again = (read_info(one.model("teacher")).calibration for one in (finished, run))
    assert again.temperature == pytest.approx(first.temperature, rel=1e-3)
    assert again.logit_shift == pytest.approx(first.logit_shift, abs=1e-3)


@pytest.fixture(scope="module")
def bench(
    tmp_path_factory: pytest.TempPathFactory, image_values: dict[str, Any]
) -> tuple[BenchRecord, RunFolder]:
    """A bench of two ensembles of classes, and its only cell."""
    folder = tmp_path_factory.mktemp("bench")
    path = write_quadrants(folder / "quadrants.npz", one_column)
    teacher = settings_for(path, image_values).model_dump(mode="json", by_alias=True)["teacher"]
    members = {"members": ["alone", "control"]}
    transfer = {"outputs": "exclusive", "terms": [{"kind": "soft_label"}]}
    plan = {
        "seeds": [0],
        "teachers": {
            "alone": teacher,
            "both": {"ensemble": {**members, "weights": "validation"}},
            "surest": {"ensemble": {**members, "weights": "confidence"}},
        },
        "arms": [
            {"name": "first", "teacher": "both", "transfer": transfer},
            {"name": "second", "teacher": "surest", "transfer": transfer},
        ],
    }
    settings = settings_for(path, image_values, teacher=None, transfer=None, bench=plan)
    return run_bench(settings, folder / "bench"), RunFolder(folder / "bench" / "seed-0")


@pytest.mark.parametrize("name", ["both", "surest"])
def test_an_ensemble_of_classes_has_one_weight_for_a_member_and_one_softmax(
    bench: tuple[BenchRecord, RunFolder], name: str
) -> None:
    _, run = bench
    loaded = load_model(run.model(name))
    for values in (loaded.network.get_buffer(key) for key in ("weight", "factor")):
        torch.testing.assert_close(values, values[:, :1].expand(2, CLASSES))
    assert len(set(loaded.info.calibration.temperature)) == 1
    rows = read_predictions(run.predictions(name, "test"))
    assert [sum(row.probabilities) for row in rows] == pytest.approx([1.0] * len(rows), abs=1e-4)


def test_a_bench_of_classes_scores_their_mean_against_the_rest(
    bench: tuple[BenchRecord, RunFolder],
) -> None:
    record, run = bench
    for arm in read_json(run.evaluation, Evaluation).arms:
        (row,) = record.of(arm.name)
        scored = arm.classification["test"]
        assert row.test["roc_auc"] == pytest.approx(np.mean([one.roc_auc.value for one in scored]))
        assert row.test["roc_auc"] > 0.75
    assert "of the scored ones are positive for class 3" in bench_markdown(record)


def test_a_given_teacher_of_other_outputs_is_refused(
    finished: RunFolder, tmp_path: Path, image_values: dict[str, Any]
) -> None:
    given = {"from": str(finished.model("teacher"))}
    path = finished.path.parent / "quadrants.npz"
    transfer = {"terms": [{"kind": "soft_label"}]}
    settings = settings_for(path, image_values, teacher=given, transfer=transfer)
    with pytest.raises(SettingsError) as refused:
        run_training(settings, RunFolder(tmp_path / "run"))
    reason = "its outputs are exclusive, those of the student independent"
    assert any(reason in one for one in refused.value.reasons)
