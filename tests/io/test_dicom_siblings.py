"""What could make a DICOM series silently wrong: each is refused or noted."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence as Items

from medkd.errors import SeriesError
from medkd.io.dicom import pixels
from medkd.io.dicom.gate import GateSettings
from medkd.io.dicom.series import read_dicom_folder
from tests.io.dicom_helper import write_ct_series, write_encoded_series
from tests.io.volume_helper import make_scan, oblique_grid

GRID = oblique_grid((12, 10, 24))
SCAN = make_scan(GRID)


def reasons_of(folder: Path) -> tuple[str, ...]:
    with pytest.raises(SeriesError) as refusal:
        read_dicom_folder(folder, gate=GateSettings())
    return refusal.value.reasons


def lut() -> Items:
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [3, 0, 16], "HU"
    table.LUTData = struct.pack("<3H", 1, 2, 3)
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "OW"
    return Items([table])


def test_a_modality_lut_is_never_passed_over(tmp_path: Path) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        del dataset.RescaleSlope, dataset.RescaleIntercept
        dataset.ModalityLUTSequence = lut()

    write_ct_series(tmp_path, SCAN.voxels_hu, GRID, edit=edit)
    with pytest.raises(SeriesError, match=r"pixel_format: .*Modality LUT"):
        read_dicom_folder(tmp_path, gate=GateSettings(allow=("missing_rescale",)))


@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept"])
def test_several_values_of_the_rescale_are_refused(tmp_path: Path, name: str) -> None:
    write_ct_series(tmp_path, SCAN.voxels_hu, GRID, edit=lambda d, k: setattr(d, name, ["1", "2"]))
    (reason,) = reasons_of(tmp_path)
    assert reason.endswith(f"and 21 more: expected one {name}, got several values")


@pytest.mark.parametrize(
    ("signed", "stored", "hu", "noted"),
    [
        (False, 0x8123, 0x123 - 1024, True),  # an overlay
        (False, 0x0FFF, 0xFFF - 1024, False),
        (False, 0x1FFF, 0xFFF - 1024, True),  # a value beyond what BitsStored holds
        (True, 0xF830, -2000 - 1024, False),  # filled with the sign
        (True, 0x0830, -2000 - 1024, False),  # filled with zeros
        (True, 0x07FF, 2047 - 1024, False),
        (True, 0x1830, -2000 - 1024, True),
    ],
)
def test_spare_bits_are_left_out_and_noted(
    tmp_path: Path, signed: bool, stored: int, hu: int, noted: bool
) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        words = np.frombuffer(dataset.PixelData, "<u2").copy()
        words[0] = stored
        dataset.PixelData = words.tobytes()

    voxels = np.zeros(GRID.shape, np.int16)
    write_ct_series(tmp_path, voxels, GRID, bits_stored=12, signed=signed, edit=edit)
    scan = read_dicom_folder(tmp_path)
    assert scan.voxels_hu[0, 0, 0] == hu
    expected = ("24 slices have bits above BitsStored, which were left out",)
    assert scan.notes == (expected if noted else ())


@pytest.mark.parametrize(
    "values",
    [
        {"BitsStored": 17, "HighBit": 16},
        {"BitsStored": 0, "HighBit": 0},
        {"PixelRepresentation": 2},
        {"BitsAllocated": 32, "BitsStored": 16},
        {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
        {"SamplesPerPixel": 3},
        {"NumberOfFrames": "2"},
        {"PhotometricInterpretation": "PALETTE COLOR"},
    ],
    ids=lambda values: next(iter(values)),
)
def test_other_formats_of_pixels_are_refused(tmp_path: Path, values: dict) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    write_ct_series(tmp_path, SCAN.voxels_hu, GRID, edit=edit)
    assert any(reason.startswith("pixel_format: ") for reason in reasons_of(tmp_path))


def test_a_private_syntax_with_swapped_pixels_is_refused(tmp_path: Path) -> None:
    """GE's 1.2.840.113619.5.2: implicit little endian with big-endian pixels."""
    path = write_ct_series(tmp_path, SCAN.voxels_hu, GRID)[2]
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.113619.5.2"
    pydicom.dcmwrite(path, dataset, implicit_vr=True, little_endian=True)
    assert any(path.name in reason for reason in reasons_of(tmp_path))


