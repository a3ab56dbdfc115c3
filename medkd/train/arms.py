"""From a trained network to a finished arm: calibrated, its threshold frozen, saved, scored.

An arm is finished when its model directory stands; its predictions are written before, so that
a run that was stopped finds either all of an arm or trains it on.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from medkd.config.run_settings import EvaluationSettings, TrainingSettings
from medkd.data.patches import PatchSource
from medkd.errors import SettingsError
from medkd.evaluate.classification import choose_operating_point
from medkd.models.network import Network
from medkd.models.package import (
    LoadedModel,
    ModelInfo,
    load_model,
    read_info,
    save_model,
)
from medkd.models.table import parse_model_settings
from medkd.provenance import sha256_of_text
from medkd.runs import Prediction, RunFolder, read_predictions, write_predictions
from medkd.train.domains import HELD_OUT, Domain, check_model
from medkd.train.logs import Progress, no_progress
from medkd.train.predict import (
    Float64,
    Prior,
    calibrate,
    labels_of,
    make_predictions,
    predict_logits,
)
from medkd.train.recipes import Assignment, TrainedArm
from medkd.transfer.teacher import FrozenTeacher

CLASSIFICATION = "classification"
"""Name of the operating point for samples (candidates, images)."""
SOURCE_TEST = "source_test"
"""Split of a teacher's predictions on the test part of its own domain."""


@dataclass(frozen=True, slots=True)
class FinishedArm:
    """An arm as it stands on disk: its model's facts and its predictions by split."""

    name: str
    info: ModelInfo
    predictions: dict[str, list[Prediction]]


@dataclass(frozen=True, slots=True, eq=False)
class UnfinishedArm:
    """A network that is to become an arm, with what must be known of it.

    `info` lacks what is found out here: calibration, operating points, metrics.
    """

    name: str
    network: Network
    info: ModelInfo
    training: TrainingSettings
    prior: Prior


def is_finished(run: RunFolder, name: str) -> bool:
    """Say whether an arm stands in the run, whole."""
    predicted = all(run.predictions(name, split).is_file() for split in HELD_OUT)
    return predicted and (run.model(name) / "model.json").is_file()


def read_arm(run: RunFolder, name: str) -> FinishedArm:
    """Read a finished arm back."""
    paths = {split: run.predictions(name, split) for split in (*HELD_OUT, SOURCE_TEST)}
    predictions = {s: read_predictions(path) for s, path in paths.items() if path.is_file()}
    return FinishedArm(name, read_info(run.model(name)), predictions)


def finish_arm(
    found: UnfinishedArm,
    run: RunFolder,
    domain: Domain,
    *,
    evaluation: EvaluationSettings,
    also: Mapping[str, PatchSource],
    progress: Progress = no_progress,
) -> FinishedArm:
    """Calibrate on validation, freeze the threshold there, score held-out parts, and save.

    Args:
        found: the trained network.
        run: where it is saved.
        domain: the target domain, whose validation and test parts are scored.
        evaluation: the rule of the threshold.
        also: further samples to score, by the name of their split.
        progress: told of every part that is scored.
    """
    parts = {split: domain.parts[split] for split in HELD_OUT} | dict(also)
    logits = _score(found, run, parts, progress)
    labels = labels_of(parts["val"])
    calibration = calibrate(logits["val"], labels, prior=found.prior, settings=found.training)
    info = replace(found.info, calibration=calibration)
    predictions = {s: make_predictions(parts[s], logits[s], info) for s in parts}
    point = choose_operating_point(
        labels,
        [row.probability for row in predictions["val"]],
        rule=evaluation.rule,
        sensitivity=evaluation.sensitivity,
    )
    info = replace(info, operating_points={**info.operating_points, CLASSIFICATION: point})
    for split, rows in predictions.items():
        write_predictions(run.predictions(found.name, split), rows)
    saved = save_model(run.model(found.name), found.network, info)
    shutil.rmtree(_state(run, found.name), ignore_errors=True)
    return FinishedArm(found.name, saved, predictions)


def _state(run: RunFolder, name: str) -> Path:
    return run.training(name) / "state"


def _score(
    found: UnfinishedArm, run: RunFolder, parts: Mapping[str, PatchSource], progress: Progress
) -> dict[str, Float64]:
    """Return the logits of every sample; what a stopped run had scored is not scored again."""
    batch_size = 4 * found.training.batch_size
    total, before = sum(map(len, parts.values())), 0
    weights = FrozenTeacher(found.network).fingerprint()
    logits = {}
    for split, source in parts.items():
        key = sha256_of_text("\n".join([weights, str(batch_size), *source.sample_id]))[:16]

        def told(done: int, before: int = before, split: str = split) -> None:
            note = split if before + done < total else ""
            progress(f"{found.name}: scoring samples", before + done, total, note)

        logits[split] = predict_logits(
            found.network,
            source,
            batch_size=batch_size,
            kept=_state(run, found.name) / f"{split}-{key}.npy",
            progress=told,
        )
        before += len(source)
    return logits


def describe(trained: TrainedArm, task: Assignment, domain: Domain) -> ModelInfo:
    """Say of a network what is known when its training ends.

    Args:
        trained: the network and how it went.
        task: what was to be trained.
        domain: what it was trained on.
    """
    origins = domain.origins()["train"]
    return ModelInfo(
        settings=task.model.model_dump(mode="json"),
        label_names=domain.index.label_names,
        preprocessing=domain.preprocessing,
        trained_on=domain.words,
        trained_on_synthetic=origins.synthetic,
        generators=domain.index.generators if origins.synthetic else (),
        origins=origins,
        training_fingerprint=domain.split.fingerprint,
        initialisation=trained.network.initialisation,
        metrics={f"val_{name}": value for name, value in trained.result.scores.items()},
    )


def take_model(directory: Path, domain: Domain, *, device: str) -> LoadedModel:
    """Load a model directory as teacher of a domain.

    Raises:
        SettingsError: if it does not take the domain's views or names other labels.
        CheckpointError: if it is no whole model directory.
    """
    loaded = load_model(directory, device=device)
    settings = parse_model_settings(loaded.info.settings)
    reasons = [*check_model(domain, settings, role="teacher")]
    given, ours = loaded.info.preprocessing, domain.preprocessing
    if given.hu_window is not None and given.hu_window != ours.hu_window:
        reasons.append(f"it was trained with the HU window {given.hu_window}, not {ours.hu_window}")
    if given.spacing_mm is not None and given.spacing_mm != ours.spacing_mm:
        reasons.append(f"it was trained at {given.spacing_mm} mm, not at {ours.spacing_mm} mm")
    if loaded.info.label_names != domain.index.label_names:
        reasons.append(
            f"it tells {', '.join(loaded.info.label_names)}, the data are labelled "
            f"{', '.join(domain.index.label_names)}"
        )
    if reasons:
        raise SettingsError(f"{directory}: no teacher for {domain.index.name}", reasons)
    return loaded


def prior_of(info: ModelInfo, *, true: float) -> Prior:
    """Say which share of positives a finished model was trained at, from its calibration."""
    excess = -info.calibration.logit_shift * info.calibration.temperature
    trained = torch.sigmoid(torch.logit(torch.tensor(true).double(), eps=1e-6) + excess)
    return Prior(true=true, trained=float(trained))
