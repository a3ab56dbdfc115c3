"""A DICOM series lands where it lies, whatever its files are called; the rest is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import ImplicitVRLittleEndian, JPEGLSLossless, RLELossless
from scipy.spatial.transform import Rotation

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.axial import axial_grid
from medkd.io.dicom.series import read_dicom_folder
from tests.io.dicom_helper import SERIESUID, Edit, write_ct_series
from tests.io.volume_helper import make_scan, oblique_grid
from tests.real_data import needs_data
from tests.spheres import sphere_mask


def reasons_for(folder: Path, edit: Edit | None = None, **keywords: object) -> tuple[str, ...]:
    grid = oblique_grid((5, 4, 6))
    write_ct_series(folder, make_scan(grid).voxels_hu, grid, edit=edit, **keywords)
    with pytest.raises(SeriesError) as refusal:
        read_dicom_folder(folder)
    return refusal.value.reasons


@pytest.mark.parametrize("angles", [(0, 0, 0), (12, -20, 35), (90, 0, 0), (100, 170, -80)])
def test_a_sphere_of_10_mm_is_found_where_it_is(tmp_path: Path, angles: tuple) -> None:
    grid = VoxelGrid.from_parts(
        (40, 36, 20),
        spacing_mm=[0.7, 0.8, 1.5],
        origin_mm=[-30.0, 10.0, -250.0],
        direction=Rotation.from_euler("xyz", angles, degrees=True).as_matrix(),
    )
    truth_mm = grid.voxel_to_world([13.3, 22.8, 7.6])
    inside = sphere_mask(grid, truth_mm, 10.0)
    write_ct_series(tmp_path, np.where(inside, 40, -850).astype(np.int16), grid)
    scan = read_dicom_folder(tmp_path)
    mass_vox = np.argwhere(scan.voxels_hu > -400).mean(axis=0)
    error_vox = scan.grid.world_to_voxel(truth_mm) - mass_vox
    assert np.abs(error_vox).max() < 0.5
    expected = axial_grid(grid)
    np.testing.assert_allclose(scan.grid.affine_lps_mm, expected.affine_lps_mm, atol=1e-5)


@given(st.integers(0, 999), st.booleans(), st.sampled_from([(1, -1024), (1, 0), (2, -1024)]))
@settings(deadline=None, max_examples=10)
def test_every_voxel_has_its_hu(tmp_path_factory, seed: int, signed: bool, rescale: tuple) -> None:
    grid = oblique_grid((6, 5, 4))
    values = make_scan(grid, seed).voxels_hu // rescale[0] * rescale[0]
    values = np.maximum(values, 0 if rescale == (1, 0) and not signed else -1024)
    folder = tmp_path_factory.mktemp("series")
    slope, intercept = rescale
    write_ct_series(
        folder, values, grid, slope=slope, intercept=intercept, signed=signed, seed=seed
    )
    scan = read_dicom_folder(folder)
    np.testing.assert_array_equal(scan.voxels_hu, values)
    assert scan.voxels_hu.T.flags.c_contiguous


def test_each_slice_is_rescaled_by_its_own_numbers(tmp_path: Path) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.RescaleIntercept = str(-1024 + 10 * k)

    grid = oblique_grid((3, 3, 4))
    write_ct_series(tmp_path, np.zeros(grid.shape, np.int16), grid, edit=edit)
    hu = read_dicom_folder(tmp_path).voxels_hu
    assert [int(hu[0, 0, k]) for k in range(4)] == [0, 10, 20, 30]


def test_bits_above_those_stored_do_not_count(tmp_path: Path) -> None:
    def overlay(dataset: Dataset, k: int) -> None:
        stored = np.frombuffer(dataset.PixelData, "<u2") | np.uint16(0x8000)
        dataset.PixelData = stored.tobytes()

    grid = oblique_grid((3, 3, 3))
    values = np.full(grid.shape, 55, np.int16)
    write_ct_series(tmp_path, values, grid, bits_stored=12, edit=overlay)
    scan = read_dicom_folder(tmp_path)
    np.testing.assert_array_equal(scan.voxels_hu, values)
    assert scan.notes == ("3 slices have bits above BitsStored, which were left out",)


def test_fractional_hu_are_rounded_and_noted(tmp_path: Path) -> None:
    grid = oblique_grid((3, 3, 3))
    write_ct_series(tmp_path, np.full(grid.shape, 4, np.int16), grid, slope=0.3, intercept=0)
    scan = read_dicom_folder(tmp_path)
    assert scan.notes == ("fractional HU were rounded to whole HU",)
    assert scan.voxels_hu[0, 0, 0] == 4  # 13 * 0.3 = 3.9


def test_implicit_vr_is_read_in_place(tmp_path: Path) -> None:
    grid = oblique_grid()
    scan = make_scan(grid)
    write_ct_series(tmp_path, scan.voxels_hu, grid, syntax=ImplicitVRLittleEndian)
    np.testing.assert_array_equal(read_dicom_folder(tmp_path).voxels_hu, scan.voxels_hu)


def test_run_length_encoding_is_decoded(tmp_path: Path) -> None:
    def compress(dataset: Dataset, k: int) -> None:
        encoded = RLELosslessEncoder.encode(
            dataset.PixelData, rows=dataset.Rows, columns=dataset.Columns, samples_per_pixel=1,
            bits_allocated=16, bits_stored=16, pixel_representation=0, number_of_frames=1,
            photometric_interpretation="MONOCHROME2",
        )  # fmt: skip
        dataset.PixelData = encapsulate([encoded])
        dataset["PixelData"].VR = "OB"

    grid = oblique_grid()
    scan = make_scan(grid)
    write_ct_series(tmp_path, scan.voxels_hu, grid, syntax=RLELossless, edit=compress)
    np.testing.assert_array_equal(read_dicom_folder(tmp_path).voxels_hu, scan.voxels_hu)


def test_no_name_of_a_patient_leaves_the_reader(tmp_path: Path) -> None:
    grid = oblique_grid()
    write_ct_series(tmp_path, make_scan(grid).voxels_hu, grid)
    scan = read_dicom_folder(tmp_path)
    assert scan.seriesuid == SERIESUID
    assert not {"Doe", "Jane", "hospital-17"} & set(str(scan).replace("'", " ").split())
    assert scan.patient_id.startswith("p")


def test_files_that_are_not_dicom_are_left_out_and_counted(tmp_path: Path) -> None:
    grid = oblique_grid()
    write_ct_series(tmp_path, make_scan(grid).voxels_hu, grid)
    (tmp_path / "LICENSE").write_text("text")
    assert read_dicom_folder(tmp_path).notes == ("1 files that are not DICOM were left out",)


def test_a_missing_slice_is_refused_and_located(tmp_path: Path) -> None:
    def shift(dataset: Dataset, k: int) -> None:
        if k >= 4:  # slices 4 and 5 move up by one: a gap after slice 3
            grid = oblique_grid((5, 4, 8))
            dataset.ImagePositionPatient = grid.voxel_to_world([0, 0, k + 1]).tolist()

    reasons = reasons_for(tmp_path, shift)
    assert len(reasons) == 1
    assert reasons[0].startswith("missing_slices: 1 slices at -6")
    assert "the slice spacing is 2 mm" in reasons[0]


def test_a_doubled_slice_is_refused(tmp_path: Path) -> None:
    def double(dataset: Dataset, k: int) -> None:
        if k == 3:
            dataset.ImagePositionPatient = oblique_grid().voxel_to_world([0, 0, 2]).tolist()

    assert any(
        "1 positions have several slices, with different pixels" in reason
        for reason in reasons_for(tmp_path, double)
    )


def test_a_tilted_gantry_is_refused(tmp_path: Path) -> None:
    def tilt(dataset: Dataset, k: int) -> None:
        x, y, z = (float(value) for value in dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x, y + 0.8 * k, z]

    assert any("gantry was tilted" in reason for reason in reasons_for(tmp_path, tilt))


def test_several_series_and_other_faults_are_named_together(tmp_path: Path) -> None:
    def spoil(dataset: Dataset, k: int) -> None:
        if k == 0:
            dataset.SeriesInstanceUID = "1.2.3"
            dataset.PatientID = "hospital-18"
            dataset.PhotometricInterpretation = "MONOCHROME1"
            del dataset.RescaleSlope

    text = "\n".join(reasons_for(tmp_path, spoil))
    for words in ("2 series", "2 patients", "has no RescaleSlope", "got MONOCHROME1"):
        assert words in text
    assert "hospital" not in text


def test_pixels_that_do_not_fill_the_slice_are_refused(tmp_path: Path) -> None:
    def cut(dataset: Dataset, k: int) -> None:
        if k == 2:
            dataset.PixelData = dataset.PixelData[:10]

    assert "expected 40 bytes of pixels, got 10" in reasons_for(tmp_path, cut)[0]


def test_hu_outside_int16_are_refused(tmp_path: Path) -> None:
    reasons = reasons_for(tmp_path, lambda d, k: setattr(d, "RescaleIntercept", "32000"))
    assert len(reasons) == 6
    assert "expected HU within" in reasons[0]


def test_slices_without_pixels_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    def spoil(dataset: Dataset, k: int) -> None:
        if k == 1:
            del dataset.PixelData
        if k == 2:
            dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"

    text = "\n".join(reasons_for(tmp_path, spoil))
    assert "no_pixels: " in text
    assert "secondary_capture: " in text


def _turn(dataset: Dataset, k: int) -> None:
    if k == 2:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]


def _shear(dataset: Dataset, k: int) -> None:
    dataset.ImageOrientationPatient = [1, 0, 0, 0.5, 0.8660254, 0]


def _stack_on_one_place(dataset: Dataset, k: int) -> None:
    dataset.ImagePositionPatient = [0, 0, 0]


def _zoom(dataset: Dataset, k: int) -> None:
    dataset.PixelSpacing = [0.7 + 0.1 * k, 0.8]


def _flatten(dataset: Dataset, k: int) -> None:
    dataset.PixelSpacing = [0, 0.8]


def _shorten(dataset: Dataset, k: int) -> None:
    dataset.ImagePositionPatient = [0, 0]


def _lift_bits(dataset: Dataset, k: int) -> None:
    dataset.BitsStored, dataset.HighBit = 12, 15


def _copy_uid(dataset: Dataset, k: int) -> None:
    dataset.SOPInstanceUID = "1.2.3.4"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_turn, "mixed_orientation: "),
        (_shear, "not at right angles"),
        (_stack_on_one_place, "few_slices: all 6 slices are at one position"),
        (_zoom, "mixed_size: expected one PixelSpacing"),
        (_flatten, "expected a positive PixelSpacing"),
        (_shorten, "expected 3 finite numbers in ImagePositionPatient"),
        (_lift_bits, "pixel_format: "),
        (_copy_uid, "the same SOPInstanceUID more than once"),
    ],
)
def test_slices_that_form_no_grid_are_refused(tmp_path: Path, edit: Edit, words: str) -> None:
    assert any(words in reason for reason in reasons_for(tmp_path, edit))


def test_pixels_that_no_decoder_takes_are_refused(tmp_path: Path) -> None:
    def garble(dataset: Dataset, k: int) -> None:
        dataset.PixelData = encapsulate([b"no picture"])
        dataset["PixelData"].VR = "OB"

    reasons = reasons_for(tmp_path, garble, syntax=JPEGLSLossless)
    assert len(reasons) == 6
    assert reasons[0].startswith("damaged_pixels: ")


def test_a_header_cut_short_is_refused(tmp_path: Path) -> None:
    grid = oblique_grid()
    path = write_ct_series(tmp_path, make_scan(grid).voxels_hu, grid)[1]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SeriesError, match=path.name):
        read_dicom_folder(tmp_path)


def test_one_slice_is_no_volume(tmp_path: Path) -> None:
    grid = oblique_grid((3, 3, 1))
    write_ct_series(tmp_path, np.zeros(grid.shape, np.int16), grid)
    with pytest.raises(SeriesError, match="at least 2 slices"):
        read_dicom_folder(tmp_path)


@pytest.mark.parametrize("make", [lambda p: p / "absent", lambda p: p])
def test_an_empty_or_absent_folder_is_refused(tmp_path: Path, make) -> None:
    with pytest.raises(SeriesError, match=r"folder|found none"):
        read_dicom_folder(make(tmp_path))


@needs_data
def test_the_real_series_reads_as_its_headers_say() -> None:
    scan = read_dicom_folder(Path(os.environ["MEDKD_DATA"]) / "ct_dicom")
    assert scan.voxels_hu.shape == (512, 512, 99)
    np.testing.assert_allclose(scan.grid.spacing_mm, [0.564453125, 0.564453125, 3.0])
    assert scan.acquisition.kernel == "B70f"
    assert (scan.voxels_hu.min(), scan.voxels_hu.max()) == (-1024, 3071)


@needs_data
@pytest.mark.parametrize(
    ("patient", "diameter_mm", "zyx"),
    [("LIDC-IDRI-0001", 23.35, (6.7, 367, 316)), ("LIDC-IDRI-0003", 21.45, (5.4, 349.7, 367))],
)
def test_real_nodules_lie_at_their_voxels(patient: str, diameter_mm: float, zyx: tuple) -> None:
    """Voxel positions are those of the data set's README; LUNA16's CSV is LPS mm."""
    root = Path(os.environ["MEDKD_DATA"])
    folder = next((root / "lidc" / "series_excerpts" / patient).glob("*/*"))
    scan = read_dicom_folder(folder)
    table = pd.read_csv(root / "luna16" / "annotations.csv")
    rows = table[table.seriesuid == scan.seriesuid]
    row = rows.iloc[(rows.diameter_mm - diameter_mm).abs().argmin()]
    center_mm = row[["coordX", "coordY", "coordZ"]].to_numpy(float)
    np.testing.assert_allclose(scan.grid.world_to_voxel(center_mm), zyx[::-1], atol=1.0)
    i, j, k = np.round(scan.grid.world_to_voxel(center_mm)).astype(int)
    assert scan.voxels_hu[i, j, k] > -100


@needs_data
def test_a_real_tilted_series_is_refused() -> None:
    root = Path(os.environ["MEDKD_DATA"]) / "dicom_edge" / "tilt_series"
    with pytest.raises(SeriesError, match="gantry was tilted"):
        read_dicom_folder(root / "ge_head_tilt18.5_irregular")
