"""Prepared scans: the voxels from which training, proposals and whole-scan detection start.

A scan is read once, its lungs are found, and it is reoriented and resampled by the loading steps.
The result is cached on disk as a memory-mapped array of HU, before the intensity window, so that
patches are the same with and without a cache. The key of an entry is a hash of the steps and of the
scan's files (path, size, modification time), so a changed file or step makes a new entry.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from medkd.data.cache_folder import CacheFolder
from medkd.data.cases import Case, OnProgress, file_states, process_cases, read_scan_of
from medkd.data.loading import (
    KEY,
    LoadingStep,
    OrientationStep,
    SpacingStep,
    apply_loading,
    build_loading,
    loading_as_dicts,
    scan_steps,
)
from medkd.data.monai_bridge import scan_grid, to_meta_tensor
from medkd.data.resample import Box, resample_volume, spaced_grid
from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.lungs import LungField, find_lungs
from medkd.provenance import sha256_of_text
from medkd.types import Scan, SliceFact

logger = logging.getLogger(__name__)

_LAYOUT = 4  # increase it when the entries change, so that older entries are not read
_OPEN_MAPPED = 128  # each holds a file handle
_OPEN_IN_MEMORY = 4


@dataclass(frozen=True, slots=True, eq=False)
class ScanFacts:
    """The name and the stored geometry of a scan; the same fields as in `Scan`."""

    seriesuid: str
    grid: VoxelGrid
    stored_grid: VoxelGrid | None = None
    slices: tuple[SliceFact, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class PreparedScan:
    """A scan on the grid from which patches are cropped.

    Args:
        facts: facts of the scan as it was read.
        voxels_hu: [1, I, J, K] HU on `grid`.
        grid: the grid after reorientation and resampling.
        lungs: the lung field; its `box` is in voxels of `grid`. None: not found.
        no_lungs: the reasons why no lungs were found.
    """

    facts: ScanFacts
    voxels_hu: Tensor
    grid: VoxelGrid
    lungs: LungField | None = None
    no_lungs: tuple[str, ...] = ()

    def as_scan(self) -> Scan:
        """Return the prepared voxels as a scan without copying them."""
        return Scan(self.facts.seriesuid, self.voxels_hu[0].numpy(), self.grid, patient_id="")

    def found_lungs(self) -> LungField:
        """Return the lung field.

        Raises:
            SeriesError: if the scan has none, with the reasons.
        """
        if self.lungs is None:
            raise SeriesError(f"{self.facts.seriesuid}: no lungs found", self.no_lungs)
        return self.lungs


def prepare_scan(scan: Scan, steps: tuple[LoadingStep, ...]) -> PreparedScan:
    """Find the lungs of a scan, and reorient and resample it.

    Args:
        scan: the scan as read, on any grid.
        steps: all loading steps of a configuration or model; crop and intensity steps are not
            applied here.
    """
    whole = _whole_scan_steps(steps)
    # The memory order of MONAI's own reader, on which the rounding of resampled HU depends.
    read = {KEY: to_meta_tensor(scan).contiguous()}
    image = apply_loading(build_loading(whole, pad=0.0), read)[KEY]
    facts = ScanFacts(scan.seriesuid, scan.grid, scan.stored_grid, scan.slices, scan.notes)
    prepared = PreparedScan(facts, image.as_tensor(), scan_grid(image))
    try:
        return replace(prepared, lungs=_on_grid(find_lungs(scan), scan.grid, prepared.grid))
    except SeriesError as error:
        return replace(prepared, no_lungs=error.reasons)


def prepare_lungs(
    scan: Scan, steps: tuple[LoadingStep, ...], *, margin_vox: tuple[int, int, int]
) -> PreparedScan:
    """Prepare only the box around the lungs, for a search.

    The voxels are those of `prepare_scan`, up to the rounding of single HU, for a fraction of its
    time and memory. They do not depend on the order in which the axes of the scan are stored if
    there is an orientation step.

    Args:
        scan: the scan as read, on any grid.
        steps: as for `prepare_scan`.
        margin_vox: voxels of the prepared grid kept around the box of the lungs along i, j, k.

    Returns:
        The box with its margin; if no lungs are found, no voxels and the reasons.
    """
    spacing = next((step for step in steps if isinstance(step, SpacingStep)), None)
    if spacing is not None and spacing.engine == "monai":
        return prepare_scan(scan, steps)
    facts = ScanFacts(scan.seriesuid, scan.grid, scan.stored_grid, scan.slices, scan.notes)
    oriented = _oriented(scan, steps)
    try:
        found = find_lungs(oriented)
    except SeriesError as error:
        nothing = torch.empty((1, 0, 0, 0), dtype=torch.int16)
        return PreparedScan(facts, nothing, oriented.grid, no_lungs=error.reasons)
    spacing_mm = oriented.grid.spacing_mm if spacing is None else spacing.spacing_mm
    fine = spaced_grid(oriented.grid, spacing_mm)
    lungs = _on_grid(found, oriented.grid, fine)
    i, j, k = (
        slice(max(part.start - margin, 0), min(part.stop + margin, size))
        for part, margin, size in zip(lungs.box, margin_vox, fine.shape, strict=True)
    )
    volume = torch.from_numpy(oriented.voxels_hu)[None]
    voxels = resample_volume(volume, oriented.grid, spacing_mm, (i, j, k))
    first = (i.start, j.start, k.start)
    grid = fine.cropped(first, (voxels.shape[1], voxels.shape[2], voxels.shape[3]))
    return PreparedScan(facts, voxels, grid, replace(lungs, box=_moved(lungs.box, first)))


def _moved(box: Box, first: tuple[int, int, int]) -> Box:
    i, j, k = (slice(p.start - n, p.stop - n) for p, n in zip(box, first, strict=True))
    return i, j, k


def _oriented(scan: Scan, steps: tuple[LoadingStep, ...]) -> Scan:
    """Return a scan with the axes of the orientation step; a copy only if one is flipped."""
    step = next((step for step in steps if isinstance(step, OrientationStep)), None)
    if step is None:
        return scan
    wanted = np.array([_AXES_LPS[letter] for letter in step.axcodes.upper()])
    cosines = wanted @ scan.grid.direction  # [wanted axis, present axis]
    axes = linear_sum_assignment(-np.abs(cosines))[1].tolist()
    flips = [bool(cosines[new, old] < 0) for new, old in enumerate(axes)]
    turned = scan.voxels_hu.transpose(axes)
    if any(flips):  # torch has no reversed views
        turned = np.flip(turned, tuple(np.flatnonzero(flips).tolist())).copy(order="K")
    grid = scan.grid.reordered((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))
    return replace(scan, voxels_hu=turned, grid=grid)


_AXES_LPS = {
    "L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1),
    "I": (0, 0, -1),
}  # fmt: skip


def _on_grid(lungs: LungField, grid: VoxelGrid, prepared: VoxelGrid) -> LungField:
    """Convert the box of the lungs from the grid of the scan to the prepared grid."""
    corners = np.array(list(product(*((part.start, part.stop - 1) for part in lungs.box))))
    at = prepared.world_to_voxel(grid.voxel_to_world(corners.astype(np.float64))).round(6)
    low = np.maximum(np.floor(at.min(axis=0)), 0).astype(int).tolist()
    high = np.minimum(np.ceil(at.max(axis=0)) + 1, prepared.shape).astype(int).tolist()
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    return replace(lungs, box=box)


def to_unit_range(hu: Tensor, window: tuple[float, float]) -> Tensor:
    """Scale an HU window to 0..1 and clip.

    Args:
        hu: any shape.
        window: HU that become 0 and 1.

    Returns:
        float32 of the same shape.
    """
    low, high = window
    return hu.to(torch.float32, copy=True).sub_(low).div_(high - low).clamp_(0, 1)


class PreparedScans:
    """Prepared scans by case, each read from its files once.

    Args:
        steps: all loading steps of a configuration or model.
        folder: folder of the cache; None: only the last few scans are kept in memory.
        limit_gib: size limit of the folder; the least recently used entries are removed.
    """

    def __init__(
        self, steps: tuple[LoadingStep, ...], folder: Path | None, *, limit_gib: float = 100.0
    ) -> None:
        self.steps = steps
        self.cache = None if folder is None else CacheFolder(folder, limit_gib=limit_gib)
        self._open: OrderedDict[Case, PreparedScan] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Do not copy open scans to worker processes."""
        return {**self.__dict__, "_open": OrderedDict()}

    def prepare(self, cases: Iterable[Case], progress: OnProgress | None = None) -> None:
        """Write the missing entries, so that broken scans are refused before training.

        Args:
            cases: the scans; nothing is done without a folder.
            progress: called with (scans done, total).

        Raises:
            SeriesError: lists every scan that cannot be read.
        """
        wanted = list(dict.fromkeys(cases)) if self.cache is not None else []
        headline = "scans that cannot be prepared"
        process_cases(self._entry, wanted, headline=headline, progress=progress)

    def load(self, case: Case) -> PreparedScan:
        """Return a prepared scan; thread-safe. Unlike `get`, it does not keep the scan open.

        Raises:
            SeriesError: if it cannot be read.
        """
        if self.cache is not None:
            # Another thread or process may remove the entry before it is read: the size limit.
            with contextlib.suppress(FileNotFoundError):
                return _read_entry(self._entry(case))
        return prepare_scan(read_scan_of(case), self.steps)

    def get(self, case: Case) -> PreparedScan:
        """Return a prepared scan, which is kept open for the next requests.

        Raises:
            SeriesError: if it cannot be read.
        """
        if case in self._open:
            self._open.move_to_end(case)
            return self._open[case]
        self._open[case] = self.load(case)
        most = _OPEN_IN_MEMORY if self.cache is None else _OPEN_MAPPED
        while len(self._open) > most:
            self._open.popitem(last=False)
        return self._open[case]

    def key(self, case: Case) -> str:
        """Return the name of the entry of a scan: a hash of its files and the steps."""
        steps = loading_as_dicts(_whole_scan_steps(self.steps))
        return sha256_of_text(json.dumps([_LAYOUT, file_states(case), steps]))[:32]

    def _entry(self, case: Case) -> Path:
        """Return the folder of the prepared scan; create it if it is missing."""
        if self.cache is None:
            raise ValueError("without a folder there are no entries")

        def write(entry: Path) -> None:
            logger.info("preparing %s", case.case_id)
            _write_entry(entry, prepare_scan(read_scan_of(case), self.steps))

        return self.cache.entry(self.key(case), write)


