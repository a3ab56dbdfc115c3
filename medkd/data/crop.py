"""A patch of whole voxels about a place in the world.

The patch is the box of voxels whose middle is nearest to the place: nothing is interpolated.
Along an axis of n voxels the middle is index (n - 1) / 2, so that for odd n the place lies in
the middle voxel, and for even n within half a voxel of the middle edge. What lies outside the
volume is filled with one value; a patch wholly outside is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medkd.data.monai_bridge import declare_subclass, on_grid, scan_grid
from medkd.errors import SeriesError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike
    from torch import Tensor

    from medkd.geometry import VoxelGrid

Shape = tuple[int, int, int]


def patch_start(grid: VoxelGrid, center_mm: ArrayLike, patch_shape: Shape) -> Shape:
    """Return the index of a patch's first voxel; may be negative.

    Args:
        grid: the volume's voxels.
        center_mm: (3,) LPS mm.
        patch_shape: voxels along i, j, k.
    """
    middle = (np.asarray(patch_shape) - 1) / 2
    # Rounded first: on an exact half, 1e-13 of float noise must not decide.
    start = np.floor(np.round(grid.world_to_voxel(center_mm) - middle + 0.5, 6)).astype(int)
    return int(start[0]), int(start[1]), int(start[2])


def crop_patch(
    volume: Tensor, grid: VoxelGrid, *, center_mm: ArrayLike, patch_shape: Shape, pad_value: float
) -> Tensor:
    """Cut a patch out of a volume.

    Args:
        volume: [C, I, J, K].
        grid: where its voxels lie.
        center_mm: (3,) LPS mm.
        patch_shape: voxels along i, j, k.
        pad_value: what stands outside the volume, in the volume's unit.

    Returns:
        [C, *patch_shape], a contiguous copy of the volume's type.

    Raises:
        SeriesError: if no voxel of the patch lies in the volume.
    """
    start = patch_start(grid, center_mm, patch_shape)
    patch = volume.new_full((volume.shape[0], *patch_shape), pad_value)
    source, target = [slice(None)], [slice(None)]
    for first, length, size in zip(start, patch_shape, grid.shape, strict=True):
        low, high = max(first, 0), min(first + length, size)
        if low >= high:
            place = np.round(np.asarray(center_mm, dtype=np.float64), 2).tolist()
            raise SeriesError(
                f"no patch at {place} mm (LPS)",
                [f"the place lies outside the volume of {grid.shape} voxels, at index {start}"],
            )
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    patch[tuple(target)] = volume[tuple(source)]
    return patch


class CropPatchd:
    """MONAI dictionary transform: the patch about `data[center_key]`, LPS mm, with its affine.

    Args:
        keys: images in the dictionary, `MetaTensor` [C, I, J, K].
        patch_shape: voxels along i, j, k.
        pad_value: what stands outside the volume, in the image's unit at this step.
        center_key: where the dictionary holds the centre, (3,) LPS mm.
    """

    def __init__(
        self,
        keys: str | tuple[str, ...],
        patch_shape: Shape,
        *,
        pad_value: float,
        center_key: str = "center_mm",
    ) -> None:
        declare_subclass(type(self), "monai.transforms", "MapTransform")
        self.keys = (keys,) if isinstance(keys, str) else tuple(keys)
        self.allow_missing_keys = False
        self.patch_shape = patch_shape
        self.pad_value = pad_value
        self.center_key = center_key

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the dictionary with its images cut to the patch."""
        changed = dict(data)
        center_mm = np.asarray(data[self.center_key], dtype=np.float64)
        for key in self.keys:
            grid = scan_grid(data[key])
            patch = crop_patch(
                data[key].as_tensor(),
                grid,
                center_mm=center_mm,
                patch_shape=self.patch_shape,
                pad_value=self.pad_value,
            )
            start = patch_start(grid, center_mm, self.patch_shape)
            changed[key] = on_grid(patch, grid.cropped(start, self.patch_shape), data[key])
        return changed
