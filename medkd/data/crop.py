"""Crop a patch of whole voxels around a point, without interpolation.

The patch is the box of voxels whose centre is nearest to the point. Along an axis of n voxels the
centre is index (n - 1) / 2: for odd n the point is in the middle voxel, for even n it is within
half a voxel of the edge between the two middle voxels. Voxels outside the volume are filled with
one value. A patch that does not overlap the volume is refused.
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
    """Return the index of the first voxel of a patch; it may be negative.

    Args:
        grid: the grid of the volume.
        center_mm: (3,) centre of the patch, LPS mm.
        patch_shape: voxels along i, j, k.
    """
    middle = (np.asarray(patch_shape) - 1) / 2
    # Rounded first: at an exact half, float noise of 1e-13 must not change the result.
    start = np.floor(np.round(grid.world_to_voxel(center_mm) - middle + 0.5, 6)).astype(int)
    return int(start[0]), int(start[1]), int(start[2])


def crop_patch(
    volume: Tensor, grid: VoxelGrid, *, center_mm: ArrayLike, patch_shape: Shape, pad_value: float
) -> Tensor:
    """Crop a patch from a volume.

    Args:
        volume: [C, I, J, K].
        grid: the grid of the volume.
        center_mm: (3,) centre of the patch, LPS mm.
        patch_shape: voxels along i, j, k.
        pad_value: fill value outside the volume, in the unit of the volume.

    Returns:
        [C, *patch_shape], a contiguous copy with the dtype of the volume.

    Raises:
        SeriesError: if no voxel of the patch is inside the volume.
    """
    start = patch_start(grid, center_mm, patch_shape)
    patch = volume.new_full((volume.shape[0], *patch_shape), pad_value)
    source, target = [slice(None)], [slice(None)]
    for first, length, size in zip(start, patch_shape, grid.shape, strict=True):
        low, high = max(first, 0), min(first + length, size)
        if low >= high:
            center = np.round(np.asarray(center_mm, dtype=np.float64), 2).tolist()
            raise SeriesError(
                f"no patch at {center} mm (LPS)",
                [f"it starts at index {start}, outside the volume of {grid.shape} voxels"],
            )
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    patch[tuple(target)] = volume[tuple(source)]
    return patch


class CropPatchd:
    """MONAI dictionary transform that crops a patch around a point and updates the affine.

    Args:
        key: key of the image, a `MetaTensor` [C, I, J, K].
        patch_shape: voxels along i, j, k.
        pad_value: fill value outside the volume, in the unit that the image has at this step.
    """

    def __init__(self, key: str, patch_shape: Shape, *, pad_value: float) -> None:
        declare_subclass(type(self), "monai.transforms", "MapTransform")
        self.key = key
        self.patch_shape = patch_shape
        self.pad_value = pad_value

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of the dictionary with the image cropped around `center_mm` (LPS)."""
        image, center_mm = data[self.key], np.asarray(data["center_mm"], dtype=np.float64)
        grid = scan_grid(image)
        patch = crop_patch(
            image.as_tensor(),
            grid,
            center_mm=center_mm,
            patch_shape=self.patch_shape,
            pad_value=self.pad_value,
        )
        start = patch_start(grid, center_mm, self.patch_shape)
        return {**data, self.key: on_grid(patch, grid.cropped(start, self.patch_shape), image)}
