"""Sagittal and coronal storage is turned into axial slices; every voxel keeps its place in mm."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy.spatial.transform import Rotation

from medkd.detect.search import place_in
from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.axial import axial_grid, in_stored_order, is_axial, to_axial
from medkd.io.dicom.derive import Derivation, write_derived_series
from medkd.io.dicom.gate import GateSettings, examine, scan_reasons
from medkd.io.dicom.header import read_headers
from medkd.io.dicom.series import places_of, read_dicom_folder, read_series
from medkd.io.file_ref import FileRef
from medkd.io.volume import read_volume, write_mhd
from medkd.types import Acquisition, Scan
from tests.io.dicom_helper import write_ct_series
from tests.spheres import sphere_mask

CENTER_MM = np.array([-12.0, 31.5, -207.25])
SPACING_MM = np.array([0.9, 1.0, 1.5])
SIZE = np.array([30, 28, 24])
"""Along x, y and z; too few pixels to judge the order of slices by."""


def stored_as(axes: tuple[int, int, int], signs: tuple[int, int, int]) -> Scan:
    """Make a sphere of 10 mm whose index axes run along these world axes, in these directions."""
    direction = np.zeros((3, 3))
    direction[list(axes), [0, 1, 2]] = signs
    shape = tuple(int(n) for n in SIZE[list(axes)])
    spacing = SPACING_MM[list(axes)]
    middle = direction @ (spacing * (np.array(shape) - 1) / 2)
    grid = VoxelGrid.from_parts(
        shape, spacing_mm=spacing, origin_mm=CENTER_MM - middle + [2, -3, 4], direction=direction
    )
    inside = sphere_mask(grid, CENTER_MM, 10.0)
    noise = np.random.default_rng(0).integers(-9, 9, grid.shape)
    voxels = np.asfortranarray((np.where(inside, 40, -850) + noise).astype(np.int16))
    return Scan("1.2.3", voxels, grid, "p")


ALL = list(product(permutations(range(3)), product((1, -1), repeat=3)))
RIGHT_HANDED = [
    (axes, signs) for axes, signs in ALL if np.linalg.det(stored_as(axes, signs).grid.direction) > 0
]


def assert_sphere_lies_in_axial_slices(scan: Scan) -> None:
    mass_vox = np.argwhere(scan.voxels_hu > -400).mean(axis=0)
    assert np.abs(scan.grid.world_to_voxel(CENTER_MM) - mass_vox).max() < 0.5
    assert is_axial(scan.grid)
    assert scan.voxels_hu.shape == scan.grid.shape
    assert scan.voxels_hu.T.flags.c_contiguous


@pytest.mark.parametrize(("axes", "signs"), ALL)
def test_each_order_and_direction_of_axes_keeps_the_sphere_in_place(axes, signs) -> None:
    stored = stored_as(axes, signs)
    scan = to_axial(stored)
    assert_sphere_lies_in_axial_slices(scan)
    if axes[2] == 2:
        assert scan is stored
        return
    np.testing.assert_allclose(scan.grid.direction, np.eye(3), atol=1e-12)
    assert scan.grid.shape == tuple(SIZE)
    np.testing.assert_array_equal(in_stored_order(scan.voxels_hu, scan), stored.voxels_hu)
    assert scan.stored_grid is stored.grid


@pytest.mark.parametrize(("axes", "signs"), RIGHT_HANDED)
def test_a_series_in_any_plane_is_read_as_axial_slices(tmp_path: Path, axes, signs) -> None:
    stored = stored_as(axes, signs)
    write_ct_series(
        tmp_path, stored.voxels_hu, stored.grid, edit=lambda d, k: setattr(d, "SliceThickness", "1")
    )
    scan = read_dicom_folder(tmp_path, gate=GateSettings())
    assert_sphere_lies_in_axial_slices(scan)
    plane = {0: "sagittal", 1: "coronal"}.get(axes[2])
    expected = () if plane is None else (f"stored as {plane} slices; read in axial order",)
    assert scan.notes == expected
    assert scan.acquisition.slice_thickness_mm == (None if plane else 1.0)


@pytest.mark.parametrize(("axes", "signs"), [*ALL[::7], ((1, 2, 0), (1, -1, 1))])
def test_a_volume_in_any_plane_is_read_as_axial_slices(tmp_path: Path, axes, signs) -> None:
    write_mhd(stored_as(axes, signs), tmp_path / "scan.mhd")
    assert_sphere_lies_in_axial_slices(read_volume(tmp_path / "scan.mhd"))


@pytest.mark.parametrize("degrees", [0, 20, 44.9, 45])
def test_slices_within_45_degrees_of_axial_are_left_alone(degrees: float) -> None:
    turned = Rotation.from_euler("x", degrees, degrees=True).as_matrix()
    grid = VoxelGrid.from_parts((4, 5, 6), spacing_mm=[1, 1, 2], origin_mm=[0, 0, 0],
                                direction=turned)  # fmt: skip
    assert axial_grid(grid) is grid


def test_the_axial_spacing_of_a_sagittal_series_is_judged(tmp_path: Path) -> None:
    """Sagittal slices 1.5 mm thick, of an anisotropic volume whose axial slices lie 5 mm apart."""
    direction = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    grid = VoxelGrid.from_parts(
        (20, 22, 24), spacing_mm=[0.8, 5.0, 0.9], origin_mm=[0, 0, 0], direction=direction
    )
    voxels = np.random.default_rng(0).integers(-900, -800, grid.shape).astype(np.int16)
    write_ct_series(tmp_path, voxels, grid)
    with pytest.raises(SeriesError) as refusal:
        read_dicom_folder(tmp_path, gate=GateSettings())
    assert refusal.value.reasons == ("slice_thickness: the slices are 5 mm apart, limit 3 mm",)


PLANES = {
    "axial": np.eye(3),
    "sagittal": np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]),
    "coronal": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
}
"""Column a is the direction of stored axis a."""


def codes_of(
    tmp_path: Path, plane: str, *, spacing_mm: list[float], slices: int = 24, thickness: str = "2"
) -> list[str]:
    """Write a series in a plane; return the codes by which the gate refuses it."""
    shape = (40, 42, slices)
    grid = VoxelGrid.from_parts(
        shape, spacing_mm=spacing_mm, origin_mm=[0, 0, 0], direction=PLANES[plane]
    )
    voxels = np.zeros(shape, np.int16)
    paths = write_ct_series(
        tmp_path, voxels, grid, edit=lambda d, k: setattr(d, "SliceThickness", thickness)
    )
    headers = read_headers([FileRef(path) for path in paths]).headers
    refused, _ = examine(headers, GateSettings()).verdict
    return [reason.partition(":")[0] for reason in refused]


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize(
    ("sizes", "codes"),
    [
        ({"spacing_mm": [0.8, 0.8, 2.0]}, []),
        ({"spacing_mm": [0.8, 0.8, 3.0]}, []),
        ({"spacing_mm": [0.8, 0.8, 3.5]}, ["slice_thickness"]),
        ({"spacing_mm": [0.8, 0.8, 2.0], "thickness": "5"}, ["slice_thickness"]),
        ({"spacing_mm": [1.5, 1.5, 2.0]}, ["coarse_voxels"]),
        ({"spacing_mm": [0.8, 0.8, 2.0], "slices": 12}, ["few_slices"]),
    ],
)
def test_the_sizes_of_stored_slices_are_judged_alike_in_every_plane(
    tmp_path: Path, plane: str, sizes: dict, codes: list[str]
) -> None:
    assert codes_of(tmp_path, plane, **sizes) == codes


@pytest.mark.parametrize(
    ("plane", "spacing_mm"), [("sagittal", [0.8, 2.5, 0.8]), ("coronal", [0.8, 2.5, 0.8])]
)
def test_slices_cut_from_axial_ones_may_have_their_distance_for_a_pixel(
    tmp_path: Path, plane: str, spacing_mm: list[float]
) -> None:
    assert codes_of(tmp_path, plane, spacing_mm=spacing_mm) == []


def test_a_volume_stored_in_sagittal_planes_is_judged_by_them(tmp_path: Path) -> None:
    shape = (40, 42, 24)
    grid = VoxelGrid.from_parts(
        shape, spacing_mm=[0.8, 0.8, 2], origin_mm=[0, 0, 0], direction=PLANES["sagittal"]
    )
    write_mhd(Scan("1.2.3", np.zeros(shape, np.int16), grid, "p"), tmp_path / "scan.mhd")
    scan = read_volume(tmp_path / "scan.mhd")
    assert scan_reasons(scan, GateSettings()).refused == ()


def test_few_axial_slices_are_few_in_whatever_order_they_are_stored(tmp_path: Path) -> None:
    shape = (40, 12, 42)
    grid = VoxelGrid.from_parts(
        shape, spacing_mm=[0.8, 2.5, 0.8], origin_mm=[0, 0, 0], direction=PLANES["sagittal"]
    )
    write_mhd(Scan("1.2.3", np.zeros(shape, np.int16), grid, "p"), tmp_path / "scan.mhd")
    (reason,) = scan_reasons(read_volume(tmp_path / "scan.mhd"), GateSettings()).refused
    assert reason == "few_slices: expected at least 20 slices, got 12"


def test_places_of_slices_are_those_of_the_files(tmp_path: Path) -> None:
    stored = stored_as((1, 2, 0), (1, 1, 1))
    paths = write_ct_series(tmp_path, stored.voxels_hu, stored.grid)
    places = places_of(read_headers([FileRef(path) for path in paths]).headers)
    np.testing.assert_allclose(places.grid.affine_lps_mm, stored.grid.affine_lps_mm, atol=1e-6)
    assert len(places.sop_uids) == stored.grid.shape[2]


def test_a_mark_in_a_turned_series_names_the_image_that_shows_it(tmp_path: Path) -> None:
    stored = stored_as((1, 2, 0), (1, -1, -1))
    paths = write_ct_series(tmp_path, stored.voxels_hu, stored.grid)
    scan = read_dicom_folder(tmp_path)
    place = place_in(scan, tuple(CENTER_MM))
    i, j, k = place.voxel
    np.testing.assert_array_equal(
        place.voxel, np.rint(stored.grid.world_to_voxel(CENTER_MM)).astype(int)
    )
    shown = pydicom.dcmread(paths[k])
    assert place.image.sop_instance_uid == shown.SOPInstanceUID
    assert shown.pixel_array[j, i] - 1024 > 0


def test_a_copy_of_a_sagittal_series_gets_what_was_added_where_it_belongs(tmp_path: Path) -> None:
    stored = stored_as((1, 2, 0), (1, -1, -1))
    paths = write_ct_series(tmp_path / "from", stored.voxels_hu, stored.grid)
    headers = read_headers([FileRef(path) for path in paths])
    scan = read_series(headers, gate=None)
    added = np.zeros(scan.grid.shape, np.int16)
    added[3, 5, 7] = 100
    slices = examine(headers.headers, None).ordered
    done = Derivation("words", "0.1", "key")
    write_derived_series(slices, in_stored_order(added, scan), tmp_path / "to", done)
    copied = read_dicom_folder(tmp_path / "to")
    np.testing.assert_array_equal(copied.voxels_hu - scan.voxels_hu, added)


def test_a_thickness_of_another_plane_is_forgotten() -> None:
    stored = stored_as((1, 2, 0), (1, 1, 1))
    made = Acquisition(slice_thickness_mm=9.0, kernel="B30f")
    scan = to_axial(Scan(stored.seriesuid, stored.voxels_hu, stored.grid, "p", acquisition=made))
    assert scan.acquisition == Acquisition(slice_thickness_mm=None, kernel="B30f")
