"""Batches for training, epoch by epoch, in an order that depends on (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medkd.data.fetch import fetch_ahead
from medkd.data.patches import PatchSource, prevalence
from medkd.data.sampling import (
    UNLABELLED,
    Indices,
    balanced_order,
    class_strata,
    shuffled_order,
)
from medkd.types import PatchBatch


class TrainLoader:
    """Batches of a source: `epoch(n)` is the same whenever and however often it is asked for.

    All batches are full (a source smaller than one batch gives one of its own size): what an
    epoch leaves over comes in another one.

    Args:
        source: where samples come from.
        batch_size: samples a batch.
        balanced: whether classes come in equal parts.
        seed: of the order.
        workers: processes that fetch ahead; 0 fetches in this one.
        epoch_samples: samples an epoch; by default as many as the source has.

    `timeout_s` is how long a worker may take for one batch before it counts as hanging.
    """

    timeout_s = 120.0

    def __init__(
        self,
        source: PatchSource,
        *,
        batch_size: int,
        balanced: bool,
        seed: int,
        workers: int = 0,
        epoch_samples: int | None = None,
    ) -> None:
        if len(source) == 0:
            raise ValueError("expected a source with samples, got an empty one")
        self.source = source
        self.batch_size = min(batch_size, len(source))
        self.balanced = balanced
        self.seed = seed
        self.workers = workers
        wanted = epoch_samples or len(source)
        self._steps = max(1, wanted // self.batch_size)
        self._strata = class_strata(source.label, source.label_known)

    def __len__(self) -> int:
        """Return the batches an epoch."""
        return self._steps

    @property
    def sampled_prior(self) -> tuple[float, ...]:
        """[K] prevalence of each label that a model sees in training; `source.prior`: the true one.

        The logits of a model trained so are biased upwards by
        `logit(sampled_prior) - logit(prior)`.
        """
        classes = [c for c in np.unique(self._strata) if c != UNLABELLED]
        if not self.balanced or not classes:
            return prevalence(self.source.table)
        members = [self.source.table.select(np.flatnonzero(self._strata == c)) for c in classes]
        shares = np.array([prevalence(table) for table in members])
        return tuple(shares.mean(axis=0).tolist())

    def order(self, epoch: int) -> Indices:
        """Return the indices of an epoch, [steps, batch_size]."""
        length = self._steps * self.batch_size
        if self.balanced:
            order = balanced_order(self._strata, seed=self.seed, epoch=epoch, length=length)
        else:
            order = self._unbalanced(epoch, length)
        return order.reshape(self._steps, self.batch_size)

    def epoch(self, number: int) -> Iterator[PatchBatch]:
        """Give the batches of an epoch.

        Args:
            number: from 0.

        Raises:
            WorkerError: if a worker dies, hangs or fails.
        """
        batches = self.order(number)
        if self.workers == 0:
            return (self.source.__getitems__(rows) for rows in batches)
        return fetch_ahead(self.source, batches, workers=self.workers, timeout_s=self.timeout_s)

    def _unbalanced(self, epoch: int, length: int) -> Indices:
        rounds = -(-length // len(self.source))
        orders = [
            shuffled_order(len(self.source), seed=self.seed, epoch=epoch * rounds + part)
            for part in range(rounds)
        ]
        return np.concatenate(orders)[:length]


def build_train_loader(
    source: PatchSource,
    *,
    batch_size: int,
    balanced: bool,
    seed: int,
    workers: int = 0,
    epoch_samples: int | None = None,
) -> TrainLoader:
    """Build the batches of training; see `TrainLoader`."""
    return TrainLoader(
        source,
        batch_size=batch_size,
        balanced=balanced,
        seed=seed,
        workers=workers,
        epoch_samples=epoch_samples,
    )
