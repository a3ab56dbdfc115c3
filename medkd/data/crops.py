"""Crops of scans with their findings, on which point detectors are trained.

A crop of `CropSettings.shape` voxels is cut around a nodule or a random place, at a random offset,
so that a nodule can be anywhere in it. Outside the scan, voxels and findings are mirrored: with a
constant filling, a network would learn the place of a nodule from the border of its patch.

Every epoch is a pure function of (seed, epoch): number n of an epoch is always the same crop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage
from torch import Tensor

from medkd.data.cases import Case, CaseIndex, OnProgress
from medkd.data.prepared import PreparedScan, PreparedScans, to_unit_range
from medkd.data.sampling import WHOLE, Share, derive_seed, draw_evenly, interleave
from medkd.settings import Settings
from medkd.types import ABSENT, EXCLUDED, NODULE, Nodule, PatchBatch, Point, Points

Shape = tuple[int, int, int]

_BEYOND_VOX = 8.0
"""Findings up to this distance outside a crop are kept."""
_BLURRED_SHARE = 0.3
_KEPT_VOLUMES = 64


class CropSettings(Settings):
    """Crops on which a point detector is trained."""

    per_epoch: int = Field(1600, ge=1, description="Crops per epoch.")
    nodule_share: float = Field(
        0.7, ge=0, le=1, description="Share of crops around a nodule; the others are anywhere."
    )
    margin_vox: int = Field(
        5, ge=0, description="Least distance of the chosen place from the border of its crop."
    )
    swap_axes: bool = Field(True, description="Permute the axes of crops at random.")
    blur_vox: float = Field(
        0.9,
        ge=0,
        description="Largest sigma of the Gaussian blur of .3 of the crops, drawn for each axis.",
    )


class Findings(NamedTuple):
    """Findings of one scan: [N, 3] centres in voxels, [N] diameters in mm, [N] kinds."""

    center_vox: NDArray[np.float64]
    diameter_mm: NDArray[np.float64]
    kind: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A scan from which crops are cut.

    Args:
        name: names its crops.
        voxels_hu: [I, J, K] HU, isotropic.
        findings: all nodules and excluded findings.
        interior: [M, 3] voxels around which random crops are cut; empty: anywhere.
        labelled: whether the findings are known.
    """

    name: str
    voxels_hu: Tensor
    findings: Findings
    interior: NDArray[np.float64]
    labelled: bool = True


class VolumeSet(Protocol):
    """Scans from which crops are cut."""

    def __len__(self) -> int:
        """Return the number of scans."""

    def nodules(self) -> Sequence[tuple[int, int]]:
        """Return (number of its scan, number among the nodules of the scan) of each nodule."""

    def volume(self, number: int) -> Volume:
        """Return a scan."""

    def advance(self, epoch: int, share: float) -> None:
        """Prepare for the crops from `share` (0..1) of an epoch on."""


