"""Get the network of an arm: load it from a model directory, or train it.

Teacher, control and student are trained by the same code with different objectives. Control and
student share seed, initial weights, batches, views and schedule. They differ only in the list of
transfer terms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from medkd.data.augment import view_batch
from medkd.data.loader import TrainLoader
from medkd.errors import SettingsError
from medkd.models.network import Network
from medkd.models.package import ModelInfo, load_model, read_info
from medkd.models.table import build_model, parse_model_settings
from medkd.provenance import joint_origins, sha256_of_text
from medkd.train.domains import Domain, check_model
from medkd.train.loop import FitPlan, fit
from medkd.train.plan import Arm, RunContext
from medkd.train.predict import Prior, labels_of, predict_logits, validation_scores
from medkd.train.state import Scores
from medkd.transfer.objective import TransferObjective
from medkd.transfer.settings import TransferSettings
from medkd.transfer.teacher import FrozenTeacher
from medkd.types import CaseOrigins


@dataclass(frozen=True, slots=True, eq=False)
class ArmNetwork:
    """A trained network, its description, and the prevalence at which it was trained.

    Calibration and operating points are added to `info` later.
    """

    network: Network
    info: ModelInfo
    prior: Prior


def fit_network(arm: Arm, context: RunContext, teacher: FrozenTeacher | None) -> ArmNetwork:
    """Train the network of an arm, or continue its training after the last finished epoch.

    Args:
        arm: an arm with a model to train.
        context: the run.
        teacher: the teacher of a student; None if the network is trained on labels only.
    """
    if arm.model is None:
        raise ValueError(f"{arm.name} has no model to train")
    domain, seed = context.domain_of(arm), context.seed_of(arm)
    train, val = domain.parts["train"], domain.parts["val"]
    loader = TrainLoader(
        train,
        batch_size=arm.training.batch_size,
        balanced=arm.training.balanced,
        seed=seed,
        views=domain.settings.augmentation.views,
        workers=arm.training.workers,
    )
    network = build_model(arm.model, seed=seed)
    objective = TransferObjective(
        network,
        teacher,
        arm.transfer,
        positive_share=loader.sampled_prior,
        view_shape=domain.image_shape,
        seed=seed,
    )
    labels = labels_of(val)

    def validate(student: nn.Module) -> Scores:
        logits = predict_logits(student, val, batch_size=4 * arm.training.batch_size)
        return validation_scores(logits, labels)

    result = fit(
        objective,
        loader,
        validate=validate,
        plan=_fit_plan(arm, context, teacher),
        view=partial(view_batch, settings=domain.settings.augmentation, seed=context.settings.seed),
        progress=context.progress,
    )
    info = _describe(arm, domain, network, result.scores)
    if arm.teacher is not None:
        info = with_teacher_origin(info, read_info(context.run.model(arm.teacher)))
    return ArmNetwork(network, info, _prior(loader, arm.transfer))


def load_network(arm: Arm, context: RunContext) -> ArmNetwork:
    """Load the model directory of an arm.

    Raises:
        SettingsError: if the model does not fit the views or the labels of the target domain.
        CheckpointError: if the model directory is incomplete.
    """
    if arm.taken_from is None:
        raise ValueError(f"{arm.name} has no model directory")
    domain = context.target
    loaded = load_model(arm.taken_from, device=context.device)
    settings = parse_model_settings(loaded.info.settings)
    reasons = [*check_model(domain, settings, role=arm.name), *_differences(loaded.info, domain)]
    if reasons:
        headline = f"{arm.taken_from}: this model cannot teach on {domain.index.name}"
        raise SettingsError(headline, reasons)
    prior = _prior_of(loaded.info, true=domain.parts["train"].prior)
    return ArmNetwork(loaded.network, loaded.info, prior)


def with_teacher_origin(info: ModelInfo, teacher: ModelInfo) -> ModelInfo:
    """Add the teacher's training data and licence to the description of its student."""
    licence = info.licence if teacher.licence == info.licence else f"teacher: {teacher.licence}"
    return replace(
        info,
        trained_on_synthetic=info.trained_on_synthetic or teacher.trained_on_synthetic,
        generators=tuple(dict.fromkeys((*info.generators, *teacher.generators))),
        origins=_joint_origins(info, teacher),
        origin=f"distilled by medkd from {teacher.kind}, trained on {teacher.trained_on}",
        licence=licence,
    )


