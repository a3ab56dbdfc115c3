"""Decide from the DICOM header whether a picture is an analysable chest radiograph.

Every reason is "code: text"; `CODES` is the closed table of codes. Texts show numbers and words of
closed lists, never free text of the header, which may name a patient.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from medkd.errors import SeriesError
from medkd.io.dicom.tags import text_of
from medkd.io.file_ref import FileRef

CODES: dict[str, tuple[str, bool]] = {
    "unreadable": ("the file cannot be read as PNG, JPEG or DICOM", False),
    "no_pixels": ("the file has a header but no pixels", False),
    "missing_decoder": ("no installed decoder supports its transfer syntax", False),
    "bad_pixels": ("the pixels do not match the header, or their stream is damaged", False),
    "bad_lut": ("a look-up table or window of the header cannot be applied", False),
    "colour": ("a picture in colour", False),
    "multi_frame": ("several frames: fluoroscopy or tomosynthesis", False),
    "no_contrast": ("blank, or only black and white pixels", False),
    "not_xray": ("not a projection radiograph", False),
    "not_human": ("an animal", False),
    "not_chest": ("another part of the body", True),
    "secondary_capture": ("a secondary capture whose header does not name a chest X-ray", True),
    "for_processing": ("raw detector values, not intended for display", True),
    "polarity": ("the header contradicts itself on which values are black", True),
    "burned_in": ("according to the header, text is burned into the picture", True),
}
"""Maps a code to its meaning, and to whether `allow` may accept it."""

VIEWABLE = ("not_chest", "for_processing", "polarity")
"""Codes of refused pictures that a reader may see: the pixels of the others may name the patient,
or cannot be decoded."""

XRAY_MODALITIES = ("CR", "DX", "RG")
_CAPTURED_MODALITIES = ("OT", "SC", "")
_CR_IMAGE = "1.2.840.10008.5.1.4.1.1.1"
_DX_SHOWN = "1.2.840.10008.5.1.4.1.1.1.1"
_DX_RAW = "1.2.840.10008.5.1.4.1.1.1.1.1"
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_CAPTURES = (_CAPTURE, *(f"{_CAPTURE}.{kind}" for kind in (1, 2, 3, 4)))

CHEST_WORDS = (
    "CHEST", "THORAX", "THORACIC", "LUNG", "LUNGS", "PULMONARY", "CXR", "TORAX", "TORACE",
    "BRUSTKORB", "POUMON", "POUMONS",
)  # fmt: skip
OTHER_PARTS = (
    "ABDOMEN", "ABDOMINAL", "ANKLE", "ARM", "BRAIN", "BREAST", "BUTTOCK", "CALCANEUS", "CALF",
    "CSPINE", "CERVICAL", "CLAVICLE", "COCCYX", "COLON", "ELBOW", "EXTREMITY", "FACE", "FEMUR",
    "FINGER", "FOOT", "FOREARM", "HAND", "HEAD", "HEEL", "HIP", "HUMERUS", "JAW", "KIDNEY",
    "KNEE", "LEG", "LIVER", "LSPINE", "LUMBAR", "MANDIBLE", "MAXILLA", "NECK", "ORBIT",
    "PANCREAS", "PATELLA", "PELVIS", "PROSTATE", "RADIUS", "SACRUM", "SCAPULA", "SHOULDER",
    "SINUS", "SKULL", "SPINE", "SSPINE", "STOMACH", "TEETH", "THIGH", "THUMB", "TIBIA", "TOE",
    "TSPINE", "ULNA", "WHOLEBODY", "WRIST", "ZYGOMA",
)  # fmt: skip
"""Words of PS3.16 Annex L (and common spellings) for body parts other than the chest."""

_ANIMALS = (
    "CANINE", "FELINE", "EQUINE", "BOVINE", "PORCINE", "OVINE", "CAPRINE", "AVIAN", "RODENT",
    "MURINE", "LAGOMORPH", "REPTILE", "DOG", "HORSE", "RABBIT",
)  # fmt: skip
_HUMAN_CODES = ("L-85B00", "337915000", "HUMAN", "HOMO", "SAPIENS")
_FREE_TEXTS = ("StudyDescription", "SeriesDescription", "ProtocolName",
               "AcquisitionDeviceProcessingDescription")  # fmt: skip

VIEWS = {
    "PA": "PA", "AP": "AP", "LL": "LL", "RL": "RL", "LLD": "LLD", "RLD": "RLD", "LLO": "LLO",
    "RLO": "RLO", "LAT": "LAT", "LATERAL": "LAT",
}  # fmt: skip
"""Maps spellings of View Position (0018,5101) to its terms; LAT: lateral, side unknown."""

_VIEW_CODES = {
    "R-10206": "AP", "399348003": "AP", "R-10214": "PA", "272479007": "PA",
    "R-10236": "LL", "399173006": "LL", "R-10232": "RL", "399198007": "RL",
    "R-102CD": "LAT", "399067008": "LAT",
}  # fmt: skip
"""Maps codes of CID 4010 (DX View), SNOMED RT and CT, to the terms of `VIEWS`."""


def radiograph_reasons(header: Any) -> tuple[str, ...]:  # noqa: ANN401  # pydicom's Dataset
    """Return the reasons why a DICOM object is not an analysable chest radiograph.

    Args:
        header: a pydicom dataset; its pixels are not examined.

    Returns:
        All reasons, each "code: text"; empty if there are none.
    """
    found = _kind_reasons(header)
    part = part_of(header)
    if part not in ("chest", ""):
        named = "another part of the body" if part == "other" else part
        found.append(f"not_chest: the header names {named}")
    found += _picture_reasons(header)
    if animal := animal_of(header):
        found.append(f"not_human: the header names {animal}")
    return tuple(found)


def split_allowed(
    reasons: Iterable[str], allow: Collection[str] | None = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split reasons into (refused, accepted).

    Args:
        reasons: each "code: text".
        allow: codes to accept; None: all codes that can be accepted.

    Raises:
        ValueError: if `allow` names a code that does not exist or cannot be accepted.
    """
    allowable = {code for code, (_, may_pass) in CODES.items() if may_pass}
    unknown = set(allow or ()) - allowable
    if unknown:
        raise ValueError(f"expected codes of {sorted(allowable)}, got {sorted(unknown)}")
    passing = allowable if allow is None else set(allow)
    refused = tuple(r for r in reasons if r.partition(":")[0] not in passing)
    return refused, tuple(r for r in reasons if r.partition(":")[0] in passing)


