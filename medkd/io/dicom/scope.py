"""Checks on header and grid: is a CT volume a chest CT that can be analysed?

Free text is only searched for words of closed lists. A reason names the word and the attribute,
never the text. `lungs.lungs_in_view` checks the pixels.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medkd.io.dicom.codes import Fault, named
from medkd.io.dicom.derive import IMPLANT_TYPE
from medkd.io.dicom.header import read_headers
from medkd.io.dicom.write import SYNTHETIC_MANUFACTURER
from medkd.io.file_ref import FileRef
from medkd.io.synthetic_mark import IMPLANT, PHANTOM, parse_stamp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medkd.geometry import VoxelGrid
    from medkd.io.dicom.header import SliceHeader

_CHEST = re.compile(
    r"CHEST|T[HX]?ORA|THX|LUNG|PULMO|POUMON|BRUST|\bTAP\b|\bCAP\b|WHOLE.?BODY|TRUNK|TORSO|BRONCH"
    r"|MEDIASTIN|ESOPHAG|HEART|CARDIAC|CORONARY|BREAST|\bCHA?BD",
    re.IGNORECASE,
)
_OTHER_PARTS = (
    "HEAD", "BRAIN", "SKULL", "CRANIUM", "CRANE", "SCHAEDEL", "KOPF", "TETE", "FACE", "SINUS",
    "SINUSES", "ORBIT", "ORBITS", "JAW", "MANDIBLE", "DENTAL", "TEMPORAL", "NECK", "HALS", "COU",
    "CSPINE", "LSPINE", "SSPINE", "SPINE", "LUMBAR", "CERVICAL", "SACRUM", "COCCYX", "ABDOMEN",
    "ABDO", "LIVER", "FOIE", "LEBER", "PANCREAS", "KIDNEY", "RENAL", "UROGRAM", "COLON", "BLADDER",
    "PROSTATE", "UTERUS", "PELVIS", "BECKEN", "BASSIN", "HIP", "KNEE", "ANKLE", "FOOT", "FEET",
    "LEG", "FEMUR", "TIBIA", "ARM", "HAND", "WRIST", "ELBOW", "HUMERUS", "SHOULDER", "EXTREMITY",
    "PHANTOM",
)  # fmt: skip
_OTHER = re.compile(rf"(?<![A-Z])({'|'.join(_OTHER_PARTS)})(?![A-Z])", re.IGNORECASE)

_TRIED = 3

_PART = ("BodyPartExamined", "AnatomicRegionSequence")
_TITLES = ("ProtocolName", "SeriesDescription", "StudyDescription")

_PEOPLE = re.compile(r"^\s*(HOMO SAPIENS.*|HUMAN.*|MENSCH|HOMME)?\s*$", re.IGNORECASE)


def is_synthetic(headers: Sequence[SliceHeader]) -> bool:
    """Return whether a series is a medkd phantom, according to its Manufacturer."""
    return any(h.text("Manufacturer") == SYNTHETIC_MANUFACTURER for h in headers)


def generator_of(header: SliceHeader) -> str:
    """Return the generator stamp of a phantom or of a scan with implanted nodules; else empty."""
    if header.text("Manufacturer") == SYNTHETIC_MANUFACTURER:
        return parse_stamp(PHANTOM, header.text("SoftwareVersions"))
    if IMPLANT_TYPE in header.texts("ImageType"):
        return parse_stamp(IMPLANT, header.text("DerivationDescription").partition(":")[0])
    return ""


def generator_of_files(paths: Sequence[Path]) -> str:
    """Return the generator stamp in the first readable header of a series; empty if it has none.

    Args:
        paths: the files of the series; only the first few are tried.
    """
    for path in paths[:_TRIED]:
        if headers := read_headers([FileRef(path)]).headers:
            return generator_of(headers[0])
    return ""


def anatomy_faults(headers: Sequence[SliceHeader]) -> list[Fault]:
    """Return faults for headers that name an animal or another part of the body than the chest."""
    animals = [
        h
        for h in headers
        for name in ("PatientSpeciesDescription", "PatientSpeciesCodeSequence")
        if not all(_PEOPLE.match(text) for text in h.texts(name))
    ]
    if animals:
        return [Fault("not_chest", f"{named(animals)}: the patient is an animal", lenient=False)]
    odd: dict[str, list[SliceHeader]] = {}
    for header in headers:
        other = _other_part(header)
        if other:
            odd.setdefault(other, []).append(header)
    return [Fault("not_chest", f"{named(which)}: {what}") for what, which in odd.items()]


def _other_part(header: SliceHeader) -> str:
    """Return which attribute names another body part; empty if none does or the chest is named."""
    if any(_CHEST.search(header.text(name)) for name in (*_PART, *_TITLES)):
        return ""
    for name in (*_PART, *_TITLES):
        found = _OTHER.search(header.text(name).replace("_", " "))
        if found:
            return f"{name} contains {found[1].upper()}"
    return ""


def thickness_faults(
    grid: VoxelGrid | None, thickness_mm: Sequence[float], limit_mm: float
) -> list[Fault]:
    """Return a fault if slices are thicker, or further apart, than the limit.

    Args:
        grid: of the volume; None if it has none.
        thickness_mm: SliceThickness of the slices; empty if none states it.
        limit_mm: the largest accepted value.
    """
    stated = max(thickness_mm, default=0.0)
    if stated > limit_mm + _SLACK_MM:
        return [Fault("slice_thickness", f"{stated:.4g} mm, limit {limit_mm:g} mm")]
    apart = 0.0 if grid is None else float(grid.spacing_mm[2])
    if apart > limit_mm + _SLACK_MM:
        text = f"slices lie {apart:.4g} mm apart, limit {limit_mm:g} mm"
        return [Fault("slice_thickness", text)]
    return []


def count_faults(slices: int, least: int) -> list[Fault]:
    """Return a fault if a volume has fewer than `least` slices."""
    text = f"expected at least {least} slices, got {slices}"
    return [Fault("few_slices", text)] if slices < least else []


def coarse_faults(grid: VoxelGrid, largest_mm: float) -> list[Fault]:
    """Return a fault if the pixels of a slice are wider than `largest_mm`."""
    widest = float(grid.spacing_mm[:2].max())
    text = f"pixels of {widest:.3g} mm, limit {largest_mm:g} mm"
    return [Fault("coarse_voxels", text)] if widest > largest_mm + _SLACK_MM else []


_SLACK_MM = 0.005
"""Tolerance for values that are rounded in the header."""
