"""What is no chest radiograph is refused by its header, with a code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medkd.errors import SeriesError
from medkd.io.radiograph.gate import (
    CODES,
    animal_of,
    part_of,
    radiograph_reasons,
    split_allowed,
    view_of,
)
from medkd.io.radiograph.read import read_radiograph, read_radiograph_header
from medkd.types import Radiograph
from tests.io.radiograph_helper import write_dx
from tests.real_data import needs_data

DX = "1.2.840.10008.5.1.4.1.1.1.1"
SC = "1.2.840.10008.5.1.4.1.1.7"


def header(**values: Any) -> Dataset:
    dataset = Dataset()
    for name, value in ({"Modality": "DX", "SOPClassUID": DX} | values).items():
        setattr(dataset, name, value)
    return dataset


def coded(value: str, meaning: str = "") -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodeMeaning = value, meaning
    return Sequence([item])


def codes_of(dataset: Dataset) -> set[str]:
    return {reason.partition(":")[0] for reason in radiograph_reasons(dataset)}


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        ({}, set()),
        ({"Modality": "CR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1"}, set()),
        ({"SOPClassUID": SC}, set()),
        ({"Modality": "OT", "SOPClassUID": SC, "BodyPartExamined": "CHEST"}, set()),
        ({"Modality": "OT", "SOPClassUID": SC}, {"secondary_capture"}),
        ({"Modality": "CT", "SOPClassUID": SC}, {"not_xray"}),
        ({"Modality": "MG"}, {"not_xray"}),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, {"not_xray"}),
        ({"SOPClassUID": DX + ".1"}, {"for_processing"}),
        ({"PresentationIntentType": "FOR PROCESSING"}, {"for_processing"}),
        ({"NumberOfFrames": "12"}, {"multi_frame"}),
        ({"BurnedInAnnotation": "YES"}, {"burned_in"}),
        ({"PhotometricInterpretation": "MONOCHROME2", "PresentationLUTShape": "INVERSE"},
         {"polarity"}),
        ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}, set()),
        ({"BodyPartExamined": "KNEE", "PatientBreedDescription": "Beagle"},
         {"not_chest", "not_human"}),
    ],
)  # fmt: skip
def test_each_fault_has_its_code(values: dict[str, Any], codes: set[str]) -> None:
    assert codes_of(header(**values)) == codes
    assert codes <= set(CODES)


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"BodyPartExamined": "CHEST"}, "chest"),
        ({"BodyPartExamined": "PORT CHEST"}, "chest"),
        ({"BodyPartExamined": "CHESTABDOMEN"}, "chest"),
        ({"BodyPartExamined": "Thorax"}, "chest"),
        ({"BodyPartExamined": "TSPINE"}, "TSPINE"),
        ({"BodyPartExamined": "T SPINE"}, "TSPINE"),
        ({"BodyPartExamined": "ABDOMEN", "StudyDescription": "chest"}, "ABDOMEN"),
        ({"BodyPartExamined": "WIDGET"}, "other"),
        ({"StudyDescription": "XR HAND LEFT"}, "HAND"),
        ({"StudyDescription": "X-ray, chest and abdomen"}, "chest"),
        ({"StudyDescription": "Handover film"}, ""),
        ({"AnatomicRegionSequence": coded("51185008", "Chest")}, "chest"),
        ({"AnatomicRegionSequence": coded("72696002", "Knee")}, "KNEE"),
        ({}, ""),
    ],
)
def test_the_part_of_the_body_is_read_from_what_is_said(values: dict[str, Any], part: str) -> None:
    assert part_of(header(**values)) == part


@pytest.mark.parametrize(
    ("values", "view"),
    [
        ({"ViewPosition": "PA"}, "PA"),
        ({"ViewPosition": "lateral"}, "LAT"),
        ({"ViewPosition": "Jane Doe"}, None),
        ({"ViewCodeSequence": coded("R-10206")}, "AP"),
        ({"ViewCodeSequence": coded("272479007")}, "PA"),
        ({"SeriesDescription": "Chest PA"}, "PA"),
        ({"SeriesDescription": "Chest PA and LAT"}, None),
        ({"SeriesDescription": "PATIENT APPEARS"}, None),
    ],
)
def test_the_view_is_one_of_a_closed_list(values: dict[str, Any], view: str | None) -> None:
    assert view_of(header(**values)) == view


def test_a_human_is_no_animal_and_a_cat_scan_is_no_cat() -> None:
    human = header(PatientSpeciesDescription="HOMO SAPIENS", StudyDescription="CAT scan")
    assert animal_of(human) == ""
    assert animal_of(header(PatientSpeciesCodeSequence=coded("337915000"))) == ""
    assert animal_of(header(PatientSpeciesDescription="Canis lupus")) != ""
    assert animal_of(header(InstitutionName="Veterinarian")) != ""
    assert animal_of(header(InstitutionName="Veterans Hospital")) == ""


def test_only_what_may_pass_can_be_let_pass(tmp_path: Path) -> None:
    path = write_dx(tmp_path / "a", BodyPartExamined="KNEE")
    with pytest.raises(SeriesError, match="not_chest: the header names KNEE"):
        read_radiograph(path)
    assert read_radiograph(path, allow=["not_chest"]).pixels.shape == (2, 3)
    assert read_radiograph(path, allow=None).pixels.shape == (2, 3)
    with pytest.raises(ValueError, match="not_xray"):
        split_allowed([], ["not_xray"])


def test_refused_and_allowed_reasons_are_kept_apart() -> None:
    reasons = ("not_chest: KNEE", "not_human: CANINE")
    assert split_allowed(reasons, ["not_chest"]) == (reasons[1:], reasons[:1])
    assert split_allowed(reasons) == (reasons, ())


def test_a_header_without_pixels_or_syntax_says_so(tmp_path: Path) -> None:
    import pydicom

    dataset = pydicom.dcmread(write_dx(tmp_path / "a"))
    del dataset.PixelData
    dataset.save_as(tmp_path / "b")
    assert read_radiograph_header(tmp_path / "b").reasons[0].startswith("no_pixels")
    with pytest.raises(SeriesError, match="no_pixels"):
        read_radiograph(tmp_path / "b")


def test_a_syntax_that_nobody_decodes_is_named_missing(tmp_path: Path) -> None:
    import pydicom

    dataset = pydicom.dcmread(write_dx(tmp_path / "a"))
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2
    dataset.PixelData = pydicom.encaps.encapsulate([b"xx"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(tmp_path / "b")
    assert "missing_decoder" in read_radiograph_header(tmp_path / "b").reasons[0]


@needs_data
def test_the_real_animal_is_refused_as_one() -> None:
    path = Path(os.environ["MEDKD_DATA"]) / "dicom_edge" / "not_chest" / "dx_animal_thorax.dcm"
    with pytest.raises(SeriesError, match="not_human: the header names CANINE"):
        read_radiograph(path)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless, JPEGLSLossless,
     JPEG2000Lossless],
)  # fmt: skip
def test_a_damaged_file_reads_or_is_refused_by_a_known_code(tmp_path: Path, syntax: str) -> None:
    rng = np.random.default_rng(7)
    stored = rng.integers(0, 4096, (32, 32)).astype(np.uint16)
    whole = write_dx(tmp_path / "a", stored, syntax=syntax, PixelSpacing=[0.2, 0.2]).read_bytes()
    for _ in range(60):
        damaged = bytearray(whole)
        place = int(rng.integers(132, min(len(whole), 1400)))
        damaged[place : place + 4] = rng.bytes(int(rng.integers(0, 5)))
        (tmp_path / "b").write_bytes(bytes(damaged[: len(whole) - int(rng.integers(0, 2)) * 300]))
        outcome = codes_or_film(tmp_path / "b")
        if isinstance(outcome, set):
            assert outcome <= set(CODES)
        else:
            assert 0 <= outcome.pixels.min() < outcome.pixels.max() <= 1


def codes_or_film(path: Path) -> set[str] | Radiograph:
    try:
        return read_radiograph(path, allow=None)
    except SeriesError as error:
        return {reason.partition(":")[0] for reason in error.reasons}
