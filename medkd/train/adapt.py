"""Adapt the finished network of a teacher to the target domain, without its labels.

It is done after the training and before the calibration, on training samples of the target without
augmentation. `medkd/models/adapt.py` holds the two ways. A student needs none: it is trained on the
target itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from medkd.data.patches import PatchSource
from medkd.data.sampling import derive_seed
from medkd.models.adapt import (
    adapt_batch_norm,
    adapt_embedding,
    batch_norms,
    measure_embedding,
    no_batch_norm,
    no_linear_head,
)
from medkd.models.network import Network
from medkd.models.package import read_info
from medkd.models.table import build_architecture, parse_model_settings
from medkd.train.alignment import with_unlabelled
from medkd.train.networks import ArmNetwork
from medkd.train.plan import Arm, RunContext

MOST_SAMPLES = 20_000
"""Most samples of a domain from which statistics are estimated."""

WORDS = {
    "batch_norm": "statistics of batch norm from training samples",
    "embedding": "mean and SD of the embedding adapted to training samples",
}


def adapt_to_target(found: ArmNetwork, arm: Arm, context: RunContext) -> ArmNetwork:
    """Adapt a network to the target domain, if its arm asks for it.

    Args:
        found: a trained or loaded network; it is changed in place.
        arm: its arm.
        context: the run.
    """
    if arm.adapt is None:
        return found
    network = found.network.to(context.device)
    seed, batch_size = context.seed_of(arm), arm.training.batch_size

    def views(source: PatchSource) -> Iterator[Tensor]:
        return shuffled_views(source, batch_size, seed=seed, device=context.device)

    target = context.target.parts["train"]
    if arm.adapt == "batch_norm":
        adapt_batch_norm(network, views(target))
    else:
        adapt_embedding(
            network,
            source=measure_embedding(network, views(context.source.parts["train"])),
            target=measure_embedding(network, views(target)),
        )
    info = with_unlabelled(found.info, context.target, WORDS[arm.adapt])
    return replace(found, info=info)


def check_adaptation(arm: Arm, context: RunContext) -> tuple[str, ...]:
    """Return why the network of an arm cannot be adapted to the target; empty if it can."""
    if arm.adapt is None:
        return ()
    settings = arm.model or parse_model_settings(read_info(str(arm.taken_from)).settings)
    network = build_architecture(settings)
    reasons = [why] if (why := _unfit(network, arm.adapt)) else []
    domains = (context.target, *([context.source] if arm.adapt == "embedding" else []))
    reasons += [
        f"adapt: {domain.index.name} has {len(domain.parts['train'])} training samples, expected "
        "at least 2"
        for domain in domains
        if len(domain.parts["train"]) < 2
    ]
    return tuple(f"{arm.name}: {reason}" for reason in reasons)


def _unfit(network: Network, adapt: str) -> str:
    if network.finds_points:
        return f"adapt: {adapt} is for classifiers, {type(network).__name__} is a point detector"
    if adapt == "embedding":
        return no_linear_head(network)
    return "" if batch_norms(network) else no_batch_norm(network)


def shuffled_views(
    source: PatchSource, batch_size: int, *, seed: int, device: str
) -> Iterator[Tensor]:
    """Yield samples in random order, each once, in batches of nearly equal size.

    Args:
        source: N samples, of which `MOST_SAMPLES` are used.
        batch_size: batches have at least this many samples if there are enough, and at least 2.
        seed: seed of the order.
        device: of the views.
    """
    random = np.random.default_rng(derive_seed(seed, "statistics"))
    rows = random.permutation(len(source))[:MOST_SAMPLES]
    for part in np.array_split(rows, max(1, len(rows) // max(2, batch_size))):
        yield source.__getitems__(part).image.to(torch.device(device))
