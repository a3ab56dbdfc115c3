"""Slices that were swapped, zeroed or numbered otherwise; and geometry under any orientation."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.axial import to_axial
from medkd.io.dicom.header import read_headers
from medkd.io.dicom.order import SWAP_RATIO_REFORMATTED, misplaced
from medkd.io.dicom.series import places_of, read_dicom_folder
from medkd.io.dicom.write import write_dicom_series
from medkd.io.file_ref import FileRef
from medkd.synthetic.phantom import PhantomSettings, make_phantom
from medkd.types import Scan
from tests.io.dicom_helper import write_ct_series
from tests.io.volume_helper import make_scan, oblique_grid
from tests.real_data import needs_data


@pytest.fixture(scope="module", params=["a", "b"])
def chest(request) -> np.ndarray:
    scan = make_phantom(PhantomSettings(site=request.param), 0).scan
    return np.ascontiguousarray(scan.voxels_hu.transpose(2, 1, 0))


def swapped(slices: np.ndarray, one: int, other: int) -> np.ndarray:
    order = np.arange(len(slices))
    order[[one, other]] = order[[other, one]]
    return slices[order]


def test_a_chest_in_order_has_no_slice_out_of_place(chest: np.ndarray) -> None:
    assert misplaced(chest) == []
    assert misplaced(chest[::-1]) == []


@pytest.mark.parametrize(("one", "other"), [(40, 41), (40, 42), (30, 33), (20, 28), (10, 80)])
def test_two_slices_swapped_are_found(chest: np.ndarray, one: int, other: int) -> None:
    assert misplaced(swapped(chest, one, other)) == [one, other]


def test_slices_in_no_order_at_all_are_found(chest: np.ndarray) -> None:
    assert len(misplaced(np.random.default_rng(0).permutation(chest))) > 20


@pytest.mark.parametrize("shape", [(30, 64, 64), (300, 64, 64), (30, 20, 20)])
def test_noise_says_nothing_of_the_order(shape: tuple) -> None:
    assert misplaced(np.random.default_rng(0).integers(-1000, 400, shape, np.int16)) == []


def test_an_object_in_one_slice_of_an_even_volume_is_no_swap() -> None:
    slices = np.full((20, 64, 64), -850, np.int16)
    slices[7, 10:30, 10:30] = 40
    assert misplaced(slices) == []


@needs_data
def test_a_real_chest_is_in_order_until_it_is_not() -> None:
    scan = read_dicom_folder(Path(os.environ["MEDKD_DATA"]) / "ct_dicom")
    slices = scan.voxels_hu.transpose(2, 1, 0)
    for one, other in ((50, 51), (20, 26), (60, 90)):
        assert misplaced(swapped(slices, one, other)) == [one, other]


@pytest.fixture(scope="module")
def archive(tmp_path_factory, chest) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("chest")
    few = chest[30:60, ::2, ::2].transpose(2, 1, 0)
    grid = VoxelGrid.from_parts(few.shape, spacing_mm=[4, 4, 2], origin_mm=[0, 0, 0])
    scan = Scan("1.2.3", few, grid, "p")
    return tuple(write_dicom_series(scan, folder, patient_name="A^B", patient_id="1"))


def with_changes(paths: tuple[Path, ...], folder: Path, *changed: tuple[int, dict]) -> list[str]:
    """Copy the archive with some attributes set; return the reasons for which it is refused."""
    for path in paths:
        (folder / path.name).write_bytes(path.read_bytes())
    for k, values in changed:
        dataset = pydicom.dcmread(folder / paths[k].name)
        for name, value in values.items():
            setattr(dataset, name, value)
        dataset.save_as(folder / paths[k].name)
    with pytest.raises(SeriesError) as refusal:
        read_dicom_folder(folder)
    return list(refusal.value.reasons)


@pytest.mark.parametrize("name", ["PixelData", "ImagePositionPatient"])
def test_swapped_pixels_or_positions_are_refused_by_name(archive, tmp_path, name: str) -> None:
    datasets = {k: pydicom.dcmread(archive[k]) for k in (8, 12)}
    values = {k: {name: datasets[other][name].value} for k, other in ((8, 12), (12, 8))}
    (reason,) = with_changes(archive, tmp_path, *values.items())
    assert reason.startswith("disordered_slices: ")
    assert archive[8].name in reason
    assert archive[12].name in reason


def test_a_slice_of_zeros_is_refused_by_name(archive, tmp_path: Path) -> None:
    zeros = bytes(len(pydicom.dcmread(archive[5]).PixelData))
    reasons = with_changes(archive, tmp_path, (5, {"PixelData": zeros}))
    assert reasons == [f"blank_slices: {archive[5].name}: all pixels are 0"]


def test_an_even_background_of_zeros_is_no_fault(tmp_path: Path) -> None:
    grid = oblique_grid((12, 10, 9))
    body = np.full(grid.shape, -1024, np.int16)
    body[4:8, 4:8, 3:6] = 40
    write_ct_series(tmp_path, body, grid)
    np.testing.assert_array_equal(read_dicom_folder(tmp_path).voxels_hu, body)


def test_numbers_in_no_order_say_nothing(tmp_path: Path) -> None:
    grid = oblique_grid((6, 5, 30))
    write_ct_series(tmp_path, make_scan(grid).voxels_hu, grid)
    assert read_dicom_folder(tmp_path).notes == ()


def test_slice_locations_that_disagree_with_two_positions_are_refused(tmp_path: Path) -> None:
    def locate(dataset: Dataset, k: int) -> None:
        dataset.SliceLocation = str({3: 9, 9: 3}.get(k, k))

    grid = oblique_grid((6, 5, 14))
    write_ct_series(tmp_path, make_scan(grid).voxels_hu, grid, edit=locate)
    with pytest.raises(SeriesError, match="SliceLocation disagrees with the position"):
        read_dicom_folder(tmp_path)


@st.composite
def right_handed_grids(draw: st.DrawFn) -> VoxelGrid:
    number = st.floats(0.3, 5.0)
    angles = [draw(st.floats(-180, 180)) for _ in range(3)]
    return VoxelGrid.from_parts(
        (draw(st.integers(2, 6)), draw(st.integers(2, 6)), draw(st.integers(2, 9))),
        spacing_mm=[draw(number), draw(number), draw(number)],
        origin_mm=[draw(st.floats(-800, 800)) for _ in range(3)],
        direction=Rotation.from_euler("xyz", angles, degrees=True).as_matrix(),
    )


@given(right_handed_grids(), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_order_spacing_and_places_come_from_positions_alone(tmp_path_factory, grid, seed) -> None:
    folder = tmp_path_factory.mktemp("series")
    scan = make_scan(grid, seed)
    paths = write_ct_series(folder, scan.voxels_hu, grid, seed=seed)
    back, expected = read_dicom_folder(folder), to_axial(scan)
    np.testing.assert_array_equal(back.voxels_hu, expected.voxels_hu)
    np.testing.assert_allclose(back.grid.affine_lps_mm, expected.grid.affine_lps_mm, atol=1e-6)
    places = places_of(read_headers([FileRef(path) for path in sorted(paths)]).headers)
    assert places.sop_uids == tuple(str(pydicom.dcmread(path).SOPInstanceUID) for path in paths)


@given(right_handed_grids(), st.integers(0, 8), st.floats(-3, 3), st.integers(0, 2))
@settings(deadline=None, max_examples=40)
def test_a_slice_that_is_moved_is_refused_or_hardly_moved(
    tmp_path_factory, grid, number, shift_mm, axis
) -> None:
    """Off by more than the tolerance in any direction is refused; less leaves the grid in place."""
    # An end slice that moves just past the other end forms another valid volume.
    steps = abs(shift_mm) / grid.spacing_mm[2]
    assume(axis != 2 or abs(steps - grid.shape[2]) > 0.2)

    def move(dataset: Dataset, k: int) -> None:
        if k == number % grid.shape[2]:
            place = grid.voxel_to_world([0, 0, k]) + shift_mm * grid.direction[:, axis]
            dataset.ImagePositionPatient = [f"{mm:.8f}" for mm in place]

    folder = tmp_path_factory.mktemp("series")
    write_ct_series(folder, make_scan(grid).voxels_hu, grid, edit=move)
    try:
        back = read_dicom_folder(folder)
    except SeriesError:
        return
    if grid.shape[2] > 2:
        places_vox = [[0, 0, 0], [0, 0, grid.shape[2] - 1]]
        stored = back.stored_grid or back.grid
        moved_mm = stored.voxel_to_world(places_vox) - grid.voxel_to_world(places_vox)
        largest = max(0.05, 0.01 * grid.spacing_mm[2]) * 2
        assert np.abs(moved_mm).max() <= largest + 1e-6


@pytest.mark.parametrize("plane", [1, 2], ids=["coronal", "sagittal"])
def test_a_chest_stored_in_another_plane_is_in_order_until_it_is_not(chest, plane: int) -> None:
    """Slices begin at once where the skin does; two that are swapped differ far more."""
    slices = np.ascontiguousarray(np.moveaxis(chest, plane, 0))
    assert misplaced(slices, better=SWAP_RATIO_REFORMATTED) == []
    middle = len(slices) // 2
    found = misplaced(swapped(slices, middle, middle + 12), better=SWAP_RATIO_REFORMATTED)
    assert found == [middle, middle + 12]
