"""Get the network of an arm: load it from a model directory, or train it.

Teacher, control and student are trained by the same code with different objectives. Control and
student share seed, initial weights, batches, views and schedule. They differ only in the list of
transfer terms, and in the weight of the labels if the student learns from soft labels alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import nn

from medkd.data.crops import CropLoader
from medkd.data.fetch import clear_worker_faults
from medkd.data.loader import TrainLoader
from medkd.data.loading import spacing_mm
from medkd.data.sampling import derive_seed
from medkd.errors import SettingsError
from medkd.models.detector import STRIDE
from medkd.models.initialise import initialise_from
from medkd.models.label_choice import choose_labels
from medkd.models.network import Network
from medkd.models.package import ModelInfo, Preprocessing, load_model, read_info
from medkd.models.probe import Probe, ProbeSettings
from medkd.models.table import build_architecture, build_model, parse_model_settings
from medkd.provenance import joint_origins, sha256_of_text
from medkd.train.alignment import (
    alignment_purpose,
    build_view,
    pair_with_other_domain,
    with_unlabelled,
)
from medkd.train.crops import build_crop_loader
from medkd.train.domains import Domain
from medkd.train.ensembles import build_ensemble
from medkd.train.given import load_given
from medkd.train.layer_rates import check_layer_rates
from medkd.train.loop import FitPlan, Loader, fit, follow_fit
from medkd.train.mining import is_round, open_mined
from medkd.train.plan import Arm, RunContext
from medkd.train.predict import Prior, labels_of, predict_logits, validation_scores
from medkd.train.priors import learned_prior, prior_of
from medkd.train.probes import fit_probe_of
from medkd.train.state import Scores
from medkd.train.targets import stored_teacher
from medkd.transfer.mutual import MutualObjective
from medkd.transfer.objective import TransferObjective
from medkd.transfer.settings import batch_misfits
from medkd.transfer.teacher import FrozenTeacher
from medkd.types import CaseOrigins, PatchBatch

logger = logging.getLogger(__name__)

PREPARING_SAMPLES = 20_000
"""Most samples that are shown to the terms before the training."""


@dataclass(frozen=True, slots=True, eq=False)
class ArmNetwork:
    """A trained network, its description, and the prevalence at which it was trained.

    Calibration and operating points are added to `info` later.
    """

    network: Network
    info: ModelInfo
    prior: Prior


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """A training before it begins: network, start, loss, batches, their share of positives."""

    network: Network
    start: ModelInfo | None
    objective: TransferObjective | MutualObjective
    loader: Loader
    sampled: tuple[float, ...]
    plan: FitPlan


def fit_network(arm: Arm, context: RunContext, teacher: FrozenTeacher | None) -> ArmNetwork:
    """Train the network of an arm, or continue its training after the last finished epoch.

    Args:
        arm: an arm with a model to train.
        context: the run.
        teacher: the teacher of a student; None if the network is trained on labels only.
    """
    context.ranks.from_first(arm)  # the other processes begin with `follow_network`
    begun = _begin_fit(arm, context, teacher)
    domain, network = context.domain_of(arm), begun.network
    val = domain.parts["val"]
    labels = labels_of(val)

    def validate(student: nn.Module) -> Scores:
        logits = predict_logits(student, val, batch_size=4 * arm.training.batch_size)
        return validation_scores(logits, labels, outputs=arm.transfer.outputs)

    result = fit(
        begun.objective,
        begun.loader,
        validate=validate,
        plan=begun.plan,
        view=build_view(arm, context),
        progress=context.progress,
        after_epoch=context.after_epoch,
    )
    info = _describe(arm, domain, network, result.scores)
    info = replace(info, config=context.settings.name, seed=context.settings.seed)
    taught_by = read_info(context.run.model(arm.teacher)) if arm.teacher is not None else None
    info = with_origins(info, start=begun.start, teacher=taught_by)
    if (other := context.other_domain_of(arm)) is not None:
        info = with_unlabelled(info, other, "aligned with training samples")
    prior = learned_prior(arm, context, sampled=begun.sampled, teacher=taught_by)
    return ArmNetwork(network, info, prior)


def follow_network(arm: Arm, context: RunContext, teacher: FrozenTeacher | None) -> None:
    """Compute this process's share of the training of an arm, see `fit_network`."""
    begun = _begin_fit(arm, context, teacher)
    view = build_view(arm, context)
    follow_fit(begun.objective, begun.loader, plan=begun.plan, view=view)


