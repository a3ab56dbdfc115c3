"""The lung field on phantoms, whose lungs are known."""

from dataclasses import replace

import numpy as np
import pytest

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.lungs import find_lungs
from medkd.synthetic.phantom import PhantomSettings, make_phantom
from medkd.types import Scan
from tests.lungs.scans import covered


def test_the_field_holds_the_lungs_and_every_nodule_in_them(phantom):
    field = find_lungs(phantom.scan)
    assert covered(phantom.scan, phantom.lung) > 0.99
    assert field.contains([n.center_mm for n in phantom.nodules]).all()
    true_litres = phantom.lung.sum() * np.prod(phantom.scan.grid.spacing_mm) / 1e6
    assert field.litres == pytest.approx(true_litres, rel=0.05)
    assert field.mask.sum() * np.prod(field.grid.spacing_mm) / 1e6 < 1.5 * true_litres


def test_the_box_holds_the_lungs_and_leaves_the_rest(phantom):
    box = find_lungs(phantom.scan).box
    assert phantom.lung[box].sum() == phantom.lung.sum()
    assert phantom.lung[box].size < 0.75 * phantom.lung.size


def test_axes_may_point_anywhere(phantom):
    scan = phantom.scan
    turned = scan.voxels_hu[::-1].transpose(2, 0, 1)
    affine = scan.grid.affine_lps_mm.copy()
    affine[:3, 3] = scan.grid.voxel_to_world([scan.grid.shape[0] - 1, 0, 0])
    affine[:3, 0] *= -1
    affine[:3, :3] = affine[:3, [2, 0, 1]]
    other = replace(scan, voxels_hu=turned, grid=VoxelGrid(turned.shape, affine))
    assert covered(other, phantom.lung[::-1].transpose(2, 0, 1)) > 0.99


def test_lungs_that_the_field_of_view_cuts_are_still_found(phantom):
    scan = phantom.scan
    cut = (slice(40, 110), slice(None), slice(15, 80))
    grid = scan.grid.cropped([40, 0, 15], scan.voxels_hu[cut].shape)
    narrow = replace(scan, voxels_hu=scan.voxels_hu[cut], grid=grid)
    assert phantom.lung[cut][0].any()
    assert covered(narrow, phantom.lung[cut]) > 0.95


