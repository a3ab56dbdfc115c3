"""Identifiers that reading does not need: read with a note; copies that need them say why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medkd.errors import SeriesError
from medkd.io.dicom.derive import Derivation, write_derived_series
from medkd.io.dicom.gate import GateSettings, examine
from medkd.io.dicom.header import read_headers
from medkd.io.dicom.series import read_dicom_folder
from medkd.io.file_ref import FileRef
from tests.io.dicom_helper import write_ct_series
from tests.io.volume_helper import make_scan, oblique_grid

GRID = oblique_grid((12, 10, 24))
SCAN = make_scan(GRID)
ADDED = np.full(GRID.shape, 7, np.int16)
DONE = Derivation("medkd implant 7: synthetic nodules", "0.1", "key")


@pytest.fixture(autouse=True)
def _as_archives_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pydicom write UIDs that are none."""
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.IGNORE)
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.IGNORE)


def write(folder: Path, **values: object) -> list[Path]:
    """Write a series with attributes set in every slice; None removes them."""

    def edit(dataset: pydicom.Dataset, k: int) -> None:
        for name, value in values.items():
            if value is None:
                dataset.pop(name, None)
            else:
                setattr(dataset, name, value)

    return write_ct_series(folder, SCAN.voxels_hu, GRID, edit=edit)


def change(paths: list[Path], name: str, value: str | None) -> None:
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.pop(name, None)
        if value is not None:
            setattr(dataset, name, value)
        dataset.save_as(path)


INVALID = ["CT series 5", "1.2.03.4", "1.2." + "3" * 70, "1..2", "series/../../5", "Ärzte"]
UIDS = ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"]


@pytest.mark.parametrize("name", [*UIDS, "PatientID"])
@pytest.mark.parametrize("value", ["", None])
def test_a_missing_identifier_is_noted(tmp_path: Path, name: str, value: str | None) -> None:
    change(write(tmp_path), name, value)
    scan = read_dicom_folder(tmp_path, gate=GateSettings())
    np.testing.assert_array_equal(scan.voxels_hu, SCAN.voxels_hu)
    assert scan.notes == (f"all slices: no {name}",)


@pytest.mark.parametrize("name", UIDS[1:])
@pytest.mark.parametrize("value", INVALID)
def test_an_invalid_uid_is_noted_without_its_value(tmp_path: Path, name: str, value: str) -> None:
    write(tmp_path, **{name: value})
    scan = read_dicom_folder(tmp_path, gate=GateSettings())
    assert scan.notes == (f"all slices: {name} is not a valid UID",)


def test_a_series_without_uid_is_named_after_its_voxels(tmp_path: Path) -> None:
    write(tmp_path / "a", SeriesInstanceUID="")
    change(write(tmp_path / "b", SeriesInstanceUID=""), "SOPInstanceUID", "")
    names = [read_dicom_folder(tmp_path / folder).seriesuid for folder in "ab"]
    assert names[0] == names[1]
    assert names[0].startswith("series-")


def test_identifiers_that_some_slices_lack_are_those_of_two_series(tmp_path: Path) -> None:
    paths = write(tmp_path)
    dataset = pydicom.dcmread(paths[3])
    dataset.SeriesInstanceUID = ""
    dataset.save_as(paths[3])
    with pytest.raises(SeriesError, match="mixed_series: expected one, got 2 series"):
        read_dicom_folder(tmp_path)


def test_slices_of_several_studies_are_noted(tmp_path: Path) -> None:
    change(write(tmp_path)[:7], "StudyInstanceUID", "1.2.3")
    scan = read_dicom_folder(tmp_path)
    assert scan.notes == ("2 values of StudyInstanceUID in one series",)


def copy(folder: Path, paths: list[Path]) -> list[Path]:
    slices = examine(read_headers([FileRef(path) for path in paths]).headers, None).ordered
    return write_derived_series(slices, ADDED, folder, DONE)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, "") for name in UIDS[:3]] + [("SOPInstanceUID", "no uid 5")],
)
def test_a_copy_that_could_not_name_its_original_is_refused(tmp_path, name, value) -> None:
    paths = write(tmp_path / "from")
    for number, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        setattr(dataset, name, f"{value}{number}" if value else "")
        dataset.save_as(path)
    with pytest.raises(SeriesError) as refusal:
        copy(tmp_path / "to", paths)
    (reason,) = refusal.value.reasons
    assert reason.startswith(f"all slices: expected a valid {name}, which a copy needs to refer")
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("name", ["SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"])
def test_a_copy_of_a_series_with_other_invalid_uids_is_made(tmp_path: Path, name: str) -> None:
    copy(tmp_path / "to", write(tmp_path / "from", **{name: "CT series 5"}))
    voxels = read_dicom_folder(tmp_path / "to").voxels_hu
    np.testing.assert_array_equal(voxels, SCAN.voxels_hu + ADDED)


def test_a_copy_of_slices_without_file_meta_is_made(tmp_path: Path) -> None:
    paths = write(tmp_path / "from")
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(content[144 + int.from_bytes(content[140:144], "little") :])
    made = copy(tmp_path / "to", paths)
    assert pydicom.dcmread(made[0]).file_meta.TransferSyntaxUID.name == "Explicit VR Little Endian"
    voxels = read_dicom_folder(tmp_path / "to").voxels_hu
    np.testing.assert_array_equal(voxels, SCAN.voxels_hu + ADDED)