class CaseVolumes:
    """Prepared scans of a data set.

    Args:
        index: the data set.
        case_ids: the scans.
        scans: the prepared scans; their spacing is isotropic.
        labelled: False: the findings are not used.
        around: places of each scan, LPS mm, around which random crops are cut; a scan without
            places: anywhere in its lungs.
    """

    def __init__(
        self,
        index: CaseIndex,
        case_ids: Sequence[str],
        *,
        scans: PreparedScans,
        labelled: bool = True,
        around: Mapping[str, Sequence[Point]] | None = None,
    ) -> None:
        cases = index.by_id()
        self._cases = [cases[name] for name in case_ids]
        self._scans = scans
        self._labelled = labelled
        self._around = around or {}
        self._findings: dict[str, list[Nodule]] = {name: [] for name in case_ids}
        for finding in (*index.nodules, *index.excluded):
            if labelled and finding.seriesuid in self._findings:
                self._findings[finding.seriesuid].append(finding)
        self._volumes: OrderedDict[int, Volume] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of scans."""
        return len(self._cases)

    def nodules(self) -> list[tuple[int, int]]:
        """Return (number of its scan, number among the nodules of the scan) of each nodule."""
        found = []
        for number, case in enumerate(self._cases):
            counted = [f.counts_as == "included" for f in self._findings[case.case_id]]
            found += [(number, row) for row in range(sum(counted))]
        return found

    def volume(self, number: int) -> Volume:
        """Return a scan; the last ones are kept."""
        if number not in self._volumes:
            self._volumes[number] = self._read(self._cases[number])
            if len(self._volumes) > _KEPT_VOLUMES:
                self._volumes.popitem(last=False)
        self._volumes.move_to_end(number)
        return self._volumes[number]

    def advance(self, epoch: int, share: float) -> None:
        """Do nothing: the scans are always the same."""

    def prepare(self, progress: OnProgress | None = None) -> None:
        """Prepare all scans, so that broken scans are refused before training.

        Raises:
            SeriesError: if a scan cannot be read.
        """
        self._scans.prepare(self._cases, progress)

    def _read(self, case: Case) -> Volume:
        prepared = self._scans.get(case)
        found = volume_of(prepared, self._findings[case.case_id], case.case_id)
        interior = found.interior
        if places := self._around.get(case.case_id):
            interior = prepared.grid.world_to_voxel(np.array(places))
        return replace(found, interior=interior, labelled=self._labelled)


def volume_of(prepared: PreparedScan, findings: Sequence[Nodule], name: str) -> Volume:
    """Return a prepared scan with its findings (LPS mm) as a volume for crops."""
    grid = prepared.grid
    center_mm = np.array([finding.center_mm for finding in findings]).reshape(-1, 3)
    included = np.array([finding.counts_as == "included" for finding in findings], dtype=bool)
    interior = np.zeros((0, 3))
    if prepared.lungs is not None:
        lungs = prepared.lungs
        places = lungs.grid.voxel_to_world(np.argwhere(lungs.mask).astype(np.float64))
        interior = grid.world_to_voxel(places)
    return Volume(
        name,
        prepared.voxels_hu[0],
        Findings(
            grid.world_to_voxel(center_mm),
            np.array([finding.diameter_mm for finding in findings], dtype=np.float64),
            np.where(included, NODULE, EXCLUDED),
        ),
        interior,
    )


@dataclass(frozen=True, slots=True, eq=False)
class CropSet:
    """Scans with their share of all crops, and the share of their crops around a nodule."""

    volumes: VolumeSet
    share: float
    nodule_share: float


class _Draw(NamedTuple):
    """One crop: the numbers of set and scan, and of the nodule (None: a random place)."""

    of_set: int
    scan: int
    nodule: int | None


class CropLoader:
    """Batches of crops for training.

    Args:
        sets: sets of scans with their shares.
        shape: voxels of a crop.
        window: HU that become 0 and 1.
        batch_size: crops per batch.
        seed: seed of all draws.
        settings: how crops are cut.

    Before each epoch, `before_epoch` is called with its number; it may change the sets.
    """

    def __init__(
        self,
        sets: Sequence[CropSet],
        *,
        shape: Shape,
        window: tuple[float, float],
        batch_size: int,
        seed: int,
        settings: CropSettings,
    ) -> None:
        self.before_epoch: Callable[[int], None] | None = None
        self._sets = list(sets)
        self._shape, self._window = shape, window
        self._batch_size, self._seed, self._settings = batch_size, seed, settings

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return max(self._settings.per_epoch // self._batch_size, 1)

    def epoch(self, number: int, share: Share = WHOLE) -> Iterator[PatchBatch]:
        """Yield the batches of an epoch, numbered from 0, or a share of the rows of each."""
        own = share.rows(self._batch_size)
        if self.before_epoch is not None:
            self.before_epoch(number)
        for batch in range(len(self)):
            for one in self._sets:
                one.volumes.advance(number, batch / len(self))
            if batch == 0:
                draws = self._draws(number)
            first = batch * self._batch_size
            rows = range(first + own.start, first + own.stop)
            cut = self._batch(draws[rows.start : rows.stop], rows, number)
            yield replace(cut, whole_rows=self._batch_size)

    def _draws(self, epoch: int) -> list[_Draw]:
        """Return the crops of an epoch, the sets evenly mixed in their shares."""
        random = np.random.default_rng(derive_seed(self._seed, "crops", epoch))
        groups, shares = [], []
        for number, one in enumerate(self._sets):
            if not len(one.volumes):
                continue
            nodules = [_Draw(number, *place) for place in one.volumes.nodules()]
            anywhere = [_Draw(number, scan, None) for scan in range(len(one.volumes))]
            around = one.nodule_share if nodules else 0.0
            groups += [nodules, anywhere]
            shares += [one.share * around, one.share * (1 - around)]
        counts = _quotas(shares, len(self) * self._batch_size)
        rows = [
            iter(draw_evenly(np.arange(len(group)), count, random))
            for group, count in zip(groups, counts, strict=True)
        ]
        return [groups[number][next(rows[number])] for number in interleave(counts).tolist()]

    def _batch(self, draws: Sequence[_Draw], rows: range, epoch: int) -> PatchBatch:
        images, found, known, names = [], [], [], []
        for draw, row in zip(draws, rows, strict=True):
            volume = self._sets[draw.of_set].volumes.volume(draw.scan)
            random = np.random.default_rng(derive_seed(self._seed, "crop", epoch, row))
            image, findings = self._cut(volume, draw.nodule, random)
            images.append(image)
            found.append(findings)
            known.append(volume.labelled)
            names.append(f"{volume.name}:{row}")
        points = join_findings(found)
        inside = (points.center_vox >= 0) & (points.center_vox < torch.tensor(self._shape))
        positive = ((points.kind == NODULE) & inside.all(dim=2)).any(dim=1)
        return PatchBatch(
            image=to_unit_range(torch.stack(images)[:, None], self._window),
            label=positive.float()[:, None],
            label_known=torch.tensor(known)[:, None],
            sample_id=tuple(names),
            view_number=(epoch,) * len(names),
            points=points,
        )

    def _cut(
        self, volume: Volume, nodule: int | None, random: np.random.Generator
    ) -> tuple[Tensor, Findings]:
        shape = np.array(self._shape)
        margin = np.minimum(self._settings.margin_vox, (shape - 1) // 2)
        offset = random.uniform(margin, shape - 1 - margin)
        start = np.rint(_place(volume, nodule, random) - offset).astype(np.int64)
        image = crop_mirrored(volume.voxels_hu, start, self._shape)
        found = mirrored_findings(volume.findings, volume.voxels_hu.shape, start, self._shape)
        if self._settings.swap_axes and len(set(self._shape)) == 1:
            axes = random.permutation(3)
            image = image.permute(*axes.tolist())
            found = found._replace(center_vox=found.center_vox[:, axes])
        if random.random() < _BLURRED_SHARE:
            sigma = random.uniform(0, self._settings.blur_vox, 3)
            image = torch.from_numpy(ndimage.gaussian_filter(image.numpy(), sigma, mode="nearest"))
        return image.contiguous(), found


def _place(volume: Volume, nodule: int | None, random: np.random.Generator) -> NDArray[np.float64]:
    """Return the centre of a nodule, or a random place, in voxels."""
    rows = np.flatnonzero(volume.findings.kind == NODULE)
    if nodule is not None and len(rows):
        return np.asarray(volume.findings.center_vox[rows[nodule % len(rows)]])
    if len(volume.interior):
        return np.asarray(volume.interior[random.integers(len(volume.interior))])
    return random.uniform(0, np.array(volume.voxels_hu.shape) - 1)


def crop_mirrored(volume: Tensor, start: NDArray[np.int64], shape: Shape) -> Tensor:
    """Cut a crop, mirrored at the borders of the volume (the border is not repeated).

    Args:
        volume: [I, J, K].
        start: (3,) first voxel; it may be negative.
        shape: voxels of the crop.

    Returns:
        float32 of the shape.
    """
    rows = [
        torch.from_numpy(_mirrored(np.arange(first, first + length), size))
        for first, length, size in zip(start.tolist(), shape, volume.shape, strict=True)
    ]
    low = [int(r.min()) for r in rows]
    i, j, k = (slice(int(r.min()), int(r.max()) + 1) for r in rows)
    near = volume[i, j, k].float()
    for axis, (row, first) in enumerate(zip(rows, low, strict=True)):
        near = near.index_select(axis, row - first)
    return near


def mirrored_findings(
    findings: Findings, volume_shape: Sequence[int], start: NDArray[np.int64], shape: Shape
) -> Findings:
    """Return the findings in and near a crop, with their mirror images, in voxels of the crop."""
    last = 2 * (np.array(volume_shape) - 1)
    kept: list[NDArray[np.float64]] = []
    rows: list[int] = []
    for row, center in enumerate(findings.center_vox):
        copies = [(c, -c, end - c) for c, end in zip(center.tolist(), last.tolist(), strict=True)]
        for copy in product(*copies):
            place = np.array(copy, dtype=np.float64) - start
            if ((place > -_BEYOND_VOX) & (place < np.array(shape) + _BEYOND_VOX)).all():
                kept.append(place)
                rows.append(row)
    return Findings(np.array(kept).reshape(-1, 3), findings.diameter_mm[rows], findings.kind[rows])


def join_findings(found: Sequence[Findings]) -> Points:
    """Return the findings of several views as one batch, filled up with absent rows."""
    most = max(1, *(len(one.kind) for one in found))
    center = torch.zeros(len(found), most, 3)
    diameter = torch.full((len(found), most), -1.0)
    kind = torch.full((len(found), most), ABSENT)
    for number, one in enumerate(found):
        count = len(one.kind)
        center[number, :count] = torch.from_numpy(one.center_vox).float()
        diameter[number, :count] = torch.from_numpy(one.diameter_mm).float()
        kind[number, :count] = torch.from_numpy(one.kind)
    return Points(center, diameter, kind)


def _mirrored(places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return indices into an axis of `size` voxels, mirrored at its ends."""
    period = max(2 * (size - 1), 1)
    within = places % period
    return np.minimum(within, period - within) if size > 1 else np.zeros_like(places)


def _quotas(shares: Sequence[float], length: int) -> list[int]:
    """Divide `length` in proportion to the shares."""
    ends = np.rint(np.cumsum(shares) / sum(shares) * length).astype(int)
    return [int(count) for count in np.diff(ends, prepend=0)]