def refusal(ref: FileRef, *reasons: str) -> SeriesError:
    """Return the error that refuses a file as a radiograph."""
    return SeriesError(f"{ref.name}: cannot be read as a radiograph", reasons)


def view_of(header: Any) -> str | None:  # noqa: ANN401  # pydicom's Dataset
    """Return the view position: PA, AP, LL, RL, LAT, ...; None if the header does not state it.

    It is read from View Position, else from View Code Sequence, else from the first description
    whose words (PA, AP, LAT, LATERAL) name exactly one view.
    """
    stated = VIEWS.get(text_of(header, "ViewPosition").upper())
    if stated:
        return stated
    for code in _codes(header, "ViewCodeSequence"):
        if code in _VIEW_CODES:
            return _VIEW_CODES[code]
    for name in ("SeriesDescription", "ProtocolName", "StudyDescription"):
        words = set(_words(text_of(header, name)))
        views = {VIEWS[word] for word in ("PA", "AP", "LAT", "LATERAL") if word in words}
        if len(views) == 1:
            return views.pop()
    return None


def part_of(header: Any) -> str:  # noqa: ANN401  # pydicom's Dataset
    """Return "chest", the word of `OTHER_PARTS` in the header, "other", or "" if not stated.

    If Body Part Examined is set, only it is used; otherwise Anatomic Region Sequence and the
    descriptions are searched, and "chest" in any of them takes precedence.
    """
    stated = text_of(header, "BodyPartExamined").upper()
    if stated:
        part = _part_in(stated)
        return part or ("" if stated in ("UNKNOWN", "OTHER", "NONE", "N/A") else "other")
    regions = _meanings(header, "AnatomicRegionSequence")
    texts = [*regions, *(text_of(header, name) for name in _FREE_TEXTS)]
    parts = [part for part in (_part_in(text) for text in texts) if part]
    return "chest" if "chest" in parts else (parts or [""])[0]


