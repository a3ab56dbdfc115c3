"""A run with several yes-or-no labels, some of them not known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medkd.config.run_settings import RunSettings
from medkd.errors import SettingsError
from medkd.jsonio import read_json
from medkd.models.package import load_model, read_info, save_model
from medkd.report.render import write_report
from medkd.review.cases import read_image_probabilities
from medkd.runs import RunFolder, read_predictions
from medkd.train.bench import run_bench
from medkd.train.bench_record import BenchRecord, bench_markdown, seed_mean
from medkd.train.run import run_training
from medkd.types import Evaluation
from tests.data.archives import write_xray_archive


def write_two_labels(path: Path) -> Path:
    """Write a MedMNIST-like file: a bright top is one label, a bright left side the other."""
    random = np.random.default_rng(5)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 64), ("val", 32), ("test", 32)):
        labels = np.stack([np.arange(count) % 2, np.arange(count) // 2 % 2], axis=1)
        images = random.normal(90, 25, (count, 12, 12))
        images[labels[:, 0] == 1, :6] += 60
        images[labels[:, 1] == 1, :, :6] += 60
        arrays[f"{part}_images"] = images.clip(0, 255).astype(np.uint8)
        arrays[f"{part}_labels"] = labels.astype(np.uint8)
    np.savez_compressed(path, **arrays)
    return path


def settings_in(folder: Path, image_values: dict[str, Any], **changed: Any) -> RunSettings:
    data = {"kind": "medmnist", "path": str(write_two_labels(folder / "chestmnist.npz"))}
    networks = {
        name: {
            "model": {**image_values[name]["model"], "label_count": 2},
            "training": {**image_values[name]["training"], "epochs": 8},
        }
        for name in ("teacher", "student")
    }
    target = {**image_values["target"], "data": data}
    return RunSettings.model_validate({**image_values, **networks, "target": target, **changed})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, image_values: dict[str, Any]) -> RunFolder:
    folder = tmp_path_factory.mktemp("labels")
    run = RunFolder(folder / "run")
    run_training(settings_in(folder, image_values), run)
    return run


def test_every_label_has_its_logit_probability_and_threshold(finished: RunFolder) -> None:
    row = read_predictions(finished.predictions("student", "test"))[0]
    assert (len(row.labels), len(row.logits), len(row.probabilities)) == (2, 2, 2)
    info = read_info(finished.model("student"))
    assert len(info.calibration.temperature) == 2
    assert set(info.operating_points) == {f"classification:{name}" for name in info.label_names}


def test_every_label_is_scored_and_arms_are_compared_by_their_mean(finished: RunFolder) -> None:
    evaluation = read_json(finished.evaluation, Evaluation)
    names = read_info(finished.model("student")).label_names
    for arm in evaluation.arms:
        scored = arm.classification["test"]
        assert tuple(found.label for found in scored) == names
        assert all(found.roc_auc.value > 0.8 for found in scored)
    (primary,) = [found for found in evaluation.differences if found.primary]
    means = {
        arm.name: np.mean([found.roc_auc.value for found in arm.classification["test"]])
        for arm in evaluation.arms
    }
    assert primary.difference.value == pytest.approx(means["student"] - means["control"])


def test_report_and_app_name_every_label(finished: RunFolder) -> None:
    names = read_info(finished.model("student")).label_names
    page = write_report(finished, None).html.read_text(encoding="utf-8")
    assert all(f"test split, {name}" in page for name in names)
    (shown, *_) = read_image_probabilities(finished).values()
    assert {f"student, {name}" for name in names} <= set(shown)


@pytest.fixture(scope="module")
def bench(
    tmp_path_factory: pytest.TempPathFactory, image_values: dict[str, Any]
) -> tuple[BenchRecord, Path]:
    """A bench whose ensemble joins a teacher and the control, label by label."""
    folder = tmp_path_factory.mktemp("bench")
    teacher = settings_in(folder, image_values).model_dump(mode="json", by_alias=True)["teacher"]
    both = {"ensemble": {"members": ["alone", "control"], "weights": "validation"}}
    plan = {
        "seeds": [0, 1],
        "teachers": {"alone": teacher, "both": both},
        "arms": [
            {"name": "student", "teacher": "both", "transfer": {"terms": [{"kind": "soft_label"}]}}
        ],
    }
    settings = settings_in(folder, image_values, teacher=None, transfer=None, bench=plan)
    return run_bench(settings, folder / "bench"), folder / "bench"


def test_a_bench_scores_the_mean_of_its_labels(bench: tuple[BenchRecord, Path]) -> None:
    record, folder = bench
    evaluation = read_json(RunFolder(folder / "seed-1").evaluation, Evaluation)
    assert record.label_names
    for arm in evaluation.arms:
        (row,) = [row for row in record.of(arm.name) if row.seed == 1]
        expected = np.mean([found.roc_auc.value for found in arm.classification["test"]])
        assert row.test["roc_auc"] == pytest.approx(expected)
        alone = replace(record, rows=(row,), bootstrap=0)
        assert seed_mean(alone, arm.name, "roc_auc").estimate.value == pytest.approx(expected)
    table = bench_markdown(record)
    assert f"means over the labels {', '.join(record.label_names)}" in table
    assert read_json(folder / "rows.json", BenchRecord) == record


def test_an_ensemble_weighs_its_members_label_by_label(bench: tuple[BenchRecord, Path]) -> None:
    _, folder = bench
    network = load_model(RunFolder(folder / "seed-0").model("both")).network
    weight = network.get_buffer("weight")
    assert weight.shape == (2, 2)
    torch.testing.assert_close(weight.sum(dim=0), torch.ones(2))


def as_teacher_of(finished: RunFolder, names: tuple[str, ...], folder: Path) -> Path:
    """Save the teacher of the finished run with other names for its outputs."""
    loaded = load_model(finished.model("teacher"))
    save_model(folder, loaded.network, replace(loaded.info, label_names=names))
    return folder


def test_a_teacher_of_more_labels_teaches_those_of_the_data_by_their_names(
    finished: RunFolder, image_values: dict[str, Any], tmp_path: Path
) -> None:
    """Its output for the label is the second one; a hint reads a layer by its own name."""
    model = as_teacher_of(finished, ("Mass", "Pneumonia"), tmp_path / "public")
    run = RunFolder(tmp_path / "run")
    run_training(RunSettings.model_validate(image_values | {"teacher": {"from": str(model)}}), run)
    taken = load_model(run.model("teacher"))
    assert taken.info.label_names == ("pneumonia",)
    assert taken.network.used_outputs == (1,)
    source = load_model(model)
    view = torch.rand(5, 1, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(taken.network(view), source.network(view)[:, 1:])


def test_a_teacher_without_a_label_of_the_data_is_refused_with_its_names(
    finished: RunFolder, image_values: dict[str, Any], tmp_path: Path
) -> None:
    model = as_teacher_of(finished, ("Mass", "Edema"), tmp_path / "public")
    settings = RunSettings.model_validate(image_values | {"teacher": {"from": str(model)}})
    with pytest.raises(SettingsError) as refused:
        run_training(settings, RunFolder(tmp_path / "run"))
    said = "it has no output for pneumonia; its labels are Mass, Edema"
    assert any(said in reason for reason in refused.value.reasons)


def joined(folder: Path, image_values: dict[str, Any], **changed: Any) -> RunSettings:
    teacher = {"ensemble": changed.pop("ensemble")}
    transfer = {"terms": [{"kind": "soft_label"}]}
    return settings_in(folder, image_values, teacher=teacher, transfer=transfer, **changed)


@pytest.mark.parametrize("weights", ["equal", "validation", "confidence"])
def test_teachers_of_different_labels_teach_together(
    finished: RunFolder, image_values: dict[str, Any], tmp_path: Path, weights: str
) -> None:
    """One answers the first label of the data, the other the second one."""
    first, second = read_info(finished.model("student")).label_names
    one = as_teacher_of(finished, (first, "Mass"), tmp_path / "one")
    other = as_teacher_of(finished, ("Edema", second), tmp_path / "other")
    ensemble = {"from": [str(one), str(other)], "weights": weights}
    run = RunFolder(tmp_path / "run")
    run_training(joined(tmp_path, image_values, ensemble=ensemble), run)
    taught = load_model(run.model("teacher"))
    assert taught.info.label_names == (first, second)
    weight = taught.network.get_buffer("weight")
    torch.testing.assert_close(weight, torch.eye(2), rtol=0, atol=1e-6)
    view = torch.rand(5, 1, 12, 12)
    with torch.no_grad():
        plain, found = load_model(one).network(view), taught.network(view)
    factor, offset = (taught.network.get_buffer(name) for name in ("factor", "offset"))
    torch.testing.assert_close(found, plain * factor.diag() + offset.diag())
    rows = read_predictions(run.predictions("teacher", "test"))
    assert np.isfinite([row.probabilities for row in rows]).all()


def test_a_label_that_one_member_lacks_is_answered_by_the_others(
    finished: RunFolder, image_values: dict[str, Any], tmp_path: Path
) -> None:
    first, _ = read_info(finished.model("student")).label_names
    one = as_teacher_of(finished, (first, "Mass"), tmp_path / "one")
    both = {"ensemble": {"members": ["control"], "from": [str(one)], "weights": "equal"}}
    plan = {
        "seeds": [0],
        "teachers": {"both": both},
        "arms": [
            {"name": "student", "teacher": "both", "transfer": {"terms": [{"kind": "soft_label"}]}}
        ],
    }
    settings = settings_in(tmp_path, image_values, teacher=None, transfer=None, bench=plan)
    run_bench(settings, tmp_path / "bench")
    weight = load_model(RunFolder(tmp_path / "bench" / "seed-0").model("both")).network.weight
    torch.testing.assert_close(weight, torch.tensor([[0.5, 1.0], [0.5, 0.0]]))


def test_a_label_that_no_member_answers_is_refused(
    finished: RunFolder, image_values: dict[str, Any], tmp_path: Path
) -> None:
    first, second = read_info(finished.model("student")).label_names
    models = [
        as_teacher_of(finished, names, tmp_path / names[1])
        for names in ((first, "a"), (first, "b"))
    ]
    ensemble = {"from": [str(model) for model in models]}
    with pytest.raises(SettingsError) as refused:
        run_training(joined(tmp_path, image_values, ensemble=ensemble), RunFolder(tmp_path / "run"))
    assert f"teacher: no member has an output for {second}" in refused.value.reasons


def test_an_archive_with_labels_that_are_partly_unknown_is_learned(
    image_values: dict[str, Any], tmp_path: Path
) -> None:
    index = write_xray_archive(
        tmp_path, patients=48, values=(1, 0, 1, 0, None), masses=(0, 0, 1, 1, None, 0, 1)
    )
    data = {"kind": "archive", "index": str(index), "cases": "images", "labels": ["Nodule", "Mass"]}
    networks = {
        name: {**image_values[name], "model": {**image_values[name]["model"], "label_count": 2}}
        for name in ("teacher", "student")
    }
    target = {
        "data": data,
        "split": {"kind": "fractions"},
        "loading": [{"kind": "image", "source": "file", "size_px": [12, 12]}],
    }
    run = RunFolder(tmp_path / "run")
    run_training(RunSettings.model_validate({**image_values, **networks, "target": target}), run)
    rows = read_predictions(run.predictions("student", "test"))
    assert any(None in row.labels for row in rows)
    assert any(row.labels == (1, 1) for row in rows)
    evaluation = read_json(run.evaluation, Evaluation)
    first, second = evaluation.arms[0].classification["test"]
    for number, found in enumerate((first, second)):
        assert found.samples == sum(row.labels[number] is not None for row in rows)
