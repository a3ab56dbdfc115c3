"""Pixels: windows, orientation, true millimetres."""

from dataclasses import replace

import display
import numpy as np
import pytest

from medkd.geometry import VoxelGrid
from medkd.types import DisplayWindow, Radiograph, Scan, SliceFact

LUNG = display.WINDOWS["lung"]


def plain_stack(shape=(40, 40, 5), spacing_mm=(1.0, 1.0, 2.0), voxels=None, **parts):
    grid = VoxelGrid.from_parts(shape, spacing_mm=spacing_mm, origin_mm=(0, 0, 0), **parts)
    voxels = np.zeros(shape, dtype=np.int16) if voxels is None else voxels
    return display.build_axial_stack(voxels, grid)


def test_a_window_maps_its_edges_to_black_and_white():
    table = display.build_look_up(LUNG)
    grey = table[np.array([-2000, -1350, -600, 150, 3000]) + 32768]
    assert grey.tolist() == [0, 0, 128, 255, 255]


def test_an_inverted_window_is_white_at_its_lower_edge():
    plain, inverted = display.build_look_up(LUNG), display.build_look_up(LUNG, inverted=True)
    assert (plain + inverted == 255).all()


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


def rotated(degrees):
    """Return axes that are tilted about the left-right axis, as by a tilted gantry."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])


def test_pictures_show_the_right_side_left_and_the_front_or_head_on_top():
    grid = plain_stack().grid
    sides = ("left", "right", "top", "bottom")
    shown = [[display.plane_letters(p, grid)[side] for side in sides] for p in display.PLANES]
    assert shown == [["R", "L", "A", "P"], ["R", "L", "H", "F"], ["A", "P", "H", "F"]]


def test_a_prone_patient_keeps_the_right_side_on_the_left():
    # Rotated by 180 degrees about the long axis: columns run to the right, rows to the front.
    direction = np.diag([-1.0, -1.0, 1.0])
    letters = display.plane_letters(display.PLANES[0], plain_stack(direction=direction).grid)
    assert (letters["left"], letters["top"]) == ("R", "A")


def test_the_tilt_of_an_oblique_plane_is_its_angle():
    grid = plain_stack(direction=rotated(20.0)).grid
    tilts = [display.plane_tilt_degrees(plane, grid) for plane in display.PLANES]
    assert tilts == pytest.approx([20.0, 20.0, 0.0], abs=1e-5)


def test_an_oblique_plane_is_named_by_both_of_its_letters():
    grid = plain_stack(direction=rotated(30.0)).grid
    assert display.plane_letters(display.PLANES[0], grid)["bottom"] == "PH"


def test_a_slab_is_slice_by_slice_and_row_by_row():
    voxels = np.arange(2 * 3 * 5, dtype=np.int16).reshape(2, 3, 5)
    stack = plain_stack((2, 3, 5), voxels=voxels)
    sent = np.frombuffer(stack.slab(3, 10), dtype="<i2").reshape(2, 3, 2)
    for k, row, column in np.ndindex(2, 3, 2):
        assert sent[k, row, column] == voxels[column, row, 3 + k]


def test_two_volumes_that_differ_in_one_voxel_have_two_ids():
    voxels = np.zeros((40, 40, 5), dtype=np.int16)
    other = voxels.copy()
    other[17, 3, 2] = 1
    assert plain_stack(voxels=voxels).volume_id == plain_stack(voxels=voxels.copy()).volume_id
    assert plain_stack(voxels=voxels).volume_id != plain_stack(voxels=other).volume_id


def test_the_same_voxels_at_another_place_have_another_id():
    assert plain_stack().volume_id != plain_stack(spacing_mm=(1.0, 1.0, 2.5)).volume_id


def test_the_nearest_slice_stays_inside_the_stack():
    stack = plain_stack()
    assert [stack.nearest_slice((0, 0, z)) for z in (-50, 0, 3.9, 500)] == [0, 0, 2, 4]


def test_a_radiograph_is_one_slice_of_grey_values_with_the_scale_of_its_header():
    pixels = np.array([[0.0, 0.5, 1.0], [1.0, 0.0, 0.0]], dtype=np.float32)
    stack = display.build_picture(pixels, spacing_mm=(0.2, 0.1))
    assert (stack.grid.shape, stack.is_picture, stack.scaled) == ((3, 2, 1), True, True)
    assert stack.voxels_hu[:, :, 0].T.tolist() == [[0, 2048, 4095], [4095, 0, 0]]
    assert stack.grid.spacing_mm.tolist() == [0.1, 0.2, 1.0]


def test_a_picture_without_a_scale_has_square_pixels_and_may_have_slices():
    stack = display.build_picture(np.zeros((4, 5, 6), dtype=np.float32))
    assert (stack.grid.shape, stack.scaled) == ((5, 4, 6), False)
    assert stack.grid.spacing_mm.tolist() == [1.0, 1.0, 1.0]


def test_the_window_of_the_header_follows_the_presets():
    stack = plain_stack()
    scan = Scan("s", stack.voxels_hu, stack.grid, "p")
    assert list(display.presets(display.open_stack(scan))) == list(display.WINDOWS)
    stack = display.open_stack(replace(scan, window=DisplayWindow(-500.0, 1400.0)))
    assert list(display.presets(stack).items())[-1] == ("header", display.Window(-500.0, 1400.0))


@pytest.mark.parametrize(
    ("window", "first"), [(DisplayWindow(2000.0, 4000.0), "header"), (None, "all")]
)
def test_the_pixels_of_a_radiograph_already_have_the_window_of_the_header(window, first):
    film = Radiograph("x", np.zeros((4, 5), np.float32), "p", window=window)
    presets = display.presets(display.open_picture(film))
    assert list(presets) == [first, "dark parts", "bright parts"]
    assert presets[first] == display.Window(2047.5, 4095.0)


def test_a_radiograph_has_the_letters_of_its_header():
    film = Radiograph("x", np.zeros((4, 5), np.float32), "p", orientation=("P", "FL"))
    edges = {"left": "A", "right": "P", "top": "HR", "bottom": "FL"}
    assert display.open_picture(film).edges == edges
    assert display.open_picture(replace(film, orientation=None)).edges is None


def test_the_slices_of_a_stack_name_their_dicom_images():
    # The scan is stored from the head down; the stack runs upwards.
    grid = VoxelGrid.from_parts((4, 4, 3), spacing_mm=(1, 1, 2), origin_mm=(0, 0, 0),
                                direction=np.diag([1.0, 1.0, -1.0]))  # fmt: skip
    facts = tuple(SliceFact(number) for number in (101, 102, 103))
    scan = Scan("s", np.zeros(grid.shape, np.int16), grid, "p", slices=facts)
    images = display.open_stack(scan).images
    assert images.words == ("image 103", "image 102", "image 101")
