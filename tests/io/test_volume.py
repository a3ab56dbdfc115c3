"""Volumes in one file: what is written is read, and what is broken is refused with all reasons."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its customary name
from hypothesis import given, settings

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.axial import to_axial
from medkd.io.volume import read_grid, read_volume, write_mhd
from tests.io.volume_helper import grids, make_scan, oblique_grid
from tests.real_data import needs_data


def reasons_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(SeriesError) as refusal:
        read_volume(path)
    return refusal.value.reasons


def write_other(path: Path, voxels: np.ndarray, grid: VoxelGrid | None = None) -> Path:
    """Write [i, j, k] voxels of any type by SimpleITK, in the format of the suffix."""
    image = sitk.GetImageFromArray(voxels.T, isVector=False)
    if grid is not None:
        image.SetSpacing(grid.spacing_mm.tolist())
        image.SetOrigin(grid.origin_mm.tolist())
        image.SetDirection(grid.direction.ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


@given(grids())
@settings(deadline=None, max_examples=40)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, grid) -> None:
    scan = make_scan(grid)
    path = tmp_path_factory.mktemp("round") / "1.2.3.mhd"
    write_mhd(scan, path)
    back, expected = read_volume(path), to_axial(scan)
    np.testing.assert_array_equal(back.voxels_hu, expected.voxels_hu)
    np.testing.assert_allclose(back.grid.affine_lps_mm, expected.grid.affine_lps_mm, atol=1e-9)


@given(grids())
@settings(deadline=None, max_examples=20)
def test_a_voxel_lies_where_simpleitk_says(tmp_path_factory, grid) -> None:
    path = tmp_path_factory.mktemp("itk") / "1.mhd"
    write_mhd(make_scan(grid), path)
    last = [size - 1 for size in grid.shape]
    expected = sitk.ReadImage(str(path)).TransformIndexToPhysicalPoint(last)
    np.testing.assert_allclose(read_grid(path).voxel_to_world(last), expected, atol=1e-6)


@pytest.mark.parametrize("suffix", [".mha", ".nii", ".nii.gz", ".nrrd"])
def test_every_format_gives_the_same_scan(tmp_path: Path, suffix: str) -> None:
    scan = make_scan(oblique_grid(flip=True))
    path = write_other(tmp_path / f"case{suffix}", scan.voxels_hu, scan.grid)
    back = read_volume(path)
    np.testing.assert_array_equal(back.voxels_hu, scan.voxels_hu)
    np.testing.assert_allclose(back.grid.affine_lps_mm, scan.grid.affine_lps_mm, atol=1e-4)
    assert (back.seriesuid, back.patient_id, back.notes) == ("case", "case", ())


@pytest.mark.parametrize("suffix", [".mhd", ".nii", ".nrrd"])
def test_slices_are_contiguous_and_int16(tmp_path: Path, suffix: str) -> None:
    path = write_other(tmp_path / f"a{suffix}", make_scan(oblique_grid()).voxels_hu)
    voxels = read_volume(path).voxels_hu
    assert voxels.dtype == np.int16
    assert voxels.T.flags.c_contiguous


def test_the_same_scan_gives_the_same_bytes(tmp_path: Path) -> None:
    scan = make_scan(oblique_grid())
    for folder in ("a", "b"):
        write_mhd(scan, tmp_path / folder / "s.mhd")
    for name in ("s.mhd", "s.raw"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_full_disk_leaves_the_old_pair_and_no_debris(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "s.mhd"
    write_mhd(make_scan(oblique_grid(), seed=1), path)
    old = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_mhd(make_scan(oblique_grid(), seed=2), path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == old


def test_only_a_header_path_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.mhd"):
        write_mhd(make_scan(oblique_grid()), tmp_path / "s.nii")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("DimSize = 2 3 4", "DimSize = 2 3", "DimSize has 2 numbers"),
        ("DimSize = 2 3 4", "DimSize = 2 x 4", "expected positive whole sizes"),
        ("DimSize = 2 3 4", "DimSize = 2 0 4", "expected positive whole sizes"),
        ("Offset = ", "Offset = nan ", "expected an origin"),
        ("TransformMatrix = 1", "TransformMatrix = nan", "nine finite direction cosines"),
        ("ElementType", "ElementNumberOfChannels = 3\nElementType", "one value per voxel, got 3"),
        ("CompressedData = False", "CompressedData = True\nCompressedDataSize = 9", "requires 9"),
    ],
)
def test_each_fault_of_a_header_has_its_words(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    path = tmp_path / "s.mhd"
    write_mhd(make_scan(VoxelGrid((2, 3, 4), np.eye(4))), path)
    path.write_text(path.read_text().replace(old, new))
    assert any(words in reason for reason in reasons_of(path))


def test_names_can_be_given(tmp_path: Path) -> None:
    write_mhd(make_scan(oblique_grid()), tmp_path / "x.mhd")
    scan = read_volume(tmp_path / "x.mhd", seriesuid="9.9", patient_id="p7")
    assert (scan.seriesuid, scan.patient_id) == ("9.9", "p7")


def test_a_header_with_many_faults_is_refused_with_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "s.mhd"
    write_mhd(make_scan(VoxelGrid((2, 2, 2), np.eye(4))), path)
    text = path.read_text().replace("MET_SHORT", "MET_DREAM").replace("= 1 0 0 0 1", "= 1 .2 0 0 1")
    path.write_text(text.replace("ElementSpacing = 1 1 1", "ElementSpacing = 1 -1 1"))
    (tmp_path / "s.raw").unlink()
    reasons = reasons_of(path)
    words = (
        "pixel_format: unknown ElementType 'MET_DREAM'",
        "bad_geometry: expected three positive spacings of 0.0001 to 10000 mm",
        "sheared",
        "truncated_pixels: the voxel file 's.raw' is missing",
    )
    assert len(reasons) == len(words)
    for word, reason in zip(words, reasons, strict=True):
        assert word in reason


def test_voxels_that_do_not_fill_the_header_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.mhd"
    write_mhd(make_scan(VoxelGrid((2, 3, 4), np.eye(4))), path)
    (tmp_path / "s.raw").write_bytes(b"\0" * 40)
    assert reasons_of(path) == (
        "truncated_pixels: the header requires 48 bytes of voxels, 's.raw' has 40",
    )


@pytest.mark.parametrize("name", ["a.mha", "a.nii", "a.nii.gz", "a.nrrd"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str) -> None:
    path = write_other(tmp_path / name, make_scan(VoxelGrid((9, 9, 9), np.eye(4))).voxels_hu)
    path.write_bytes(path.read_bytes()[:-200])
    assert any("requires" in r or "incomplete" in r for r in reasons_of(path))


@pytest.mark.parametrize("name", ["a.nrrd", "a.nii", "a.nii.gz", "a.mha"])
def test_nan_and_hu_outside_int16_are_named_together(tmp_path: Path, name: str) -> None:
    voxels = np.zeros((3, 4, 5), np.float32)
    voxels[0, 1, 2], voxels[0, 0, 0] = np.nan, 40000
    reasons = reasons_of(write_other(tmp_path / name, voxels))
    assert reasons[0] == "hu_range: 1 voxels are NaN or infinite, one at (i, j, k) = (0, 1, 2)"
    assert "got 0.0 to 40000.0" in reasons[1]


@pytest.mark.parametrize("name", ["a.nrrd", "a.nii", "a.mhd"])
def test_four_dimensions_are_refused(tmp_path: Path, name: str) -> None:
    path = write_other(tmp_path / name, np.zeros((3, 4, 5, 2), np.int16))
    assert "expected 3 dimensions" in reasons_of(path)[0]


def test_several_values_a_voxel_are_refused(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((3, 4, 5, 2), np.int16), isVector=True)
    for name in ("v.mha", "v.nrrd"):
        sitk.WriteImage(image, str(tmp_path / name))
        assert reasons_of(tmp_path / name) == ("pixel_format: expected one value per voxel, got 2",)


def test_axes_that_coincide_are_refused(tmp_path: Path) -> None:
    path = write_other(tmp_path / "a.nrrd", np.zeros((2, 2, 2), np.int16))
    path.write_bytes(path.read_bytes().replace(b"directions: (1,0,0)", b"directions: (0,1,0)"))
    assert "degenerate" in reasons_of(path)[0]


def test_a_nifti_without_orientation_is_refused(tmp_path: Path) -> None:
    path = write_other(tmp_path / "a.nii", np.zeros((2, 2, 2), np.int16))
    content = bytearray(path.read_bytes())
    content[252:256] = b"\0\0\0\0"  # qform_code and sform_code, two int16 (NIfTI-1 header)
    path.write_bytes(bytes(content))
    assert "left and right are unknown" in reasons_of(path)[0]


def test_rounded_hu_are_noted(tmp_path: Path) -> None:
    scan = read_volume(write_other(tmp_path / "a.nrrd", np.full((2, 2, 2), -3.6, np.float32)))
    assert scan.voxels_hu[0, 0, 0] == -4
    assert scan.notes == ("fractional HU were rounded to whole HU",)


@pytest.mark.parametrize("name", ["a.mhd", "a.nii", "a.nrrd"])
def test_garbage_is_refused_with_a_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x00\xffgarbage\n" * 40)
    assert reasons_of(tmp_path / name)


def test_the_grid_needs_no_voxels(tmp_path: Path) -> None:
    scan = make_scan(oblique_grid())
    write_mhd(scan, tmp_path / "s.mhd")
    (tmp_path / "s.raw").unlink()
    np.testing.assert_allclose(
        read_grid(tmp_path / "s.mhd").affine_lps_mm, scan.grid.affine_lps_mm, atol=1e-9
    )


@needs_data
def test_a_real_chest_is_where_its_header_says() -> None:
    scan = read_volume(Path(os.environ["MEDKD_DATA"]) / "ct_small" / "ct-64.nrrd")
    assert scan.voxels_hu.shape == (64, 64, 79)
    # From the file's text: space origin and space directions.
    np.testing.assert_allclose(scan.grid.origin_mm, [-128.413806, -264.413806, -360.256329])
    np.testing.assert_allclose(scan.grid.spacing_mm, [4.171872, 4.171872, 3.987342], rtol=1e-6)


@needs_data
def test_the_real_header_without_its_raw_is_refused_but_has_a_grid() -> None:
    root = Path(os.environ["MEDKD_DATA"]) / "lidc" / "series_excerpts" / "LUNA-0001"
    path = next(root.rglob("*.mhd"))
    assert "is missing" in reasons_of(path)[0]
    assert read_grid(path).shape == (512, 512, 50)