def animal_of(header: Any) -> str:  # noqa: ANN401  # pydicom's Dataset
    """Return a phrase if the header indicates that the patient is an animal; else empty."""
    species = text_of(header, "PatientSpeciesDescription")
    codes = _codes(header, "PatientSpeciesCodeSequence")
    human = any(word in _HUMAN_CODES for word in [*_words(species), *codes])
    if (species or codes) and not human:
        return "another species than human"
    if text_of(header, "PatientBreedDescription"):
        return "a breed"
    meanings = _meanings(header, "PerformedProtocolCodeSequence")
    texts = [*meanings, *(text_of(header, name) for name in _FREE_TEXTS)]
    words = {word for text in texts for word in _words(text)}
    found = next((animal for animal in _ANIMALS if animal in words), "")
    if not found and "VETERIN" in text_of(header, "InstitutionName").upper():
        return "a veterinary institution"
    return found


def _kind_reasons(header: Any) -> list[str]:  # noqa: ANN401  # pydicom's Dataset
    modality = text_of(header, "Modality").upper()
    kind = text_of(header, "SOPClassUID")
    captured = kind in _CAPTURES
    if modality in XRAY_MODALITIES and (captured or kind in (_CR_IMAGE, _DX_SHOWN, _DX_RAW)):
        raw = kind == _DX_RAW or text_of(header, "PresentationIntentType") == "FOR PROCESSING"
        return ["for_processing: expected values for presentation, got raw ones"] if raw else []
    if captured and modality in _CAPTURED_MODALITIES:
        if part_of(header) == "chest":
            return []
        return ["secondary_capture: neither its modality nor its body part indicates a chest X-ray"]
    shown = modality if re.fullmatch(r"[A-Z]{2}", modality) else "another"
    return [f"not_xray: expected a CR, DX or secondary capture object, got modality {shown}"]


def _picture_reasons(header: Any) -> list[str]:  # noqa: ANN401  # pydicom's Dataset
    reasons = []
    frames = text_of(header, "NumberOfFrames")
    if frames not in ("", "1", "0"):
        shown = frames if frames.isdigit() else "an unreadable number"
        reasons.append(f"multi_frame: expected 1 frame, got {shown}")
    shape = text_of(header, "PresentationLUTShape").upper()
    if shape == "INVERSE" and text_of(header, "PhotometricInterpretation") == "MONOCHROME2":
        reasons.append("polarity: MONOCHROME2 with PresentationLUTShape INVERSE")
    if text_of(header, "BurnedInAnnotation").upper() == "YES":
        reasons.append("burned_in: BurnedInAnnotation is YES, the picture may name the patient")
    return reasons


def _part_in(text: str) -> str:
    """Return "chest" or another body part that the text names; empty if it names none."""
    words = _words(text)
    joined = "".join(words)
    if re.search(r"\b(THORACIC|DORSAL|T) ?SPINE\b", " ".join(words)):
        return "TSPINE"
    if any(word in words for word in CHEST_WORDS) or re.search(r"CHEST|THORAX|TORAX", joined):
        return "chest"
    return next((part for part in OTHER_PARTS if part in words or part == joined), "")


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.upper())


def _items(header: Any, name: str) -> list[Any]:  # noqa: ANN401  # pydicom's Dataset
    try:
        return list(header.get(name) or [])
    except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError):
        return []


def _codes(header: Any, name: str) -> list[str]:  # noqa: ANN401  # pydicom's Dataset
    return [text_of(item, "CodeValue") for item in _items(header, name)]


def _meanings(header: Any, name: str) -> list[str]:  # noqa: ANN401  # pydicom's Dataset
    return [text_of(item, "CodeMeaning") for item in _items(header, name)]
