"""What a training loop reads samples from: `PatchSource`, and images held in memory.

A source hands out a whole batch at once. Images are float32 in 0..1, [B, C, I, J] (row = I,
column = J) or [B, C, I, J, K]. Labels are known beforehand, so that sampling needs no pixels.
Views of a sample are made later, from its batch (`augment.py`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from medkd.types import PatchBatch, Point


@dataclass(frozen=True, slots=True, eq=False)
class SampleTable:
    """What is known of N samples without their pixels.

    Args:
        sample_id: names, unique and the same in every run.
        patient_id: pseudonyms, for bootstrap and splits.
        seriesuid: the scan or image that each sample is cut from.
        center_mm: LPS mm of each candidate, or None for whole images.
        label: [N, K] float32, 0 or 1.
        label_known: [N, K] bool.
    """

    sample_id: tuple[str, ...]
    patient_id: tuple[str, ...]
    seriesuid: tuple[str, ...]
    center_mm: tuple[Point, ...] | None
    label: Tensor
    label_known: Tensor

    def __len__(self) -> int:
        return len(self.sample_id)

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> SampleTable:
        """Return some samples, in the order of `rows`."""
        wanted = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        order = wanted.tolist()
        return SampleTable(
            sample_id=_picked(self.sample_id, order),
            patient_id=_picked(self.patient_id, order),
            seriesuid=_picked(self.seriesuid, order),
            center_mm=None if self.center_mm is None else _picked(self.center_mm, order),
            label=self.label[wanted],
            label_known=self.label_known[wanted],
        )


class PatchSource(Dataset[PatchBatch]):
    """Samples with labels, read a batch at a time.

    Args:
        table: what is known of the samples.
        image_shape: (C, I, J) or (C, I, J, K) of one sample.
        prior: [K] true prevalence of each label, 0..1, if samples were left out of the table;
            by default that of the table.
    """

    def __init__(
        self,
        table: SampleTable,
        *,
        image_shape: tuple[int, ...],
        prior: tuple[float, ...] | None = None,
    ) -> None:
        self.table = table
        self.image_shape = image_shape
        self.prior = prevalence(table) if prior is None else prior

    @property
    def sample_id(self) -> tuple[str, ...]:
        """[N] names of the samples."""
        return self.table.sample_id

    @property
    def patient_id(self) -> tuple[str, ...]:
        """[N] pseudonyms."""
        return self.table.patient_id

    @property
    def seriesuid(self) -> tuple[str, ...]:
        """[N] scan or image of each sample."""
        return self.table.seriesuid

    @property
    def center_mm(self) -> tuple[Point, ...] | None:
        """[N] LPS mm of the candidates, or None for whole images."""
        return self.table.center_mm

    @property
    def label(self) -> Tensor:
        """[N, K] float32."""
        return self.table.label

    @property
    def label_known(self) -> Tensor:
        """[N, K] bool."""
        return self.table.label_known

    def __len__(self) -> int:
        return len(self.table)

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Read once what would else be read again and again, so that faults show early.

        Args:
            progress: called with (cases done, cases in all).

        Raises:
            SeriesError: if a case cannot be read.
        """
        del progress  # what is in memory needs no preparing

    @abstractmethod
    def images(self, rows: Tensor) -> Tensor:
        """Return samples as float32 in 0..1.

        Args:
            rows: [B] int64 indices.

        Returns:
            [B, *image_shape], fresh memory.
        """

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> PatchBatch:
        """Return a whole batch at once (torch's `DataLoader` calls this too)."""
        rows = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        return PatchBatch(
            image=self.images(rows),
            label=self.label[rows],
            label_known=self.label_known[rows],
            sample_id=_picked(self.sample_id, rows.tolist()),
        )

    def __getitem__(self, index: int) -> PatchBatch:
        """Return a batch of one."""
        return self.__getitems__([index])


class ImagePatches(PatchSource):
    """Whole images, kept in memory as they were stored (uint8), or float32 if resized.

    Args:
        table: what is known of the samples.
        pixels: [N, C, I, J] or [N, C, I, J, K], uint8 or float32 in 0..1.

    Example:
        >>> import torch
        >>> known = torch.ones(2, 1, dtype=torch.bool)
        >>> ids = ("a", "b")
        >>> table = SampleTable(ids, ids, ids, None, torch.tensor([[0.0], [1.0]]), known)
        >>> source = ImagePatches(table, np.full((2, 1, 4, 4), 255, np.uint8))
        >>> source.__getitems__([1, 0, 1]).image.shape
        torch.Size([3, 1, 4, 4])
    """

    def __init__(self, table: SampleTable, pixels: NDArray[np.uint8] | NDArray[np.float32]) -> None:
        known = pixels.dtype in (np.dtype(np.uint8), np.dtype(np.float32))
        if not known or pixels.ndim not in (4, 5) or len(pixels) != len(table):
            raise ValueError(
                f"expected uint8 or float32 pixels [{len(table)}, C, I, J(, K)], got "
                f"{pixels.dtype} {pixels.shape}"
            )
        super().__init__(table, image_shape=tuple(pixels.shape[1:]))
        self._pixels = pixels

    def images(self, rows: Tensor) -> Tensor:
        """Return [B, *image_shape] float32: stored values over 255."""
        # numpy, not torch: a batch is too small for torch's threads to be worth their barriers.
        picked = self._pixels[rows.numpy()]
        if picked.dtype == np.uint8:
            picked = np.divide(picked, np.float32(255), dtype=np.float32)
        return torch.from_numpy(picked)


def prevalence(table: SampleTable) -> tuple[float, ...]:
    """Return for each of K labels the share of positives among the known, 0..1."""
    positive = ((table.label >= 0.5) & table.label_known).sum(dim=0)
    return tuple((positive / table.label_known.sum(dim=0).clamp(min=1)).tolist())


def iterate(source: PatchSource, batch_size: int, *, first: int = 0) -> Iterator[PatchBatch]:
    """Give every sample from the first on once, in order: for validation and test."""
    for start in range(first, len(source), batch_size):
        yield source.__getitems__(range(start, min(start + batch_size, len(source))))


def _picked(values: tuple[Any, ...], order: list[int]) -> tuple[Any, ...]:
    if len(order) < 2:  # itemgetter gives a tuple only from two on
        return tuple(values[i] for i in order)
    picked: tuple[Any, ...] = itemgetter(*order)(values)
    return picked