def _whole_scan_steps(steps: tuple[LoadingStep, ...]) -> tuple[LoadingStep, ...]:
    """Return the steps without intensity, which is applied after the crop: the two commute."""
    return tuple(step for step in scan_steps(steps) if step.kind in ("orientation", "spacing"))


def _write_entry(entry: Path, prepared: PreparedScan) -> None:
    facts, lungs = prepared.facts, prepared.lungs
    values = {
        "grid": _grid_values(prepared.grid),
        "seriesuid": facts.seriesuid,
        "scan_grid": _grid_values(facts.grid),
        "stored_grid": None if facts.stored_grid is None else _grid_values(facts.stored_grid),
        "slices": [asdict(fact) for fact in facts.slices],
        "notes": facts.notes,
        "no_lungs": prepared.no_lungs,
        "lungs": None
        if lungs is None
        else {
            "box": [(part.start, part.stop) for part in lungs.box],
            "grid": _grid_values(lungs.grid),
            "right_litres": lungs.right_litres,
            "left_litres": lungs.left_litres,
        },
    }
    np.save(entry / "voxels_hu.npy", prepared.voxels_hu[0].numpy(), allow_pickle=False)
    if lungs is not None:
        np.save(entry / "lungs.npy", lungs.sides, allow_pickle=False)
    (entry / "scan.json").write_text(json.dumps(values), encoding="utf-8")


