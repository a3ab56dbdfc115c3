"""Valid files of every variant: medkd finds what SimpleITK and nibabel find."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its customary name
from hypothesis import given, settings
from hypothesis import strategies as st

from medkd.geometry import VoxelGrid, lps_to_ras
from medkd.io.axial import to_axial
from medkd.io.volume import read_grid, read_volume
from medkd.types import Scan
from tests.io.volume_helper import grids, make_scan

TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
few = settings(deadline=None, max_examples=25)


def image_of(voxels: np.ndarray, grid: VoxelGrid) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.origin_mm.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def typed(grid: VoxelGrid, kind: str) -> np.ndarray:
    """Values of a type that are HU too."""
    values = make_scan(grid).voxels_hu.astype(np.int64)
    if kind in ("i1", "u1"):
        values = values % 128
    return (np.abs(values) if kind.startswith("u") else values).astype(kind)


def check(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    scan = read_volume(path)
    assert scan.voxels_hu.dtype == np.int16
    assert scan.voxels_hu.T.flags.c_contiguous
    assert scan.voxels_hu.flags.writeable
    stored = read_grid(path)
    np.testing.assert_allclose(stored.affine_lps_mm, affine, atol=2e-3, rtol=1e-5)
    # What is not stored as axial slices is read as such: tests/io/test_axial.py.
    expected = to_axial(Scan("a", voxels.astype(np.int16), stored, patient_id="a"))
    np.testing.assert_array_equal(scan.voxels_hu, expected.voxels_hu)
    np.testing.assert_array_equal(scan.grid.affine_lps_mm, expected.grid.affine_lps_mm)


@given(
    grid=grids(), kind=st.sampled_from(TYPES), packed=st.booleans(),
    suffix=st.sampled_from([".mhd", ".mha", ".nrrd", ".nii", ".nii.gz"]),
)  # fmt: skip
@few
def test_what_itk_writes_is_read_as_itk_reads_it(
    tmp_path_factory: pytest.TempPathFactory, grid: VoxelGrid, kind: str, packed: bool, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("itk") / f"a{suffix}"
    sitk.WriteImage(image_of(typed(grid, kind), grid), str(path), useCompression=packed)
    other = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(other.GetDirection(), (3, 3)) * other.GetSpacing()
    affine[:3, 3] = other.GetOrigin()
    check(path, sitk.GetArrayFromImage(other).T, affine)


@given(
    grid=grids(), kind=st.sampled_from(TYPES), order=st.sampled_from("<>"), second=st.booleans(),
    packed=st.booleans(), forms=st.sampled_from([(1, 1), (0, 2), (3, 0)]),
)  # fmt: skip
@few
def test_what_nibabel_writes_is_read_as_nibabel_reads_it(
    tmp_path_factory: pytest.TempPathFactory, grid: VoxelGrid, kind: str, order: str, second: bool,
    packed: bool, forms: tuple[int, int],
) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("nib") / ("a.nii.gz" if packed else "a.nii")
    image_type = nibabel.Nifti2Image if second else nibabel.Nifti1Image
    header = image_type.header_class(endianness=order)
    header.set_data_dtype(kind)
    affine = lps_to_ras(grid.affine_lps_mm)
    image = image_type(typed(grid, kind), affine, header)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, forms[0])
    image.set_sform(affine, forms[1])
    nibabel.save(image, path)
    other = nibabel.load(path)
    check(path, np.asarray(other.dataobj), lps_to_ras(other.affine))


@given(slope=st.sampled_from([0.5, 1.0, 2.0, 0.25]), inter=st.integers(-1024, 1024))
@few
def test_scaled_values_are_nibabels(
    tmp_path_factory: pytest.TempPathFactory, slope: float, inter: int
) -> None:
    path = tmp_path_factory.mktemp("scaled") / "a.nii"
    image = nibabel.Nifti1Image(np.arange(-60, 60, dtype=np.int16).reshape(4, 5, 6), np.eye(4))
    image.set_qform(np.eye(4), 1)
    nibabel.save(image, path)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([slope, inter], "<f4").tobytes()
    path.write_bytes(bytes(content))
    expected = np.rint(np.asarray(nibabel.load(path).dataobj))
    np.testing.assert_array_equal(read_volume(path).voxels_hu, expected)


@given(
    grid=grids(),
    order=st.sampled_from(["little", "big"]),
    space=st.sampled_from(["LPS", "right-anterior-superior", "left-anterior-superior"]),
)
@few
def test_spaces_and_byte_orders_of_nrrd_are_itks(
    tmp_path_factory: pytest.TempPathFactory, grid: VoxelGrid, order: str, space: str
) -> None:
    path = tmp_path_factory.mktemp("nrrd") / "a.nrrd"
    vectors = " ".join(f"({x},{y},{z})" for x, y, z in grid.affine_lps_mm[:3, :3].T.tolist())
    voxels = make_scan(grid).voxels_hu
    text = (
        f"NRRD0005\r\n# made by hand\r\ntype: int16\r\ndimension: 3\r\nspace: {space}\r\n"
        f"sizes: {' '.join(map(str, grid.shape))}\r\nspace directions: {vectors}\r\n"
        f"kinds: space space space\r\nendian: {order}\r\nencoding: raw\r\nkey:=value: 7\r\n"
        f"space origin: ({','.join(map(str, grid.origin_mm.tolist()))})\r\n\r\n"
    )
    body = voxels.T.astype("<i2" if order == "little" else ">i2").tobytes()
    path.write_bytes(text.encode() + body)
    other = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(other.GetDirection(), (3, 3)) * other.GetSpacing()
    affine[:3, 3] = other.GetOrigin()
    check(path, sitk.GetArrayFromImage(other).T, affine)
