"""Build the samples of cases. Only this module decides how the samples of a data set are read."""

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
    """Build the samples of some cases: their candidates (CT), or whole images.

    Args:
        index: the data set.
        case_ids: the cases.
        scans: the loading steps, which may be empty for images in memory, and the cache of
            prepared scans, which all parts of a domain share.
        seed: seed of the choice of negatives.
        negatives_per_positive: negative candidates kept for each positive; None keeps all.
        unlabelled: further cases, whose labels are not used.

    Returns:
        Samples whose pixels are read on demand, or all at once by `prepare`.

    Raises:
        SettingsError: if the loading steps do not fit the cases.
    """
    cases, loading = index.by_id(), scans.steps
    hidden = set(unlabelled)
    wanted = list(dict.fromkeys((*case_ids, *unlabelled)))
    members = [cases[c] for c in wanted]
    if members and all(case.archived and case.kind == "image" for case in members):
        values = [index.several.get(name) or (index.labels.get(name),) for name in wanted]
        known = [
            [value is not None and name not in hidden for value in own]
            for name, own in zip(wanted, values, strict=True)
        ]
        label = torch.tensor([[float(value or 0) for value in own] for own in values])
        return RadiographPatches(
            _image_table(members, label, known=torch.tensor(known)),
            cases=members,
            size_px=_size_px(index, loading),
            cache=scans.cache,
        )
    if all(case.kind == "image" for case in members):
        return _stored_images(index, members, loading=loading, hidden=hidden)
    table = candidate_table(index, wanted, unlabelled=unlabelled)
    prior = prevalence(table)
    if negatives_per_positive is not None:
        table = thin_negatives(
            table, negatives_per_positive, seed=seed, kept_places=index.negatives
        )
    return CandidatePatches(table, cases=cases, scans=scans, prior=prior)


def _size_px(index: CaseIndex, loading: tuple[LoadingStep, ...]) -> tuple[int, int]:
    """Return rows and columns of a view, because radiographs of an archive differ in size."""
    sizes = [s.size_px for s in loading if isinstance(s, ImageStep) and s.source == "file"]
    if len(loading) != 1 or not sizes or sizes[0] is None or len(sizes[0]) != 2:
        raise SettingsError(
            f"{index.name}: these are radiographs in files",
            ["loading: expected one step {kind: image, source: file, size_px: [ROWS, COLUMNS]}"],
        )
    return (sizes[0][0], sizes[0][1])


def _image_table(
    members: Sequence[Case], label: torch.Tensor, *, known: torch.Tensor
) -> SampleTable:
    """Return the table of whole images: labels [N, K]; known are [N, K] or, of images, [N, 1]."""
    ids = tuple(case.case_id for case in members)
    return SampleTable(
        sample_id=ids,
        patient_id=tuple(case.patient_id for case in members),
        seriesuid=ids,
        center_mm=None,
        label=label,
        label_known=known.expand_as(label).clone(),
    )


def _stored_images(
    index: CaseIndex,
    members: Sequence[Case],
    *,
    loading: tuple[LoadingStep, ...],
    hidden: Collection[str],
) -> ImagePatches:
    other = [s.kind for s in loading if not (isinstance(s, ImageStep) and s.source == "memory")]
    if other:
        raise SettingsError(
            f"{index.name}: these are images in memory",
            [f"expected no loading steps, or one image step from memory, got {other}"],
        )
    stored = images_of(members)
    label, outputs = torch.from_numpy(stored.labels), len(index.label_names)
    if label.shape[1] != outputs:  # one column of class numbers
        label = F.one_hot(label[:, 0], outputs)
    known = torch.tensor([[case.case_id not in hidden] for case in members])
    table = _image_table(members, label.float(), known=known)
    sizes = [s.size_px for s in loading if isinstance(s, ImageStep) and s.size_px is not None]
    pixels = stored.images[:, None]
    if sizes and len(sizes[0]) != pixels.ndim - 2:
        raise SettingsError(
            f"{index.name}: images cannot be resized to {sizes[0]}",
            [f"image.size_px: expected {pixels.ndim - 2} sizes, got {len(sizes[0])}"],
        )
    return ImagePatches(table, _resized(pixels, sizes[0]) if sizes else pixels)


def _resized(pixels: NDArray[np.uint8], size_px: Sequence[int]) -> NDArray[np.float32]:
    """Resize [N, 1, *spatial] by area, as MONAI's `Resized` does, in chunks of images."""
    parts = [
        F.interpolate(
            torch.from_numpy(pixels[start : start + 256]).float() / 255,
            size=list(size_px),
            mode="area",
        ).numpy()
        for start in range(0, len(pixels), 256)
    ]
    return np.concatenate(parts)
