"""Whether a CT volume is a chest CT fit for analysis, as far as header and grid say.

Free text is only searched for words of closed lists, and a reason names the word and the attribute,
never the text. What the header does not say, the pixels do (`lungs.lungs_in_view`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medkd.io.dicom.codes import Fault, named
from medkd.io.dicom.derive import IMPLANT_TYPE
from medkd.io.dicom.header import read_headers
from medkd.io.dicom.write import SYNTHETIC_MANUFACTURER
from medkd.io.file_ref import FileRef
from medkd.io.synthetic_mark import IMPLANT, PHANTOM, stated_stamp

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
    """Say if a series is a phantom of medkd's, by its Manufacturer."""
    return any(h.text("Manufacturer") == SYNTHETIC_MANUFACTURER for h in headers)


def generator_of(header: SliceHeader) -> str:
    """Return the stamp of what made a synthetic series, as its header has it; else empty."""
    if header.text("Manufacturer") == SYNTHETIC_MANUFACTURER:
        return stated_stamp(PHANTOM, header.text("SoftwareVersions"))
    if IMPLANT_TYPE in header.texts("ImageType"):
        return stated_stamp(IMPLANT, header.text("DerivationDescription").partition(":")[0])
    return ""


def generator_of_files(paths: Sequence[Path]) -> str:
    """Return the stamp in the first header of a series that can be read; empty if none has one.

    Args:
        paths: its files; only the first few are tried.
    """
    for path in paths[:_TRIED]:
        if headers := read_headers([FileRef(path)]).headers:
            return generator_of(headers[0])
    return ""


def anatomy_faults(headers: Sequence[SliceHeader]) -> list[Fault]:
    """Say whether a header names another part of the body than the chest, or an animal."""
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
    """Word which other part of the body a header names; empty if none, or if the chest too."""
    if any(_CHEST.search(header.text(name)) for name in (*_PART, *_TITLES)):
        return ""
    for name in (*_PART, *_TITLES):
        found = _OTHER.search(header.text(name).replace("_", " "))
        if found:
            return f"{name} says {found[1].upper()}"
    return ""


def thickness_faults(
    grid: VoxelGrid | None, thickness_mm: Sequence[float], limit_mm: float
) -> list[Fault]:
    """Say whether slices are thicker, or lie further apart, than the limit.

    Args:
        grid: of the volume; None where it has none.
        thickness_mm: what the slices state, empty where they state nothing.
        limit_mm: the largest that passes.
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
    """Say whether a volume has too few slices."""
    text = f"expected at least {least} slices, got {slices}"
    return [Fault("few_slices", text)] if slices < least else []


def coarse_faults(grid: VoxelGrid, largest_mm: float) -> list[Fault]:
    """Say whether the pixels of a volume's planes are too coarse."""
    widest = float(grid.spacing_mm[:2].max())
    text = f"pixels of {widest:.3g} mm, limit {largest_mm:g} mm"
    return [Fault("coarse_voxels", text)] if widest > largest_mm + _SLACK_MM else []


_SLACK_MM = 0.005
"""Headers round."""
