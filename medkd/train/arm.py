"""Train, save and evaluate one arm.

`run_arm` reads top to bottom. Each step can be resumed: training after the last finished epoch,
scoring after the last saved batch, and the whole-scan search after the last finished scan.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from medkd.data.patches import PatchSource
from medkd.evaluate.classification import choose_operating_point
from medkd.jsonio import read_json, write_json
from medkd.models.package import ModelInfo, load_model, read_info, save_model
from medkd.provenance import sha256_of_text
from medkd.runs import Prediction, RunFolder, read_predictions, write_predictions
from medkd.train.domains import HELD_OUT
from medkd.train.networks import ArmNetwork, fit_network, load_network
from medkd.train.plan import Arm, RunContext
from medkd.train.pool import POOL, POOL_ARMS, pool_samples, why_not_ranked
from medkd.train.predict import (
    Float64,
    calibrate,
    known_values,
    labels_of,
    make_predictions,
    point_names,
    predict_logits,
    score_predictions,
)
from medkd.train.scans import evaluate_scans
from medkd.transfer.teacher import FrozenTeacher
from medkd.types import ArmResult

SOURCE_TEST = "source_test"
"""Name of the split that holds a teacher's predictions on the test part of the source domain."""


@dataclass(frozen=True, slots=True)
class FinishedArm:
    """A finished arm: its model description, its predictions by split, and its evaluation."""

    name: str
    info: ModelInfo
    predictions: dict[str, list[Prediction]]
    result: ArmResult


def run_arm(arm: Arm, context: RunContext) -> FinishedArm:
    """Train or load a network, calibrate it, choose its thresholds, save it and evaluate it.

    Args:
        arm: the arm to run.
        context: the run; the teacher of a student must already be finished in it.

    Raises:
        SettingsError: if the network does not fit the data.
        CheckpointError: if a file cannot be saved or read.
        SeriesError: if a scan or image cannot be read.
    """
    if not is_saved(context.run, arm.name):
        parts = scored_parts(arm, context)
        teacher = load_teacher(arm, context)
        found = fit_network(arm, context, teacher) if arm.model else load_network(arm, context)
        logits = score_samples(found, arm, context, parts)
        calibration = calibrate(
            logits["val"], labels_of(parts["val"]), prior=found.prior, settings=arm.training
        )
        info = replace(found.info, calibration=calibration)
        predictions = {name: make_predictions(parts[name], logits[name], info) for name in parts}
        info = with_operating_points(info, predictions["val"], context)
        save_arm(arm, context.run, found=found, info=info, predictions=predictions)
    return evaluate_arm(arm, context)


def scored_parts(arm: Arm, context: RunContext) -> dict[str, PatchSource]:
    """Return the samples on which an arm is scored.

    For a teacher they include its own test part. For teacher and student of a run of classifiers
    they include the training samples without labels, see `pool.py`.
    """
    parts = {split: context.target.parts[split] for split in HELD_OUT}
    if arm.role == "teacher" and context.source is not context.target:
        parts[SOURCE_TEST] = context.source.parts["test"]
    if arm.name in POOL_ARMS and not why_not_ranked(context):
        parts[POOL] = pool_samples(context)
    return parts


def load_teacher(arm: Arm, context: RunContext) -> FrozenTeacher | None:
    """Load the finished teacher of an arm with its calibrated temperature."""
    if arm.teacher is None:
        return None
    loaded = load_model(context.run.model(arm.teacher), device=context.device)
    return FrozenTeacher(loaded.network, loaded.info.calibration.temperature)


def score_samples(
    found: ArmNetwork, arm: Arm, context: RunContext, parts: Mapping[str, PatchSource]
) -> dict[str, Float64]:
    """Return the logits [N, K] of all samples, by part."""
    batch_size = 4 * arm.training.batch_size
    total, before = sum(map(len, parts.values())), 0
    weights = FrozenTeacher(found.network).fingerprint()
    logits = {}
    for split, source in parts.items():
        key = sha256_of_text("\n".join([weights, str(batch_size), *source.sample_id]))[:16]

        def report(done: int, before: int = before, split: str = split) -> None:
            note = split if before + done < total else ""
            context.progress(f"{arm.name}: scoring samples", before + done, total, note)

        logits[split] = predict_logits(
            found.network,
            source,
            batch_size=batch_size,
            kept=_state(context.run, arm.name) / f"{split}-{key}.npy",
            progress=report,
        )
        before += len(source)
    return logits


def with_operating_points(
    info: ModelInfo, validation: list[Prediction], context: RunContext
) -> ModelInfo:
    """Return the model description with a threshold for each label, chosen on validation."""
    rule = context.settings.evaluation
    points = dict(info.operating_points)
    for number, name in enumerate(point_names(info)):
        found = known_values(validation, number)
        points[name] = choose_operating_point(
            found.labels, found.probabilities, rule=rule.rule, sensitivity=rule.sensitivity
        )
    return replace(info, operating_points=points)


def save_arm(
    arm: Arm,
    run: RunFolder,
    *,
    found: ArmNetwork,
    info: ModelInfo,
    predictions: Mapping[str, list[Prediction]],
) -> None:
    """Save the predictions, then the model, whose presence means that the arm is complete."""
    for split, rows in predictions.items():
        write_predictions(run.predictions(arm.name, split), rows, info.label_names)
    save_model(run.model(arm.name), found.network, info)
    shutil.rmtree(_state(run, arm.name), ignore_errors=True)


def is_saved(run: RunFolder, name: str) -> bool:
    """Return whether the model and the predictions of an arm are completely saved."""
    predicted = all(run.predictions(name, split).is_file() for split in HELD_OUT)
    return predicted and (run.model(name) / "model.json").is_file()


def evaluate_arm(arm: Arm, context: RunContext) -> FinishedArm:
    """Evaluate a saved arm on its samples and, for CT, on listed candidates and whole scans."""
    run, path = context.run, context.run.arm_result(arm.name)
    if path.is_file():
        return read_arm(run, arm.name)
    predictions = _predictions(run, arm.name)
    froc = evaluate_scans(arm.name, context, predictions["test"])
    info = read_info(run.model(arm.name))
    result = ArmResult(
        name=arm.name,
        model=f"{info.kind}, {info.parameters / 1e6:.2f} M parameters",
        initialisation=info.initialisation,
        trained_on=info.trained_on,
        classification=score_predictions(predictions, info, context.settings.evaluation),
        froc=froc,
        origins=info.origins,
    )
    write_json(path, result)
    return FinishedArm(arm.name, info, predictions, result)


def read_arm(run: RunFolder, name: str) -> FinishedArm:
    """Read a finished arm from the run folder."""
    result = read_json(run.arm_result(name), ArmResult)
    return FinishedArm(name, read_info(run.model(name)), _predictions(run, name), result)


def _predictions(run: RunFolder, name: str) -> dict[str, list[Prediction]]:
    paths = {split: run.predictions(name, split) for split in (*HELD_OUT, SOURCE_TEST)}
    return {split: read_predictions(path) for split, path in paths.items() if path.is_file()}


def _state(run: RunFolder, name: str) -> Path:
    return run.training(name) / "state"
