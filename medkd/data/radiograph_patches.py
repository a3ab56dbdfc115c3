"""Radiographs of an archive as samples: each is read and resized once.

The pixels are cached as one memory-mapped array of 8 bits per pixel, the depth of displays and of
the public data sets. If the process is killed, the next one fills only the missing images.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own customary name
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from medkd.data.cache_folder import CacheFolder
from medkd.data.cases import Case, OnProgress, process_cases
from medkd.data.patches import PatchSource, SampleTable
from medkd.index.case_store import open_image
from medkd.provenance import sha256_of_text
from medkd.types import Radiograph

_LAYOUT = 1  # increase it when the cached data change, so that older arrays are not read

Uint8 = NDArray[np.uint8]


class _Store(NamedTuple):
    """Pixels [N, 1, rows, columns], and whether each of the N images is filled."""

    pixels: Uint8
    done: NDArray[np.bool_]


class RadiographPatches(PatchSource):
    """Whole radiographs, resized by area without keeping the aspect ratio.

    Args:
        table: names and labels of the samples.
        cases: the images, in the order of the table.
        size_px: rows, columns.
        cache: folder of the cached pixels; None: they are kept in memory.
    """

    def __init__(
        self,
        table: SampleTable,
        *,
        cases: Sequence[Case],
        size_px: tuple[int, int],
        cache: CacheFolder | None,
    ) -> None:
        super().__init__(table, image_shape=(1, *size_px))
        self._cases = tuple(cases)
        self._size_px = size_px
        self._cache = cache
        self._pixels: Uint8 | None = None

    def prepare(self, progress: OnProgress | None = None) -> None:
        """Read all radiographs that are not cached yet, so that broken ones are refused early.

        Args:
            progress: called with (images done, total).

        Raises:
            SeriesError: lists every image that cannot be read.
        """
        store = self._opened()
        rows = {self._cases[row].case_id: row for row in np.flatnonzero(~store.done).tolist()}
        before = len(self._cases) - len(rows)

        def fill(case: Case) -> None:
            row = rows[case.case_id]
            radiograph = open_image(case.path, case.case_id)
            store.pixels[row, 0] = resize_radiograph(radiograph, self._size_px)
            store.done[row] = True

        def report(done: int, _total: int) -> None:
            if progress is not None:
                progress(before + done, len(self._cases))

        waiting = [self._cases[row] for row in rows.values()]
        process_cases(fill, waiting, headline="radiographs that cannot be read", progress=report)
        self._pixels = store.pixels

    def images(self, rows: Tensor) -> Tensor:
        """Return [B, 1, rows, columns] float32: stored values over 255."""
        if self._pixels is None:
            self.prepare()
        if self._pixels is None:
            raise ValueError("expected pixels after `prepare`")
        picked = np.asarray(self._pixels[rows.numpy()])
        return torch.from_numpy(np.divide(picked, np.float32(255), dtype=np.float32))

    def _opened(self) -> _Store:
        """Return the arrays; create them if they are missing."""
        shape = (len(self._cases), *self.image_shape)
        if self._cache is None or not self._cases:
            empty = np.zeros(len(self._cases), dtype=np.bool_)
            return _Store(np.zeros(shape, dtype=np.uint8), empty)
        names = [(case.case_id, case.content) for case in self._cases]
        key = sha256_of_text(json.dumps([_LAYOUT, self._size_px, names]))[:32]

        def reserve(made: Path) -> None:
            _reserve(made / "pixels.npy", np.uint8, shape)
            _reserve(made / "done.npy", np.bool_, shape[:1])

        entry = self._cache.entry(f"images-{key}", reserve)
        names_of = ("pixels", "done")
        return _Store(*(np.load(entry / f"{name}.npy", mmap_mode="r+") for name in names_of))


def _reserve(path: Path, kind: type[np.uint8] | type[np.bool_], shape: tuple[int, ...]) -> None:
    """Create an array of zeros whose disk space is reserved.

    Otherwise a disk that fills up later would end the process by SIGBUS during a write.
    """
    open_memmap(path, mode="w+", dtype=kind, shape=shape).flush()
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)


def resize_radiograph(radiograph: Radiograph, size_px: tuple[int, int]) -> Uint8:
    """Return the network input [rows, columns] of a radiograph: 8 bits, resized by area."""
    view = torch.from_numpy(np.ascontiguousarray(radiograph.pixels))[None, None]
    small = F.interpolate(view, size=list(size_px), mode="area")[0, 0]
    return np.asarray(small.mul(255).round().clamp(0, 255).to(torch.uint8).numpy())
