"""The judge: a classifier of real nodules, which never saw a phantom, scores places."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from medkd.config.difficulty_settings import JudgeSettings
from medkd.data.crop import crop_patch
from medkd.data.roots import find_data
from medkd.errors import SettingsError
from medkd.models.imported import import_weights
from medkd.models.luna_classifier import HIGH_HU, LOW_HU, LunaClassifierSettings
from medkd.models.package import LoadedModel
from medkd.types import Point, Scan

Float64 = NDArray[np.float64]


def judge_file(settings: JudgeSettings | None) -> Path | None:
    """Return the file of the judge's weights; None if none is named or it is not there."""
    if settings is None:
        return None
    try:
        return find_data(settings.weights)
    except SettingsError:
        return None


def score_places(scan: Scan, places_mm: Sequence[Point], path: Path, *, sha256: str) -> Float64:
    """Score patches of the scan's own voxels, each about a place.

    Args:
        scan: the image; outside it counts as air.
        places_mm: [N] LPS mm.
        path: of the weights.
        sha256: that they must have.

    Returns:
        [N] logits, high: nodule.

    Raises:
        CheckpointError: if the weights are other ones.
    """
    network = _loaded(path, sha256).network
    shape = LunaClassifierSettings().patch_shape
    volume = torch.from_numpy(np.asarray(scan.voxels_hu))[None]
    scores: list[float] = []
    with torch.inference_mode():
        for place in places_mm:
            patch = crop_patch(
                volume, scan.grid, center_mm=place, patch_shape=shape, pad_value=LOW_HU
            )
            view = (patch.float().clamp(LOW_HU, HIGH_HU) - LOW_HU) / (HIGH_HU - LOW_HU)
            scores.append(float(network(view[None])[0, 0]))
    return np.asarray(scores)


@lru_cache(maxsize=1)
def _loaded(path: Path, sha256: str) -> LoadedModel:
    return import_weights(path, LunaClassifierSettings(), sha256=sha256)
