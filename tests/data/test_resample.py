"""Slab spacing: the same places and values as MONAI's Spacingd, and right by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medkd.data.monai_bridge import scan_grid, to_meta_tensor
from medkd.data.resample import SlabSpacingd, resample_volume, spaced_grid
from medkd.geometry import VoxelGrid
from tests.io.volume_helper import grids, make_scan, oblique_grid

SPACINGS = st.tuples(*[st.floats(0.4, 4.0)] * 3)


def monai_spacing(image: object, spacing_mm: tuple, dtype: type = np.float64) -> object:
    from monai.transforms import Spacingd

    transform = Spacingd("image", pixdim=spacing_mm, mode="bilinear", dtype=dtype)
    return transform({"image": image})["image"]


def has_half_a_voxel(grid: VoxelGrid, spacing_mm: tuple) -> bool:
    """Whether the last bit of a number decides how many voxels an axis gets."""
    counts = (np.asarray(grid.shape) - 1) * grid.spacing_mm / np.asarray(spacing_mm)
    return bool((np.abs(counts % 1 - 0.5) < 1e-6).any())


@given(grids(largest=9), SPACINGS)
@settings(deadline=None, max_examples=40)
def test_whole_hu_are_within_a_half_of_monai(grid: VoxelGrid, spacing_mm: tuple) -> None:
    assume(not has_half_a_voxel(grid, spacing_mm))
    image = to_meta_tensor(make_scan(grid))
    ours = SlabSpacingd("image", spacing_mm)({"image": image})["image"]
    theirs = monai_spacing(image, spacing_mm)
    assert ours.dtype == torch.int16
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-6)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=0.52)


@pytest.mark.parametrize("layout", [(0, 1, 2), (2, 1, 0), (2, 0, 1)])
@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (0.5, 2.0, 0.9), (3.0, 0.4, 2.0)])
def test_floats_equal_monai_in_any_memory_layout(layout: tuple, spacing_mm: tuple) -> None:
    grid = oblique_grid((37, 41, 23), flip=True)  # longer than a slab along every axis
    image = to_meta_tensor(make_scan(grid))
    # In memory the axes lie in the order of `layout`, slowest first; the indices stay (i, j, k).
    values = image.as_tensor()[0].float().permute(layout).contiguous()
    values = values.permute(*np.argsort(layout).tolist())[None]
    ours = resample_volume(values, grid, spacing_mm)
    np.testing.assert_allclose(ours, monai_spacing(image, spacing_mm).numpy(), atol=0.1)


@given(grids(largest=20), SPACINGS)
@settings(deadline=None, max_examples=30)
def test_a_ramp_through_the_world_stays_that_ramp(grid: VoxelGrid, spacing_mm: tuple) -> None:
    """Linear interpolation is exact on a linear function, so values name their own places."""
    slope = np.array([0.3, -0.7, 1.1])
    volume = grid.voxel_to_world(np.indices(grid.shape).reshape(3, -1).T) @ slope
    fine = spaced_grid(grid, spacing_mm)
    got = resample_volume(
        torch.from_numpy(volume.reshape(1, *grid.shape)), grid, spacing_mm
    ).numpy()[0]
    places_vox = np.indices(fine.shape).reshape(3, -1).T
    inside = grid.world_to_voxel(fine.voxel_to_world(places_vox)) <= np.array(grid.shape) - 1
    expected = fine.voxel_to_world(places_vox) @ slope
    kept = inside.all(axis=1)
    np.testing.assert_allclose(got.ravel()[kept], expected[kept], atol=1e-6)


def test_outside_the_last_voxel_the_border_holds() -> None:
    # 3 voxels of 1 mm at 0.8 mm: places 0, .8, 1.6, 2.4 (round(2 / .8 + 1) = 4); 2.4 is held at 2.
    grid = VoxelGrid.from_parts((3, 1, 1), spacing_mm=[1, 1, 1], origin_mm=[0, 0, 0])
    values = torch.tensor([0.0, 10.0, 20.0]).reshape(1, 3, 1, 1)
    got = resample_volume(values, grid, [0.8, 1, 1]).flatten()
    np.testing.assert_allclose(got, [0, 8, 16, 20], atol=1e-4)


def test_a_spacing_that_is_right_already_changes_nothing() -> None:
    grid = oblique_grid()
    volume = to_meta_tensor(make_scan(grid)).as_tensor()
    got = resample_volume(volume, grid, [0.7004, 0.8, 1.9995])
    assert torch.equal(got, volume)
    assert got.data_ptr() != volume.data_ptr()
    np.testing.assert_array_equal(spaced_grid(grid, [0.7, 0.8, 2]).shape, grid.shape)


def test_channels_are_resampled_alike() -> None:
    grid = oblique_grid()
    one = to_meta_tensor(make_scan(grid)).as_tensor()
    both = resample_volume(torch.cat([one, -one]), grid, [1, 1, 1])
    assert torch.equal(both[:1], resample_volume(one, grid, [1, 1, 1]))
    assert torch.equal(both[1], -both[0])


@pytest.mark.parametrize("spacing_mm", [(1, 1, 0), (1, 1), (1, -1, 1)])
def test_a_senseless_spacing_is_a_programming_error(spacing_mm: tuple) -> None:
    with pytest.raises(ValueError, match="three positive"):
        spaced_grid(oblique_grid(), spacing_mm)


def test_a_volume_of_another_shape_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="as the grid"):
        resample_volume(torch.zeros(1, 2, 2, 2), oblique_grid(), [1, 1, 1])


def test_the_transform_is_one_of_monai_and_leaves_its_input() -> None:
    from monai.transforms import MapTransform

    transform = SlabSpacingd("image", (1, 1, 1))
    data = {"image": to_meta_tensor(make_scan(oblique_grid())), "other": 7}
    before = data["image"].clone()
    changed = transform(data)
    assert isinstance(transform, MapTransform)
    assert changed["other"] == 7
    assert torch.equal(data["image"], before)
    assert changed["image"].meta["seriesuid"] == "1.2.3"
    np.testing.assert_allclose(scan_grid(changed["image"]).spacing_mm, 1.0)


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (0.5, 2.0, 0.9), (3.0, 0.4, 2.0)])
def test_a_box_is_the_same_part_of_the_whole(spacing_mm: tuple) -> None:
    grid = oblique_grid((37, 41, 23), flip=True)
    values = torch.from_numpy(make_scan(grid).voxels_hu).float()[None]
    whole = resample_volume(values, grid, spacing_mm)
    box = tuple(slice(size // 3, size // 3 + size // 2) for size in whole.shape[1:])
    part = resample_volume(values, grid, spacing_mm, box)
    torch.testing.assert_close(part, whole[(slice(None), *box)], rtol=0, atol=0.1)