def _read_entry(entry: Path) -> PreparedScan:
    # Copy-on-write, because torch requires writable memory; nothing is ever written to it.
    voxels = np.load(entry / "voxels_hu.npy", mmap_mode="c", allow_pickle=False)
    values = json.loads((entry / "scan.json").read_text(encoding="utf-8"))
    stored = values["stored_grid"]
    facts = ScanFacts(
        seriesuid=values["seriesuid"],
        grid=_grid_of(values["scan_grid"]),
        stored_grid=None if stored is None else _grid_of(stored),
        slices=tuple(SliceFact(**fact) for fact in values["slices"]),
        notes=tuple(values["notes"]),
    )
    lungs = None
    if (known := values["lungs"]) is not None:
        i, j, k = (slice(*ends) for ends in known["box"])
        lungs = LungField(
            box=(i, j, k),
            sides=np.load(entry / "lungs.npy", allow_pickle=False),
            grid=_grid_of(known["grid"]),
            right_litres=known["right_litres"],
            left_litres=known["left_litres"],
        )
    grid = _grid_of(values["grid"])
    return PreparedScan(
        facts, torch.from_numpy(voxels)[None], grid, lungs, tuple(values["no_lungs"])
    )


def _grid_values(grid: VoxelGrid) -> dict[str, Any]:
    return {"shape": grid.shape, "affine_lps_mm": grid.affine_lps_mm.tolist()}


def _grid_of(values: dict[str, Any]) -> VoxelGrid:
    i, j, k = values["shape"]
    return VoxelGrid((i, j, k), np.asarray(values["affine_lps_mm"]))
