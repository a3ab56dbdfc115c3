"""What is shared names nobody: planted identities are gone, or nothing is left behind."""

from __future__ import annotations

import hashlib
import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from medkd.errors import SeriesError
from medkd.io.deidentify.check import identity_of, leaks_in
from medkd.io.deidentify.copy import REPORT_FILE, SharingReport, deidentify, write_left_out
from medkd.io.deidentify.rules import (
    EMPTIED,
    KEPT,
    LEFT_OUT,
    PSEUDONYMOUS,
    REPLACED_UIDS,
    SHIFTED_DATES,
)
from medkd.io.identity import Pseudonyms, open_pseudonyms
from medkd.io.radiograph.read import read_radiograph
from tests.io.radiograph_helper import write_dx
from tests.real_data import needs_data

pytest.importorskip("dicognito", reason="extra share")

STUDY, SERIES = generate_uid(entropy_srcs=["study"]), generate_uid(entropy_srcs=["series"])
PLANTED: dict[str, Any] = {
    "PatientName": "Quixano^Alonso^^Don=山田^太郎",
    "PatientID": "H-77120993",
    "PatientBirthDate": "19470616",
    "OtherPatientIDs": ["ALT-5512", "ALT-9981"],
    "PatientAddress": "Calle Mayor 12, Toledo",
    "PatientComments": "brother of Sancho P.",
    "AccessionNumber": "ACC4711X",
    "InstitutionName": "Hospital Argamasilla",
    "StationName": "ROCINANTE",
    "ReferringPhysicianName": "Panza^Sancho",
    "OperatorsName": "Cervantes^M",
    "StudyDescription": "follow-up Quixano chest",
    "ImageComments": "tel 0034-555-1234",
    "DeviceSerialNumber": "SN-3141592",
    "Manufacturer": "Argamasilla Imaging (Quixano)",
    "SeriesNumber": 77,
    "StudyDate": "20190311", "SeriesDate": "20190311", "AcquisitionDateTime": "20190311101112",
    "StudyTime": "101112",
    "StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES,
    "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
    "BurnedInAnnotation": "NO",
}  # fmt: skip
TRACES = ("quixano", "alonso", "77120993", "19470616", "5512", "mayor", "sancho", "panza",
          "acc4711x", "argamasilla", "rocinante", "cervantes", "follow", "0034", "3141592",
          "20190311", "101112", "dulcinea", STUDY, SERIES)  # fmt: skip


def plant(path: Path, **header: Any) -> Path:
    """Write a film with an identity in every place where archives have one."""
    values = {**PLANTED, "SpecificCharacterSet": "ISO_IR 192", **header}
    path.parent.mkdir(parents=True, exist_ok=True)
    syntax = values.pop("syntax", None)
    write_dx(path, **({} if syntax is None else {"syntax": syntax}), **values)
    dataset = pydicom.dcmread(path)
    block = dataset.private_block(0x0011, "ARGAMASILLA 1.0", create=True)
    block.add_new(1, "LO", "Dulcinea")
    nested = Dataset()
    nested.RequestingPhysician = "Panza^Sancho"
    nested.ReferencedSOPInstanceUID = SERIES + ".9"
    dataset.RequestAttributesSequence = Sequence([nested])
    dataset.file_meta.SourceApplicationEntityTitle = "ROCINANTE"
    dataset.preamble = b"Quixano".ljust(128, b"\0")
    dataset.save_as(path)
    return path


def shared_files(out: Path) -> list[Path]:
    return sorted(out.rglob("*.dcm"))


def share(source: Path, out: Path, **options: Any) -> SharingReport:
    return deidentify(source, out, **options)


@pytest.mark.parametrize(
    "syntax", [None, ImplicitVRLittleEndian, RLELossless, DeflatedExplicitVRLittleEndian]
)
def test_no_planted_identity_is_left_in_names_bytes_or_report(
    tmp_path: Path, syntax: str | None
) -> None:
    plant(tmp_path / "Quixano" / "film 1", syntax=syntax)
    key = bytes(range(32))  # a drawn one puts a trace of four digits into a new UID at times
    share(tmp_path / "Quixano", tmp_path / "out", names=Pseudonyms("pseudonymise", key))

    everything = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert len(everything) == 2
    for path in everything:
        content = path.read_bytes().lower() + str(path.relative_to(tmp_path)).lower().encode()
        assert [t for t in TRACES if t.encode() in content] == []
        assert "山田".encode() not in content


