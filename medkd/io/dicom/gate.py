"""The gate: decides whether files form one CT volume, and whether it is an analysable chest CT.

There are two layers. Structure (always checked): do the slices form one evenly spaced volume with
valid geometry? Scope (with `GateSettings`): is it a chest CT of sufficient quality? All reasons are
returned at once, each "code: text" with a code of `CODES`. By default every fault refuses. A fault
is accepted only if `GateSettings.allow` names its code, and it is then listed in `allowed`. Free
text of headers is only searched for words of closed lists; a reason never shows it.
`lungs.lungs_in_view` checks the pixels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field, field_validator

from medkd.io.axial import axial_grid
from medkd.io.dicom.acquisitions import acquisition_faults
from medkd.io.dicom.codes import CODES, Fault, join_names
from medkd.io.dicom.kind import kind_faults
from medkd.io.dicom.pixels import decoder_faults, same_pixels
from medkd.io.dicom.structure import Layout, arrange, has_geometry, header_faults
from medkd.io.dicom.write import SYNTHETIC_MANUFACTURER
from medkd.settings import Settings

if TYPE_CHECKING:
    from medkd.geometry import VoxelGrid
    from medkd.io.dicom.header import SliceHeader
    from medkd.types import Scan

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
_ANATOMY_TEXTS = ("BodyPartExamined", "AnatomicRegionSequence", "ProtocolName",
                  "SeriesDescription", "StudyDescription")  # fmt: skip
_HUMAN = re.compile(r"^\s*(HOMO SAPIENS.*|HUMAN.*|MENSCH|HOMME)?\s*$", re.IGNORECASE)
_SLACK_MM = 0.005
"""Tolerance for values that are rounded in the header."""


class GateSettings(Settings):
    """Requirements for an analysable chest CT, and which faults are accepted."""

    max_slice_thickness_mm: float = Field(
        3.0, gt=0, description="Largest slice thickness and slice spacing in mm."
    )
    min_slices: int = Field(20, ge=2, description="Smallest number of slices.")
    max_voxel_mm: float = Field(
        1.2, gt=0, description="Largest pixel spacing in mm; medkd's own phantoms may exceed it."
    )
    allow: tuple[str, ...] = Field((), description="Codes of faults that are accepted.")

    def for_patch(self) -> GateSettings:
        """Return the requirements for a patch: the same, but without a number of slices."""
        return self.model_copy(update={"min_slices": 2})

    def for_viewing(self) -> GateSettings:
        """Return the requirements for a reader who looks at a refused scan: that it is a volume."""
        return self.model_copy(update={"allow": tuple(c for c in CODES if CODES[c].allowable)})

    @field_validator("allow")
    @classmethod
    def _are_allowable(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [code for code in codes if code not in CODES or not CODES[code].allowable]
        if wrong:
            can = ", ".join(sorted(code for code, meaning in CODES.items() if meaning.allowable))
            raise ValueError(f"cannot be allowed: {', '.join(wrong)}; these can: {can}")
        return codes


class Verdict(NamedTuple):
    """The reasons why a series is refused, and the faults that were accepted: each "code: text"."""

    refused: tuple[str, ...]
    allowed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Examined:
    """A series after the gate: slices in order along the normal, and grid (None if refused)."""

    ordered: tuple[SliceHeader, ...]
    grid: VoxelGrid | None
    verdict: Verdict


def examine(headers: Sequence[SliceHeader], settings: GateSettings | None) -> Examined:
    """Check the headers of a series, and order its slices.

    Args:
        headers: of all files of the series, in any order.
        settings: scope and accepted faults; None: only check that it is one volume.

    Returns:
        The slices and the verdict. Faults that only the pixels show (damage, missing lungs) are not
        included.
    """
    allow = settings.allow if settings else ()
    kinds = kind_faults(headers)
    ignored = frozenset[int]().union(*(f.non_slices for f in kinds if f.code in allow))
    faults = [f for f in kinds if f.code in allow or f.non_slices - ignored]
    non_slices = ignored.union(*(f.non_slices for f in faults))
    slices = [header for number, header in enumerate(headers) if number not in non_slices]
    stack = slices if non_slices == ignored else _with_geometry(headers, faults)
    layout, kept = Layout((), None), stack
    if slices or non_slices == ignored:
        faults += header_faults(slices) + decoder_faults(slices)
        layout, kept = _without_duplicates(stack, arrange(stack), allow)
        faults += layout.faults + tuple(acquisition_faults([kept[n] for n in layout.order]))
    if settings:
        faults += _scope_faults(kept or headers, layout.grid, settings)
    synthetic = any(h.text("Manufacturer") == SYNTHETIC_MANUFACTURER for h in kept)
    verdict = _verdict(faults, allow, synthetic=synthetic)
    grid = None if verdict.refused else layout.grid
    return Examined(tuple(kept[n] for n in layout.order), grid, verdict)


def _with_geometry(headers: Sequence[SliceHeader], faults: Sequence[Fault]) -> list[SliceHeader]:
    """Return the headers that have a position in the volume, even if they are not CT slices.

    Otherwise a slice without pixels would also be reported as missing.
    """
    others = frozenset[int]().union(*(f.non_slices for f in faults if CODES[f.code].allowable))
    return [h for n, h in enumerate(headers) if n not in others and has_geometry(h)]


def scan_reasons(scan: Scan, settings: GateSettings) -> Verdict:
    """Check a volume that is not DICOM by its grid and its acquisition parameters.

    Args:
        scan: as read; the pixels are not examined.
        settings: scope and accepted faults.
    """
    stated = scan.acquisition.slice_thickness_mm
    grid = scan.grid if scan.stored_grid is None else scan.stored_grid
    faults = _volume_faults(grid, [] if stated is None else [stated], settings)
    synthetic = scan.acquisition.manufacturer == SYNTHETIC_MANUFACTURER
    return _verdict(faults, settings.allow, synthetic=synthetic)


def _scope_faults(
    slices: Sequence[SliceHeader], grid: VoxelGrid | None, settings: GateSettings
) -> list[Fault]:
    stated = [mm for h in slices if (mm := h.number("SliceThickness"))]
    faults = _anatomy_faults(slices)
    if grid is not None:
        faults += _volume_faults(grid, stated, settings)
        return [_add_names_of_thick(f, slices, settings.max_slice_thickness_mm) for f in faults]
    if len(slices) > 1:
        faults += _count_faults(len(slices), settings.min_slices)
    return faults + _thickness_faults(None, stated, settings.max_slice_thickness_mm)


def _add_names_of_thick(fault: Fault, slices: Sequence[SliceHeader], limit_mm: float) -> Fault:
    """Add the names of the thick slices to a thickness fault, if only some are too thick."""
    thick = [h for h in slices if (h.number("SliceThickness") or 0.0) > limit_mm]
    if fault.code != "slice_thickness" or not 0 < len(thick) < len(slices):
        return fault
    return replace(fault, text=f"{join_names(thick)}: {fault.text}")


def _volume_faults(
    grid: VoxelGrid, thickness_mm: Sequence[float], settings: GateSettings
) -> list[Fault]:
    """Check the stored grid: slice thickness, number of slices and pixel spacing."""
    thickest_mm, axial = settings.max_slice_thickness_mm, axial_grid(grid)
    faults = _thickness_faults(grid, thickness_mm, thickest_mm)
    faults += _count_faults(min(grid.shape[2], axial.shape[2]), settings.min_slices)
    coarse = _coarse_faults(grid, settings.max_voxel_mm)
    if coarse and not _coarse_faults(axial, settings.max_voxel_mm):
        # The volume is reformatted: the wide side of its pixels is the axial slice spacing.
        coarse = _thickness_faults(axial, (), thickest_mm)
    return [*faults, *coarse]


def _without_duplicates(
    slices: list[SliceHeader], layout: Layout, allow: Sequence[str]
) -> tuple[Layout, list[SliceHeader]]:
    """Add a fault to the layout if several slices have the same position.

    If these slices have equal pixels and `allow` accepts "duplicate_positions", only the first
    slice of each position is kept, and the layout is computed again.
    """
    if not layout.duplicates:
        return layout, slices
    groups = [[slices[n] for n in group] for group in layout.duplicates]
    identical = all(map(same_pixels, groups))
    what = "identical pixels" if identical else "different pixels"
    names = "; ".join(join_names(group) for group in groups[:3])
    text = f"{len(groups)} positions have several slices, with {what} ({names})"
    fault = Fault("duplicate_positions", text, allowable=identical)
    if not identical or "duplicate_positions" not in allow:
        return replace(layout, faults=(*layout.faults, fault)), slices
    copies = {n for group in layout.duplicates for n in group[1:]}
    kept = [header for number, header in enumerate(slices) if number not in copies]
    again = arrange(kept)
    return replace(again, faults=(*again.faults, fault)), kept


def _verdict(faults: Sequence[Fault], allow: Sequence[str], *, synthetic: bool) -> Verdict:
    refused, allowed = [], []
    for fault in dict.fromkeys(faults):
        if synthetic and fault.code == "coarse_voxels":
            allowed.append(f"{fault}: a synthetic scan")
        elif fault.allowable and fault.code in allow:
            allowed.append(str(fault))
        else:
            refused.append(str(fault))
    return Verdict(tuple(refused), tuple(allowed))


def _anatomy_faults(headers: Sequence[SliceHeader]) -> list[Fault]:
    """Return faults for headers that name an animal or another part of the body than the chest."""
    animals = [
        h
        for h in headers
        for name in ("PatientSpeciesDescription", "PatientSpeciesCodeSequence")
        if not all(_HUMAN.match(text) for text in h.texts(name))
    ]
    if animals:
        text = f"{join_names(animals)}: the patient is an animal"
        return [Fault("not_chest", text, allowable=False)]
    odd: dict[str, list[SliceHeader]] = {}
    for header in headers:
        other = _other_part(header)
        if other:
            odd.setdefault(other, []).append(header)
    return [Fault("not_chest", f"{join_names(which)}: {what}") for what, which in odd.items()]


def _other_part(header: SliceHeader) -> str:
    """Return which attribute names another body part; empty if none does or the chest is named."""
    if any(_CHEST.search(header.text(name)) for name in _ANATOMY_TEXTS):
        return ""
    for name in _ANATOMY_TEXTS:
        found = _OTHER.search(header.text(name).replace("_", " "))
        if found:
            return f"{name} contains {found[1].upper()}"
    return ""


def _thickness_faults(
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
        text = f"the slices are {apart:.4g} mm apart, limit {limit_mm:g} mm"
        return [Fault("slice_thickness", text)]
    return []


def _count_faults(slices: int, least: int) -> list[Fault]:
    """Return a fault if a volume has fewer than `least` slices."""
    text = f"expected at least {least} slices, got {slices}"
    return [Fault("few_slices", text)] if slices < least else []


def _coarse_faults(grid: VoxelGrid, largest_mm: float) -> list[Fault]:
    """Return a fault if the pixels of a slice are wider than `largest_mm`."""
    widest = float(grid.spacing_mm[:2].max())
    text = f"pixels of {widest:.3g} mm, limit {largest_mm:g} mm"
    return [Fault("coarse_voxels", text)] if widest > largest_mm + _SLACK_MM else []
