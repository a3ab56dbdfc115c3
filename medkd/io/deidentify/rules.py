"""What of a DICOM image may be shared: a list of attributes to keep; all else is left behind.

Stricter than the Basic Application Level Confidentiality Profile (DICOM PS3.15 table E.1-1), whose
list of attributes to remove grows with every edition: here nothing is kept that is not named. Of
the profile's own attributes only those stay that must be there: UIDs (replaced), four dates
(shifted: the Modified Dates option), the patient's name and number (a pseudonym) and the empty
ones that the standard demands. Text is kept only word by word from a closed list, device names
apart; those go too where they hold a word that names somebody. A shared file may lack of the rest
what its IOD asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import copy
from typing import Any

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from medkd.io.dicom.tags import text_of
from medkd.io.radiograph.gate import (
    CHEST_WORDS,
    OTHER_PARTS,
    VIEWS,
    animal_of,
    part_of,
    view_of,
)

LEFT_OUT: dict[str, str] = {
    "not_dicom": "no DICOM file",
    "unreadable": "a damaged DICOM file",
    "not_image": "a report, document, presentation state, directory or other object with text",
    "other_image": "an image of another kind than CT, CR and DX",
    "no_pixels": "an image without pixels",
    "burned_in": "the header says that text is burned into the picture",
    "secondary_capture": "a capture whose header does not say that no text is burned in",
    "overlay_in_pixels": "an overlay, or other bits beside the stored value, among the pixels",
    "recognisable": "a face could be rebuilt from it",
    "animal": "an animal: the copy would no longer say so",
    "no_identifier": "neither PatientID nor StudyInstanceUID",
    "bad_date": "a date that is none cannot be shifted",
}
"""Why an object is left out of what is shared: code to what it means."""

IMAGE_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT", "1.2.840.10008.5.1.4.1.1.2.1": "enhanced CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "legacy converted enhanced CT",
    "1.2.840.10008.5.1.4.1.1.1": "CR", "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX",
}  # fmt: skip
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_FACES = {"HEAD", "BRAIN", "FACE", "SINUS", "SKULL", "ORBIT", "NECK", "MAXILLA", "MANDIBLE",
          "JAW", "TEETH", "ZYGOMA", "WHOLEBODY"}  # fmt: skip

REPLACED_UIDS = (
    "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
    "DimensionOrganizationUID",
)  # fmt: skip
SHIFTED_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
PSEUDONYMOUS = ("PatientName", "PatientID")
EMPTIED = (
    "PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName", "StudyID",
    "StudyTime",
)  # fmt: skip
"""Type 2 in every image: present, without a value."""

_WORDS_KEPT = (
    "ImageType", "Modality", "PhotometricInterpretation", "PatientPosition", "BurnedInAnnotation",
    "LossyImageCompression", "LossyImageCompressionMethod", "PresentationIntentType",
    "PresentationLUTShape", "PixelIntensityRelationship", "VOILUTFunction", "RotationDirection",
    "FrameType", "PixelPresentation", "VolumetricProperties", "VolumeBasedCalculationTechnique",
    "AcquisitionType", "ConversionType", "ShutterShape", "RescaleType", "PatientOrientation",
    "DimensionOrganizationType", "ContentQualification", "ImageLaterality", "Laterality",
)  # fmt: skip
DEVICE_TEXTS = ("Manufacturer", "ManufacturerModelName", "ConvolutionKernel", "FilterType")
COUNTERS = ("InstanceNumber", "SeriesNumber", "AcquisitionNumber", "StackID")
_NUMBERS_KEPT = (
    *COUNTERS, "NumberOfFrames",
    "ImagePositionPatient", "ImageOrientationPatient", "SliceLocation", "SliceThickness",
    "SpacingBetweenSlices", "GantryDetectorTilt", "TableHeight", "PixelSpacing",
    "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio", "KVP",
    "ReconstructionDiameter", "DataCollectionDiameter", "DistanceSourceToDetector",
    "DistanceSourceToPatient", "ExposureTime", "XRayTubeCurrent", "Exposure", "FocalSpots",
    "SpiralPitchFactor", "Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth",
    "SmallestImagePixelValue", "LargestImagePixelValue", "LossyImageCompressionRatio",
    "PixelIntensityRelationshipSign", "LUTDescriptor", "LUTData",
    "ShutterUpperHorizontalEdge", "ShutterLowerHorizontalEdge", "ShutterLeftVerticalEdge",
    "ShutterRightVerticalEdge", "InStackPositionNumber", "DimensionIndexValues",
    "DimensionIndexPointer", "FunctionalGroupPointer", "FrameAcquisitionNumber",
)  # fmt: skip
SEQUENCES_KEPT = (
    "ModalityLUTSequence", "VOILUTSequence", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "PixelMeasuresSequence", "PlanePositionSequence",
    "PlaneOrientationSequence", "PixelValueTransformationSequence", "FrameVOILUTSequence",
    "FrameContentSequence", "CTImageFrameTypeSequence", "DimensionOrganizationSequence",
    "DimensionIndexSequence",
)  # fmt: skip
WRITTEN = (
    "BodyPartExamined", "ViewPosition", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "LongitudinalTemporalInformationModified",
)  # fmt: skip
_CODE_ITEM = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
_CODES = (
    ("113100", "DCM", "Basic Application Confidentiality Profile"),
    ("113107", "DCM", "Retain Longitudinal Temporal Information Modified Dates Option"),
)
OWN_TEXTS = frozenset(text.casefold() for code in _CODES for text in code) | {"modified"}
"""What every shared file says of itself, in lower case: no identity, whoever wrote it before."""

KEPT = frozenset(
    ("SOPClassUID", "PixelData", *REPLACED_UIDS, *SHIFTED_DATES, *PSEUDONYMOUS, *EMPTIED,
     *_WORDS_KEPT, *DEVICE_TEXTS, *_NUMBERS_KEPT, *SEQUENCES_KEPT, *WRITTEN)
)  # fmt: skip
"""Every attribute that a shared file may hold, at any depth."""

_WORD_LIST = (
    "ORIGINAL DERIVED PRIMARY SECONDARY AXIAL LOCALIZER HELIX SPIRAL VOLUME MIXED NONE MIP "
    "MINIP MPR AVERAGE RESAMPLED DISTORTED CT CR DX RG OT SC MONOCHROME1 MONOCHROME2 RGB "
    "YBR_FULL YBR_FULL_422 YBR_RCT YBR_ICT PALETTE COLOR MONOCHROME HFS HFP FFS FFP HFDR HFDL "
    "FFDR FFDL YES NO 00 01 ISO_10918_1 ISO_14495_1 ISO_15444_1 ISO_13818_2 PRESENTATION "
    "PROCESSING FOR IDENTITY INVERSE LIN LOG DISP LINEAR LINEAR_EXACT SIGMOID CW CC WSD DV DI "
    "DF DRW SYN SI RECTANGULAR CIRCULAR POLYGONAL HU US OD MGML L R A P H F AL AR LA LP LH LF "
    "RA RP RH RF AF AH PF PH B U SEQUENCED STATIONARY CONSTANT_ANGLE FREE 3D 3D_TEMPORAL "
    "PRODUCT RESEARCH SERVICE SUB MAX ADD UNSPECIFIED CHEST PHANTOM MEDKD MEDKD_IMPLANT "
    "STANDARD SOFT BONE DETAIL BODY FILTER HELICAL CONTRAST THIN THICK ROUTINE SERIES IMAGE "
)
WORDS = frozenset((*_WORD_LIST.split(), *CHEST_WORDS, *OTHER_PARTS, *VIEWS.values()))
"""Words that stand in kept attributes and name nobody."""


def reason_against(dataset: Dataset) -> str:
    """Return the code of `LEFT_OUT` for which an object is not shared, or an empty text."""
    kind = text_of(dataset, "SOPClassUID")
    captured = kind == _CAPTURE or kind.startswith(_CAPTURE + ".")
    known = captured or kind in IMAGE_CLASSES
    burned = text_of(dataset, "BurnedInAnnotation").upper()
    face = "CT" in IMAGE_CLASSES.get(kind, "") and part_of(dataset) in _FACES
    rules = {
        "not_image": not known and "PixelData" not in dataset,
        "other_image": not known,
        "no_pixels": "PixelData" not in dataset,
        "burned_in": burned == "YES",
        "secondary_capture": captured and burned != "NO",
        "overlay_in_pixels": _overlay_in_pixels(dataset),
        "recognisable": face or text_of(dataset, "RecognizableVisualFeatures").upper() == "YES",
        "animal": bool(animal_of(dataset)),
        "no_identifier": not (
            text_of(dataset, "PatientID") or text_of(dataset, "StudyInstanceUID")
        ),
    }
    return next((code for code, holds in rules.items() if holds), "")


def kept_of(dataset: Dataset, *, forbidden: frozenset[str]) -> Dataset:
    """Copy what may be shared: `KEPT` attributes, words of `WORDS`, device names without names.

    Args:
        dataset: the whole original; not changed.
        forbidden: words and texts that name somebody, in lower case.

    Returns:
        A new dataset, UIDs and dates still the original ones.
    """
    kept = _copied(dataset, forbidden)
    part, view = part_of(dataset), view_of(dataset)
    if part and part != "other":
        kept.BodyPartExamined = part.upper()
    if view in ("PA", "AP", "LL", "RL", "LLD", "RLD", "LLO", "RLO"):
        kept.ViewPosition = view
    return kept


def mark_deidentified(dataset: Dataset, *, pseudonym: str, method: str) -> None:
    """Write the pseudonym, the empty attributes, and how identity was removed (PS3.16 CID 7050)."""
    for name in PSEUDONYMOUS:
        setattr(dataset, name, pseudonym)
    for name in EMPTIED:
        setattr(dataset, name, "")
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = method
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"
    dataset.DeidentificationMethodCodeSequence = []
    for code in _CODES:
        item = Dataset()
        for name, text in zip(_CODE_ITEM, code, strict=True):
            setattr(item, name, text)
        dataset.DeidentificationMethodCodeSequence.append(item)


def strangers_in(dataset: Dataset, *, inside: str = "") -> Iterator[str]:
    """Yield every attribute, at any depth, that a shared file may not hold."""
    allowed = _CODE_ITEM if inside == "DeidentificationMethodCodeSequence" else KEPT
    for element in dataset:
        name = keyword_for_tag(element.tag)
        if element.tag.is_private or name not in allowed:
            yield name or f"({element.tag.group:04x},{element.tag.element:04x})"
        elif element.VR == "SQ":
            for item in element.value:
                yield from strangers_in(item, inside=name)


def words_of(text: str) -> list[str]:
    """Split a text into words of letters and digits, in lower case."""
    return re.findall(r"[^\W_]+", text.casefold())


def _copied(dataset: Dataset, forbidden: frozenset[str]) -> Dataset:
    """Copy the elements that are kept as they are, sequences item by item."""
    kept = Dataset()
    left = {*EMPTIED, *WRITTEN, *PSEUDONYMOUS}
    for tag in dataset.keys():  # noqa: SIM118  # iterating a Dataset would decode every element
        name = keyword_for_tag(tag)
        if tag.is_private or name not in KEPT or name in left:
            continue
        element = dataset[tag]
        if element.VR == "SQ":
            setattr(kept, name, [_copied(item, forbidden) for item in element.value])
        elif name in _WORDS_KEPT:
            _copy_words(kept, name, element.value)
        elif name in DEVICE_TEXTS:
            _copy_device(kept, name, element.value, forbidden=forbidden)
        elif name in COUNTERS:
            _copy_counter(kept, element, forbidden)
        else:
            kept.add(copy(element))
    return kept


def _copy_words(kept: Dataset, name: str, value: Any) -> None:  # noqa: ANN401  # pydicom's values
    values = _values(value)
    known = [v for v in values if v and set(v.upper().split()) <= WORDS]
    if known:
        setattr(kept, name, known)
    elif name == "ImageType":
        kept.ImageType = ["ORIGINAL", "PRIMARY"]


def _copy_device(kept: Dataset, name: str, value: Any, *, forbidden: frozenset[str]) -> None:  # noqa: ANN401
    values = _values(value)
    text = " ".join(values)
    names = bool(forbidden & set(words_of(text))) or any(
        len(known) > 3 and known in text.casefold() for known in forbidden
    )
    if text and text.isascii() and text.isprintable() and not names:
        setattr(kept, name, values)


def _copy_counter(kept: Dataset, element: Any, forbidden: frozenset[str]) -> None:  # noqa: ANN401
    """Copy a number that a site chooses: some put a patient's there."""
    text = str(element.value if element.value is not None else "").strip()
    if re.fullmatch(r"-?[0-9]{1,12}", text) and text not in forbidden:
        kept.add(copy(element))


def _values(value: Any) -> list[str]:  # noqa: ANN401  # pydicom's values
    several = [value] if isinstance(value, str) else list(value or [])
    return [str(v).strip() for v in several if v]


def _overlay_in_pixels(dataset: Dataset) -> bool:
    """Tell whether bits beside the stored value hold something (PS3.5 8.1.1, C.9.2)."""
    positions = [dataset.get((group, 0x0102)) for group in range(0x6000, 0x6020, 2)]
    return any(p is not None and p.value not in (None, "", 0) for p in positions)
