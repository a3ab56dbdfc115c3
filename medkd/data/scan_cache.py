"""Prepared scans: read, turned and resampled once, then kept as memory-mapped arrays.

What is kept is HU on the wanted grid, before intensities: int16 as the slab engine gives it, so
that a patch is the same with and without a cache. The key is a hash of the scan's files (path,
size, time of change) and of the steps, so a changed file or step makes a new entry; entries are
written whole or not at all and hold no patient's data beyond the voxels.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medkd.data.cases import Case, file_states, read_scan_of
from medkd.data.loading import (
    KEY,
    LoadingStep,
    apply_loading,
    build_loading,
    loading_as_dicts,
    prepare_scan,
    scan_steps,
)
from medkd.data.monai_bridge import scan_grid
from medkd.files import replacing
from medkd.geometry import VoxelGrid
from medkd.provenance import sha256_of_text

logger = logging.getLogger(__name__)

_LAYOUT = 1  # raised when what is kept changes, so that older entries are not read
_OPEN_MAPPED = 128  # each holds a file handle
_OPEN_IN_MEMORY = 4


@dataclass(frozen=True, slots=True, eq=False)
class PreparedScan:
    """A scan on the grid that patches are cut from: voxels_hu [1, I, J, K]."""

    voxels_hu: Tensor
    grid: VoxelGrid


class ScanCache:
    """Scans after the steps that depend on the scan alone.

    Args:
        steps: all loading steps of a configuration.
        folder: where prepared scans are kept; None keeps the last few in memory only.
    """

    def __init__(self, steps: tuple[LoadingStep, ...], folder: Path | None) -> None:
        # Cropping and scaling commute, so intensities wait until after the crop.
        self._steps = tuple(step for step in scan_steps(steps) if step.kind != "intensity")
        self._folder = folder
        self._open: OrderedDict[Case, PreparedScan] = OrderedDict()
        self._transform: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave open scans behind when a worker process takes a copy."""
        return {**self.__dict__, "_open": OrderedDict(), "_transform": None}

    def prepare(
        self, cases: Iterable[Case], progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Make the entries that are missing, so that broken scans are refused before training.

        Args:
            cases: scans that will be asked for; nothing is done without a folder.
            progress: called with (scans done, scans in all).

        Raises:
            SeriesError: if a scan cannot be read.
        """
        wanted = list(dict.fromkeys(cases)) if self._folder is not None else []
        for done, case in enumerate(wanted, start=1):
            self._entry(case)
            if progress is not None:
                progress(done, len(wanted))

    def scan(self, case: Case) -> PreparedScan:
        """Return a prepared scan; asking for neighbours in turn is cheapest."""
        if case in self._open:
            self._open.move_to_end(case)
            return self._open[case]
        if self._folder is None:
            prepared, most = self._prepared(case), _OPEN_IN_MEMORY
        else:
            prepared, most = _read_entry(self._entry(case)), _OPEN_MAPPED
        self._open[case] = prepared
        while len(self._open) > most:
            self._open.popitem(last=False)
        return prepared

    def _entry(self, case: Case) -> Path:
        """Return the folder that holds the prepared scan, made if it is missing."""
        if self._folder is None:
            raise ValueError("a cache without a folder has no entries")
        words = [_LAYOUT, file_states(case), loading_as_dicts(self._steps)]
        entry = self._folder / sha256_of_text(json.dumps(words))[:32]
        if not entry.is_dir():
            logger.info("preparing %s", case.case_id)
            _write_entry(entry, self._prepared(case))
        return entry

    def _prepared(self, case: Case) -> PreparedScan:
        if case.archived:
            image = prepare_scan(read_scan_of(case), self._steps)
        else:
            if self._transform is None:
                self._transform = build_loading(self._steps, pad=0.0)
            image = apply_loading(self._transform, {KEY: case.path})[KEY]
        return PreparedScan(image.as_tensor(), scan_grid(image))


def _write_entry(entry: Path, prepared: PreparedScan) -> None:
    with replacing(entry) as folder:
        folder.mkdir(parents=True)
        np.save(folder / "voxels_hu.npy", prepared.voxels_hu[0].numpy(), allow_pickle=False)
        affine = prepared.grid.affine_lps_mm.tolist()
        (folder / "grid.json").write_text(json.dumps({"affine_lps_mm": affine}), encoding="utf-8")


def _read_entry(entry: Path) -> PreparedScan:
    # Copy-on-write: torch wants writable memory; nothing is ever written to it.
    voxels = np.load(entry / "voxels_hu.npy", mmap_mode="c", allow_pickle=False)
    affine = json.loads((entry / "grid.json").read_text(encoding="utf-8"))["affine_lps_mm"]
    i, j, k = voxels.shape
    return PreparedScan(torch.from_numpy(voxels)[None], VoxelGrid((i, j, k), np.asarray(affine)))
