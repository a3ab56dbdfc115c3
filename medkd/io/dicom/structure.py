"""Order slices, check that they form one evenly spaced volume, and compute its grid.

Only headers are used. Distances are in mm in LPS, and positions are projected on the slice normal
(PS3.3 C.7.6.2.1.1). File names and InstanceNumber do not affect the order. Every check covers all
slices and returns one fault for all slices that share it. Orientation, spacing and origin of the
grid are medians over the slices. Tilted or irregular slices are refused; nothing is resampled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medkd.geometry import VoxelGrid
from medkd.io.dicom.codes import Fault, fault_of, listed, named
from medkd.io.dicom.order import numbering_faults

if TYPE_CHECKING:
    from medkd.io.dicom.header import SliceHeader

Float64 = NDArray[np.float64]

_PLACE = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
"""Attributes that define the position of a slice, and how many numbers each has."""

_NEEDED = (*_PLACE, "Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")
"""Attributes that are needed to place and decode a slice; identifiers are not."""

ANGLE_TOLERANCE = 1e-3
"""Largest difference of direction cosines, and largest relative difference of PixelSpacing."""

GAP_TOLERANCE, GAP_TOLERANCE_MM = 0.01, 0.05
"""A gap may differ from the median by this fraction of it or by this many mm, whichever is more."""

_SAME_PLACE_MM = 0.01
_FAR_MM = 1e5
_TILT_DEGREES = 0.1


@dataclass(frozen=True, slots=True)
class Layout:
    """The arrangement of slices.

    Args:
        order: indices of the slices in ascending order along the normal; empty if unknown.
        grid: of the volume; None if the slices do not form one.
        faults: what is wrong with the arrangement.
        doubled: groups of indices of slices at the same position.
    """

    order: tuple[int, ...]
    grid: VoxelGrid | None
    faults: tuple[Fault, ...] = ()
    doubled: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class _Placed:
    """Positions [N, 3], orientations [N, 6] and pixel spacings [N, 2] of N slices."""

    positions_mm: Float64
    orientations: Float64
    spacings_mm: Float64


def header_faults(headers: Sequence[SliceHeader]) -> list[Fault]:
    """Return faults of headers that cannot belong to one volume; positions are not checked here."""
    faults = [Fault("unreadable", f"{h.name}: {fault}") for h in headers for fault in h.faults]
    for name in _NEEDED:
        faults += fault_of("missing_attribute", headers, _has(name), f"has no {name}")
    for name in ("RescaleSlope", "RescaleIntercept"):
        faults += fault_of("missing_rescale", headers, _has(name), f"has no {name}")
        text = f"expected one {name}, got several values"
        faults += fault_of("unreadable", headers, _has_one(name), text)
    faults += fault_of(
        "missing_rescale", headers, lambda h: h.number("RescaleSlope") != 0, "RescaleSlope is 0"
    )
    for name in ("Rows", "Columns"):
        faults += fault_of("missing_attribute", headers, _is_positive(name), f"{name} is 0")
    return faults + _sameness_faults(headers) + _format_faults(headers)


def lay_out(headers: Sequence[SliceHeader]) -> Layout:
    """Order slices along their normal and check that they form a grid.

    Args:
        headers: slices of one series. If they belong to several, or an attribute is missing, the
            layout has neither grid nor faults: `header_faults` reports these faults.
    """
    if not headers:
        return Layout((), None, (Fault("few_slices", "no slices are left", lenient=False),))
    series = {h.text("SeriesInstanceUID") for h in headers}
    if len(series) != 1 or not all(map(has_place, headers)):
        return Layout((), None)
    placed = _placed(headers)
    if isinstance(placed, Fault):
        return Layout((), None, (placed,))
    faults = _orientation_faults(headers, placed)
    if len(headers) < 2:
        faults.append(
            Fault("few_slices", f"a volume has at least 2 slices, got {len(headers)}", False)
        )
    if faults:
        return Layout((), None, tuple(faults))
    return _stacked(headers, placed)


def _stacked(headers: Sequence[SliceHeader], placed: _Placed) -> Layout:
    """Order parallel slices and check their distances."""
    across = np.median(placed.orientations, axis=0)
    normal = np.cross(across[:3], across[3:])
    along = placed.positions_mm @ normal
    order = np.argsort(along, kind="stable")
    ordered = [headers[n] for n in order]
    doubled = _doubled(order, along[order])
    distinct = along[order][np.r_[True, np.diff(along[order]) >= _SAME_PLACE_MM]]
    indices = tuple(int(n) for n in order)
    if len(distinct) < 2:
        text = f"all {len(headers)} slices lie at one position"
        return Layout(indices, None, (Fault("few_slices", text, lenient=False),), doubled)
    faults = _gap_faults(ordered, along[order], float(np.median(np.diff(distinct))))
    faults += _sideways_faults(ordered, placed.positions_mm[order], normal)
    faults += numbering_faults(ordered)
    spacing = float(distinct[-1] - distinct[0]) / (len(distinct) - 1)
    grid = None
    if not doubled:
        grid = _grid(headers, placed, indices, spacing_mm=spacing)
    return Layout(indices, grid, tuple(faults), doubled)


def has_place(header: SliceHeader) -> bool:
    """Return whether a header has all attributes that are needed to place and decode a slice."""
    has_size = header.whole("Rows") and header.whole("Columns")
    return bool(has_size) and all(header.values.get(name) for name in _NEEDED)


def _has(name: str) -> Callable[[SliceHeader], bool]:
    """Return a check for whether a header has an attribute, even with an unreadable value."""
    return lambda h: bool(h.values.get(name)) or any(f.startswith(f"{name} ") for f in h.faults)


def _has_one(name: str) -> Callable[[SliceHeader], bool]:
    return lambda header: len(set(header.numbers(name))) <= 1


def _is_positive(name: str) -> Callable[[SliceHeader], bool]:
    return lambda header: header.whole(name) != 0


def _sameness_faults(headers: Sequence[SliceHeader]) -> list[Fault]:
    faults = []
    for name, code, label in (
        ("SeriesInstanceUID", "mixed_series", "series"),
        ("PatientID", "mixed_series", "patients"),
        ("FrameOfReferenceUID", "mixed_frame_of_reference", "frames of reference"),
        ("Rows", "mixed_size", "numbers of rows"),
        ("Columns", "mixed_size", "numbers of columns"),
        ("BitsStored", "mixed_pixel_format", "values of BitsStored"),
        ("PixelRepresentation", "mixed_pixel_format", "values of PixelRepresentation"),
    ):
        seen = Counter(h.text(name) for h in headers)
        if len(seen) > 1:
            usual = seen.most_common(1)[0][0]
            odd = named([h for h in headers if h.text(name) != usual])
            faults.append(Fault(code, f"expected one, got {len(seen)} {label}: {odd} differ"))
    named_slices = [h for h in headers if h.frame == 0 and h.text("SOPInstanceUID")]
    seen = Counter(h.text("SOPInstanceUID") for h in named_slices)
    doubled = [h for h in named_slices if seen[h.text("SOPInstanceUID")] > 1]
    if doubled and not _all_in_one_place(doubled):
        text = f"{named(doubled)}: the same SOPInstanceUID more than once"
        faults.append(Fault("duplicate_uids", text))
    return faults


def _all_in_one_place(doubled: Sequence[SliceHeader]) -> bool:
    """Return whether slices that share a UID also share a position.

    Such copies are reported as `duplicate_positions` instead.
    """
    places: dict[str, set[tuple[float, ...]]] = {}
    for header in doubled:
        place = header.numbers("ImagePositionPatient")
        places.setdefault(header.text("SOPInstanceUID"), set()).add(place)
    return all(len(found) == 1 for found in places.values())


def _format_faults(headers: Sequence[SliceHeader]) -> list[Fault]:
    """Return faults for pixels that are not one 16-bit number each, stored in the low bits."""
    faults = []
    for name, expected, default in (
        ("SamplesPerPixel", "1", "1"),
        ("NumberOfFrames", "1", "1"),
        ("BitsAllocated", "16", "16"),
        ("PhotometricInterpretation", "MONOCHROME2", "MONOCHROME2"),
    ):
        values = [_plain(h, name) or default for h in headers]
        for other in sorted(set(values) - {expected}):
            odd = named(h for h, value in zip(headers, values, strict=True) if value == other)
            text = f"{odd}: expected {name} {expected}, got {other[:16]}"
            faults.append(Fault("pixel_format", text))
    text = "its values need a Modality LUT, which is not supported: expected a linear rescale"
    faults += fault_of("pixel_format", headers, lambda h: not h.texts("ModalityLUTSequence"), text)
    text = "BitsStored, HighBit and PixelRepresentation do not agree"
    return faults + fault_of("pixel_format", headers, _bits_agree, text)


def _plain(header: SliceHeader, name: str) -> str:
    whole = header.whole(name) if name != "PhotometricInterpretation" else None
    return header.text(name) if whole is None else str(whole)


def _bits_agree(header: SliceHeader) -> bool:
    stored, high = header.whole("BitsStored"), header.whole("HighBit")
    if stored is None:
        return True  # reported as missing elsewhere
    sign = header.whole("PixelRepresentation")
    return 1 <= stored <= 16 and high in (None, stored - 1) and sign in (None, 0, 1)


def _placed(headers: Sequence[SliceHeader]) -> _Placed | Fault:
    columns = []
    for name, length in _PLACE.items():
        rows = [h.numbers(name) for h in headers]
        odd = [h for h, row in zip(headers, rows, strict=True) if len(row) != length]
        if odd:
            text = f"{named(odd)}: expected {length} finite numbers in {name}"
            return Fault("missing_attribute", text)
        far = [h for h, row in zip(headers, rows, strict=True) if max(map(abs, row)) > _FAR_MM]
        if far:
            text = f"{named(far)}: {name} has values beyond {_FAR_MM:g} mm"
            return Fault("missing_attribute", text)
        columns.append(np.asarray(rows, dtype=np.float64))
    return _Placed(*columns)


def _orientation_faults(headers: Sequence[SliceHeader], placed: _Placed) -> list[Fault]:
    faults = []
    usual = np.median(placed.orientations, axis=0)
    turned = np.abs(placed.orientations - usual).max(axis=1) > ANGLE_TOLERANCE
    if turned.any():
        odd = named(h for h, is_odd in zip(headers, turned, strict=True) if is_odd)
        text = f"expected one orientation, but {odd} differ from the others"
        faults.append(Fault("mixed_orientation", text))
    axes = usual.reshape(2, 3)
    if not turned.any() and np.abs(axes @ axes.T - np.eye(2)).max() > ANGLE_TOLERANCE:
        text = f"rows and columns are not at right angles: {listed(usual, shown=6)}"
        faults.append(Fault("mixed_orientation", text))
    spacings = placed.spacings_mm
    if spacings.min() < _SAME_PLACE_MM:
        text = f"expected a positive PixelSpacing, got {spacings.min():g} mm"
        faults.append(Fault("missing_attribute", text))
        return faults
    other = np.abs(spacings / np.median(spacings, axis=0) - 1).max(axis=1) > ANGLE_TOLERANCE
    if other.any():
        odd = named(h for h, is_odd in zip(headers, other, strict=True) if is_odd)
        faults.append(Fault("mixed_size", f"expected one PixelSpacing, but {odd} differ"))
    return faults


def _doubled(order: NDArray[np.intp], along: Float64) -> tuple[tuple[int, ...], ...]:
    """Return groups of slices that lie at the same position."""
    starts = np.flatnonzero(np.r_[True, np.diff(along) >= _SAME_PLACE_MM])
    groups = np.split(order, starts[1:])
    return tuple(tuple(int(n) for n in group) for group in groups if len(group) > 1)


def _gap_faults(ordered: Sequence[SliceHeader], along: Float64, median_mm: float) -> list[Fault]:
    """Return faults for missing slices and for uneven distances."""
    gaps = np.diff(along)
    off = np.abs(gaps - median_mm) > max(GAP_TOLERANCE * median_mm, GAP_TOLERANCE_MM)
    uneven = [int(n) for n in np.flatnonzero(off & (gaps >= _SAME_PLACE_MM))]
    steps = {n: round(float(gaps[n]) / median_mm) for n in uneven}
    rounding_mm = max(GAP_TOLERANCE * median_mm, GAP_TOLERANCE_MM)
    missing = [
        n
        for n in uneven
        if steps[n] > 1 and abs(gaps[n] - steps[n] * median_mm) <= steps[n] * rounding_mm
    ]
    faults = []
    if missing:
        places = [along[n] + step * median_mm for n in missing for step in range(1, steps[n])]
        between = ", ".join(f"{ordered[n].name} and {ordered[n + 1].name}" for n in missing[:3])
        text = (
            f"{len(places)} slices at {listed(places)} mm along the normal, between {between} "
            f"(slices lie every {median_mm:g} mm)"
        )
        faults.append(Fault("missing_slices", text))
    irregular = [n for n in uneven if n not in missing]
    if irregular:
        text = (
            f"expected slices every {median_mm:g} mm, got {listed(gaps[irregular])} mm "
            f"after {named(ordered[n] for n in irregular)}"
        )
        faults.append(Fault("irregular_spacing", text))
    return faults


def _sideways_faults(
    ordered: Sequence[SliceHeader], positions_mm: Float64, normal: Float64
) -> list[Fault]:
    """Return a fault if all slices shift sideways evenly (gantry tilt) or if single slices do."""
    along = positions_mm @ normal
    sideways = positions_mm - along[:, None] * normal
    steps = np.diff(along) >= _SAME_PLACE_MM
    slopes = np.diff(sideways, axis=0)[steps] / np.diff(along)[steps, None]
    slope = np.median(slopes, axis=0)
    degrees = float(np.degrees(np.arctan(np.linalg.norm(slope))))
    if degrees > _TILT_DEGREES:
        text = f"the gantry was tilted by {degrees:.1f} degrees: slices shift sideways"
        return [Fault("gantry_tilt", text)]
    straight = sideways - along[:, None] * slope
    off_mm = np.linalg.norm(straight - np.median(straight, axis=0), axis=1)
    shifted = [int(n) for n in np.flatnonzero(off_mm > GAP_TOLERANCE_MM)]
    if not shifted:
        return []
    text = f"{named(ordered[n] for n in shifted)}: shifted sideways by {off_mm.max():.2f} mm"
    return [Fault("irregular_spacing", text)]


def _grid(
    headers: Sequence[SliceHeader], placed: _Placed, order: tuple[int, ...], *, spacing_mm: float
) -> VoxelGrid:
    """Build the grid from slices in order; PixelSpacing is (between rows, between columns)."""
    across = np.median(placed.orientations, axis=0)
    row_step, column_step = np.median(placed.spacings_mm, axis=0)
    affine = np.eye(4)
    affine[:3, 0] = across[:3] * column_step
    affine[:3, 1] = across[3:] * row_step
    affine[:3, 2] = np.cross(across[:3], across[3:]) * spacing_mm
    steps = np.arange(len(order))[:, None] * affine[:3, 2]
    affine[:3, 3] = np.median(placed.positions_mm[list(order)] - steps, axis=0)
    columns, rows = headers[0].whole("Columns") or 0, headers[0].whole("Rows") or 0
    return VoxelGrid((columns, rows, len(order)), affine)