def _begin_fit(arm: Arm, context: RunContext, teacher: FrozenTeacher | None) -> _Fit:
    if arm.model is None:
        raise ValueError(f"{arm.name} has no model to train")
    domain, seed = context.domain_of(arm), context.seed_of(arm)
    network = build_model(arm.model, seed=seed)
    start = _initialise(network, arm)
    spacing = spacing_mm(domain.settings.loading)
    with context.ranks.in_turn():  # what is prepared and stored here, the other processes find
        loader, sampled = _loader_of(arm, context, network)
        if teacher is not None:
            teacher = teacher.with_answers(stored_teacher(arm, context, teacher, network))
    objective: TransferObjective | MutualObjective
    if arm.mutual is not None:
        objective = _mutual_objective(network, arm, seed=seed, positive_share=sampled)
    else:
        objective = TransferObjective(
            network,
            teacher,
            arm.transfer,
            positive_share=sampled,
            view_shape=domain.image_shape,
            cell_mm=STRIDE * spacing[0] if spacing else STRIDE,
            seed=seed,
        )
        _prepare(objective, loader, arm, context)
    return _Fit(network, start, objective, loader, sampled, _fit_plan(arm, context, teacher))


def _mutual_objective(
    network: Network, arm: Arm, *, seed: int, positive_share: tuple[float, ...]
) -> MutualObjective:
    """Build the networks that are trained with a student, each with first weights of its own."""
    if arm.mutual is None:
        raise ValueError(f"{arm.name} is not trained with other networks")
    return MutualObjective(
        network,
        [
            build_model(model, seed=derive_seed(seed, f"peer {number}"))
            for number, model in enumerate(arm.mutual.models, start=1)
        ],
        arm.transfer,
        weight=arm.mutual.weight,
        temperature=arm.mutual.temperature,
        positive_share=positive_share,
    )


def fit_probe_network(arm: Arm, context: RunContext) -> ArmNetwork:
    """Fit the probe of an arm on its labelled samples; nothing is trained by gradients."""
    if arm.model is None:
        raise ValueError(f"{arm.name} has no model to fit")
    domain = context.domain_of(arm)
    network = build_model(arm.model, seed=context.seed_of(arm)).to(context.device)
    if not isinstance(network, Probe):
        raise TypeError(f"{arm.name} is not a probe")
    prior = fit_probe_of(arm, network, context)
    info = _describe(arm, domain, network, {})
    info = replace(info, config=context.settings.name, seed=context.settings.seed)
    return ArmNetwork(network.to(context.device), info, prior)


def join_networks(arm: Arm, context: RunContext) -> ArmNetwork:
    """Build the ensemble of an arm from its finished members."""
    network, info = build_ensemble(arm, context)
    info = replace(info, config=context.settings.name, seed=context.settings.seed)
    prior = context.target.parts["train"].prior
    return ArmNetwork(network.to(context.device), info, Prior(prior, prior, info.outputs))


