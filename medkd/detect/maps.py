"""The map of nodule logits over a view, and its peaks, which become proposals."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from torch import Tensor

from medkd.detect.view import DetectSettings, PatchView, Voxels, nodule_logits

BELOW_ALL = -1e9
"""The logit of a cell that was not scored."""


def map_logits(view: PatchView, settings: DetectSettings) -> Tensor:
    """Return the logits [i, j, k] of patches one stride apart; `BELOW_ALL` outside the lungs."""
    cells = count_cells(view)
    within = torch.from_numpy(view.inside(patch_starts(cells, view))).view(cells)
    if view.model.network.dense_stride is None:
        logit_map = sliding_map(view, within, settings.batch_size)
    else:
        logit_map = dense_map(view, cells, settings.tile_voxels)
    return torch.where(within, logit_map, torch.tensor(BELOW_ALL))


def propose_patches(masked: Tensor, view: PatchView, settings: DetectSettings) -> Tensor:
    """Return first voxels [N, 3] (float) of patches at the peaks of `map_logits`."""
    highest = F.max_pool3d(masked[None, None], 3, stride=1, padding=1)[0, 0]
    peaks = torch.nonzero((masked == highest) & (masked > BELOW_ALL))
    values = masked[peaks[:, 0], peaks[:, 1], peaks[:, 2]]
    best = values.argsort(descending=True, stable=True)[: settings.proposals]
    shift = _between_cells(masked, peaks[best])
    return (peaks[best] + shift) * torch.tensor(view.stride)


def count_cells(view: PatchView) -> Voxels:
    """Return how many patches, one stride apart, fit along each axis."""
    i, j, k = (
        (size - patch) // stride + 1
        for size, patch, stride in zip(view.image.shape[2:], view.patch, view.stride, strict=True)
    )
    return i, j, k


def patch_starts(cells: Voxels, view: PatchView) -> Tensor:
    """Return the first voxels [N, 3] of all patches of the map."""
    lines = [torch.arange(n) * stride for n, stride in zip(cells, view.stride, strict=True)]
    return torch.cartesian_prod(*lines)


def dense_map(view: PatchView, cells: Voxels, tile_voxels: int) -> Tensor:
    """Return the logits [i, j, k] of all patches, interleaved from one dense run per shift."""
    logit_map = torch.full(cells, BELOW_ALL)
    for a, b, c in np.ndindex(view.shifts):
        i, j, k = (n * step for n, step in zip((a, b, c), view.stride, strict=True))
        part = logit_map[a :: view.shifts[0], b :: view.shifts[1], c :: view.shifts[2]]
        if part.numel():
            part.copy_(_dense_run(view, view.image[:, :, i:, j:, k:], part.shape, tile_voxels))
    return logit_map


def _dense_run(view: PatchView, image: Tensor, cells: torch.Size, tile_voxels: int) -> Tensor:
    """Return the logits [i, j, k] of one dense run, computed in slabs along i."""
    stride, patch = view.stride[0] * view.shifts[0], view.patch[0]
    # Slabs overlap by half a patch on each side to avoid border effects.
    halo = -(-patch // (2 * stride))
    step = max((tile_voxels // (image.shape[3] * image.shape[4]) - patch) // stride - 2 * halo, 1)
    slabs = []
    for first in range(0, cells[0], step):
        count = min(step, cells[0] - first)
        begin = max(first - halo, 0)
        end = (first + count - 1 + halo) * stride + patch
        slab = image[:, :, begin * stride : end]
        dense = view.model.network.forward_dense(slab, patch_shape=view.patch)
        kept = nodule_logits(dense, view.model.info)[0, first - begin :, : cells[1], : cells[2]]
        slabs.append(kept[:count])
    return torch.cat(slabs)


def sliding_map(view: PatchView, within: Tensor, batch_size: int) -> Tensor:
    """Return the logits [i, j, k], scoring only patches whose centre is in the lungs."""
    chosen = torch.nonzero(within)
    starts = chosen * torch.tensor(view.stride)
    logit_map = torch.full(within.shape, BELOW_ALL)
    logits = view.logits(starts, batch_size=batch_size)
    logit_map[chosen[:, 0], chosen[:, 1], chosen[:, 2]] = logits
    return logit_map


def _between_cells(logit_map: Tensor, peaks: Tensor) -> Tensor:
    """Return the offsets [N, 3] of the maxima from the cells `peaks` [N, 3], -.5 to .5 cells.

    A parabola is fitted along each axis; the offset is 0 beside a cell without a logit.
    """
    padded = F.pad(logit_map, (1, 1, 1, 1, 1, 1), value=BELOW_ALL)
    i, j, k = (peaks + 1).unbind(dim=1)
    middle = padded[i, j, k]
    sides = []
    for axis in range(3):
        di, dj, dk = (int(axis == a) for a in range(3))
        before, after = padded[i - di, j - dj, k - dk], padded[i + di, j + dj, k + dk]
        known = (before > BELOW_ALL) & (after > BELOW_ALL)
        sides.append(torch.where(known, vertex(before, middle, after), torch.zeros(())))
    return torch.stack(sides, dim=1)


def vertex(before: Tensor, middle: Tensor, after: Tensor) -> Tensor:
    """Return the maximum of the parabola through values at -1, 0, 1, clamped to -.5 .. .5."""
    bend = (2 * middle - before - after).clamp(min=1e-6)
    return ((after - before) / (2 * bend)).clamp(-0.5, 0.5)