def test_the_pixels_and_how_they_are_shown_stay(tmp_path: Path) -> None:
    source = plant(tmp_path / "a", WindowCenter="2000.5", WindowWidth="2001", ViewPosition="PA",
                   PixelSpacing=[0.2, 0.2], PhotometricInterpretation="MONOCHROME1")  # fmt: skip
    share(source, tmp_path / "out")

    (path,) = shared_files(tmp_path / "out")
    before, after = read_radiograph(source), read_radiograph(path)
    np.testing.assert_array_equal(after.pixels, before.pixels)
    assert (after.view, after.pixel_spacing_mm) == ("PA", (0.2, 0.2))


def test_a_shared_file_states_how_it_was_made(tmp_path: Path) -> None:
    share(plant(tmp_path / "a"), tmp_path / "out")

    dataset = pydicom.dcmread(shared_files(tmp_path / "out")[0])
    assert dataset.PatientIdentityRemoved == "YES"
    codes = [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107"]
    assert "dicognito" in dataset.DeidentificationMethod
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert "Manufacturer" not in dataset, "it named the hospital and the patient"
    assert dataset.PatientName == dataset.PatientID


def test_series_and_dates_of_a_patient_stay_together(tmp_path: Path) -> None:
    for n, date in enumerate(["20190311", "20190321"]):
        plant(tmp_path / "in" / f"{n}", StudyDate=date)
    plant(tmp_path / "in" / "other", PatientID="H-2", StudyInstanceUID=generate_uid())
    report = share(tmp_path / "in", tmp_path / "out")

    files = [pydicom.dcmread(path) for path in shared_files(tmp_path / "out")]
    mine = [d for d in files if d.PatientID == max(report.patients, key=[
        d.PatientID for d in files].count)]  # fmt: skip
    assert (report.files, report.series, len(report.patients)) == (3, 2, 2)
    assert len({d.StudyInstanceUID for d in mine}) == len({d.SeriesInstanceUID for d in mine}) == 1
    first, second = sorted(d.StudyDate for d in mine)
    days = np.datetime64(f"{second[:4]}-{second[4:6]}-{second[6:]}") - np.datetime64(
        f"{first[:4]}-{first[4:6]}-{first[6:]}"
    )
    assert days == np.timedelta64(10, "D")


def test_without_an_index_nobody_can_lead_back(tmp_path: Path) -> None:
    source = plant(tmp_path / "a")
    once, twice = (share(source, tmp_path / name).patients for name in ("b", "c"))
    assert once != twice


def test_with_an_index_the_names_are_its_own(tmp_path: Path) -> None:
    names = open_pseudonyms(tmp_path / "index.private", "pseudonymise")
    report = share(plant(tmp_path / "a"), tmp_path / "out", names=names)
    assert report.patients == (names.patient("H-77120993"),)
    with pytest.raises(SeriesError, match="keeps its identifiers"):
        share(tmp_path / "a", tmp_path / "other", names=Pseudonyms("keep"))


def test_a_name_inside_the_pixels_is_found_and_nothing_is_left_behind(tmp_path: Path) -> None:
    stored = np.frombuffer(b"..QUIXANO ALONSO....", np.uint16).reshape(2, 5) & 0x7FFF
    write_dx(tmp_path / "a", stored.astype(np.uint16), bits=16, **PLANTED)
    with pytest.raises(SeriesError, match="all of it was removed") as caught:
        share(tmp_path / "a", tmp_path / "out")

    assert "PatientName is left in the pixels' bytes" in str(caught.value)
    assert "quixano" not in str(caught.value).lower()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("burned", ["ÉMILE-ZOÉ", "Émile-Zoé"])
def test_accented_names_are_found_in_bytes_as_spelled_or_in_capitals(
    tmp_path: Path, burned: str
) -> None:
    raw = f"..{burned}.".encode("latin-1")
    stored = np.frombuffer(raw + b".." * 4, np.uint16).reshape(2, 5)
    write_dx(tmp_path / "a", stored, bits=16, PatientName="Émile-Zoé^X", StudyInstanceUID=STUDY,
             SpecificCharacterSet="ISO_IR 100")  # fmt: skip
    with pytest.raises(SeriesError, match="PatientName is left in the pixels"):
        share(tmp_path / "a", tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"PatientComments": "x"}, "PatientComments is there"),
        ({"SeriesInstanceUID": SERIES}, "SeriesInstanceUID is left in SeriesInstanceUID"),
        ({"StudyDate": "20190311"}, "StudyDate is not shifted"),
        ({"PatientBirthDate": "19470616"}, "PatientBirthDate is not empty"),
        ({"ConvolutionKernel": "for Alonso"}, "a word of PatientName is left in Conv"),
        ({"ManufacturerModelName": "Hospital Argamasilla"}, "InstitutionName is left in Manu"),
        ({"SeriesNumber": 77120993}, "a word of PatientID is left in SeriesNumber"),
    ],
)
def test_the_check_finds_whatever_was_put_back(
    tmp_path: Path, change: dict[str, Any], finding: str
) -> None:
    source = plant(tmp_path / "a")
    share(source, tmp_path / "out")
    (path,) = shared_files(tmp_path / "out")
    identity = identity_of(pydicom.dcmread(source))
    assert leaks_in(path, identity) == []

    dataset = pydicom.dcmread(path)
    for name, value in change.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    assert any(line.startswith(finding) for line in leaks_in(path, identity))


