"""Search a whole scan: propose patches, refine their positions, return marks."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from medkd.data.loading import patch_shape, spacing_mm
from medkd.data.prepared import PreparedScan, ScanFacts, prepare_lungs
from medkd.detect.heat import KeepMap, probability_map
from medkd.detect.maps import map_logits, propose_patches, vertex
from medkd.detect.points import MARGIN_VOX, search_points
from medkd.detect.second_look import load_second, look_again, note_of
from medkd.detect.view import (
    DetectSettings,
    PatchView,
    Places,
    Voxels,
    build_view,
    check_model,
)
from medkd.models.package import LoadedModel, ModelInfo, nodule_scaling
from medkd.provenance import synthetic_words
from medkd.types import Candidate, CaseResult, MarkPlace, Point, Scan, SliceFact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medkd.lungs import LungField


def detect_nodules(
    scan: Scan, model: LoadedModel, settings: DetectSettings | None = None
) -> CaseResult:
    """Search a whole scan.

    Args:
        scan: HU on any grid; it is resampled by the preprocessing of the model.
        model: a point detector or a 3-D patch classifier; it runs on the device of its network.
        settings: defaults if None.

    Returns:
        Marks with calibrated probabilities, highest first; `not_analysed` with the reasons if no
        lungs are found.

    Raises:
        CheckpointError: lists all reasons why this model cannot search scans.

    Example:
        >>> from medkd.synthetic.phantom import PhantomSettings, make_phantom
        >>> from medkd.models.package import ModelInfo, Preprocessing
        >>> from medkd.models.table import build_model, parse_model_settings
        >>> steps = ({"kind": "load"}, {"kind": "crop", "patch_shape": [16, 16, 16]},
        ...          {"kind": "intensity"})
        >>> network = parse_model_settings({"kind": "shallow3d", "channels": 2})
        >>> info = ModelInfo(network.model_dump(), preprocessing=Preprocessing(steps=steps))
        >>> model = LoadedModel(build_model(network, seed=0).eval(), info)
        >>> result = detect_nodules(make_phantom(PhantomSettings(site="b"), 0).scan, model)
        >>> result.status, 0 < len(result.candidates) <= 100
        ('analysed', True)
    """
    started = time.perf_counter()
    prepared = prepare_lungs(scan, check_model(model), margin_vox=search_margin(scan, model))
    result = search_prepared(prepared, model, settings)
    return replace(result, seconds=round(time.perf_counter() - started, 3))


def search_margin(scan: Scan, model: LoadedModel) -> Voxels:
    """Return how many voxels around the box of the lungs a search may use along i, j, k.

    For patches, it is half of the longest side on the finest axis: an upper limit that holds in
    any order of the axes.
    """
    steps = check_model(model)
    patch = patch_shape(steps)
    if patch is None:
        return (MARGIN_VOX,) * 3
    spacing = np.asarray(spacing_mm(steps) or scan.grid.spacing_mm)
    return (int(np.ceil(max(patch) * spacing.max() / spacing.min() / 2)),) * 3


def search_prepared(
    prepared: PreparedScan,
    model: LoadedModel,
    settings: DetectSettings | None = None,
    *,
    keep_map: KeepMap | None = None,
) -> CaseResult:
    """Search a scan that was prepared by the loading steps of the model.

    Args:
        prepared: the prepared scan.
        model: a point detector or a 3-D patch classifier.
        settings: defaults if None.
        keep_map: called with the map of the calibrated probability, in the box of the lungs. Marks
            outside the lungs are dropped, places outside the lungs stay in the map of a detector.

    Returns:
        The same as `detect_nodules`.

    Raises:
        CheckpointError: lists all reasons why this model cannot search scans.
    """
    chosen, facts = settings or DetectSettings(), prepared.facts
    started = time.perf_counter()
    check_model(model)
    notes = (*facts.notes, *past_of(model.info))
    if prepared.lungs is None:
        reasons = prepared.no_lungs
        return CaseResult(facts.seriesuid, (), "not_analysed", reasons=reasons, notes=notes)
    with torch.inference_mode():
        search = search_points if model.network.finds_points else search_patches
        places = search(prepared, prepared.lungs, model=model, settings=chosen, keep_map=keep_map)
    marks = build_marks(facts.seriesuid, places, chosen)
    if chosen.second_look:
        second = load_second(chosen.second_look, next(model.network.parameters()).device)
        marks = look_again(marks, prepared, second)
        notes = (*notes, note_of(second))
    return CaseResult(
        seriesuid=facts.seriesuid,
        candidates=marks,
        status="analysed",
        notes=(*notes, *prepared.lungs.warnings),
        seconds=round(time.perf_counter() - started, 3),
        places=_places_of(marks, facts, prepared.lungs),
    )


def _places_of(
    marks: Sequence[Candidate], facts: ScanFacts, lungs: LungField
) -> tuple[MarkPlace, ...]:
    """Return where the marks are in the stored scan and in the lungs."""
    centers_mm = [mark.center_mm for mark in marks]
    in_lungs = lungs.lung_places(np.array(centers_mm).reshape(-1, 3))
    return tuple(
        replace(place_in(facts, center_mm), lung=lung)
        for center_mm, lung in zip(centers_mm, in_lungs, strict=True)
    )


def search_patches(
    prepared: PreparedScan,
    lungs: LungField,
    *,
    model: LoadedModel,
    settings: DetectSettings,
    keep_map: KeepMap | None = None,
) -> Places:
    """Return the places that a patch classifier finds; arguments as in `search_points`."""
    view = build_view(prepared, lungs, model=model, settings=settings)
    logit_map = map_logits(view, settings)
    if keep_map is not None:
        first = (np.asarray(view.patch) - 1) / 2
        kept = probability_map(logit_map, model.info, view.grid, first=first, step=view.stride)
        keep_map(kept)
    starts, logits = _refine(view, propose_patches(logit_map, view, settings), settings)
    return Places(view.centers_mm(starts), _probability(logits, model.info))


def place_in(scan: Scan | ScanFacts, center_mm: Point) -> MarkPlace:
    """Return the voxel and the stored slice of a scan that contain a point.

    Args:
        scan: the scan, or its facts.
        center_mm: LPS mm; for a point outside the scan the nearest voxel is returned.
    """
    grid = scan.stored_grid or scan.grid
    nearest = np.rint(grid.world_to_voxel(np.asarray(center_mm)))
    i, j, k = np.clip(nearest, 0, np.array(grid.shape) - 1).astype(int).tolist()
    return MarkPlace((i, j, k), scan.slices[k] if scan.slices else SliceFact())


def _refine(view: PatchView, proposals: Tensor, settings: DetectSettings) -> tuple[Tensor, Tensor]:
    """Score proposals as patches, then move the best ones to a local maximum of the logit.

    There are two rounds. The step is half of the stride, then a quarter of it.

    Returns:
        First voxels [N, 3] and logits [N].
    """
    starts = view.clipped(proposals)
    starts = starts[torch.from_numpy(view.inside(starts))]
    logits = view.logits(starts, batch_size=settings.batch_size)
    half = torch.tensor(view.stride)
    for part in (settings.refined, settings.refined // 2):
        half = (half // 2).clamp(min=1)
        order = logits.argsort(descending=True, stable=True)
        starts, logits = starts[order], logits[order]
        moved = _climbed(view, starts[:part], logits[:part], reach=half, settings=settings)
        starts[:part], logits[:part] = moved
    return starts, logits


def _climbed(
    view: PatchView, starts: Tensor, logits: Tensor, *, reach: Tensor, settings: DetectSettings
) -> tuple[Tensor, Tensor]:
    """Move each patch by at most `reach` voxels per axis if that raises its logit."""
    sides = torch.stack([torch.diag(-reach), torch.diag(reach)])
    around = view.clipped((starts[:, None, None] + sides).flatten(0, 2))
    nearby = view.logits(around, batch_size=settings.batch_size).view(len(starts), 2, 3)
    before, after = nearby.unbind(dim=1)
    middle = logits[:, None]
    slope = torch.maximum(before, after) > middle
    step = torch.where(slope, torch.sign(after - before), vertex(before, middle, after))
    moved = view.clipped(starts + step * reach)
    found = view.logits(moved, batch_size=settings.batch_size)
    better = (found > logits) & torch.from_numpy(view.inside(moved))
    return torch.where(better[:, None], moved, starts), torch.where(better, found, logits)


def past_of(info: ModelInfo) -> tuple[str, ...]:
    """Return notes on the synthetic scans that a model was trained on; empty if there were none."""
    words = synthetic_words(info.origins, synthetic=info.trained_on_synthetic)
    generators = tuple(f"its synthetic scans: {stamp}" for stamp in info.generators)
    return (words, *generators) if words else ()


def _probability(logits: Tensor, info: ModelInfo) -> NDArray[np.float64]:
    """Return calibrated nodule probabilities [N] as float64, in which few large logits tie."""
    temperature, shift = nodule_scaling(info)
    return np.asarray((logits.double() / temperature + shift).sigmoid().numpy())


def build_marks(seriesuid: str, places: Places, settings: DetectSettings) -> tuple[Candidate, ...]:
    """Return the best places as marks, highest score first.

    A place closer than `settings.apart_mm` to a mark with a higher score is dropped, and at most
    `settings.marks` are returned.
    """
    centers_mm, diameters_mm = places.centers_mm, places.diameters_mm
    kept: list[int] = []
    for row in np.argsort(-places.scores, kind="stable").tolist():
        if len(kept) == settings.marks:
            break
        apart = np.linalg.norm(centers_mm[kept] - centers_mm[row], axis=1)
        if (apart >= settings.apart_mm).all():
            kept.append(row)
    return tuple(
        Candidate(
            seriesuid, (x, y, z), float(places.scores[row]),
            None if diameters_mm is None else round(float(diameters_mm[row]), 2),
        )
        for row in kept
        for x, y, z in [np.round(centers_mm[row], 3).tolist()]
    )  # fmt: skip
