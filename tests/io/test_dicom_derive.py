"""A DICOM series again with something added to it."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.dicom.derive import (
    IMPLANT_TYPE,
    Derivation,
    derived_uid,
    write_derived_series,
)
from medkd.io.dicom.gate import examine
from medkd.io.dicom.header import read_headers
from medkd.io.dicom.series import generator_of, read_dicom_folder
from medkd.io.file_ref import FileRef
from tests.io.dicom_helper import SERIESUID, write_ct_series, write_encoded_series

DONE = Derivation("medkd implant 7: synthetic nodules", "0.1", "key")
GRID = VoxelGrid.from_parts((12, 10, 4), spacing_mm=[0.8, 0.8, 2.0], origin_mm=[-5, 7, 30])
rng = np.random.default_rng(0)
VOXELS = rng.integers(-1000, 900, size=GRID.shape).astype(np.int16)


def added() -> np.ndarray:
    more = np.zeros(GRID.shape, dtype=np.int16)
    more[3:7, 2:6, 1:3] = 150
    more[5, 5, 2] = -40
    return more


def written(tmp_path, **how):
    source = write_ct_series(tmp_path / "from", VOXELS, GRID, **how)
    slices = examine(read_headers([FileRef(path) for path in source]).headers, None).ordered
    return slices, write_derived_series(slices, added(), tmp_path / "to", DONE)


@pytest.mark.parametrize(
    "how", [{}, {"signed": True, "intercept": 0.0}, {"slope": 2.0}, {"bits_stored": 12}]
)
def test_what_was_added_is_read_back(tmp_path, how):
    before = VOXELS if how != {"slope": 2.0} else None
    written(tmp_path, **how)
    read = read_dicom_folder(tmp_path / "to").voxels_hu
    expected = before if before is not None else read_dicom_folder(tmp_path / "from").voxels_hu
    np.testing.assert_array_equal(read - expected, added())


def test_stored_values_end_at_what_their_bits_hold(tmp_path):
    source = write_ct_series(tmp_path / "from", VOXELS, GRID, bits_stored=12)
    slices = examine(read_headers([FileRef(path) for path in source]).headers, None).ordered
    write_derived_series(slices, np.full(GRID.shape, 9000, np.int16), tmp_path / "to", DONE)
    assert set(np.unique(read_dicom_folder(tmp_path / "to").voxels_hu)) == {4095 - 1024}


def test_padding_stays_padding(tmp_path):
    def padded(dataset, _):
        dataset.PixelPaddingValue = 0

    voxels = VOXELS.copy()
    voxels[4, 3, 1] = -1024
    source = write_ct_series(tmp_path / "from", voxels, GRID, edit=padded)
    slices = examine(read_headers([FileRef(path) for path in source]).headers, None).ordered
    write_derived_series(slices, added(), tmp_path / "to", DONE)
    assert read_dicom_folder(tmp_path / "to").voxels_hu[4, 3, 1] == -2000


def test_compressed_slices_can_be_altered(tmp_path):
    from medkd.types import Scan

    scan = Scan(SERIESUID, VOXELS, GRID, "p")
    source = write_encoded_series(scan, tmp_path / "from", syntax="rle")
    slices = examine(read_headers([FileRef(path) for path in source]).headers, None).ordered
    paths = write_derived_series(slices, added(), tmp_path / "to", DONE)
    read = read_dicom_folder(tmp_path / "to").voxels_hu
    np.testing.assert_array_equal(read, VOXELS + added())
    untouched = pydicom.dcmread(paths[0])
    assert untouched.file_meta.TransferSyntaxUID.is_compressed  # as it was stored


def test_the_header_says_what_the_image_is(tmp_path):
    slices, paths = written(tmp_path)
    copy, original = pydicom.dcmread(paths[1]), pydicom.dcmread(slices[1].ref.path)
    assert list(copy.ImageType) == ["DERIVED", "SECONDARY", "AXIAL", IMPLANT_TYPE]
    assert copy.SourceImageSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert copy.SeriesDescription.startswith("SYNTHETIC NODULES")
    assert copy.QualityControlImage == "YES"
    assert copy.ContributingEquipmentSequence[0].Manufacturer == "medkd"
    assert generator_of(read_headers([FileRef(paths[1])]).headers[0]) == "medkd implant 7"
    assert generator_of(slices[0]) == ""


def test_uids_are_new_and_the_same_each_time(tmp_path):
    slices, paths = written(tmp_path)
    copy, original = pydicom.dcmread(paths[0]), pydicom.dcmread(slices[0].ref.path)
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        assert copy[name].value == derived_uid(original[name].value, "key")
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID
    assert copy.FrameOfReferenceUID == original.FrameOfReferenceUID


@pytest.mark.skipif(
    shutil.which("dciodvfy") is None,
    reason="dciodvfy (dicom3tools) is not here",
)
def test_no_error_is_new_to_dciodvfy(tmp_path):
    slices, paths = written(tmp_path)

    def errors(path):
        done = subprocess.run(  # noqa: S603
            ["dciodvfy", str(path)],  # noqa: S607
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        lines = (done.stdout + done.stderr).splitlines()
        return {line for line in lines if line.startswith("Error")}

    assert errors(paths[1]) <= errors(slices[1].ref.path)


def test_multi_frame_ct_is_refused(tmp_path):
    from dataclasses import replace

    source = write_ct_series(tmp_path / "from", VOXELS, GRID)
    slices = examine(read_headers([FileRef(path) for path in source]).headers, None).ordered
    with pytest.raises(SeriesError, match="multi-frame"):
        write_derived_series([replace(slices[0], frames=2)], added(), tmp_path / "to", DONE)