def test_the_check_finds_private_elements_and_preambles(tmp_path: Path) -> None:
    source = plant(tmp_path / "a")
    share(source, tmp_path / "out")
    (path,) = shared_files(tmp_path / "out")
    dataset = pydicom.dcmread(path)
    dataset.private_block(0x0011, "VENDOR", create=True).add_new(1, "LO", "x")
    dataset.preamble = b"x" * 128
    dataset.save_as(path)
    found = leaks_in(path, identity_of(pydicom.dcmread(source)))
    assert found == ["(0011,0010) is there, which no shared file holds",
                     "(0011,1001) is there, which no shared file holds",
                     "the preamble is not empty"]  # fmt: skip


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned_in"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "BurnedInAnnotation": None},
         "secondary_capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.33"}, "other_image"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "BodyPartExamined": "HEAD"},
         "recognisable"),
        ({"RecognizableVisualFeatures": "YES"}, "recognisable"),
        ({"PatientBreedDescription": "Beagle"}, "animal"),
        ({"PatientID": "", "StudyInstanceUID": ""}, "no_identifier"),
        ({"StudyDate": "20191355"}, "bad_date"),
    ],
)  # fmt: skip
def test_what_cannot_be_cleaned_is_left_out_with_its_reason(
    tmp_path: Path, header: dict[str, Any], code: str
) -> None:
    plant(tmp_path / "in" / "a")
    plant(tmp_path / "in" / "b", **header)
    report = share(tmp_path / "in", tmp_path / "out")
    assert report.left_out_by_code() == {code: 1}
    assert set(report.left_out_by_code()) <= set(LEFT_OUT)
    assert report.files == 1


def test_reports_without_pixels_text_files_and_damaged_files_are_left_out(tmp_path: Path) -> None:
    plant(tmp_path / "in" / "a")
    (tmp_path / "in" / "list.csv").write_text("Quixano;H-77120993")
    sr = pydicom.dcmread(plant(tmp_path / "in" / "b"))
    del sr.PixelData
    sr.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    sr.save_as(tmp_path / "in" / "b")
    report = share(tmp_path / "in", tmp_path / "out")
    assert report.left_out_by_code() == {"not_dicom": 1, "not_image": 1}
    kept = json.loads((tmp_path / "out" / REPORT_FILE).read_text())
    assert kept["left_out"]["not_image"]["files"] == 1


