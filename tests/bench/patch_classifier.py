"""A published classifier of LUNA16 candidates (MIT licence) on the task of `real_nodules`.

It saw these nodules when it was trained, so its row shows what remembering is worth, not skill. It
is run on voxels of 1 mm, not on the stored ones. The score of a place is the highest logit at the
place and 4 mm beside it on each axis; its false marks are those of the search that slides it over
the lungs.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit
from torch import Tensor

from medkd.data.crops import crop_mirrored
from medkd.data.prepared import PreparedScan, to_unit_range
from medkd.detect import search_prepared
from medkd.detect.points import Peaks
from medkd.models.imported import import_weights
from medkd.models.luna_classifier import HIGH_HU, LOW_HU, LunaClassifierSettings
from medkd.models.package import LoadedModel
from tests.real_data import data_root

WEIGHTS = "weights/luna16_mit/nodule_classifier.state"
SHA256 = "020be7eb0d4215ba89e16a6260a5d45aa40a3b33b59e27e68ee1ed3c805b09b1"
SHAPE = LunaClassifierSettings().patch_shape
OFFSETS = np.concatenate([np.zeros((1, 3)), 4 * np.eye(3), -4 * np.eye(3)])


def load_classifier() -> LoadedModel:
    """Import the published weights."""
    return import_weights(data_root() / WEIGHTS, LunaClassifierSettings(), sha256=SHA256)


def score_places(
    model: LoadedModel, voxels_hu: Tensor, centers_vox: NDArray[np.float64]
) -> list[float]:
    """Return the highest logit at and beside each place [N, 3] of a volume with voxels of 1 mm."""
    scores = []
    with torch.inference_mode():
        for center in centers_vox:
            starts = np.rint(center + OFFSETS - (np.array(SHAPE) - 1) / 2).astype(np.int64)
            views = torch.stack([crop_mirrored(voxels_hu, start, SHAPE) for start in starts])
            view = to_unit_range(views[:, None], (LOW_HU, HIGH_HU))
            scores.append(float(model.network(view)[:, 0].max()))
    return scores


def search(model: LoadedModel, scan: PreparedScan) -> Peaks:
    """Return the marks of the search that slides the classifier over the lungs."""
    marks = search_prepared(scan, model).candidates
    centers_mm = np.array([mark.center_mm for mark in marks]).reshape(-1, 3)
    score = np.clip([mark.score for mark in marks], 1e-9, 1 - 1e-9)
    nothing = np.full(len(marks), np.nan)
    return Peaks(scan.grid.world_to_voxel(centers_mm), nothing, logit(score))
