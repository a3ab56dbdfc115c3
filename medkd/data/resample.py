"""Another voxel spacing by linear interpolation, slab by slab, in the type it came in.

MONAI's `Spacing` makes a float64 copy of the whole volume; here a few slices at a time are
float32 and the rest stays int16, which takes a fraction of the time and memory and gives the
same values (int16 HU are rounded to whole HU). The grid follows MONAI's rule: voxel (0, 0, 0)
keeps its place, axes keep their direction, outside counts as the nearest voxel (border).
No smoothing before shrinking, as in MONAI.
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
"""An axis whose spacing is this near to the wanted one is left as it is (MONAI's AFFINE_TOL)."""

_SLAB = 16


@dataclass(frozen=True, slots=True, eq=False)
class _AxisPlan:
    """Where each new index of one axis reads: between `low` and the next voxel, by `weight`."""

    size: int
    low: Tensor
    weight: Tensor
    place: Tensor


def spaced_grid(grid: VoxelGrid, spacing_mm: ArrayLike) -> VoxelGrid:
    """Return the grid that MONAI's `Spacing` gives: voxel (0, 0, 0) stays where it is.

    Args:
        grid: present grid.
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


def resample_volume(volume: Tensor, grid: VoxelGrid, spacing_mm: ArrayLike) -> Tensor:
    """Interpolate a volume on the grid that `spaced_grid(grid, spacing_mm)` gives.

    Args:
        volume: [C, I, J, K], any real type, on any device; fastest if one axis' slices are
            contiguous, whichever axis that is.
        grid: where the voxels lie; its shape is [I, J, K].
        spacing_mm: (3,) positive mm along i, j, k.

    Returns:
        [C, I', J', K'] of the same type; whole-number types are rounded.

    Example:
        >>> grid = VoxelGrid.from_parts((3, 1, 1), spacing_mm=[2, 1, 1], origin_mm=[0, 0, 0])
        >>> volume = torch.tensor([0, 10, 30], dtype=torch.int16).reshape(1, 3, 1, 1)
        >>> resample_volume(volume, grid, [1, 1, 1]).flatten().tolist()
        [0, 5, 10, 20, 30]
    """
    if tuple(volume.shape[1:]) != grid.shape:
        raise ValueError(f"expected [C, *{grid.shape}] as the grid, got {tuple(volume.shape)}")
    fine = spaced_grid(grid, spacing_mm)
    if fine.shape == grid.shape and np.array_equal(fine.affine_lps_mm, grid.affine_lps_mm):
        return volume.clone()
    working = torch.float64 if volume.dtype == torch.float64 else torch.float32
    scales = fine.spacing_mm / grid.spacing_mm
    plans = [
        _plan_axis(volume.shape[axis + 1], fine.shape[axis], float(scales[axis]))
        for axis in range(3)
    ]
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
    """MONAI dictionary transform: the spacing of `Spacingd`, slab by slab.

    Equal to `Spacingd(keys, pixdim=spacing_mm, mode="bilinear", padding_mode="border")` but for
    rounding: the type stays what it was. Not invertible and not lazy.

    Args:
        keys: images in the dictionary, `MetaTensor` [C, I, J, K].
        spacing_mm: (3,) positive mm along i, j, k.
    """

    def __init__(self, keys: str | tuple[str, ...], spacing_mm: ArrayLike) -> None:
        declare_subclass(type(self), "monai.transforms", "MapTransform")
        self.keys = (keys,) if isinstance(keys, str) else tuple(keys)
        self.allow_missing_keys = False
        self.spacing_mm = tuple(float(value) for value in np.asarray(spacing_mm).ravel())

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the dictionary with its images resampled and their affines moved along."""
        changed = dict(data)
        for key in self.keys:
            image = data[key]
            grid = scan_grid(image)
            voxels = resample_volume(image.as_tensor(), grid, self.spacing_mm)
            changed[key] = on_grid(voxels, spaced_grid(grid, self.spacing_mm), image)
        return changed


def _plan_axis(size: int, new_size: int, scale: float) -> _AxisPlan:
    """Plan an axis: new index n reads at n * scale, held at the border."""
    place = (torch.arange(new_size, dtype=torch.float64) * scale).clamp(max=size - 1)
    low = place.floor().long().clamp(max=max(size - 2, 0))
    normal = 2.0 * place / max(size - 1, 1) - 1.0  # grid_sample's -1..1 between voxel centres
    return _AxisPlan(new_size, low, place - low, normal)


def _moved(plan: _AxisPlan, device: torch.device, dtype: torch.dtype) -> _AxisPlan:
    low = plan.low.to(device)
    return _AxisPlan(plan.size, low, plan.weight.to(device, dtype), plan.place.to(device, dtype))


def _resample_channel(volume: Tensor, plans: list[_AxisPlan]) -> Tensor:
    """Resample [A, B, C], slabs along A: planes by one `grid_sample`, A by weighting slices."""
    along, rows, columns = plans
    # grid_sample wants (x, y) = (last axis, one before), and takes a slab's slices as channels.
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
