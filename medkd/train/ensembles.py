"""Build a teacher from several arms and models: one scale for their logits, and their weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medkd.models.ensemble import Ensemble, EnsembleSettings
from medkd.models.network import Network
from medkd.models.package import LoadedModel, ModelInfo, calibrated_probability, load_model
from medkd.models.weights import load_weights
from medkd.runs import read_predictions
from medkd.train.answers import PLAIN, view_logits
from medkd.train.given import load_given
from medkd.train.plan import Arm, RunContext
from medkd.train.predict import calibrate, known, known_values, labels_of
from medkd.train.priors import prior_of

LEAST_SPREAD = 1e-6


@dataclass(frozen=True, slots=True)
class Member:
    """A model of an ensemble.

    `answers` [K] says which labels it has an output for. `arm` is its name if it is an arm of the
    run, whose predictions are calibrated there; otherwise it is empty.
    """

    name: str
    model: LoadedModel
    answers: tuple[bool, ...]
    arm: str = ""


def build_ensemble(arm: Arm, context: RunContext) -> tuple[Network, ModelInfo]:
    """Build the ensemble of an arm from its finished members.

    Each member's logits are moved to the mean and spread that the members have on average on the
    training samples, label by label, because networks of another training or prevalence have
    logits of another scale. Weights: see `likelihood_weights`. A member has no weight for a label
    that it does not answer.

    Args:
        arm: names its members: arms that are finished in the run, and models.
        context: the run.
    """
    members = list(_members(arm, context))
    infos = [member.model.info for member in members]
    settings = EnsembleSettings(
        members=tuple(info.settings for info in infos),
        label_count=len(context.target.index.label_names),
        by_confidence=arm.weights == "confidence",
        exclusive=arm.transfer.outputs == "exclusive",
    )
    network = Ensemble(settings)
    for own, member in zip(network.networks, members, strict=True):
        load_weights(own, member.model.network.state_dict(), name=member.name)
    network.eval()
    source = context.target.parts["train"]
    logits = [
        view_logits(member, context.asked(arm, source, views=PLAIN)).mean(dim=1)
        for member in network.networks
    ]
    answers = torch.tensor([member.answers for member in members])
    factor, offset = common_scale(logits, answers, exclusive=settings.exclusive)
    network.get_buffer("factor").copy_(factor)
    network.get_buffer("offset").copy_(offset)
    weights = answers / answers.sum(dim=0)
    if arm.weights == "validation":
        weights = _validation_weights(arm, members, context)
    network.get_buffer("weight").copy_(weights)
    return network, _describe(members, settings, context)


def _members(arm: Arm, context: RunContext) -> Iterator[Member]:
    labels = context.target.index.label_names
    for name in arm.members:
        yield Member(name, load_model(context.run.model(name)), (True,) * len(labels), name)
    for path in arm.joined:
        model = load_given(path, context, outputs=arm.transfer.outputs, member=True)
        model.network.cpu()
        used = model.network.used_outputs or range(len(labels))
        yield Member(path.name, model, tuple(number >= 0 for number in used))


def _describe(members: list[Member], settings: EnsembleSettings, context: RunContext) -> ModelInfo:
    infos = [member.model.info for member in members]
    names = ", ".join(member.name for member in members)
    return replace(
        infos[0],
        settings=settings.stored(),
        label_names=context.target.index.label_names,
        preprocessing=context.target.preprocessing,
        calibrated_on=None,
        trained_on="; ".join(dict.fromkeys(info.trained_on for info in infos)),
        trained_on_synthetic=any(info.trained_on_synthetic for info in infos),
        generators=tuple(dict.fromkeys(name for info in infos for name in info.generators)),
        licence="; ".join(dict.fromkeys(info.licence for info in infos)),
        initialisation=f"mean of {names}",
        origin=f"ensemble by medkd of {names}",
        metrics={},
    )


def common_scale(
    logits: list[Tensor], answers: Tensor | None = None, *, exclusive: bool = False
) -> tuple[Tensor, Tensor]:
    """Return factor and offset [M, K] that give all members the same mean and spread.

    The softmax of exclusive classes depends on the differences of their logits only. Their means
    are therefore those of z_k - mean_j z_j, and a member has one spread, the root mean square of
    those of its classes: a factor for each class would change which class is the most probable.

    Args:
        logits: of each member, [N, K], for the same samples.
        answers: [M, K] whether a member has an output for a label; None: all have.
        exclusive: the K labels are classes of one softmax, which all members answer.

    Example:
        >>> logits = torch.tensor([[0.0], [2.0]])
        >>> factor, offset = common_scale([logits, 3 * logits + 1])
        >>> [round(value, 3) for value in (factor.flatten() / factor.min()).tolist()]
        [3.0, 1.0]
    """
    if exclusive:
        logits = [one - one.mean(dim=1, keepdim=True) for one in logits]
    means = torch.stack([one.mean(dim=0) for one in logits])
    spreads = torch.stack([one.std(dim=0) for one in logits])
    if exclusive:
        spreads = spreads.square().mean(dim=1, keepdim=True).sqrt().expand_as(spreads)
    spreads = spreads.clamp(min=LEAST_SPREAD)
    counted = torch.ones_like(means) if answers is None else answers.to(means.dtype)
    wanted_mean, wanted_spread = (
        (values * counted).sum(dim=0) / counted.sum(dim=0) for values in (means, spreads)
    )
    factor = wanted_spread / spreads
    return factor, wanted_mean - factor * means


def likelihood_weights(log_likelihood: list[float]) -> list[float]:
    """Return weights in proportion to the likelihoods of members: with few labels nearly equal.

    Pseudo-BMA, Yao et al. 2018 ("Using stacking to average Bayesian predictive distributions"),
    section 2.2, with the likelihood of held-out labels.

    Args:
        log_likelihood: sum over the held-out labels of the logarithm of their probabilities.

    Example:
        >>> [round(weight, 2) for weight in likelihood_weights([-3.0, -3.0, -300.0])]
        [0.5, 0.5, 0.0]
    """
    values = np.exp(np.array(log_likelihood) - max(log_likelihood))
    return [float(weight) for weight in values / values.sum()]


def _validation_weights(arm: Arm, members: list[Member], context: RunContext) -> Tensor:
    """Return weights [M, K] by the calibrated probabilities of the validation labels."""
    found = [_likelihoods(arm, member, context) for member in members]
    return torch.tensor([likelihood_weights(list(one)) for one in zip(*found, strict=True)]).T


def _likelihoods(arm: Arm, member: Member, context: RunContext) -> list[float]:
    """Return [K] log likelihoods of the validation labels; -inf where it has no output.

    Exclusive classes have one likelihood, that of the right classes.
    """
    if member.arm:
        rows = read_predictions(context.run.predictions(member.arm, "val"))
        values = [known_values(rows, number) for number in range(len(member.answers))]
        pairs = [(np.array(one.probabilities), np.array(one.labels)) for one in values]
    else:
        pairs = _calibrated(arm, member, context)
    if arm.transfer.outputs == "exclusive":
        right = [np.log(np.clip(share[labels == 1], 1e-6, 1.0)).sum() for share, labels in pairs]
        return [float(np.sum(right))] * len(pairs)
    return [
        _log_likelihood(share, labels) if answers else -np.inf
        for (share, labels), answers in zip(pairs, member.answers, strict=True)
    ]


def _calibrated(
    arm: Arm, member: Member, context: RunContext
) -> list[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Calibrate a given model on validation, as a teacher that is an arm; see `_likelihoods`."""
    source, info = context.target.parts["val"], member.model.info
    asked = context.asked(arm, source, views=PLAIN)
    logits = view_logits(member.model.network, asked).mean(dim=1).double()
    labels = labels_of(source)
    prior = prior_of(info, true=context.target.parts["train"].prior)
    found = calibrate(logits.numpy(), labels, prior=prior, settings=arm.training)
    shares = calibrated_probability(logits, replace(info, calibration=found)).numpy()
    return [known(share, label) for share, label in zip(shares.T, labels.T, strict=True)]


def _log_likelihood(share: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    inside = np.clip(share, 1e-6, 1 - 1e-6)
    return float(np.log(np.where(labels == 1, inside, 1 - inside)).sum())
