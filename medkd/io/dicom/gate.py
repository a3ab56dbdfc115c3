"""The gate: decides whether files form one CT volume, and whether it is an analysable chest CT.

There are two layers. Structure (always checked): do the slices form one evenly spaced volume with
valid geometry? Scope (with `GateSettings`): is it a chest CT of sufficient quality? All reasons are
returned at once, each "code: text" with a code of `CODES`. By default every fault refuses. A fault
is accepted only if `GateSettings.allow` names its code, and it is then listed in `allowed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field, field_validator

from medkd.io.axial import axial_grid
from medkd.io.dicom.acquisitions import acquisition_faults
from medkd.io.dicom.codes import CODES, Fault, named
from medkd.io.dicom.kind import kind_faults
from medkd.io.dicom.pixels import decoder_faults, same_pixels
from medkd.io.dicom.scope import (
    anatomy_faults,
    coarse_faults,
    count_faults,
    is_synthetic,
    thickness_faults,
)
from medkd.io.dicom.structure import Layout, has_place, header_faults, lay_out
from medkd.io.dicom.write import SYNTHETIC_MANUFACTURER
from medkd.settings import Settings

if TYPE_CHECKING:
    from medkd.geometry import VoxelGrid
    from medkd.io.dicom.header import SliceHeader
    from medkd.types import Scan

__all__ = ["CODES", "GateSettings", "Verdict", "examine", "scan_reasons", "series_reasons"]


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


def series_reasons(headers: Sequence[SliceHeader], settings: GateSettings | None) -> Verdict:
    """Return the reasons why a series is refused, and the faults that are accepted.

    Args:
        headers: of all files of the series, in any order.
        settings: scope and accepted faults; None: only check that it is one volume.

    Returns:
        Reasons and accepted faults, each "code: text". Faults that only the pixels show (damage,
        missing lungs) are not included.
    """
    return examine(headers, settings).verdict


def examine(headers: Sequence[SliceHeader], settings: GateSettings | None) -> Examined:
    """Check the headers of a series, and order its slices.

    Args:
        headers: of all files of the series, in any order.
        settings: scope and accepted faults; None: only check that it is one volume.
    """
    allow = settings.allow if settings else ()
    kinds = kind_faults(headers)
    left_out = frozenset[int]().union(*(f.strange for f in kinds if f.code in allow))
    faults = [f for f in kinds if f.code in allow or f.strange - left_out]
    strange = left_out.union(*(f.strange for f in faults))
    slices = [header for number, header in enumerate(headers) if number not in strange]
    stack = slices if strange == left_out else _with_places(headers, faults)
    layout, kept = Layout((), None), stack
    if slices or strange == left_out:
        faults += header_faults(slices) + decoder_faults(slices)
        layout, kept = _without_copies(stack, lay_out(stack), allow)
        faults += layout.faults + tuple(acquisition_faults([kept[n] for n in layout.order]))
    if settings:
        faults += _scope_faults(kept or headers, layout.grid, settings)
    verdict = _verdict(faults, allow, synthetic=is_synthetic(kept))
    grid = None if verdict.refused else layout.grid
    return Examined(tuple(kept[n] for n in layout.order), grid, verdict)


def _with_places(headers: Sequence[SliceHeader], faults: Sequence[Fault]) -> list[SliceHeader]:
    """Return the headers that have a position in the volume, even if they are not CT slices.

    Otherwise a slice without pixels would also be reported as missing.
    """
    pictures = frozenset[int]().union(*(f.strange for f in faults if CODES[f.code].allowable))
    return [h for n, h in enumerate(headers) if n not in pictures and has_place(h)]


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
    faults = anatomy_faults(slices)
    if grid is not None:
        faults += _volume_faults(grid, stated, settings)
        return [_naming_the_thick(f, slices, settings.max_slice_thickness_mm) for f in faults]
    if len(slices) > 1:
        faults += count_faults(len(slices), settings.min_slices)
    return faults + thickness_faults(None, stated, settings.max_slice_thickness_mm)


def _naming_the_thick(fault: Fault, slices: Sequence[SliceHeader], limit_mm: float) -> Fault:
    """Add the names of the thick slices to a thickness fault, if only some are too thick."""
    thick = [h for h in slices if (h.number("SliceThickness") or 0.0) > limit_mm]
    if fault.code != "slice_thickness" or not 0 < len(thick) < len(slices):
        return fault
    return replace(fault, text=f"{named(thick)}: {fault.text}")


def _volume_faults(
    grid: VoxelGrid, thickness_mm: Sequence[float], settings: GateSettings
) -> list[Fault]:
    """Check the stored grid: slice thickness, number of slices and pixel spacing."""
    thickest_mm, axial = settings.max_slice_thickness_mm, axial_grid(grid)
    faults = thickness_faults(grid, thickness_mm, thickest_mm)
    faults += count_faults(min(grid.shape[2], axial.shape[2]), settings.min_slices)
    coarse = coarse_faults(grid, settings.max_voxel_mm)
    if coarse and not coarse_faults(axial, settings.max_voxel_mm):
        # Reformatted from axial slices: the wide side of the pixels is the axial slice spacing.
        coarse = thickness_faults(axial, (), thickest_mm)
    return [*faults, *coarse]


def _without_copies(
    slices: list[SliceHeader], layout: Layout, allow: Sequence[str]
) -> tuple[Layout, list[SliceHeader]]:
    """Check slices that share a position; if copies are allowed, keep the first of each."""
    if not layout.doubled:
        return layout, slices
    groups = [[slices[n] for n in group] for group in layout.doubled]
    identical = all(map(same_pixels, groups))
    what = "identical pixels" if identical else "different pixels"
    names = "; ".join(named(group) for group in groups[:3])
    text = f"{len(groups)} positions have several slices, with {what} ({names})"
    fault = Fault("duplicate_positions", text, lenient=identical)
    if not identical or "duplicate_positions" not in allow:
        return replace(layout, faults=(*layout.faults, fault)), slices
    copies = {n for group in layout.doubled for n in group[1:]}
    kept = [header for number, header in enumerate(slices) if number not in copies]
    again = lay_out(kept)
    return replace(again, faults=(*again.faults, fault)), kept


def _verdict(faults: Sequence[Fault], allow: Sequence[str], *, synthetic: bool) -> Verdict:
    refused, allowed = [], []
    for fault in dict.fromkeys(faults):
        if synthetic and fault.code == "coarse_voxels":
            allowed.append(f"{fault}: a synthetic scan")
        elif fault.lenient and fault.code in allow:
            allowed.append(str(fault))
        else:
            refused.append(str(fault))
    return Verdict(tuple(refused), tuple(allowed))
