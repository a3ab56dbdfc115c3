"""The gate: each fault is refused by its code, and let pass only by name and with a note."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

from medkd.errors import SeriesError
from medkd.io.dicom.codes import CODES
from medkd.io.dicom.gate import GateSettings, Verdict, examine, scan_reasons
from medkd.io.dicom.header import SliceHeader, read_headers
from medkd.io.dicom.series import places_of, read_dicom_folder, read_series
from medkd.io.dicom.write import SYNTHETIC_MANUFACTURER, write_dicom_series
from medkd.io.file_ref import FileRef
from medkd.io.volume import read_volume
from medkd.types import Scan
from tests.io.dicom_helper import (
    Edit,
    write_ct_series,
    write_encoded_series,
    write_enhanced_ct,
)
from tests.io.volume_helper import make_scan, oblique_grid
from tests.real_data import needs_data

GRID = oblique_grid((12, 10, 24))
SCAN = make_scan(GRID)


def refs_of(folder: Path) -> list[FileRef]:
    return [FileRef(path) for path in sorted(folder.rglob("*")) if path.is_file()]


def position(k: float, sideways_mm: float = 0.0) -> list[float]:
    return (GRID.voxel_to_world([0, 0, k]) + sideways_mm * GRID.direction[:, 0]).tolist()


def slices(*numbers: int, **values: object) -> Edit:
    """Set attributes of some slices (of all where no number is given); None removes them."""

    def edit(dataset: Dataset, k: int) -> None:
        for name, value in values.items() if not numbers or k in numbers else ():
            if value is None:
                del dataset[name]
            else:
                setattr(dataset, name, value)

    return edit


def moved(where: Callable[[int], list[float]]) -> Edit:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.ImagePositionPatient = where(k)

    return edit


def garbled(dataset: Dataset, k: int) -> None:
    dataset.PixelData = encapsulate([b"no picture"])
    dataset["PixelData"].VR = "OB"


def numbered_with_a_swap(dataset: Dataset, k: int) -> None:
    dataset.InstanceNumber = {3: 9, 9: 3}.get(k, k)


def copied(folder: Path) -> None:
    shutil.copy(sorted(folder.iterdir())[4], folder / "again")


def cut(folder: Path) -> None:
    path = folder / f"{np.random.default_rng(0).permutation(24)[-1]:05d}"  # the last by position
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"CHEST") + 2])


@dataclass(frozen=True)
class Planted:
    """A fault: how it is planted, and the shape of the scan where it may be let pass."""

    code: str
    edit: Edit | None = None
    spoil: Callable[[Path], None] | None = None
    gate: GateSettings = field(default_factory=GateSettings)
    syntax: str = ExplicitVRLittleEndian
    slices_read: int = 24


def series_reasons(headers: Sequence[SliceHeader], gate: GateSettings | None) -> Verdict:
    return examine(headers, gate).verdict


SCREEN_SHOT = "1.2.840.10008.5.1.4.1.1.7"
LOCALIZER = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
FAULTS = [
    Planted("unreadable", spoil=cut),
    Planted("unreadable", slices(2, RescaleSlope="1")),
    Planted("not_ct", slices(1, SOPClassUID="1.2.840.10008.5.1.4.1.1.4")),
    Planted("not_ct", slices(Modality="MR")),
    Planted("not_ct", slices(ImageType=["DERIVED", "PRIMARY", "PERFUSION"])),
    Planted("not_chest", slices(BodyPartExamined="HEAD")),
    Planted("not_chest", slices(BodyPartExamined=None, ProtocolName="7.1 L-Spine 3 Level")),
    Planted("localizer", slices(0, ImageType=LOCALIZER), slices_read=23),
    Planted(
        "secondary_capture", slices(0, SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), slices_read=23
    ),
    Planted("dose_report", slices(23, SeriesDescription="Dose Report"), slices_read=23),
    Planted("no_pixels", slices(1, PixelData=None)),
    Planted("missing_attribute", slices(1, PixelSpacing=None)),
    Planted("missing_attribute", slices(1, ImagePositionPatient=[0, 0])),
    Planted("missing_attribute", slices(Rows=0)),
    Planted("pixel_format", slices(PhotometricInterpretation="MONOCHROME1")),
    Planted("pixel_format", slices(BitsStored=12, HighBit=15)),
    Planted("mixed_series", slices(1, SeriesInstanceUID="1.2.3")),
    Planted("mixed_series", slices(1, PatientID="hospital-18")),
    Planted("mixed_acquisition", slices(1, AcquisitionNumber="2")),
    Planted("mixed_orientation", slices(1, ImageOrientationPatient=[1, 0, 0, 0, 1, 0])),
    Planted("mixed_frame_of_reference", slices(1, FrameOfReferenceUID="1.2.3")),
    Planted("mixed_size", slices(1, PixelSpacing=[0.7, 0.9])),
    Planted("mixed_size", slices(1, Columns=13)),
    Planted("mixed_pixel_format", slices(1, PixelRepresentation=1)),
    Planted("missing_slices", moved(lambda k: position(k + (k >= 7)))),
    Planted("irregular_spacing", moved(lambda k: position(k + 0.2 * (k == 7)))),
    Planted("irregular_spacing", moved(lambda k: position(k, 0.3 * (k == 7)))),
    Planted("gantry_tilt", moved(lambda k: position(k, 0.5 * k))),
    Planted("duplicate_positions", spoil=copied),
    Planted("duplicate_uids", slices(3, 4, SOPInstanceUID="1.2.3.4")),
    Planted("disordered_slices", numbered_with_a_swap),
    Planted("slice_thickness", slices(SliceThickness="5")),
    Planted("missing_rescale", slices(RescaleSlope=None, RescaleIntercept=None)),
    Planted("few_slices", gate=GateSettings(min_slices=25)),
    Planted("coarse_voxels", gate=GateSettings(max_voxel_mm=0.75)),
    Planted("blank_slices", slices(5, PixelData=bytes(240))),
    Planted("hu_range", slices(5, RescaleIntercept="32000")),
    Planted("truncated_pixels", slices(5, PixelData=bytes(10))),
    Planted("damaged_pixels", garbled, syntax=JPEGLSLossless),
]


def plant(folder: Path, fault: Planted) -> list[FileRef]:
    write_ct_series(folder, SCAN.voxels_hu, GRID, edit=fault.edit, syntax=fault.syntax)
    if fault.code == "unreadable" and fault.edit is not None:
        path = sorted(folder.iterdir())[0]
        content = path.read_bytes()
        place = content.index(b"\x28\x00\x53\x10DS")
        path.write_bytes(content[: place + 8] + b"x " + content[place + 10 :])
    if fault.spoil is not None:
        fault.spoil(folder)
    return refs_of(folder)


def test_a_sound_series_passes_without_a_word(tmp_path: Path) -> None:
    refs = plant(tmp_path, Planted(""))
    assert series_reasons(read_headers(refs).headers, GateSettings()) == ((), ())
    assert read_series(refs, gate=GateSettings()).notes == ()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.code}-{FAULTS.index(f)}")
def test_a_fault_is_refused_by_its_code_alone(tmp_path: Path, fault: Planted) -> None:
    with pytest.raises(SeriesError) as refusal:
        read_series(plant(tmp_path, fault), gate=fault.gate)
    assert {reason.partition(": ")[0] for reason in refusal.value.reasons} == {fault.code}
    assert not {"Doe", "hospital"} & set(str(refusal.value).replace("-", " ").split())


ALLOWABLE = [f for f in FAULTS if CODES[f.code].allowable]


@pytest.mark.parametrize("fault", ALLOWABLE, ids=lambda f: f.code)
def test_an_allowed_fault_is_read_and_noted(tmp_path: Path, fault: Planted) -> None:
    gate = fault.gate.model_copy(update={"allow": (fault.code,)})
    refs = plant(tmp_path, fault)
    scan = read_series(refs, gate=gate)
    assert scan.grid.shape[2] == fault.slices_read
    assert [note for note in scan.notes if note.startswith(f"allowed: {fault.code}: ")]
    assert len(places_of(read_headers(refs).headers, gate).sop_uids) == fault.slices_read


def test_every_code_but_those_of_other_tests_is_planted() -> None:
    elsewhere = {"missing_decoder", "lungs_not_in_view"}
    elsewhere |= {  # of volume files: tests/io/test_volume_geometry.py
        "spacing_not_stated", "placement_not_stated", "other_units", "contradictory_geometry",
        "bad_geometry",
    }  # fmt: skip
    elsewhere |= {"incomplete_patch", "bad_mask"}  # tests/archive/test_patches.py
    assert {fault.code for fault in FAULTS} | elsewhere == set(CODES)


def test_all_reasons_are_given_at_once_and_name_files_and_values(tmp_path: Path) -> None:
    fault = Planted("", slices(1, SliceThickness="5", FrameOfReferenceUID="1.2.3", Modality="PT"))
    with pytest.raises(SeriesError) as refusal:
        read_series(plant(tmp_path, fault), gate=GateSettings(min_slices=30))
    text = "\n".join(refusal.value.reasons)
    assert "expected Modality CT, got PT" in text
    assert "expected at least 30 slices, got 24" in text


def test_missing_slices_are_named_by_position_and_neighbours(tmp_path: Path) -> None:
    refs = plant(tmp_path, Planted("", moved(lambda k: position(k + 2 * (k >= 7)))))
    (reason,) = series_reasons(read_headers(refs).headers, None).refused
    along = [GRID.direction[:, 2] @ position(k) for k in (7, 8)]
    assert reason.startswith(
        f"missing_slices: 2 slices at {along[0]:.6g}, {along[1]:.6g} mm along the normal, between "
    )


@pytest.mark.parametrize(
    ("was", "becomes"),
    [(b"DS\x06\0-1024 ", b"DS\x06\0-1000 "), (None, b"\1")],
    ids=["rescale", "pixel"],
)
def test_slices_at_one_place_with_other_values_are_never_allowed(tmp_path, was, becomes) -> None:
    def other_values(folder: Path) -> None:
        content = sorted(folder.iterdir())[4].read_bytes()
        changed = content.replace(was, becomes) if was else content[:-1] + becomes
        assert changed != content
        (folder / "again").write_bytes(changed)

    refs = plant(tmp_path, Planted("", spoil=other_values))
    gate = GateSettings(allow=("duplicate_positions",))
    (reason,) = series_reasons(read_headers(refs).headers, gate).refused
    assert "with different pixels" in reason


def test_slices_far_apart_are_as_bad_as_thick_ones(tmp_path: Path) -> None:
    refs = plant(tmp_path, Planted("", slices(SliceThickness="1")))
    gate = GateSettings(max_slice_thickness_mm=1.5)
    (reason,) = series_reasons(read_headers(refs).headers, gate).refused
    assert reason == "slice_thickness: the slices are 2 mm apart, limit 1.5 mm"


def test_thick_slices_among_thin_ones_are_named(tmp_path: Path) -> None:
    refs = plant(tmp_path, Planted("", slices(3, SliceThickness="5")))
    (reason,) = series_reasons(read_headers(refs).headers, GateSettings()).refused
    name = f"{np.random.default_rng(0).permutation(24)[3]:05d}"
    assert reason == f"slice_thickness: {name}: 5 mm, limit 3 mm"


def test_a_slice_without_pixels_is_not_called_missing_as_well(tmp_path: Path) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        slices(4, PixelData=None)(dataset, k)
        moved(lambda k: position(k + (k >= 7)))(dataset, k)

    refused = series_reasons(read_headers(plant(tmp_path, Planted("", edit))).headers, None).refused
    assert [reason.partition(":")[0] for reason in refused] == ["no_pixels", "missing_slices"]
    assert "1 slices at" in refused[1]


def test_a_table_of_contents_beside_the_slices_is_left_out(tmp_path: Path) -> None:
    refs = plant(tmp_path, Planted(""))
    content = refs[0].path.read_bytes()
    image, directory = b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.1.3.10\0\0\0\0\0\0"
    (tmp_path / "DICOMDIR").write_bytes(content.replace(image, directory, 1))
    found = read_headers(refs_of(tmp_path))
    assert [ref.name for ref in found.not_dicom] == ["DICOMDIR"]
    assert len(found.headers) == 24


def test_a_series_split_over_several_enhanced_files_is_one_volume(tmp_path: Path) -> None:
    halves = [slice(0, 11), slice(11, 24)]
    for number, half in enumerate(halves):
        grid = GRID.cropped([0, 0, half.start], (12, 10, half.stop - half.start))
        part = replace(SCAN, voxels_hu=SCAN.voxels_hu[:, :, half], grid=grid)
        write_enhanced_ct(tmp_path / str(number), part, uid=f"1.2.3.{number}")
    np.testing.assert_array_equal(read_dicom_folder(tmp_path).voxels_hu, SCAN.voxels_hu)


def test_structure_alone_takes_any_ct_volume(tmp_path: Path) -> None:
    fault = Planted("", slices(BodyPartExamined="HEAD", SliceThickness="9"))
    assert read_series(plant(tmp_path, fault), gate=None).grid.shape == GRID.shape


def test_a_phantom_may_be_coarse_and_says_so(tmp_path: Path) -> None:
    made = replace(SCAN.acquisition, manufacturer=SYNTHETIC_MANUFACTURER)
    write_dicom_series(
        replace(SCAN, acquisition=made), tmp_path, patient_name="A^B", patient_id="1"
    )
    refused, allowed = series_reasons(
        read_headers(refs_of(tmp_path)).headers, GateSettings(max_voxel_mm=0.5)
    )
    assert refused == ()
    assert allowed == ("coarse_voxels: pixels of 0.8 mm, limit 0.5 mm: a synthetic scan",)


@pytest.mark.parametrize(
    ("part", "title", "passes"),
    [
        ("CHEST", "", True),
        ("", "CT THORACO-ABDOMINAL", True),
        ("ABDOMEN", "TAP 4 HELICES", True),
        ("HEAD", "", False),
        ("LSPINE", "", False),
        ("", "Surview Abdomen C+", False),
        ("", "LUNG 3.0 B70f", True),
        ("", "Protocol of Dr. Armstrong", True),
        ("", "", True),
    ],
)
def test_words_of_the_header_say_which_part_of_the_body(tmp_path, part, title, passes) -> None:
    values = {"BodyPartExamined": part, "SeriesDescription": title}
    refs = plant(tmp_path, Planted("", slices(**values)))
    refused = series_reasons(read_headers(refs).headers, GateSettings()).refused
    assert (refused == ()) is passes
    assert not (title and any(title in reason for reason in refused))


def test_an_animal_is_never_allowed(tmp_path: Path) -> None:
    refs = plant(tmp_path, Planted("", slices(PatientSpeciesDescription="Canis lupus")))
    gate = GateSettings(allow=("not_chest",))
    (reason,) = series_reasons(read_headers(refs).headers, gate).refused
    assert reason.endswith("the patient is an animal")


def test_a_missing_decoder_is_named_with_its_package(tmp_path: Path, monkeypatch) -> None:
    for k, path in enumerate(write_encoded_series(SCAN, tmp_path, syntax="jpegls")):
        path.rename(tmp_path / f"{k:05d}.dcm")
    headers = read_headers(refs_of(tmp_path)).headers
    monkeypatch.setattr("medkd.io.dicom.pixels.plugin_for", lambda uid: "")
    (reason,) = series_reasons(headers, None).refused
    assert reason.startswith(
        "missing_decoder: 00000.dcm, 00001.dcm, 00002.dcm and 21 more: JPEG-LS"
    )
    assert reason.endswith("pip install pyjpegls")


def test_enhanced_ct_passes_and_its_anatomy_is_read(tmp_path: Path) -> None:
    path = write_enhanced_ct(tmp_path / "enhanced", SCAN)
    headers = read_headers([FileRef(path)]).headers
    assert series_reasons(headers, GateSettings()) == ((), ())
    assert headers[0].text("AnatomicRegionSequence") == "Chest"


def test_only_codes_that_can_be_allowed_are_taken() -> None:
    with pytest.raises(ValidationError) as refusal:
        GateSettings(allow=("gantry_tilt", "nonsense", "slice_thickness"))
    text = str(refusal.value)
    assert "cannot be allowed: gantry_tilt, nonsense; these can: " in text
    assert "slice_thickness" in text.partition("these can: ")[2]


@needs_data
def test_real_scans_pass_or_are_refused_for_what_they_are() -> None:
    root = Path(os.environ["MEDKD_DATA"])
    assert read_series(refs_of(root / "ct_dicom"), gate=GateSettings()).notes == ()
    with pytest.raises(SeriesError, match="few_slices"):
        read_series(refs_of(root / "lidc/series_excerpts/LIDC-IDRI-0001"), gate=GateSettings())
    thick = read_volume(root / "ct_lung1" / "lung1_image.nrrd")
    (reason,) = scan_reasons(thick, GateSettings()).refused
    assert reason == "slice_thickness: the slices are 5 mm apart, limit 3 mm"
    allowing = GateSettings(allow=("slice_thickness",))
    assert scan_reasons(thick, allowing) == ((), (reason,))
    coarse = scan_reasons(read_volume(root / "ct_small" / "ct-64.nrrd"), GateSettings()).refused
    assert "coarse_voxels: pixels of 4.17 mm, limit 1.2 mm" in coarse


NOT_CHEST = {
    "CT2_RLE": "few_slices", "GH1308.dcm": "not_chest", "GH178.dcm": "dose_report",
    "GH342.dcm": "localizer", "J2K_pixelrep_mismatch.dcm": "not_chest",
    "bad_sequence.dcm": "not_chest", "dcmqi_multiframe": "few_slices",
    "dicompyler-ct.0.dcm": "few_slices", "eCT_Supplemental.dcm": "not_ct",
    "explicit_VR-UN.dcm": "not_chest", "dx_animal_thorax.dcm": "not_ct",
}  # fmt: skip


@needs_data
@pytest.mark.parametrize("name", NOT_CHEST)
def test_real_files_that_are_no_chest_scan_are_refused(name: str) -> None:
    path = Path(os.environ["MEDKD_DATA"]) / "dicom_edge" / "not_chest" / name
    refs = refs_of(path) if path.is_dir() else [FileRef(path)]
    refused = series_reasons(read_headers(refs).headers, GateSettings()).refused
    assert NOT_CHEST[name] in {reason.partition(":")[0] for reason in refused}


@needs_data
def test_a_real_tilted_series_is_refused_with_its_angle() -> None:
    folder = Path(os.environ["MEDKD_DATA"]) / "dicom_edge" / "tilt_series"
    with pytest.raises(SeriesError) as refusal:
        read_dicom_folder(folder / "ge_head_tilt18.5_irregular", gate=GateSettings())
    text = "\n".join(refusal.value.reasons)
    for words in (
        "tilted by 18.5 degrees",
        "irregular_spacing",
        "contains HEAD",
        "7 mm, limit 3 mm",
    ):
        assert words in text


def test_a_volume_is_judged_by_its_grid() -> None:
    thin = Scan("v", np.zeros((4, 4, 4), np.int16), oblique_grid((4, 4, 4)), "p")
    refused, _ = scan_reasons(thin, GateSettings(max_voxel_mm=0.5))
    assert [r.partition(":")[0] for r in refused] == ["few_slices", "coarse_voxels"]
