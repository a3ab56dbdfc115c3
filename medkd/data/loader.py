"""Batches for training, epoch by epoch; every epoch is a pure function of (seed, epoch)."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import count

import numpy as np
import torch

from medkd.data.augment import Views
from medkd.data.fetch import fetch_ahead
from medkd.data.patches import PatchSource
from medkd.data.sampling import (
    UNLABELLED,
    WHOLE,
    Indices,
    Share,
    balanced_order,
    class_strata,
    view_numbers,
)
from medkd.types import PatchBatch


class TrainLoader:
    """Batches of a source with the number of each sample's view.

    All batches are full; a source smaller than one batch gives one batch of all its samples.
    Samples left over in one epoch occur in others.

    Args:
        source: the samples.
        batch_size: samples per batch.
        balanced: whether the classes occur in equal parts.
        seed: seed of the order.
        views: number of different views per sample; "live": unlimited.
        workers: processes that read batches ahead; 0: the main process reads them.
        labelled_share: share of labelled samples in a batch, 0..1; None: their natural share.

    `timeout_s` is the time after which a worker without a batch is considered hung.
    """

    timeout_s = 120.0

    def __init__(
        self,
        source: PatchSource,
        *,
        batch_size: int,
        balanced: bool,
        seed: int,
        views: Views = "live",
        workers: int = 0,
        labelled_share: float | None = None,
    ) -> None:
        if len(source) == 0:
            raise ValueError("expected a source with samples, got an empty one")
        self.source = source
        self.batch_size = min(batch_size, len(source))
        self.seed = seed
        self.views = views
        self.workers = workers
        self.labelled_share = labelled_share
        strata = class_strata(source.label, source.label_known)
        self._strata = strata if balanced else np.zeros_like(strata)
        if not balanced and labelled_share is not None:
            self._strata = np.where(strata == UNLABELLED, UNLABELLED, 0)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self.source) // self.batch_size

    @property
    def sampled_prior(self) -> tuple[float, ...]:
        """[K] share of positives of each label in training, 0..1; `source.prior` is the true one.

        The logits of the trained model are biased upwards by
        `logit(sampled_prior) - logit(prior)`.
        """
        known = self.source.label_known.numpy()
        positive = (self.source.label.numpy() >= 0.5) & known
        classes = [self._strata == stratum for stratum in set(self._strata) - {UNLABELLED}]
        shares = []
        for label in range(known.shape[1]):
            counted = sum(float(known[members, label].mean()) for members in classes)
            shown = sum(float(positive[members, label].mean()) for members in classes)
            shares.append(shown / counted if counted else 0.0)
        return tuple(shares)

    def epoch(self, number: int, share: Share = WHOLE) -> Iterator[PatchBatch]:
        """Yield the batches of an epoch.

        Args:
            number: from 0.
            share: the rows of each batch that are loaded.

        Raises:
            WorkerError: if a worker dies, hangs or fails.
        """
        order, numbers = (drawn[:, share.rows(self.batch_size)] for drawn in self._draws(number))
        read: Iterator[PatchBatch] = (
            fetch_ahead(self.source, order, workers=self.workers, timeout_s=self.timeout_s)
            if self.workers
            else (self.source.__getitems__(rows) for rows in order)
        )
        for batch, views in zip(read, numbers, strict=True):
            yield dataclasses.replace(
                batch, view_number=tuple(views.tolist()), whole_rows=self.batch_size
            )

    def _draws(self, epoch: int) -> tuple[Indices, Indices]:
        """Return the samples of an epoch and the numbers of their views, [steps, batch_size]."""
        length = len(self) * self.batch_size
        order = balanced_order(
            self._strata,
            seed=self.seed,
            epoch=epoch,
            length=length,
            labelled_share=self.labelled_share,
        )
        numbers = view_numbers(order, self._strata, epoch=epoch)
        if self.views != "live":
            numbers %= self.views
        return order.reshape(-1, self.batch_size), numbers.reshape(-1, self.batch_size)


class PairedLoader:
    """The batches of one domain, each with a batch of another domain as `PatchBatch.other`.

    The own batches are exactly those of the own loader. In each epoch the other loader begins anew
    in another order, and again if its samples are used up.

    Args:
        own: batches of the domain on which a network is trained.
        other: batches of the other domain, of the same size; their labels are hidden.

    Raises:
        ValueError: if the batches differ in size.
    """

    def __init__(self, own: TrainLoader, other: TrainLoader) -> None:
        if own.batch_size != other.batch_size:
            raise ValueError(
                f"expected batches of one size, got {own.batch_size} and {other.batch_size}"
            )
        self.own = own
        self.other = other

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self.own)

    def epoch(self, number: int, share: Share = WHOLE) -> Iterator[PatchBatch]:
        """Yield the batches of an epoch, numbered from 0, or a share of the rows of each.

        Raises:
            WorkerError: if a worker dies, hangs or fails.
        """
        with closing(self._others(number, share)) as others:
            for batch in self.own.epoch(number, share):
                yield dataclasses.replace(batch, other=next(others))

    def _others(self, epoch: int, share: Share) -> Generator[PatchBatch]:
        """Yield batches without end, from numbers of epochs that no other epoch uses."""
        rounds = -(-len(self.own) // len(self.other))
        for number in count(epoch * rounds):
            for batch in self.other.epoch(number, share):
                hidden = torch.zeros_like(batch.label_known)
                yield dataclasses.replace(batch, label_known=hidden)
