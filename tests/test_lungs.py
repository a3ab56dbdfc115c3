"""The lung field: on phantoms, whose lungs are known, and on real scans."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.lungs import find_lungs, lungs_in_view
from medkd.synthetic.phantom import PhantomSettings, make_phantom
from medkd.types import Scan
from tests.real_data import needs_data


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomSettings(site="b", seed=5, nodules_per_scan="6-6"), 0)


def covered(scan: Scan, lung: np.ndarray) -> float:
    index = np.argwhere(lung)[::23]
    return float(find_lungs(scan).contains(scan.grid.voxel_to_world(index)).mean())


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


def part(scan: Scan, *cut: slice) -> Scan:
    voxels = scan.voxels_hu[cut]
    starts = [piece.start or 0 for piece in cut]
    return replace(scan, voxels_hu=voxels, grid=scan.grid.cropped(starts, voxels.shape))


WHOLE = slice(None)


@pytest.mark.parametrize("site", ["a", "b"])
def test_whole_lungs_are_in_view_however_the_axes_run(site):
    scan = make_phantom(PhantomSettings(site=site), 1).scan
    assert lungs_in_view(scan) == []
    turned = VoxelGrid(scan.grid.shape[::-1], scan.grid.affine_lps_mm[:, [2, 1, 0, 3]])
    assert lungs_in_view(Scan("t", scan.voxels_hu.transpose(2, 1, 0), turned, "p")) == []


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        ((WHOLE, WHOLE, slice(0, 55)), "cut off at the top"),
        ((WHOLE, WHOLE, slice(45, None)), "cut off at the bottom"),
        ((WHOLE, WHOLE, slice(40, 60)), "cut off at the"),
        ((slice(45, None), WHOLE, WHOLE), "touch a side of the field of view"),
        ((WHOLE, WHOLE, slice(0, 8)), "no lungs found"),
    ],
)
def test_lungs_that_are_cut_off_are_not_in_view(phantom, cut, words):
    reasons = lungs_in_view(part(phantom.scan, *cut))
    assert reasons
    assert all(reason.startswith("lungs_not_in_view: ") for reason in reasons)
    assert any(words in reason for reason in reasons)


def test_top_and_bottom_are_named_by_the_world(phantom):
    scan = part(phantom.scan, WHOLE, WHOLE, slice(45, None))
    affine = scan.grid.affine_lps_mm.copy()
    affine[:3, 2] *= -1
    upside_down = replace(scan, grid=VoxelGrid(scan.grid.shape, affine))
    assert "at the top" in lungs_in_view(upside_down)[0]


def test_lungs_cut_by_a_round_field_of_view_are_not_in_view(phantom):
    scan = phantom.scan
    i, j = np.indices(scan.grid.shape[:2])
    middle = (np.asarray(scan.grid.shape[:2]) - 1) / 2
    narrow = np.hypot(i - middle[0], j - middle[1]) > 0.36 * scan.grid.shape[0]
    padded = np.where(narrow[..., None], np.int16(-2000), scan.voxels_hu)
    assert "touch a side" in lungs_in_view(replace(scan, voxels_hu=padded))[0]


@needs_data
def test_real_scans_show_their_lungs_or_not():
    from medkd.io.dicom.series import read_dicom_folder
    from medkd.io.volume import read_volume

    root = Path(os.environ["MEDKD_DATA"])
    chest = read_dicom_folder(root / "ct_dicom")
    assert lungs_in_view(chest) == []
    assert lungs_in_view(read_volume(root / "ct_lung1" / "lung1_image.nrrd")) == []
    assert "at the top" in lungs_in_view(part(chest, WHOLE, WHOLE, slice(0, 30)))[0]
    for excerpt in (root / "lidc" / "series_excerpts").glob("LIDC*/*/*"):
        assert lungs_in_view(read_dicom_folder(excerpt))


@needs_data
def test_the_field_of_a_real_chest_holds_its_lung_mask():
    from medkd.io.volume import read_volume

    folder = Path(os.environ["MEDKD_DATA"]) / "ct_small"
    scan = read_volume(folder / "ct-64.nrrd")
    lung = read_volume(folder / "wholeLung-64.nrrd").voxels_hu > 0
    assert covered(scan, lung) > 0.99
    field = find_lungs(scan)
    assert field.mask.sum() * np.prod(field.grid.spacing_mm) < 1.35 * lung.sum() * np.prod(
        scan.grid.spacing_mm
    )
