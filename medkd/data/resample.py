"""Resample a volume to another voxel spacing, slab by slab, by linear interpolation.

The dtype of the volume is kept. MONAI's `Spacing` creates a float64 copy of the whole volume.
This module converts only a few slices at a time to float32, which needs a fraction of the time
and memory and returns the same values (int16 HU are rounded to whole HU). The grid follows
MONAI's rule: voxel (0, 0, 0) keeps its position, axes keep their direction, and a point outside
the volume has the value of the nearest voxel (border). As in MONAI, there is no smoothing before
downsampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own customary name
from torch import Tensor

from medkd.data.monai_bridge import declare_subclass, on_grid, scan_grid
from medkd.geometry import VoxelGrid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

SPACING_TOLERANCE_MM = 1e-3
"""An axis whose spacing differs less than this is not resampled (MONAI's AFFINE_TOL)."""

_SLAB = 16

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class _AxisPlan:
    """Sampling of one axis: each new index lies at `weight` (0..1) between `low` and `low + 1`.

    Only the voxels `source` are used; `low` counts from their first. `place` is the same position
    in `grid_sample` coordinates (-1..1).
    """

    size: int
    source: slice
    low: Tensor
    weight: Tensor
    place: Tensor


def spaced_grid(grid: VoxelGrid, spacing_mm: ArrayLike) -> VoxelGrid:
    """Return the grid that MONAI's `Spacing` would create; voxel (0, 0, 0) keeps its position.

    Args:
        grid: current grid.
        spacing_mm: (3,) positive mm along i, j, k.

    Raises:
        ValueError: if a spacing is not positive.
    """
    wanted = np.asarray(spacing_mm, dtype=np.float64)
    if wanted.shape != (3,) or not (wanted > 0).all():
        raise ValueError(f"expected three positive spacings in mm, got {spacing_mm!r}")
    present = grid.spacing_mm
    wanted = np.where(np.abs(wanted - present) <= SPACING_TOLERANCE_MM, present, wanted)
    extent = (np.asarray(grid.shape) - 1) * present
    sizes = np.round(extent / wanted + 1.0).astype(int)
    affine = grid.affine_lps_mm.copy()
    affine[:3, :3] = grid.direction * wanted
    return VoxelGrid((int(sizes[0]), int(sizes[1]), int(sizes[2])), affine)


def resample_volume(
    volume: Tensor, grid: VoxelGrid, spacing_mm: ArrayLike, box: Box | None = None
) -> Tensor:
    """Interpolate a volume on the grid `spaced_grid(grid, spacing_mm)`.

    Args:
        volume: [C, I, J, K], any real dtype, on any device. It is fastest if the slices along
            one of the axes are contiguous.
        grid: the grid of the volume; its shape is [I, J, K].
        spacing_mm: (3,) positive mm along i, j, k.
        box: the voxels of the new grid that are computed; None: all.

    Returns:
        [C, I', J', K'] with the same dtype; values of integer dtypes are rounded.

    Raises:
        ValueError: if a spacing is not positive, or volume and grid differ in shape.

    Example:
        >>> grid = VoxelGrid.from_parts((3, 1, 1), spacing_mm=[2, 1, 1], origin_mm=[0, 0, 0])
        >>> volume = torch.tensor([0, 10, 30], dtype=torch.int16).reshape(1, 3, 1, 1)
        >>> resample_volume(volume, grid, [1, 1, 1]).flatten().tolist()
        [0, 5, 10, 20, 30]
    """
    if tuple(volume.shape[1:]) != grid.shape:
        raise ValueError(f"expected [C, *{grid.shape}] as the grid, got {tuple(volume.shape)}")
    fine = spaced_grid(grid, spacing_mm)
    parts = box or tuple(slice(0, size) for size in fine.shape)
    if fine.shape == grid.shape and np.array_equal(fine.affine_lps_mm, grid.affine_lps_mm):
        return volume[(slice(None), *parts)].clone()
    working = torch.float64 if volume.dtype == torch.float64 else torch.float32
    scales = fine.spacing_mm / grid.spacing_mm
    plans = [
        _plan_axis(size, range(part.start, part.stop), float(scale))
        for size, part, scale in zip(grid.shape, parts, scales, strict=True)
    ]
    volume = volume[(slice(None), *(plan.source for plan in plans))]
    plans = [_moved(plan, volume.device, working) for plan in plans]
    # The slowest axis in memory comes first, so that a slab is one block of memory.
    order = sorted(range(3), key=lambda axis: -volume.stride(axis + 1))
    back = [0, *(order.index(axis) + 1 for axis in range(3))]
    ordered = volume.permute(0, *(axis + 1 for axis in order))
    channels = [_resample_channel(one, [plans[axis] for axis in order]) for one in ordered]
    return (
        torch.stack(channels).permute(back)
        if len(channels) > 1
        else channels[0][None].permute(back)
    )


class SlabSpacingd:
    """MONAI dictionary transform that resamples like `Spacingd`, slab by slab.

    The result equals `Spacingd(keys, pixdim=spacing_mm, mode="bilinear", padding_mode="border")`,
    except that it keeps the dtype and is therefore rounded. It is neither invertible nor lazy.

    Args:
        key: key of the image, a `MetaTensor` [C, I, J, K].
        spacing_mm: (3,) positive mm along i, j, k.
    """

    def __init__(self, key: str, spacing_mm: ArrayLike) -> None:
        declare_subclass(type(self), "monai.transforms", "MapTransform")
        self.key = key
        self.spacing_mm = tuple(float(value) for value in np.asarray(spacing_mm).ravel())

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of the dictionary with the resampled image and its new affine."""
        image = data[self.key]
        grid = scan_grid(image)
        voxels = resample_volume(image.as_tensor(), grid, self.spacing_mm)
        return {**data, self.key: on_grid(voxels, spaced_grid(grid, self.spacing_mm), image)}


def _plan_axis(size: int, new: range, scale: float) -> _AxisPlan:
    """Plan one axis: new index n samples the old index n * scale, clamped to the last voxel."""
    place = (torch.arange(new.start, new.stop, dtype=torch.float64) * scale).clamp(max=size - 1)
    low = place.floor().long().clamp(max=max(size - 2, 0))
    first, last = int(low[0]), min(int(low[-1]) + 1, size - 1)
    # grid_sample's -1..1 between voxel centres
    normal = 2.0 * (place - first) / max(last - first, 1) - 1.0
    return _AxisPlan(len(new), slice(first, last + 1), low - first, place - low, normal)


def _moved(plan: _AxisPlan, device: torch.device, dtype: torch.dtype) -> _AxisPlan:
    low = plan.low.to(device)
    weight, place = plan.weight.to(device, dtype), plan.place.to(device, dtype)
    return _AxisPlan(plan.size, plan.source, low, weight, place)


def _resample_channel(volume: Tensor, plans: list[_AxisPlan]) -> Tensor:
    """Resample [A, B, C] in slabs along A.

    B and C are interpolated by `grid_sample`, A by a weighted mean of two slices.
    """
    along, rows, columns = plans
    # grid_sample expects (x, y) = (last axis, axis before it). Slices are passed as channels.
    y, x = torch.meshgrid(rows.place, columns.place, indexing="ij")
    plane = torch.stack([x, y], dim=-1)[None]
    shrinks = along.size < volume.shape[0]
    result = volume.new_empty((along.size, rows.size, columns.size))
    for start in range(0, along.size, _SLAB):
        low = along.low[start : start + _SLAB]
        weight = along.weight[start : start + _SLAB, None, None]
        first = int(low[0])
        slab = volume[first : int(low[-1]) + 2].to(plane.dtype)
        if shrinks:
            slab = _between(slab, low - first, weight)
        slab = F.grid_sample(
            slab[None], plane, mode="bilinear", padding_mode="border", align_corners=True
        )[0]
        if not shrinks:
            slab = _between(slab, low - first, weight)
        result[start : start + _SLAB] = slab if result.is_floating_point() else slab.round_()
    return result


def _between(slab: Tensor, low: Tensor, weight: Tensor) -> Tensor:
    high = (low + 1).clamp(max=slab.shape[0] - 1)
    return torch.lerp(slab.index_select(0, low), slab.index_select(0, high), weight)