def _prepare(objective: TransferObjective, loader: Loader, arm: Arm, context: RunContext) -> None:
    """Show samples of the first epoch to the terms that need them; resumed trainings do so too."""
    if not objective.needs_samples:
        return
    enough = -(-PREPARING_SAMPLES // arm.training.batch_size)
    count = min(len(loader), arm.training.max_steps_per_epoch or enough, enough)

    def batches() -> Iterator[PatchBatch]:
        for number, batch in enumerate(islice(loader.epoch(0), count)):
            yield batch.to(torch.device(context.device))
            context.progress(f"{arm.name}: preparing batches", number + 1, count, "terms")

    with clear_worker_faults():
        objective.prepare(batches())


def _loader_of(arm: Arm, context: RunContext, network: Network) -> tuple[Loader, tuple[float, ...]]:
    """Return the training batches, and the share of positives of each label in them.

    For a point detector the share is that of the data: its logits depend on all cells of a map.
    """
    domain, seed = context.domain_of(arm), context.seed_of(arm)
    train = domain.parts["train"]
    if network.finds_points:
        return _crops_of(arm, context, network), train.prior
    loader = TrainLoader(
        train,
        batch_size=arm.training.batch_size,
        balanced=arm.training.balanced,
        seed=seed,
        views=domain.settings.augmentation.views,
        workers=arm.training.workers,
        labelled_share=arm.training.labelled_share,
    )
    return pair_with_other_domain(loader, arm, context), loader.sampled_prior


def _crops_of(arm: Arm, context: RunContext, network: Network) -> CropLoader:
    """Return the crops of an arm; a teacher mines hard negatives between its epochs."""
    domain, mined = context.domain_of(arm), open_mined(arm, context)
    loader = build_crop_loader(
        domain, arm.training, seed=context.seed_of(arm), mined=mined, progress=context.progress
    )
    mining = domain.settings.crops.mining
    if mined is not None and mining is not None and arm.role == "teacher":
        info = _describe(arm, domain, network, {})

        def mine(epoch: int) -> None:
            epochs = arm.training.epochs
            if number := is_round(epoch, epochs=epochs, rounds=mining.rounds):
                with context.ranks.in_turn():
                    mined.mine(network, info, number)

        loader.before_epoch = mine
    return loader


def load_network(arm: Arm, context: RunContext) -> ArmNetwork:
    """Load the model directory of an arm.

    Raises:
        SettingsError: if the model does not fit the views or the labels of the target domain.
        CheckpointError: if the model directory is incomplete.
    """
    if arm.taken_from is None:
        raise ValueError(f"{arm.name} has no model directory")
    given = load_given(arm.taken_from, context, outputs=arm.transfer.outputs)
    prior = prior_of(given.info, true=context.target.parts["train"].prior)
    return ArmNetwork(given.network, given.info, prior)


def finished_network(name: str, context: RunContext) -> ArmNetwork:
    """Return the network of a finished arm, to be scored in another way."""
    loaded = load_model(context.run.model(name), device=context.device)
    prior = prior_of(loaded.info, true=context.target.parts["train"].prior)
    return ArmNetwork(loaded.network, loaded.info, prior)


def check_terms(arm: Arm, teacher: Arm, context: RunContext) -> tuple[str, ...]:
    """Return why the terms of a student do not fit it and its teacher; empty if they do.

    Both networks are built with random weights, so that layers that do not exist or do not match
    are known before the teacher is trained.
    """
    if arm.model is None or teacher.is_ensemble:
        return ()  # an ensemble is built from its members; it has no layers to compare
    train, given = context.target.parts["train"], teacher.model
    if given is None:
        info = choose_labels(read_info(str(teacher.taken_from)), context.target.index.label_names)
        given = parse_model_settings(info.settings)
    batch_size = arm.training.batch_size
    if not arm.model.finds_points:  # crops fill every batch, samples may be too few for one
        batch_size = min(batch_size, len(train))
    transfer = arm.transfer.model_copy(update={"alignment": None})  # `check_alignment` checks it
    reasons = list(batch_misfits(transfer, batch_size))
    try:
        TransferObjective(
            build_architecture(arm.model),
            FrozenTeacher(build_architecture(given)),
            transfer,
            positive_share=train.prior,
            view_shape=context.target.image_shape,
        )
    except SettingsError as error:
        reasons += error.reasons
    return tuple(f"{arm.name}: {reason}" for reason in reasons)


def check_layers(arm: Arm) -> tuple[str, ...]:
    """Return why the learning rates of single layers do not fit the network of an arm."""
    rules = arm.training.layers
    if not rules or arm.model is None:
        return ()
    if isinstance(arm.model, ProbeSettings):
        return (f"{arm.name}: training.layers: a probe is fitted and has no learning rate",)
    reasons = check_layer_rates(build_architecture(arm.model), rules)
    return tuple(f"{arm.name}: {reason}" for reason in reasons)


def _initialise(network: Network, arm: Arm) -> ModelInfo | None:
    """Start the network from the arm's source model and return its description."""
    if arm.initialise is None:
        return None
    chosen = arm.initialise
    report = initialise_from(network, chosen.from_, mismatched=chosen.mismatched)
    for difference in report.differences:
        logger.warning("%s: not initialised: %s", arm.name, difference)
    return report.source


def with_origins(
    info: ModelInfo, *, start: ModelInfo | None, teacher: ModelInfo | None
) -> ModelInfo:
    """Add what its start and its teacher were trained on, each set of cases once."""
    known = teacher.training_fingerprint if teacher is not None else ""
    if start is not None and (not known or start.training_fingerprint != known):
        info = _with_cases_of(info, start)
    return info if teacher is None else with_teacher_origin(info, teacher)


def with_teacher_origin(info: ModelInfo, teacher: ModelInfo) -> ModelInfo:
    """Add the teacher's training data and licence to the description of its student."""
    licence = info.licence if teacher.licence == info.licence else f"teacher: {teacher.licence}"
    return replace(
        _with_cases_of(info, teacher),
        origin=f"distilled by medkd from {teacher.kind}, trained on {teacher.trained_on}",
        licence=licence,
    )


def _with_cases_of(info: ModelInfo, other: ModelInfo) -> ModelInfo:
    """Add the training cases of another model that shaped this one."""
    return replace(
        info,
        trained_on_synthetic=info.trained_on_synthetic or other.trained_on_synthetic,
        generators=_joined(info.generators, other.generators),
        origins=_joint_origins(info, other),
    )


def _joined(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of both, each once."""
    return tuple(dict.fromkeys((*first, *second)))


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
        arm.transfer.model_dump_json(exclude={"alignment"}),
        domain.split.fingerprint,
        domain.settings.model_dump_json(exclude={"cache_dir", "cache_gib"}),
        *(index.fingerprint for index in domain.more.values()),
        f"{teacher.fingerprint()} at {teacher.temperature}" if teacher else "no teacher",
        *_start_of(arm),
        *alignment_purpose(arm, context),
    ]
    return FitPlan(
        settings=arm.training,
        folder=context.run.training(arm.name),
        seed=context.seed_of(arm),
        device=context.device,
        title=arm.name,
        purpose=sha256_of_text("\n".join(purpose)),
        ranks=context.ranks,
    )


def _start_of(arm: Arm) -> tuple[str, ...]:
    """Return the weights from which a network starts; empty: its own first weights."""
    chosen = arm.initialise
    return (read_info(chosen.from_).weights_sha256, chosen.mismatched) if chosen else ()


def _describe(arm: Arm, domain: Domain, network: Network, scores: Scores) -> ModelInfo:
    """Describe a network as far as possible at the end of its training."""
    origins, streamed = domain.origins()["train"], domain.streamed
    return ModelInfo(
        settings=arm.model.stored() if arm.model else {},
        label_names=domain.index.label_names,
        outputs=arm.transfer.outputs,
        preprocessing=_preprocessing(domain, network),
        trained_on=domain.description,
        trained_on_synthetic=origins.synthetic or bool(streamed),
        generators=_joined(domain.generators if origins.synthetic else (), streamed),
        origins=origins,
        data_fingerprint=domain.index.fingerprint,
        training_fingerprint=domain.split.fingerprint,
        initialisation=network.initialisation,
        metrics={f"val_{name}": value for name, value in scores.items()},
    )


def _preprocessing(domain: Domain, network: Network) -> Preprocessing:
    """Return the preprocessing of a network; a point detector has views of any size."""
    found = domain.preprocessing
    if not network.finds_points:
        return found
    steps = tuple(step for step in found.steps if step["kind"] != "crop")
    return replace(found, steps=steps, patch_shape=None)
