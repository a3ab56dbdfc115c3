"""In which order samples come: a pure function of (seed, epoch), balanced over classes if asked.

Nothing here keeps state, so epoch n is the same whether or not the epochs before it ran: that
is what makes resuming exact. Balancing changes the share of positives that a model sees; the
true share travels beside it (`PatchSource.prior`) so that probabilities can be put right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Indices = NDArray[np.int64]

UNLABELLED = -1
"""The stratum of samples none of whose labels is known."""


def derive_seed(seed: int, *words: str | int) -> int:
    """Return a seed of its own for one purpose, for example `derive_seed(seed, "view", epoch)`.

    Args:
        seed: the run's seed.
        words: what the new seed is for; other words give an unrelated seed.

    Returns:
        0 to 2**63 - 1, the same on every machine.
    """
    text = "\x1f".join(map(str, (seed, *words)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def class_strata(label: torch.Tensor, label_known: torch.Tensor) -> Indices:
    """Say for each sample which class it is balanced as.

    Args:
        label: [N, K] float, 0 or 1 (or between: soft labels count as 1 from .5).
        label_known: [N, K] bool.

    Returns:
        [N] int64: 0 for no positive label, 1 + k for the first positive label k, `UNLABELLED`
        where no label is known.
    """
    positive = ((label >= 0.5) & label_known).numpy()
    strata = np.where(positive.any(axis=1), 1 + positive.argmax(axis=1), 0)
    return np.where(label_known.numpy().any(axis=1), strata, UNLABELLED).astype(np.int64)


def shuffled_order(count: int, *, seed: int, epoch: int) -> Indices:
    """Return every sample once, in the order of an epoch.

    Args:
        count: samples.
        seed: the run's seed.
        epoch: from 0.
    """
    return _generator(seed, epoch).permutation(count)


def balanced_order(strata: Indices, *, seed: int, epoch: int, length: int) -> Indices:
    """Return an order in which every stretch holds the classes in equal parts.

    Unlabelled samples keep their natural share; the labelled rest is shared equally by its
    classes. A class that is asked for more often than it has samples repeats, but no sample
    comes a third time before every one of its class came twice, and so on.

    Args:
        strata: [N] class of each sample, as `class_strata` gives it.
        seed: the run's seed.
        epoch: from 0.
        length: samples in the epoch.

    Returns:
        [length] indices into the samples.

    Example:
        >>> import numpy as np
        >>> strata = np.array([0] * 98 + [1] * 2)
        >>> order = balanced_order(strata, seed=0, epoch=0, length=100)
        >>> int((strata[order] == 1).sum())
        50
    """
    random = _generator(seed, epoch)
    classes = np.unique(strata)
    slots = interleave(_quotas(strata, classes, length))
    order = np.empty(length, dtype=np.int64)
    for position, stratum in enumerate(classes):
        places = np.flatnonzero(slots == position)
        order[places] = _draw(np.flatnonzero(strata == stratum), len(places), random)
    return order


def interleave(counts: Sequence[int]) -> Indices:
    """Spread groups evenly over a sequence.

    Args:
        counts: how often each group comes.

    Returns:
        [sum of counts] group numbers; any stretch holds every group in its share, within one.

    Example:
        >>> interleave([2, 4]).tolist()
        [1, 0, 1, 1, 0, 1]
    """
    groups = np.repeat(np.arange(len(counts)), counts)
    places = np.concatenate([(np.arange(n) + 0.5) / n for n in counts if n] or [np.empty(0)])
    return groups[np.argsort(places, kind="stable")]


def _quotas(strata: Indices, classes: Indices, length: int) -> list[int]:
    """Share `length` out: unlabelled by their natural part, the classes of the rest equally."""
    unlabelled = int(np.count_nonzero(strata == UNLABELLED))
    labelled = length - round(length * unlabelled / len(strata))
    names = [int(c) for c in classes if c != UNLABELLED]
    parts = {c: labelled // len(names) + (i < labelled % len(names)) for i, c in enumerate(names)}
    return [parts.get(int(c), length - labelled) for c in classes]


def _draw(members: Indices, count: int, random: np.random.Generator) -> Indices:
    rounds = -(-count // len(members))
    passes = [random.permutation(members) for _ in range(rounds)]
    return np.concatenate(passes)[:count] if passes else members[:0]


def _generator(seed: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, "order", epoch))
