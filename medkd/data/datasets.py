"""From cases to samples: the one place that decides how a data set's samples are read."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own customary name
from numpy.typing import NDArray

from medkd.data.candidate_patches import CandidatePatches, candidate_table, thin_negatives
from medkd.data.cases import Case, CaseIndex
from medkd.data.data_sets import images_of
from medkd.data.loading import ImageStep, LoadingStep
from medkd.data.patches import ImagePatches, PatchSource, SampleTable, prevalence
from medkd.data.prepared import PreparedScans
from medkd.data.radiograph_patches import RadiographPatches
from medkd.errors import SettingsError


def build_patches(
    index: CaseIndex,
    case_ids: Sequence[str],
    *,
    scans: PreparedScans,
    seed: int,
    negatives_per_positive: int | None = None,
    unlabelled: Collection[str] = (),
) -> PatchSource:
    """Build the samples of some cases: their candidates (CT), or the images themselves.

    Args:
        index: of the data set.
        case_ids: cases whose samples are wanted.
        scans: the loading steps (none are needed for images in memory) and the cache of what
            they give, shared by the parts of a domain.
        seed: of the choice of negatives.
        negatives_per_positive: negative candidates kept for each positive; None keeps all.
        unlabelled: further cases, whose labels are hidden.

    Returns:
        Samples whose pixels are read when asked for, or all by their `prepare`.

    Raises:
        SettingsError: if the loading steps do not fit the cases.
    """
    cases, loading = index.by_id(), scans.steps
    wanted = [*case_ids, *(c for c in unlabelled if c not in set(case_ids))]
    members = [cases[c] for c in wanted]
    if members and all(case.archived and case.kind == "image" for case in members):
        return RadiographPatches(
            _image_table(index, members, hidden=unlabelled),
            cases=members,
            size_px=_size_px(index, loading),
            cache=scans.cache,
        )
    if all(case.kind == "image" for case in members):
        return _stored_images(index, members, loading=loading, hidden=unlabelled)
    table = candidate_table(index, wanted, unlabelled=unlabelled)
    prior = prevalence(table)
    if negatives_per_positive is not None:
        table = thin_negatives(table, negatives_per_positive, seed=seed)
    return CandidatePatches(table, cases=cases, scans=scans, prior=prior)


def _size_px(index: CaseIndex, loading: tuple[LoadingStep, ...]) -> tuple[int, int]:
    """Return rows and columns of a view; radiographs of an archive come in all sizes."""
    sizes = [s.size_px for s in loading if isinstance(s, ImageStep) and s.source == "file"]
    if len(loading) != 1 or not sizes or sizes[0] is None or len(sizes[0]) != 2:
        raise SettingsError(
            f"{index.name}: these are radiographs in files",
            ["loading: expected one step {kind: image, source: file, size_px: [ROWS, COLUMNS]}"],
        )
    return (sizes[0][0], sizes[0][1])


def _image_table(
    index: CaseIndex, members: Sequence[Case], *, hidden: Collection[str]
) -> SampleTable:
    ids = tuple(case.case_id for case in members)
    concealed = set(hidden)
    known = [name in index.labels and name not in concealed for name in ids]
    return SampleTable(
        sample_id=ids,
        patient_id=tuple(case.patient_id for case in members),
        seriesuid=ids,
        center_mm=None,
        label=torch.tensor([[float(index.labels.get(name, 0))] for name in ids]),
        label_known=torch.tensor(known).view(-1, 1),
    )


def _stored_images(
    index: CaseIndex,
    members: Sequence[Case],
    *,
    loading: tuple[LoadingStep, ...],
    hidden: Collection[str],
) -> ImagePatches:
    strange = [s.kind for s in loading if not (isinstance(s, ImageStep) and s.source == "memory")]
    if strange:
        raise SettingsError(
            f"{index.name}: these are images in memory",
            [f"expected no loading steps, or one image step from memory, got {strange}"],
        )
    stored = images_of(members)
    concealed = set(hidden)
    ids = tuple(case.case_id for case in members)
    known = torch.tensor([[c not in concealed] for c in ids]).view(-1, 1)
    label = _label_outputs(stored.labels, len(index.label_names))
    table = SampleTable(
        sample_id=ids,
        patient_id=tuple(case.patient_id for case in members),
        seriesuid=ids,
        center_mm=None,
        label=label,
        label_known=known.expand_as(label).clone(),
    )
    sizes = [s.size_px for s in loading if isinstance(s, ImageStep) and s.size_px is not None]
    pixels = stored.images[:, None]
    if sizes and len(sizes[0]) != pixels.ndim - 2:
        raise SettingsError(
            f"{index.name}: images cannot be resized to {sizes[0]}",
            [f"image.size_px: expected {pixels.ndim - 2} sizes, got {len(sizes[0])}"],
        )
    return ImagePatches(table, _resized(pixels, sizes[0]) if sizes else pixels)


def _label_outputs(labels: NDArray[np.int64], outputs: int) -> torch.Tensor:
    """[N, columns] as stored to [N, outputs] float: one class number becomes one-hot."""
    stored = torch.from_numpy(labels)
    if stored.shape[1] == outputs:
        return stored.float()
    return F.one_hot(stored[:, 0], outputs).float()


def _resized(pixels: NDArray[np.uint8], size_px: Sequence[int]) -> NDArray[np.float32]:
    """Resize [N, 1, *spatial] by area, as MONAI's `Resized` does, some images at a time."""
    parts = [
        F.interpolate(
            torch.from_numpy(pixels[start : start + 256]).float() / 255,
            size=list(size_px),
            mode="area",
        ).numpy()
        for start in range(0, len(pixels), 256)
    ]
    return np.concatenate(parts)
