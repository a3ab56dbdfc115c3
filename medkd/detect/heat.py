"""The map of a whole-scan search as a heat map: the calibrated probability of every cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from medkd.io.heat_maps import HeatMap, to_bytes_range
from medkd.models.package import ModelInfo, nodule_scaling

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor

    from medkd.geometry import VoxelGrid

KeepMap = Callable[[HeatMap], None]
"""Receives the map of a search."""


def probability_map(
    logits: Tensor, info: ModelInfo, grid: VoxelGrid, *, first: ArrayLike, step: ArrayLike
) -> HeatMap:
    """Build the heat map of a search.

    Args:
        logits: [I, J, K] nodule logits of the cells.
        info: supplies calibration and label.
        grid: the grid of the searched voxels.
        first: (3,) the centre of the first cell in voxels of `grid`.
        step: voxels from one cell to the next, one number or (3,).
    """
    temperature, shift = nodule_scaling(info)
    probability = (logits / temperature + shift).sigmoid().cpu().numpy()
    i, j, k = probability.shape
    cells = grid.strided(first, step, (i, j, k))
    return HeatMap(to_bytes_range(probability), cells, "probability", label=info.label_names[-1])
