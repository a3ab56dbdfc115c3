"""The sources of training samples: the base class `PatchSource`, and images held in memory.

A source returns whole batches. Images are float32 in 0..1, [B, C, I, J] (row = I, column = J) or
[B, C, I, J, K]. Labels are available without reading pixels. Batches are augmented later
(`augment.py`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from medkd.data.cases import OnProgress
from medkd.types import PatchBatch, Point


@dataclass(frozen=True, slots=True, eq=False)
class SampleTable:
    """The names, labels and positions of N samples, without their pixels.

    Args:
        sample_id: [N] names, unique and the same in every run.
        patient_id: [N] pseudonyms, for bootstrap and splits.
        seriesuid: [N] the scan or image of each sample.
        center_mm: [N] LPS mm of the candidates, or None for whole images.
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
        """Return the samples `rows`, in this order."""
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
    """Labelled samples whose pixels are read batch by batch.

    The columns of the table are attributes of the source.

    Args:
        table: names, labels and positions of the samples.
        image_shape: (C, I, J) or (C, I, J, K) of one sample.
        prior: [K] true prevalence of each label, 0..1, if samples were left out of the table;
            None: the prevalence in the table.
    """

    def __init__(
        self,
        table: SampleTable,
        *,
        image_shape: tuple[int, ...],
        prior: tuple[float, ...] | None = None,
    ) -> None:
        self.sample_id, self.patient_id = table.sample_id, table.patient_id
        self.seriesuid, self.center_mm = table.seriesuid, table.center_mm
        self.label, self.label_known = table.label, table.label_known
        self.image_shape = image_shape
        self.prior = prevalence(table) if prior is None else prior

    def __len__(self) -> int:
        return len(self.sample_id)

    def prepare(self, progress: OnProgress | None = None) -> None:
        """Read and cache all cases, so that faults are found before training.

        Args:
            progress: called with (cases done, total).

        Raises:
            SeriesError: if a case cannot be read.
        """
        del progress  # images in memory need no preparation

    @abstractmethod
    def images(self, rows: Tensor) -> Tensor:
        """Return samples as float32 in 0..1.

        Args:
            rows: [B] int64 indices.

        Returns:
            [B, *image_shape], a new tensor.
        """

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> PatchBatch:
        """Return a batch; torch's `DataLoader` calls this method too."""
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
    """Whole images in memory, as stored (uint8) or resized (float32).

    Args:
        table: names and labels of the samples.
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
        # numpy, not torch: for so small a batch, synchronising torch's threads costs more.
        picked = self._pixels[rows.numpy()]
        if picked.dtype == np.uint8:
            picked = np.divide(picked, np.float32(255), dtype=np.float32)
        return torch.from_numpy(picked)


class SelectedPatches(PatchSource):
    """Some samples of another source.

    Args:
        source: the other source; it is not copied.
        rows: numbers of its samples, in the order of this source.
    """

    def __init__(self, source: PatchSource, rows: Sequence[int]) -> None:
        table = SampleTable(
            source.sample_id,
            source.patient_id,
            source.seriesuid,
            source.center_mm,
            source.label,
            source.label_known,
        )
        super().__init__(table.select(rows), image_shape=source.image_shape, prior=source.prior)
        self._source = source
        self._rows = torch.as_tensor(np.asarray(rows, dtype=np.int64))

    def prepare(self, progress: OnProgress | None = None) -> None:
        """Read and cache all cases of the other source."""
        self._source.prepare(progress)

    def images(self, rows: Tensor) -> Tensor:
        """Return samples [B, *image_shape] as float32 in 0..1."""
        return self._source.images(self._rows[rows])


def prevalence(table: SampleTable) -> tuple[float, ...]:
    """Return for each of K labels the share of positives among the known labels, 0..1."""
    positive = ((table.label >= 0.5) & table.label_known).sum(dim=0)
    return tuple((positive / table.label_known.sum(dim=0).clamp(min=1)).tolist())


def iterate(source: PatchSource, batch_size: int, *, first: int = 0) -> Iterator[PatchBatch]:
    """Yield every sample from number `first` on once, in order, for validation and test."""
    for start in range(first, len(source), batch_size):
        yield source.__getitems__(range(start, min(start + batch_size, len(source))))


def _picked(values: tuple[Any, ...], order: list[int]) -> tuple[Any, ...]:
    if len(order) < 2:  # itemgetter returns a tuple only for two or more items
        return tuple(values[i] for i in order)
    picked: tuple[Any, ...] = itemgetter(*order)(values)
    return picked
