"""The DICOM images of a scan's slices, as a PACS counts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medkd.geometry import VoxelGrid
from medkd.types import Point, Scan, SliceFact


@dataclass(frozen=True, slots=True)
class SliceImages:
    """The images along one axis of a grid: `words` has one text per slice, such as "image 107".

    The slices of a sagittal or coronal series do not lie along the axial axis (2). A text is empty
    if the header has no number.
    """

    axis: int
    words: tuple[str, ...]

    def at(self, grid: VoxelGrid, center_mm: Point) -> str:
        """Return the image that contains a point (LPS mm); empty if none does, or it is unknown.

        Args:
            grid: the grid along which the images are counted.
            center_mm: the point.
        """
        number = round(float(grid.world_to_voxel(center_mm)[self.axis]))
        return self.words[number] if 0 <= number < len(self.words) else ""


def slice_images(scan: Scan, grid: VoxelGrid) -> SliceImages | None:
    """Return the images of a scan's slices; None if they are not DICOM images with numbers.

    Args:
        scan: a scan as its reader returned it.
        grid: the same voxels with axes in any order.
    """
    words = [_words(fact) for fact in scan.slices]
    if not any(words):
        return None
    stored = scan.stored_grid or scan.grid
    ends = stored.voxel_to_world([[0, 0, 0], [0, 0, 1]])
    first, second = grid.world_to_voxel(ends)
    axis = int(np.argmax(np.abs(second - first)))
    return SliceImages(axis, tuple(words if second[axis] > first[axis] else reversed(words)))


def _words(fact: SliceFact) -> str:
    """Name an image by its number, or by its frame if the whole series is one image."""
    if fact.frame_number is not None:
        return f"frame {fact.frame_number}"
    return "" if fact.instance_number is None else f"image {fact.instance_number}"