class OddError(Exception):
    """What no list of known exceptions has."""


@pytest.mark.parametrize(
    "error",
    [OddError("Doe^Jane"), MemoryError(), RecursionError(), struct.error("x"), SystemError()],
)
def test_whatever_a_decoder_raises_is_a_reason_with_the_file(
    tmp_path: Path, monkeypatch, error: Exception
) -> None:
    paths = write_encoded_series(SCAN, tmp_path, syntax="rle")

    def decode(*args: object) -> None:
        raise error

    monkeypatch.setattr("medkd.io.dicom.pixels._decoded", decode)
    reasons = reasons_of(tmp_path)
    assert len(reasons) == 24
    assert all(reason.startswith("damaged_pixels: ") for reason in reasons)
    assert sum(path.name in "".join(reasons) for path in paths) == 24
    assert "Doe" not in "".join(reasons)


def test_running_out_of_memory_is_a_reason(tmp_path: Path, monkeypatch) -> None:
    write_ct_series(tmp_path, SCAN.voxels_hu, GRID)

    def full(*args: object, **values: object) -> None:
        raise MemoryError

    monkeypatch.setattr("medkd.io.dicom.series.order_faults", full)
    (reason,) = reasons_of(tmp_path)
    assert reason.startswith("damaged_pixels: a volume of (12, 10, 24) voxels: it does not fit")


def claims(folder: Path, syntax: str) -> None:
    """Write slices whose headers claim 65535 x 65535 pixels."""
    write_encoded_series(SCAN, folder, syntax=syntax)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.Rows = dataset.Columns = 65535
        dataset.save_as(path)


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "rle", "jpegls"])
def test_a_size_beyond_bytes_or_memory_is_refused_before_it_is_allocated(
    tmp_path: Path, monkeypatch, syntax: str
) -> None:
    claims(tmp_path, syntax)

    def allocate(*args: object, **values: object) -> None:
        raise AssertionError("allocated")

    monkeypatch.setattr("medkd.io.dicom.series.np.empty", allocate)
    reasons = reasons_of(tmp_path)
    assert all(reason.startswith(("truncated_pixels", "damaged_pixels")) for reason in reasons)


def test_a_claim_beyond_memory_names_what_it_would_take(tmp_path: Path, monkeypatch) -> None:
    write_encoded_series(SCAN, tmp_path, syntax="rle")
    monkeypatch.setattr(pixels, "_memory_bytes", lambda: 5000)
    assert reasons_of(tmp_path) == (
        "damaged_pixels: 5.76e-06 GB of pixels do not fit into the memory of this machine",
    )


@pytest.mark.parametrize("syntax", ["jpegls", "jpeg2000", "jpeg_lossless"])
def test_a_frame_that_decodes_to_another_size_is_never_decoded(tmp_path: Path, syntax: str) -> None:
    scan = make_scan(oblique_grid((44, 36, 4)))
    path = write_encoded_series(scan, tmp_path, syntax=syntax)[3]
    dataset = pydicom.dcmread(path)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    huge = struct.pack(">H", 60000)
    place = frame.index(b"\0\0\0\x24" if syntax == "jpeg2000" else b"\0\x24\0\x2c")
    place += 2 if syntax == "jpeg2000" else 0
    dataset.PixelData = encapsulate([frame[:place] + huge + frame[place + 2 :]])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    with pytest.raises(SeriesError) as refusal:
        read_dicom_folder(tmp_path)
    (reason,) = refusal.value.reasons
    assert reason.startswith(f"damaged_pixels: {path.name}: expected a stream of 36 x 44 x 1, got")