def _joint_origins(info: ModelInfo, teacher: ModelInfo) -> CaseOrigins | None:
    """Count the cases of student and teacher; None if those of the teacher are unknown."""
    if info.origins is None or teacher.training_fingerprint == info.training_fingerprint:
        return info.origins
    if teacher.origins is None:
        return None if teacher.trained_on_synthetic else info.origins
    return joint_origins(info.origins, teacher.origins)


def _fit_plan(arm: Arm, context: RunContext, teacher: FrozenTeacher | None) -> FitPlan:
    domain = context.domain_of(arm)
    purpose = [
        arm.model.model_dump_json() if arm.model else "",
        arm.transfer.model_dump_json(),
        domain.split.fingerprint,
        domain.settings.model_dump_json(exclude={"cache_dir", "cache_gib"}),
        f"{teacher.fingerprint()} at {teacher.temperature}" if teacher else "no teacher",
    ]
    return FitPlan(
        settings=arm.training,
        folder=context.run.training(arm.name),
        seed=context.seed_of(arm),
        device=context.device,
        title=arm.name,
        purpose=sha256_of_text("\n".join(purpose)),
    )


def _describe(arm: Arm, domain: Domain, network: Network, scores: Scores) -> ModelInfo:
    """Describe a network as far as possible at the end of its training."""
    origins = domain.origins()["train"]
    return ModelInfo(
        settings=arm.model.model_dump(mode="json") if arm.model else {},
        label_names=domain.index.label_names,
        preprocessing=domain.preprocessing,
        trained_on=domain.description,
        trained_on_synthetic=origins.synthetic,
        generators=domain.index.generators if origins.synthetic else (),
        origins=origins,
        data_fingerprint=domain.index.fingerprint,
        training_fingerprint=domain.split.fingerprint,
        initialisation=network.initialisation,
        metrics={f"val_{name}": value for name, value in scores.items()},
    )


def _differences(info: ModelInfo, domain: Domain) -> list[str]:
    """List how the preprocessing and labels of a model differ from those of a domain."""
    reasons = []
    given, ours = info.preprocessing, domain.preprocessing
    if given.hu_window is not None and given.hu_window != ours.hu_window:
        reasons.append(f"it was trained with the HU window {given.hu_window}, not {ours.hu_window}")
    if given.spacing_mm is not None and given.spacing_mm != ours.spacing_mm:
        reasons.append(f"it was trained at {given.spacing_mm} mm, not at {ours.spacing_mm} mm")
    if info.label_names != domain.index.label_names:
        reasons.append(
            f"it was trained for {', '.join(info.label_names)}, but the labels of the data are "
            f"{', '.join(domain.index.label_names)}"
        )
    return reasons


def _prior(loader: TrainLoader, transfer: TransferSettings) -> Prior:
    """Return the prevalence in the data and in training; class weights act like a 50/50 prior."""
    true, sampled = loader.source.prior, loader.sampled_prior
    balanced = transfer.hard_label.class_balanced
    return Prior(true, (0.5,) * len(true) if balanced else sampled)


def _prior_of(info: ModelInfo, *, true: tuple[float, ...]) -> Prior:
    """Return the prevalence at which a finished model was trained, from its calibration.

    The calibration of `medkd calibrate` is that of marks on whole scans and does not show it; then
    the true prevalence is returned.
    """
    if info.calibrated_on is not None:
        return Prior(true, true)
    shift, temperature = (
        torch.tensor(values).double()
        for values in (info.calibration.logit_shift, info.calibration.temperature)
    )
    biased = torch.logit(torch.tensor(true).double(), eps=1e-6) - shift * temperature
    return Prior(true, tuple(torch.sigmoid(biased).tolist()))
