"""Pixels: windows, orientation, true millimetres."""

import io

import display
import numpy as np
import pytest
from PIL import Image

from medkd.geometry import VoxelGrid

WIDE = display.Window(0.0, 2000.0)
RED = (255, 0, 0)


def picture(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def red_extent_px(png):
    """Width and height in pixels of everything drawn in pure red."""
    pixels = picture(png)
    rows, columns = np.nonzero((pixels[..., 0] > 200) & (pixels[..., 1:] < 60).all(axis=-1))
    return columns.max() - columns.min() + 1, rows.max() - rows.min() + 1


def plain_stack(shape=(40, 40, 5), spacing_mm=(1.0, 1.0, 2.0), **parts):
    grid = VoxelGrid.from_parts(shape, spacing_mm=spacing_mm, origin_mm=(0, 0, 0), **parts)
    return display.build_axial_stack(np.zeros(shape, dtype=np.int16), grid)


def test_a_window_maps_its_edges_to_black_and_white():
    values = np.array([-2000, -1350, -600, 150, 3000], dtype=np.int16)
    grey = display.apply_window(values, display.WINDOWS["lung"])
    assert grey.tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(
    ("vector", "letters"),
    [((1, 0, 0), "L"), ((-1, 0, 0), "R"), ((0, 1, 0), "P"), ((0, 0, -1), "F"),
     ((0.8, 0.0, 0.6), "LH"), ((0.99, 0.1, 0.1), "L")],
)  # fmt: skip
def test_directions_are_named_by_the_side_of_the_body_they_point_to(vector, letters):
    assert display.direction_letters(np.array(vector)) == letters


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_any_axis_order_and_flip_is_turned_to_left_back_head(order, signs):
    # One bright voxel at a known LPS point must be found there after turning.
    direction = np.eye(3)[:, list(order)] * np.array(signs)
    grid = VoxelGrid.from_parts((4, 5, 6), spacing_mm=(1, 2, 3), origin_mm=(7, 8, 9),
                                direction=direction)  # fmt: skip
    voxels = np.zeros(grid.shape, dtype=np.int16)
    voxels[1, 3, 2] = 1000
    stack = display.build_axial_stack(voxels, grid)
    found = np.argwhere(stack.voxels_hu == 1000)[0]
    np.testing.assert_allclose(stack.grid.voxel_to_world(found), grid.voxel_to_world((1, 3, 2)))
    np.testing.assert_allclose(stack.grid.direction, np.eye(3), atol=1e-12)
    assert stack.voxels_hu.base is not None


def test_the_patients_right_side_and_front_are_at_the_left_and_top_of_the_picture():
    grid = VoxelGrid.from_parts((20, 20, 3), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    voxels = np.full(grid.shape, -1000, dtype=np.int16)
    voxels[2:6, 2:6, 1] = 1000  # small x = right, small y = front
    png = display.draw_slice(display.build_axial_stack(voxels, grid), 1, window=WIDE)
    assert (picture(png)[100:210, 100:210, 0] > 200).all()
    assert picture(png)[500:700, 500:700].max() == 0


def test_a_slice_of_long_voxels_is_drawn_with_square_millimetres():
    # 40 columns of .5 mm, 40 rows of 1 mm: half as wide as high.
    stack = plain_stack(spacing_mm=(0.5, 1.0, 2.0))
    assert picture(display.draw_slice(stack, 0, window=WIDE)).shape == (760, 380, 3)


def test_a_ring_has_the_diameter_of_its_sphere_in_both_directions():
    # 40 mm across 760 px: 19 px a mm; 10 mm are 190 px, plus the line on each side.
    stack = plain_stack(shape=(80, 40, 5), spacing_mm=(0.5, 1.0, 2.0))
    ring = display.Ring((20.0, 20.0, 4.0), 10.0, "", RED)
    width, height = red_extent_px(display.draw_slice(stack, 2, window=WIDE, rings=[ring]))
    assert width == pytest.approx(194, abs=3)
    assert height == pytest.approx(194, abs=3)


def test_a_ring_is_centred_on_its_voxel():
    # Voxel (10, 30) of 40: its middle is at 10.5/40 and 30.5/40 of 760 px.
    ring = display.Ring((10.0, 30.0, 4.0), 4.0, "", RED)
    pixels = picture(display.draw_slice(plain_stack(), 2, window=WIDE, rings=[ring]))
    rows, columns = np.nonzero((pixels[..., 0] > 200) & (pixels[..., 1] < 60))
    assert (columns.min() + columns.max()) / 2 == pytest.approx(199.0, abs=1.0)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(579.0, abs=1.0)


def test_the_cut_of_a_sphere_shrinks_away_from_its_middle():
    # Radius 5 mm, 3 mm from the centre: sqrt(25 - 9) = 4 mm.
    assert display.section_radius_mm(10.0, 3.0, 1.0) == pytest.approx(4.0)
    assert display.section_radius_mm(10.0, 5.5, 1.0) == 0.0


def test_a_small_sphere_between_two_thick_slices_is_never_lost():
    assert display.section_radius_mm(3.0, 2.4, 5.0) == 1.5


def test_the_first_of_two_rings_at_one_place_is_on_top():
    rings = [display.Ring((20.0, 20.0, 4.0), 9.0, "", color) for color in (RED, (0, 255, 0))]
    pixels = picture(display.draw_slice(plain_stack(), 2, window=WIDE, rings=rings))
    assert (pixels == RED).all(axis=-1).any()
    assert not (pixels == (0, 255, 0)).all(axis=-1).any()


def test_a_ring_of_another_slice_is_not_drawn():
    ring = display.Ring((20.0, 20.0, 8.0), 4.0, "", RED)
    stack = plain_stack()
    with_ring = display.draw_slice(stack, 0, window=WIDE, rings=[ring])
    assert with_ring == display.draw_slice(stack, 0, window=WIDE)


def test_the_nearest_slice_stays_inside_the_stack():
    stack = plain_stack()
    assert [stack.nearest_slice((0, 0, z)) for z in (-50, 0, 3.9, 500)] == [0, 0, 2, 4]


def test_a_small_radiograph_keeps_its_pixels_visible_as_squares():
    pixels = np.zeros((28, 28), dtype=np.float32)
    pixels[0, 0] = 1.0
    shown = picture(display.draw_image(pixels))
    assert shown.shape == (760, 760, 3)
    assert set(np.unique(shown)) == {0, 255}


def test_a_picture_travels_as_a_data_uri():
    uri = display.data_uri(display.draw_image(np.zeros((4, 4), dtype=np.float32)))
    assert uri.startswith("data:image/png;base64,iVBOR")
