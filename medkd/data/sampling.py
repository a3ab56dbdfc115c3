"""The order of samples in an epoch, and the view number of each sample.

Both are pure functions of (seed, epoch), so a resumed training has the same epochs. Balancing the
classes changes the prevalence that a model sees. `PatchSource.prior` keeps the true prevalence, by
which probabilities are corrected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Indices = NDArray[np.int64]

UNLABELLED = -1
"""The stratum of samples without a known label."""


@dataclass(frozen=True, slots=True)
class Share:
    """The rows of every batch that one of several processes loads: number `rank` of `ranks`.

    Example:
        >>> [Share(rank, 3).rows(8) for rank in range(3)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
    """

    rank: int = 0
    ranks: int = 1

    def rows(self, total: int) -> slice:
        """Return the rows of this process, consecutive and as many as of the others, within one.

        A batch with fewer rows than processes is not divided: every process has all of it.
        """
        if total < self.ranks:
            return slice(0, total)
        return slice(total * self.rank // self.ranks, total * (self.rank + 1) // self.ranks)


WHOLE = Share()
"""All rows of every batch."""


def derive_seed(seed: int, *words: str | int) -> int:
    """Return a separate seed for one purpose, for example `derive_seed(seed, "order", epoch)`.

    Args:
        seed: the run's seed.
        words: the purpose; other words give an unrelated seed.

    Returns:
        0 to 2**63 - 1, the same on every machine.
    """
    text = "\x1f".join(map(str, (seed, *words)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def class_strata(label: torch.Tensor, label_known: torch.Tensor) -> Indices:
    """Assign each sample to the class by which it is balanced.

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


def balanced_order(
    strata: Indices, *, seed: int, epoch: int, length: int, labelled_share: float | None = None
) -> Indices:
    """Return a random order in which the classes are evenly mixed in equal parts.

    Unlabelled samples get what `labelled_share` leaves, or their natural share; the rest is divided
    equally among the classes.
    Samples of a class that is too small are repeated. No sample is repeated again before all
    samples of its class occur equally often.

    Args:
        strata: [N] class of each sample, from `class_strata`; all equal: a plain shuffle.
        seed: the run's seed.
        epoch: from 0.
        length: samples in the epoch.
        labelled_share: share of labelled samples, 0..1; None: their natural share. It counts only
            where there are both kinds.

    Returns:
        [length] indices into the samples.

    Example:
        >>> import numpy as np
        >>> strata = np.array([0] * 98 + [1] * 2)
        >>> order = balanced_order(strata, seed=0, epoch=0, length=100)
        >>> int((strata[order] == 1).sum())
        50
    """
    random = np.random.default_rng(derive_seed(seed, "order", epoch))
    classes = np.unique(strata)
    slots = interleave(_quotas(strata, classes, length, labelled_share))
    order = np.empty(length, dtype=np.int64)
    for position, stratum in enumerate(classes):
        places = np.flatnonzero(slots == position)
        order[places] = draw_evenly(np.flatnonzero(strata == stratum), len(places), random)
    return order


def view_numbers(order: Indices, strata: Indices, *, epoch: int) -> Indices:
    """Number the views of an epoch's samples, so that no sample gets the same number twice.

    A sample that occurs at most R times in an epoch gets the numbers epoch * R to
    epoch * R + R - 1; R is the same for all samples of a class.

    Args:
        order: [length] indices into the samples, from `balanced_order`.
        strata: [N] class of each sample.
        epoch: from 0.

    Returns:
        [length] numbers k >= 0.

    Example:
        >>> view_numbers(np.array([2, 0, 2, 1, 2]), np.array([0, 0, 1]), epoch=4).tolist()
        [12, 4, 13, 4, 14]
    """
    by_sample = np.argsort(order, kind="stable")
    grouped = order[by_sample]
    repeat = np.empty_like(order)
    repeat[by_sample] = np.arange(len(order)) - np.searchsorted(grouped, grouped)
    _, stratum = np.unique(strata, return_inverse=True)
    most = np.zeros(stratum.max() + 1, dtype=np.int64)
    np.maximum.at(most, stratum[order], repeat + 1)
    return epoch * most[stratum[order]] + repeat


def interleave(counts: Sequence[int]) -> Indices:
    """Spread groups evenly over a sequence.

    Args:
        counts: how often each group occurs.

    Returns:
        [sum of counts] group numbers; any stretch holds every group in its share, within one.

    Example:
        >>> interleave([2, 4]).tolist()
        [1, 0, 1, 1, 0, 1]
    """
    groups = np.repeat(np.arange(len(counts)), counts)
    places = np.concatenate([(np.arange(n) + 0.5) / n for n in counts if n] or [np.empty(0)])
    return groups[np.argsort(places, kind="stable")]


def draw_evenly(members: Indices, count: int, random: np.random.Generator) -> Indices:
    """Draw members in random order; none is repeated before all of them occur equally often.

    Args:
        members: [N]; they may be none if `count` is 0.
        count: how many are drawn.
        random: source of the order.

    Returns:
        [count] members.
    """
    rounds = -(-count // max(len(members), 1))
    passes = [random.permutation(members) for _ in range(rounds)]
    return np.concatenate([members[:0], *passes])[:count]


def _quotas(strata: Indices, classes: Indices, length: int, share: float | None) -> list[int]:
    """Divide `length` between labelled samples, equally by class, and unlabelled ones."""
    unlabelled = int(np.count_nonzero(strata == UNLABELLED))
    pool = unlabelled / len(strata)
    if share is not None and 0 < pool < 1:
        pool = 1 - share
    labelled = length - round(length * pool)
    names = [int(c) for c in classes if c != UNLABELLED]
    parts = {c: labelled // len(names) + (i < labelled % len(names)) for i, c in enumerate(names)}
    return [parts.get(int(c), length - labelled) for c in classes]
