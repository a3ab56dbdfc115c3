"""A run with cases without labels ranks them by the disagreement of teacher and student."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from medkd.config.mutual import ArmTransferSettings
from medkd.config.run_settings import RunSettings
from medkd.data.data_sets import MedMnistData
from medkd.data.splits import build_split
from medkd.models.detector import DetectorSettings
from medkd.models.package import calibrated_probability, load_model
from medkd.runs import RunFolder, read_disagreements, read_predictions
from medkd.train.domains import Domain, build_domain
from medkd.train.logs import no_progress
from medkd.train.plan import RunContext
from medkd.train.pool import pool_samples, why_not_ranked
from medkd.train.run import run_training

Build = Callable[..., RunSettings]
LIMIT = {"kind": "official", "limit": {"labelled_fraction": 0.5, "unlabelled": "keep"}}


@pytest.fixture(scope="module")
def settings(image_settings: Build, image_values: dict[str, Any]) -> RunSettings:
    return image_settings(target={**image_values["target"], "split": LIMIT})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, settings: RunSettings) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("pool") / "run")
    run_training(settings, run)
    return run


@pytest.fixture(scope="module")
def domain(settings: RunSettings, tmp_path_factory: pytest.TempPathFactory) -> Domain:
    return build_domain(settings.target, work_dir=tmp_path_factory.mktemp("domain"), seed=0)


def rows_of(run: RunFolder) -> list[dict[str, str]]:
    with run.label_next.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_case_without_label_is_ranked_once_and_no_other(
    finished: RunFolder, settings: RunSettings, tmp_path: Path
) -> None:
    assert isinstance(settings.target.data, MedMnistData)
    index = settings.target.data.read_cases(tmp_path)
    pool = build_split(index, settings.target.split, seed=settings.split_seed).unlabelled

    rows = rows_of(finished)

    assert len(pool) == 24
    assert sorted(row["case_id"] for row in rows) == sorted(pool)
    assert [row["rank"] for row in rows] == [str(n) for n in range(1, 25)]


def test_the_order_is_that_of_the_models_calibrated_probabilities(
    finished: RunFolder, domain: Domain
) -> None:
    source, pool = domain.parts["train"], set(domain.split.unlabelled)
    places = [number for number, name in enumerate(source.seriesuid) if name in pool]
    view, probabilities = source.__getitems__(places).image, []
    for arm in ("teacher", "student"):
        model = load_model(finished.model(arm))
        with torch.no_grad():
            logits = model.network(view).double()
        probabilities.append(calibrated_probability(logits, model.info)[:, 0].tolist())
    expected = {
        source.seriesuid[place]: (teacher, student)
        for place, teacher, student in zip(places, *probabilities, strict=True)
    }

    found = read_disagreements(finished.label_next)
    differences = [abs(row.difference) for row in found]

    assert differences == sorted(differences, reverse=True)
    assert differences[0] > differences[-1]
    for row in found:
        assert (row.teacher, row.student) == pytest.approx(expected[row.case_id], abs=1e-5)


def test_no_hidden_label_and_no_patient_is_in_the_table(finished: RunFolder) -> None:
    assert list(rows_of(finished)[0]) == [
        "rank", "case_id", "label", "teacher", "student", "disagreement", "coordX", "coordY",
        "coordZ",
    ]  # fmt: skip
    predictions = read_predictions(finished.predictions("student", "pool"))
    assert {row.labels for row in predictions} == {(None,)}
    assert not finished.predictions("control", "pool").exists()


def test_the_pool_is_not_evaluated(finished: RunFolder) -> None:
    assert "pool" not in finished.arm_result("student").read_text()


def test_a_run_whose_cases_all_have_labels_ranks_nothing(
    image_settings: Build, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    run_training(image_settings(), run)
    assert not run.label_next.exists()
    assert not run.predictions("student", "pool").exists()


def test_an_interrupted_run_ranks_after_it_is_resumed(
    settings: RunSettings,
    finished: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = RunFolder(tmp_path / "run")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("medkd.train.summary.rank_pool", stop)
        with pytest.raises(KeyboardInterrupt):
            run_training(settings, run)
    assert not run.label_next.exists()
    run_training(settings, run, resume=True)
    assert run.label_next.read_text() == finished.label_next.read_text()


def test_runs_that_cannot_rank_say_why(settings: RunSettings, domain: Domain) -> None:
    context = RunContext(settings, RunFolder(Path("run")), domain, domain, "cpu", no_progress)
    assert settings.student
    detector = settings.student.model_copy(update={"model": DetectorSettings()})
    mutual = ArmTransferSettings.model_validate({"mutual": {"models": [{"kind": "shallow2d"}]}})
    others = {
        "the student has no teacher": replace(
            context, settings=settings.model_copy(update={"transfer": mutual})
        ),
        "point detectors": replace(
            context, settings=settings.model_copy(update={"student": detector})
        ),
        "every training case has a label": replace(
            context, target=replace(domain, split=replace(domain.split, unlabelled=()))
        ),
        "none of them has a candidate": replace(
            context, target=replace(domain, split=replace(domain.split, unlabelled=("x",)))
        ),
        "only a run with one student": replace(
            context, settings=settings.model_copy(update={"student": None})
        ),
    }

    assert why_not_ranked(context) == ""
    assert len(pool_samples(context)) == 24
    for words, other in others.items():
        assert words in why_not_ranked(other)
