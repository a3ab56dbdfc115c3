"""Which DICOM image a slice is, in whatever order the series is stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medkd.geometry import AxisOrder
from medkd.io.axial import to_axial
from medkd.review.slice_images import SliceImages, slice_images
from medkd.types import Scan, SliceFact
from tests.io.volume_helper import make_scan, oblique_grid

FACTS = tuple(SliceFact(number) for number in (30, 20, 10))


def numbered(*, flip: bool = False) -> Scan:
    return replace(make_scan(oblique_grid((5, 4, 3), flip=flip)), slices=FACTS)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flipped", [(False, False, False), (True, False, True)])
def test_a_voxel_keeps_its_image_when_axes_are_reordered_and_flipped(order, flipped):
    scan = numbered()
    grid = scan.grid.reordered(order, flipped)
    images = slice_images(scan, grid)
    assert images is not None
    for k, fact in enumerate(FACTS):
        place_mm = tuple(scan.grid.voxel_to_world((2, 1, k)))
        assert images.at(grid, place_mm) == f"image {fact.instance_number}"


def test_the_images_of_a_sagittal_series_are_counted_from_side_to_side():
    stored = numbered()
    turned = stored.grid.reordered((1, 2, 0), (False, False, False))
    voxels = AxisOrder((1, 2, 0), (False, False, False)).apply(stored.voxels_hu)
    scan = to_axial(replace(stored, voxels_hu=np.asarray(voxels), grid=turned,
                            slices=tuple(map(SliceFact, range(1, 6)))))  # fmt: skip
    images = slice_images(scan, scan.grid)
    assert images is not None
    assert images.axis != 2
    for k in range(5):
        assert images.at(scan.grid, tuple(turned.voxel_to_world((0, 0, k)))) == f"image {k + 1}"


def test_a_point_outside_the_scan_has_no_image():
    scan = numbered()
    images = slice_images(scan, scan.grid)
    assert images is not None
    assert images.at(scan.grid, tuple(scan.grid.voxel_to_world((0, 0, 5)))) == ""


def test_frames_of_an_enhanced_image_are_counted_and_a_volume_file_has_no_images():
    frames = tuple(SliceFact(1, "1.2.3", number) for number in (3, 1, 2))
    scan = numbered()
    assert slice_images(replace(scan, slices=()), scan.grid) is None
    assert slice_images(replace(scan, slices=(SliceFact(),) * 3), scan.grid) is None
    found = slice_images(replace(scan, slices=frames), scan.grid)
    assert found == SliceImages(2, ("frame 3", "frame 1", "frame 2"))
