"""Build a teacher from several finished arms: one scale for their logits, and their weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from medkd.models.ensemble import Ensemble, EnsembleSettings
from medkd.models.network import Network
from medkd.models.package import ModelInfo, load_model, read_info
from medkd.models.weights import load_weights
from medkd.runs import read_predictions
from medkd.train.answers import PLAIN, view_logits
from medkd.train.plan import Arm, RunContext
from medkd.train.predict import known_values

LEAST_SPREAD = 1e-6


def build_ensemble(arm: Arm, context: RunContext) -> tuple[Network, ModelInfo]:
    """Build the ensemble of an arm from its finished members.

    Each member's logits are moved to the mean and spread that the members have on average on the
    training samples, label by label, because networks of another training or prevalence have
    logits of another scale. Weights: see `likelihood_weights`.

    Args:
        arm: names its members.
        context: the run, in which the members are finished.
    """
    infos = [read_info(context.run.model(name)) for name in arm.members]
    settings = EnsembleSettings(
        members=tuple(info.settings for info in infos),
        label_count=len(context.target.index.label_names),
        by_confidence=arm.weights == "confidence",
    )
    network = Ensemble(settings)
    for member, name in zip(network.networks, arm.members, strict=True):
        loaded = load_model(context.run.model(name))
        load_weights(member, loaded.network.state_dict(), name=name)
    network.eval()
    source = context.target.parts["train"]
    logits = [
        view_logits(member, context.asked(arm, source, views=PLAIN)).mean(dim=1)
        for member in network.networks
    ]
    factor, offset = common_scale(logits)
    network.get_buffer("factor").copy_(factor)
    network.get_buffer("offset").copy_(offset)
    if arm.weights == "validation":
        network.get_buffer("weight").copy_(_weights(arm, context))
    names = ", ".join(arm.members)
    info = replace(
        infos[0],
        settings=settings.stored(),
        initialisation=f"mean of {names}",
        origin=f"ensemble by medkd of {names}",
        metrics={},
    )
    return network, info


def common_scale(logits: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return factor and offset [M, K] that give all members the same mean and spread.

    Args:
        logits: of each member, [N, K], for the same samples.

    Example:
        >>> logits = torch.tensor([[0.0], [2.0]])
        >>> factor, offset = common_scale([logits, 3 * logits + 1])
        >>> [round(value, 3) for value in (factor.flatten() / factor.min()).tolist()]
        [3.0, 1.0]
    """
    means = torch.stack([one.mean(dim=0) for one in logits])
    spreads = torch.stack([one.std(dim=0) for one in logits]).clamp(min=LEAST_SPREAD)
    factor = spreads.mean(dim=0) / spreads
    return factor, means.mean(dim=0) - factor * means


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


def _weights(arm: Arm, context: RunContext) -> Tensor:
    """Return weights [M, K] by the validation labels; probabilities are those of calibration."""
    rows = [read_predictions(context.run.predictions(name, "val")) for name in arm.members]
    columns = []
    for number in range(len(context.target.index.label_names)):
        found = []
        for one in rows:
            values = known_values(one, number)
            share = np.clip(np.array(values.probabilities), 1e-6, 1 - 1e-6)
            positive = np.array(values.labels) == 1
            found.append(float(np.log(np.where(positive, share, 1 - share)).sum()))
        columns.append(likelihood_weights(found))
    return torch.tensor(columns).T