def test_if_nothing_can_be_shared_the_reasons_are_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes").write_text("none")
    with pytest.raises(SeriesError, match="not_dicom: 1 files"):
        share(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(SeriesError, match="name a new place"):
        share(plant(tmp_path / "a"), tmp_path / "out")


def test_originals_are_not_changed(tmp_path: Path) -> None:
    source = plant(tmp_path / "a")
    before = hashlib.sha256(source.read_bytes()).hexdigest()
    share(source, tmp_path / "out")
    assert hashlib.sha256(source.read_bytes()).hexdigest() == before


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_the_list_of_what_is_left_out_is_for_its_owner_alone(tmp_path: Path) -> None:
    plant(tmp_path / "in" / "a")
    (tmp_path / "in" / "Quixano.txt").write_text("x")
    report = share(tmp_path / "in", tmp_path / "out")
    write_left_out(tmp_path / "left.tsv", report)
    assert (tmp_path / "left.tsv").stat().st_mode & 0o777 == 0o600
    assert "Quixano" in (tmp_path / "left.tsv").read_text()
    assert "Quixano" not in repr(report)


def test_unstated_text_in_pictures_is_counted(tmp_path: Path) -> None:
    source = plant(tmp_path / "a", BurnedInAnnotation=None)
    assert share(source, tmp_path / "out").unstated_text == 1


def test_short_and_common_values_are_no_false_alarm(tmp_path: Path) -> None:
    """A patient called Li with the number 120, scanned at 120 kV, for a chest study."""
    source = plant(tmp_path / "a", PatientName="Li^An", PatientID="120", KVP="120",
                   RescaleIntercept="-1024", RescaleSlope="1", StudyDescription="CHEST",
                   OtherPatientIDs="1024", Manufacturer="ACME")  # fmt: skip
    assert share(source, tmp_path / "out").files == 1
    dataset = pydicom.dcmread(shared_files(tmp_path / "out")[0])
    assert (dataset.KVP, dataset.RescaleIntercept, dataset.Manufacturer) == (120, -1024, "ACME")


def test_a_device_name_that_a_vendor_repeats_in_private_is_no_identity(tmp_path: Path) -> None:
    source = plant(tmp_path / "a", Manufacturer="ACME", ManufacturerModelName="Optima CT520 Series")
    dataset = pydicom.dcmread(source)
    dataset.private_block(0x0011, "ARGAMASILLA 1.0").add_new(2, "LO", "Optima CT520 Ser")
    dataset.save_as(source)
    share(source, tmp_path / "out")
    dataset = pydicom.dcmread(shared_files(tmp_path / "out")[0])
    assert dataset.ManufacturerModelName == "Optima CT520 Series"


@needs_data
@pytest.mark.slow
def test_real_images_of_many_scanners_pass_their_check(tmp_path: Path) -> None:
    report = share(Path(os.environ["MEDKD_DATA"]) / "dicom_edge", tmp_path / "out")
    assert report.files == 25
    assert report.left_out_by_code() == {
        "animal": 1, "no_pixels": 1, "not_dicom": 1, "recognisable": 30
    }  # fmt: skip


def test_nothing_of_the_standards_table_is_kept_but_what_is_replaced() -> None:
    """PS3.15 table E.1-1 as an independent package has it."""
    pytest.importorskip("dicomanonymizer", reason="extra dev")
    table = import_module("dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c")
    from pydicom.datadict import tag_for_keyword

    listed = {
        (tag[0] << 16) | tag[1]
        for name in dir(table)
        if name.endswith("_TAGS")
        for tag in getattr(table, name)
        if len(tag) == 2
    }
    assert len(listed) > 400
    both = {name for name in KEPT if tag_for_keyword(name) in listed}
    assert both == {*REPLACED_UIDS, *SHIFTED_DATES, *PSEUDONYMOUS, *EMPTIED}


def test_every_attribute_kept_is_one_of_the_standard() -> None:
    from pydicom.datadict import tag_for_keyword

    assert [name for name in KEPT if tag_for_keyword(name) is None] == []
