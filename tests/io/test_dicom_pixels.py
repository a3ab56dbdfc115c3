"""Pixels of DICOM slices: whole or refused, the same from every encoding, in HU."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLSLossless,
    RLELossless,
)

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.dicom.header import read_headers
from medkd.io.dicom.pixels import PADDED_HU, PixelReader
from medkd.io.dicom.series import places_of, read_dicom_folder, read_series
from medkd.io.file_ref import FileRef
from medkd.lungs import PADDING_HU
from medkd.types import Scan
from tests.io.dicom_helper import (
    SYNTAXES,
    write_ct_series,
    write_encoded_series,
    write_enhanced_ct,
)
from tests.io.jpeg_helper import encode_jpeg_lossless, put_stream
from tests.io.volume_helper import make_scan, oblique_grid
from tests.real_data import needs_data
from tests.spheres import sphere_mask

COMPRESSED = ("rle", "jpegls", "jpeg_lossless", "jpeg2000")
SCAN = make_scan(oblique_grid((40, 36, 4)))


def write(folder: Path, syntax: str, scan: Scan = SCAN) -> list[Path]:
    return write_encoded_series(scan, folder, syntax=syntax)


def reason_for(folder: Path) -> str:
    with pytest.raises(SeriesError) as refusal:
        read_dicom_folder(folder)
    (reason,) = refusal.value.reasons
    return reason


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_nodule_lies_where_it_lies_whatever_the_encoding(tmp_path: Path, syntax: str) -> None:
    grid = oblique_grid((48, 44, 20))
    truth_mm = grid.voxel_to_world([20.3, 22.8, 9.6])
    body = np.where(sphere_mask(grid, truth_mm, 12.0), 40, -850).astype(np.int16)
    write(tmp_path, syntax, Scan("1.2.3", body, grid, "p"))
    scan = read_dicom_folder(tmp_path)
    np.testing.assert_array_equal(scan.voxels_hu, body)
    mass_vox = np.argwhere(scan.voxels_hu > -400).mean(axis=0)
    assert np.abs(scan.grid.world_to_voxel(truth_mm) - mass_vox).max() < 0.5


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_enhanced_ct_is_ordered_by_its_frames_places(tmp_path: Path, syntax: str) -> None:
    path = write_enhanced_ct(tmp_path / "enhanced", SCAN, syntax=syntax)
    scan = read_series([FileRef(path)], gate=None)
    np.testing.assert_array_equal(scan.voxels_hu, SCAN.voxels_hu)
    np.testing.assert_allclose(scan.grid.affine_lps_mm, SCAN.grid.affine_lps_mm, atol=1e-8)
    places = places_of(read_headers([FileRef(path)]).headers)
    assert sorted(places.frame_numbers) == [1, 2, 3, 4]
    assert places.frame_numbers != (1, 2, 3, 4)


def test_frames_are_read_from_their_file_once(tmp_path: Path, monkeypatch) -> None:
    path = write_enhanced_ct(tmp_path / "enhanced", SCAN, syntax="rle")
    headers = read_headers([FileRef(path)]).headers
    opened = []
    real = FileRef.open
    monkeypatch.setattr(FileRef, "open", lambda ref: opened.append(ref) or real(ref))
    reader = PixelReader()
    for header in headers:
        assert reader.read_into(np.empty((36, 40), np.int16), header) is None
    assert len(opened) == 1


def test_big_endian_files_are_read(tmp_path: Path) -> None:
    """Explicit VR big endian is retired (PS3.5 A.3) and still found in old archives."""

    def swap(dataset: Dataset, k: int) -> None:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()

    grid = oblique_grid((6, 5, 3))
    scan = make_scan(grid)
    write_ct_series(tmp_path, scan.voxels_hu, grid, syntax=ExplicitVRBigEndian, edit=swap)
    np.testing.assert_array_equal(read_dicom_folder(tmp_path).voxels_hu, scan.voxels_hu)


@pytest.mark.parametrize("syntax", COMPRESSED)
@pytest.mark.parametrize("lost", [1, 40, 400])
def test_a_compressed_file_that_was_cut_is_refused(tmp_path: Path, syntax: str, lost: int) -> None:
    path = write(tmp_path, syntax)[2]
    path.write_bytes(path.read_bytes()[:-lost])
    reason = reason_for(tmp_path)
    assert reason == f"truncated_pixels: {path.name}: the file ends within its pixels"


def test_a_deflated_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "deflated")[3]
    path.write_bytes(path.read_bytes()[:-9])
    assert "its deflated content is cut short" in reason_for(tmp_path)


@pytest.mark.parametrize("syntax", ["jpegls", "jpeg_lossless", "jpeg2000"])
def test_a_stream_that_was_cut_within_a_whole_file_is_refused(tmp_path: Path, syntax: str) -> None:
    path = write(tmp_path, syntax)[2]
    dataset = pydicom.dcmread(path)
    (frame,) = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([frame[: len(frame) // 4 * 2]])
    dataset.save_as(path)
    assert (
        reason_for(tmp_path) == f"damaged_pixels: {path.name}: its compressed stream is cut short"
    )


@pytest.mark.parametrize("syntax", ["jpegls", "jpeg_lossless", "jpeg2000"])
def test_a_stream_of_another_size_is_refused(tmp_path: Path, syntax: str) -> None:
    path = write(tmp_path / "series", syntax)[2]
    other = write(tmp_path / "other", syntax, make_scan(oblique_grid((44, 36, 4))))[2]
    dataset = pydicom.dcmread(path)
    dataset.PixelData = pydicom.dcmread(other).PixelData
    dataset.save_as(path)
    assert "expected a stream of 36 x 40 x 1, got 36 x 44 x 1" in reason_for(tmp_path / "series")


def test_bytes_put_in_before_the_end_of_raw_pixels_are_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, "explicit")[1]
    content = path.read_bytes()
    path.write_bytes(content[:-100] + b"\x01\x02" + content[-100:])
    assert reason_for(tmp_path) == (
        f"unreadable: {path.name}: 2 bytes that are not padding follow its pixels: export it again"
    )
    path.write_bytes(content + b"\xfc\xff\xfc\xff" + b"OB\0\0\x02\0\0\0\0\0")  # padding is no fault
    np.testing.assert_array_equal(read_dicom_folder(tmp_path).voxels_hu, SCAN.voxels_hu)


def write_above_bits_stored(folder: Path, syntax: str, *, signed: bool) -> None:
    """Write stored values of 14 bits in whatever encoding, then declare 12."""
    stored = np.zeros((40, 36), "<i2" if signed else "<u2")
    stored[0, :5], stored[1, 0] = np.arange(5), 5000
    stored[2] = -3 if signed else 3
    grid = oblique_grid((36, 40, 3))

    def edit(dataset: Dataset, k: int) -> None:
        dataset.PixelData = stored.tobytes()
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = stored.astype(stored.dtype.newbyteorder(">")).tobytes()

    uncompressed = ExplicitVRLittleEndian if UID(syntax).is_encapsulated else syntax
    zeros = np.zeros(grid.shape, np.int16)
    for path in write_ct_series(folder, zeros, grid, signed=signed, edit=edit, syntax=uncompressed):
        dataset = pydicom.dcmread(path)
        if syntax == JPEGLossless:
            put_stream(path, encode_jpeg_lossless(stored, 16), syntax)
            dataset = pydicom.dcmread(path)
        elif UID(syntax).is_encapsulated:
            dataset.compress(UID(syntax), generate_instance_uid=False)
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.save_as(path)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, JPEGLossless,
     DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless],
)  # fmt: skip
def test_values_above_bits_stored_are_noted_whatever_the_encoding(
    tmp_path: Path, syntax: str, signed: bool
) -> None:
    write_above_bits_stored(tmp_path, syntax, signed=signed)
    scan = read_dicom_folder(tmp_path)
    stored = scan.voxels_hu[:, :, 0].T + 1024
    assert (stored[1, 0], stored[2, 0], stored[0, :5].tolist()) == (
        5000 & 0xFFF,
        -3 if signed else 3,
        [0, 1, 2, 3, 4],
    )
    assert "3 slices have bits above BitsStored, which were left out" in scan.notes


GRID = oblique_grid((6, 5, 3))


def padded(folder: Path, stored: list[int], *, signed: bool, **limits: int) -> list[int]:
    """Store values in the first pixels of every slice, state padding, and read their HU."""
    hu = np.zeros(GRID.shape, np.int16)
    hu[: len(stored), 0, :] = np.asarray(stored)[:, None] - 1024

    def edit(dataset: Dataset, k: int) -> None:
        for name, value in limits.items():
            dataset.add_new(name, "US", value)

    write_ct_series(folder, hu, GRID, signed=signed, edit=edit)
    return read_dicom_folder(folder).voxels_hu[: len(stored), 0, 0].tolist()


def test_padding_is_a_stored_value_with_the_sign_of_the_pixels(tmp_path: Path) -> None:
    hu = padded(tmp_path, [-2000, -1500, 100], signed=True, PixelPaddingValue=65536 - 2000)
    assert hu == [PADDED_HU, -2524, -924]
    assert PADDED_HU < PADDING_HU


def test_padding_may_be_a_range(tmp_path: Path) -> None:
    limits = {"PixelPaddingValue": 65536 - 1500, "PixelPaddingRangeLimit": 65536 - 2000}
    hu = padded(tmp_path, [-2001, -2000, -1700, -1500, -1499], signed=True, **limits)
    assert hu == [-3025, PADDED_HU, PADDED_HU, PADDED_HU, -2523]


def test_padding_of_unsigned_pixels_has_no_sign(tmp_path: Path) -> None:
    hu = padded(tmp_path, [33000, 2000], signed=False, PixelPaddingValue=33000)
    assert hu == [PADDED_HU, 976]


def test_padding_beyond_16_bit_hu_does_not_refuse_a_series(tmp_path: Path) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        pixels = np.frombuffer(dataset.PixelData, "<i2").copy()
        pixels[0] = -32768
        dataset.PixelData, dataset.PixelPaddingValue = pixels.tobytes(), 0x8000
        dataset["PixelPaddingValue"].VR = "US"

    write_ct_series(tmp_path, np.full(GRID.shape, 40, np.int16), GRID, signed=True, edit=edit)
    assert read_dicom_folder(tmp_path).voxels_hu[:2, 0, 0].tolist() == [PADDED_HU, 40]


def test_differing_rescales_are_applied_and_noted(tmp_path: Path) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.RescaleIntercept = str(-1024 + 10 * k)

    write_ct_series(tmp_path, np.zeros(GRID.shape, np.int16), GRID, edit=edit)
    scan = read_dicom_folder(tmp_path)
    assert scan.voxels_hu[0, 0].tolist() == [0, 10, 20]
    assert scan.notes == ("3 rescales differ between slices; each slice has its own",)


def test_zip_members_are_read_like_files(tmp_path: Path) -> None:
    import zipfile

    paths = write(tmp_path / "series", "explicit")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in paths:
            archive.write(path, f"patient/{path.name}")
    members = [FileRef(tmp_path / "all.zip", f"patient/{path.name}") for path in paths]
    np.testing.assert_array_equal(read_series(members, gate=None).voxels_hu, SCAN.voxels_hu)


@needs_data
def test_one_real_slice_decodes_alike_from_six_encodings() -> None:
    folder = Path(os.environ["MEDKD_DATA"]) / "dicom_edge" / "wg04_chest_ct1"
    names = ("CT1_J2KR", "CT1_JLSL", "CT1_JPLL", "CT1_RLE", "D_CLUNIE_CT1_RLE_FRAGS.dcm",
             "GH177_D_CLUNIE_CT1_IVRLE_BigEndian_ELE_undefinded_length.dcm")  # fmt: skip
    headers = read_headers([FileRef(folder / name) for name in names]).headers
    stored = np.empty((6, 512, 512), np.int16)
    for place, header in zip(stored, headers, strict=True):
        assert PixelReader().read_into(place, header) is None
    assert (stored == stored[0]).all()
    assert (stored.min(), stored.max()) == (-2000, 2278)


@needs_data
def test_a_real_stream_of_the_other_sign_than_the_header_decodes(tmp_path: Path) -> None:
    path = Path(os.environ["MEDKD_DATA"]) / "dicom_edge" / "not_chest" / "J2K_pixelrep_mismatch.dcm"
    (header,) = read_headers([FileRef(path)]).headers
    place = np.empty((512, 512), np.int16)
    assert PixelReader().read_into(place, header) is None
    assert (place.min(), place.max()) == (-2000, 1896)


def test_left_handed_grids_come_back_with_slices_reversed(tmp_path: Path) -> None:
    grid: VoxelGrid = oblique_grid((5, 4, 3), flip=True)
    scan = make_scan(grid)
    write(tmp_path, "explicit", scan)
    back = read_dicom_folder(tmp_path)
    np.testing.assert_array_equal(back.voxels_hu, scan.voxels_hu[:, :, ::-1])
