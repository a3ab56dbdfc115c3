"""Train, save and evaluate one arm.

`run_arm` reads top to bottom. Each step can be resumed: training after the last finished epoch,
scoring after the last saved batch, and the whole-scan search after the last finished scan.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from medkd.data.patches import PatchSource
from medkd.evaluate.classification import choose_operating_point
from medkd.jsonio import read_json, write_json
from medkd.models.ensemble import Ensemble
from medkd.models.package import ModelInfo, load_model, read_info, save_model
from medkd.models.probe import Probe, ProbeSettings
from medkd.provenance import sha256_of_text
from medkd.runs import Prediction, RunFolder, read_predictions, write_predictions
from medkd.train.adapt import adapt_to_target
from medkd.train.answers import PLAIN, view_logits
from medkd.train.domains import HELD_OUT
from medkd.train.networks import (
    ArmNetwork,
    finished_network,
    fit_network,
    fit_probe_network,
    join_networks,
    load_network,
)
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
    score_classes,
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
    fit_arm(arm, context)
    return evaluate_arm(arm, context)


def fit_arm(arm: Arm, context: RunContext) -> None:
    """Train or load a network, calibrate it, choose its thresholds, predict, and save it.

    Only parts of the domains that were built are predicted: `medkd tune` leaves out test.
    """
    parts = scored_parts(arm, context)
    if is_saved(context.run, arm.name, parts):
        return
    teacher = load_teacher(arm, context)
    found = adapt_to_target(get_network(arm, context, teacher), arm, context)
    logits = score_samples(found, arm, context, parts)
    calibration = calibrate(
        logits["val"], labels_of(parts["val"]), prior=found.prior, settings=arm.training
    )
    info = replace(found.info, calibration=calibration)
    predictions = {name: make_predictions(parts[name], logits[name], info) for name in parts}
    info = with_operating_points(info, predictions["val"], context)
    save_arm(arm, context.run, found=found, info=info, predictions=predictions)


def get_network(arm: Arm, context: RunContext, teacher: FrozenTeacher | None) -> ArmNetwork:
    """Train, fit, join or load the network of an arm."""
    if arm.same_as is not None:
        return finished_network(arm.same_as, context)
    if arm.is_ensemble:
        return join_networks(arm, context)
    if isinstance(arm.model, ProbeSettings):
        return fit_probe_network(arm, context)
    return fit_network(arm, context, teacher) if arm.model else load_network(arm, context)


def scored_parts(arm: Arm, context: RunContext) -> dict[str, PatchSource]:
    """Return the samples on which an arm is scored.

    For a teacher they include its own test part. For teacher and student of a run of classifiers
    they include the training samples without labels, see `pool.py`. `medkd tune` builds no test.
    """
    target, source = context.target.parts, context.source.parts
    parts = {split: target[split] for split in HELD_OUT if split in target}
    if arm.role == "teacher" and context.source is not context.target and "test" in source:
        parts[SOURCE_TEST] = source["test"]
    if arm.name in POOL_ARMS and "test" in target and not why_not_ranked(context):
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
    views = arm.views or context.settings.evaluation.views
    for split, source in parts.items():
        if views > 1 or isinstance(found.network, Probe | Ensemble):
            domain = context.source if split == SOURCE_TEST else context.target
            looks = views if views > 1 else PLAIN
            asked = context.asked(arm, source, views=looks, domain=domain, precision="half")
            logits[split] = view_logits(found.network, asked).mean(dim=1).double().numpy()
            continue
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


def is_saved(run: RunFolder, name: str, parts: Iterable[str]) -> bool:
    """Return whether the model of an arm and its predictions of some parts are saved."""
    predicted = all(run.predictions(name, part).is_file() for part in parts)
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
        class_accuracy=score_classes(predictions, info, context.settings.evaluation),
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