def test_padding_outside_a_round_field_of_view_is_no_lung(phantom):
    scan = phantom.scan
    i, j = np.indices(scan.grid.shape[:2])
    middle = (np.asarray(scan.grid.shape[:2]) - 1) / 2
    outside = np.hypot(i - middle[0], j - middle[1]) > 0.46 * scan.grid.shape[0]
    padded = np.where(outside[..., None], np.int16(-2048), scan.voxels_hu)
    field = find_lungs(replace(scan, voxels_hu=padded))
    corner = scan.grid.voxel_to_world([0, 0, scan.grid.shape[2] // 2])
    assert not field.contains([corner])[0]
    assert covered(replace(scan, voxels_hu=padded), phantom.lung) > 0.99


@pytest.mark.parametrize(
    ("hu", "reason"),
    [(40, "no voxel lies between"), (-1000, "within the body"), (-3024, "no voxel lies")],
)
def test_a_scan_without_lungs_is_refused_with_its_reason(hu, reason):
    grid = VoxelGrid.from_parts((40, 40, 20), spacing_mm=[4, 4, 4], origin_mm=[0, 0, 0])
    scan = Scan("2.25.1", np.full(grid.shape, hu, dtype=np.int16), grid, "p")
    with pytest.raises(SeriesError, match="no lungs found") as refused:
        find_lungs(scan)
    assert reason in refused.value.reasons[0]


def test_a_pocket_of_gas_is_no_lung():
    grid = VoxelGrid.from_parts((60, 60, 40), spacing_mm=[4, 4, 4], origin_mm=[0, 0, 0])
    voxels = np.full(grid.shape, 40, dtype=np.int16)
    voxels[20:40, 20:40, 10:30] = -995
    with pytest.raises(SeriesError, match="no lungs found") as refused:
        find_lungs(Scan("2.25.1", voxels, grid, "p"))
    assert "-995 HU" in refused.value.reasons[0]


def airway_mm(phantom) -> np.ndarray:
    """Return points in the trachea [N, 3]: air near the midline, high and not in the lungs."""
    scan = phantom.scan
    lung_mm = scan.grid.voxel_to_world(np.argwhere(phantom.lung))
    low, high = lung_mm.min(axis=0), lung_mm.max(axis=0)
    points = scan.grid.voxel_to_world(np.argwhere((scan.voxels_hu < -900) & ~phantom.lung))
    inside = (points > low + 0.2 * (high - low)) & (points < high)
    midline = np.abs(points[:, 0] - (low[0] + high[0]) / 2) < 15
    upper = points[:, 2] > low[2] + 0.6 * (high[2] - low[2])
    return points[inside.all(axis=1) & midline & upper]


@pytest.mark.parametrize("site", ["a", "b"])
def test_the_trachea_is_not_part_of_the_field(site):
    chest = make_phantom(PhantomSettings(site=site, seed=6), 0)
    points = airway_mm(chest)
    assert len(points) > 500
    assert find_lungs(chest.scan).contains(points).mean() < 0.05


def test_a_gap_in_the_chest_wall_does_not_join_the_air_around_the_patient(phantom):
    scan = phantom.scan
    lung = np.argwhere(phantom.lung)
    i, _, k = np.rint(lung[lung[:, 0] < 70].mean(axis=0)).astype(int)
    voxels = scan.voxels_hu.copy()
    front = np.flatnonzero(phantom.lung[i, :, k])[0]
    voxels[i - 3 : i + 4, : front + 1, k - 3 : k + 4] = -1000
    field = find_lungs(replace(scan, voxels_hu=voxels))
    assert field.litres == pytest.approx(find_lungs(scan).litres, rel=0.02)
    assert not field.contains([scan.grid.voxel_to_world([i, 0, k])])[0]


def test_bowel_gas_that_touches_a_lung_is_left_out(phantom):
    scan = phantom.scan
    (i, j, k) = np.argwhere(phantom.lung)[np.argwhere(phantom.lung)[:, 2].argmin()]
    index = np.indices(scan.grid.shape) - np.array([i, j, k]).reshape(3, 1, 1, 1)
    away_mm = np.linalg.norm(index * scan.grid.spacing_mm.reshape(3, 1, 1, 1), axis=0)
    below = index[2] * scan.grid.spacing_mm[2] < 0
    bubble = (away_mm < 28) & below
    voxels = np.where(bubble, np.int16(-1000), scan.voxels_hu)
    assert bubble.sum() * np.prod(scan.grid.spacing_mm) > 20_000
    field = find_lungs(replace(scan, voxels_hu=voxels))
    deep_mm = scan.grid.voxel_to_world(np.argwhere(bubble & (index[2] < -5)))
    assert field.contains(deep_mm).mean() < 0.1


@pytest.mark.parametrize("diameter_mm", [40, 70])
def test_a_consolidation_at_the_chest_wall_is_kept(phantom, diameter_mm):
    scan = phantom.scan
    lung = np.argwhere(phantom.lung)
    at_height = lung[np.abs(lung[:, 2] - np.median(lung[:, 2])) < 2]
    outermost = at_height[at_height[:, 0].argmin()].reshape(3, 1, 1, 1)
    offset = (np.indices(scan.grid.shape) - outermost) * scan.grid.spacing_mm.reshape(3, 1, 1, 1)
    dense = (np.linalg.norm(offset, axis=0) < diameter_mm / 2) & phantom.lung
    consolidated = replace(scan, voxels_hu=np.where(dense, np.int16(30), scan.voxels_hu))
    # A morphological closing by 12 mm alone keeps a half and a quarter of them.
    assert covered(consolidated, dense) > 0.9


def test_a_trachea_with_too_little_lung_is_refused():
    grid = VoxelGrid.from_parts((120, 60, 60), spacing_mm=[2, 4, 4], origin_mm=[0, 0, 0])
    voxels = np.full(grid.shape, 40, dtype=np.int16)
    voxels[55:64, 28:33, :] = -990
    voxels[64:94, 25:35, 20:30] = -800
    with pytest.raises(SeriesError, match="no lungs found") as refused:
        find_lungs(Scan("2.25.1", voxels, grid, "p"))
    assert "airways" in refused.value.reasons[0]
