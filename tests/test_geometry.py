"""One frame: index to LPS mm and back, on oblique, flipped and anisotropic grids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medkd.geometry import AxisOrder, VoxelGrid, lps_to_ras
from tests.spheres import sphere_mask


@st.composite
def grids(draw: st.DrawFn) -> VoxelGrid:
    size = st.integers(1, 40)
    angles = [draw(st.floats(-180, 180)) for _ in range(3)]
    flips = np.diag([draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)])
    return VoxelGrid.from_parts(
        (draw(size), draw(size), draw(size)),
        spacing_mm=[draw(st.floats(0.3, 5.0)) for _ in range(3)],
        origin_mm=[draw(st.floats(-500, 500)) for _ in range(3)],
        direction=Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ flips,
    )


@given(grids(), st.tuples(*[st.floats(-600, 600)] * 3))
def test_world_to_voxel_to_world_is_identity(grid: VoxelGrid, point_mm: tuple) -> None:
    back = grid.voxel_to_world(grid.world_to_voxel(point_mm))
    np.testing.assert_allclose(back, point_mm, atol=1e-6)


@given(grids())
def test_spacing_and_direction_rebuild_the_affine(grid: VoxelGrid) -> None:
    again = VoxelGrid.from_parts(
        grid.shape,
        spacing_mm=grid.spacing_mm,
        origin_mm=grid.origin_mm,
        direction=grid.direction,
    )
    np.testing.assert_allclose(again.affine_lps_mm, grid.affine_lps_mm, atol=1e-9)


def test_a_point_of_a_flipped_grid_is_where_the_hand_says() -> None:
    # Axis i runs to the patient's right (-x), 2 mm a voxel, from x = 10: voxel 3 is x = 10 - 6.
    grid = VoxelGrid.from_parts(
        (5, 5, 5), spacing_mm=[2, 1, 1], origin_mm=[10, 0, 0], direction=np.diag([-1.0, 1, 1])
    )
    np.testing.assert_allclose(grid.voxel_to_world([3, 0, 0]), [4, 0, 0])


def test_cropping_moves_the_origin_to_the_first_kept_voxel() -> None:
    grid = VoxelGrid.from_parts((9, 9, 9), spacing_mm=[1, 2, 3], origin_mm=[0, 0, 0])
    np.testing.assert_allclose(grid.cropped([1, 1, -1], (3, 3, 3)).origin_mm, [1, 2, -3])


def test_contains_world_reaches_half_a_voxel_beyond_the_centres() -> None:
    grid = VoxelGrid.from_parts((4, 4, 4), spacing_mm=[2, 2, 2], origin_mm=[0, 0, 0])
    inside = grid.contains_world([[-0.9, 0, 0], [-1.1, 0, 0], [6.9, 6.9, 6.9], [7.1, 0, 0]])
    assert inside.tolist() == [True, False, True, False]


def test_the_ras_flip_is_its_own_inverse() -> None:
    affine = np.array([[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 10, 12, 12], [0, 0, 0, 1]])
    np.testing.assert_array_equal(lps_to_ras(lps_to_ras(affine)), affine)


@given(st.floats(8, 10))
def test_a_sphere_has_its_volume_on_an_oblique_grid(diameter: float) -> None:
    grid = VoxelGrid.from_parts(
        (48, 40, 30),
        spacing_mm=[0.5, 0.6, 0.8],
        origin_mm=[-12, -12, -12],
        direction=Rotation.from_euler("z", 30, degrees=True).as_matrix(),
    )
    center = grid.voxel_to_world([24, 20, 15])
    volume = sphere_mask(grid, center, diameter).sum() * 0.5 * 0.6 * 0.8
    assert volume == pytest.approx(np.pi / 6 * diameter**3, rel=0.05)


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan)])
def test_a_degenerate_affine_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(ValueError, match="affine"):
        VoxelGrid((2, 2, 2), affine)


def test_an_empty_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="three positive sizes"):
        VoxelGrid((2, 0, 2), np.eye(4))


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [(0, 1, 0.3), (2, 0, -0.05), (1, 2, 0.004), (0, 0, 0.0), (1, 1, np.nan), (0, 3, np.inf)],
)
def test_a_sheared_or_degenerate_grid_is_refused(row: int, column: int, value: float) -> None:
    affine = np.eye(4)
    affine[row, column] = value
    with pytest.raises(ValueError, match=r"expected|finite"):
        VoxelGrid((2, 2, 2), affine)


def test_a_grid_may_be_left_handed_and_rounded() -> None:
    affine = np.diag([-0.7, 0.8, 2.0, 1.0])
    affine[0, 1] = 0.8 * 1e-3  # rounding of direction cosines
    assert VoxelGrid((2, 2, 2), affine).spacing_mm == pytest.approx([0.7, 0.8, 2.0], rel=1e-5)


@pytest.mark.parametrize("spacing", [(1, -1, 1), (0, 1, 1), (np.nan, 1, 1), (1, 1)])
def test_spacings_that_are_not_positive_are_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="three positive spacings"):
        VoxelGrid.from_parts((2, 2, 2), spacing_mm=spacing, origin_mm=(0, 0, 0))


@given(grids())
def test_axes_in_anatomical_order_run_left_back_and_up(grid: VoxelGrid) -> None:
    order = AxisOrder.to_lps(grid)
    turned = grid.reordered(order.axes, order.flipped)
    assert (np.diag(turned.direction) > -1e-9).all()
    assert turned.direction[2, 2] == pytest.approx(np.abs(grid.direction[2]).max())


@given(grids())
def test_a_reordering_keeps_every_voxel_in_place_and_can_be_undone(grid: VoxelGrid) -> None:
    order = AxisOrder.to_lps(grid)
    values = np.arange(24).reshape(2, 3, 4)
    small = VoxelGrid((2, 3, 4), grid.affine_lps_mm)
    turned = order.apply(values)
    point_mm = small.reordered(order.axes, order.flipped).voxel_to_world(np.argwhere(turned == 17))
    np.testing.assert_allclose(point_mm, small.voxel_to_world(np.argwhere(values == 17)), atol=1e-6)
    assert (order.undo(turned) == values).all()
