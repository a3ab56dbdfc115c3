"""A second look: a patch classifier scores the best marks of a search again.

The new score of a mark is the sigmoid of the mean of two logits, those of its calibrated
probabilities by both models. Only the best marks of the first look are kept, because scores of one
look and of two cannot be ranked together. Thresholds of the first model do not apply to the new
scores. It is off by default: whether it helps must be measured on validation scans.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from scipy.special import expit, logit

from medkd.data.loading import DEFAULT_WINDOW, hu_window, patch_shape, spacing_mm
from medkd.data.prepared import PreparedScan, to_unit_range
from medkd.detect.view import check_model, nodule_logits
from medkd.errors import CheckpointError
from medkd.models.package import LoadedModel, load_model, nodule_scaling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from medkd.types import Candidate

MARKS = 40
"""Most marks that get a second look."""
_BATCH = 32
_LEAST = 1e-12
"""Probabilities are kept at least this far from 0 and 1, so that their logits are finite."""


def load_second(path: str, device: torch.device) -> LoadedModel:
    """Load a patch classifier for the second look, once per process.

    Args:
        path: a model directory, or the name of a shipped model.
        device: device of its network.

    Raises:
        CheckpointError: if it cannot be read, or is no 3-D patch classifier for nodules.
    """
    return _loaded(path, str(device))


@lru_cache(maxsize=1)
def _loaded(path: str, device: str) -> LoadedModel:
    model = load_model(path, device=device)
    check_model(model)
    if model.network.finds_points:
        raise CheckpointError(
            f"the model {path} cannot take a second look",
            ["expected a 3-D patch classifier, got a point detector"],
        )
    return model


def look_again(
    marks: Sequence[Candidate], prepared: PreparedScan, model: LoadedModel
) -> tuple[Candidate, ...]:
    """Score the best marks again and return them, highest new score first.

    Args:
        marks: marks of the first look, highest score first.
        prepared: the scan, prepared by the loading steps of the first model.
        model: of `load_second`.
    """
    first = marks[:MARKS]
    if not first:
        return ()
    with torch.inference_mode():
        second = _probabilities(np.array([m.center_mm for m in first]), prepared, model)
    scores = expit((_logit(np.array([m.score for m in first])) + _logit(second)) / 2)
    order = np.argsort(-scores, kind="stable").tolist()
    return tuple(replace(first[row], score=float(scores[row])) for row in order)


def note_of(model: LoadedModel) -> str:
    """Return a note for results with a second look by this model."""
    sha256 = model.info.weights_sha256[:12] or "not recorded"
    return (
        f"second look: the best {MARKS} marks were scored again by a {model.info.kind} (sha256 "
        f"{sha256}); thresholds of the first model do not apply"
    )


def _probabilities(
    centers_mm: NDArray[np.float64], prepared: PreparedScan, model: LoadedModel
) -> NDArray[np.float64]:
    """Return the calibrated nodule probability [N] of the patch around each place."""
    window = hu_window(check_model(model)) or DEFAULT_WINDOW
    device = next(model.network.parameters()).device
    logits = []
    for start in range(0, len(centers_mm), _BATCH):
        patches = _patches(centers_mm[start : start + _BATCH], prepared, model)
        outputs = model.network(to_unit_range(patches, window).to(device))
        logits.append(nodule_logits(outputs, model.info))
    temperature, shift = nodule_scaling(model.info)
    return np.asarray((torch.cat(logits).double() / temperature + shift).sigmoid().numpy())


def _patches(centers_mm: NDArray[np.float64], prepared: PreparedScan, model: LoadedModel) -> Tensor:
    """Interpolate patches [N, 1, I, J, K] in HU, in the voxel size of a model; borders repeat."""
    steps, grid = check_model(model), prepared.grid
    shape = patch_shape(steps) or (1, 1, 1)
    spacing = np.asarray(spacing_mm(steps) or prepared.facts.grid.spacing_mm) / grid.spacing_mm
    offsets = np.indices(shape).reshape(3, -1).T - (np.asarray(shape) - 1) / 2
    volume = prepared.voxels_hu[0].float().numpy()
    found = [
        ndimage.map_coordinates(volume, (center + offsets * spacing).T, order=1, mode="nearest")
        for center in grid.world_to_voxel(centers_mm)
    ]
    return torch.from_numpy(np.stack(found)).reshape(len(found), 1, *shape)


def _logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(logit(np.clip(probability, _LEAST, 1 - _LEAST)))
