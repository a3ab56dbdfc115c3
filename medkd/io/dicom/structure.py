"""Order slices, check that they form one evenly spaced volume, and compute its grid.

Only headers are used. Distances are in mm in LPS, and positions are projected on the slice normal
(PS3.3 C.7.6.2.1.1). File names and InstanceNumber do not affect the order. Every check covers all
slices and returns one fault for all slices that share it. Orientation, spacing and origin of the
grid are medians over the slices. Tilted or irregular slices are refused; nothing is resampled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medkd.geometry import VoxelGrid
from medkd.io.dicom.codes import Fault, faults_of, join_names, join_numbers
from medkd.io.dicom.order import numbering_faults

if TYPE_CHECKING:
    from medkd.io.dicom.header import SliceHeader

Float64 = NDArray[np.float64]

_POSITION = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
"""Attributes that define the position of a slice, and how many numbers each has."""

_NEEDED = (*_POSITION, "Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")
"""Attributes that are needed to position and decode a slice; identifiers are not."""

ANGLE_TOLERANCE = 1e-3
"""Largest difference of direction cosines, and largest relative difference of PixelSpacing."""

GAP_TOLERANCE, GAP_TOLERANCE_MM = 0.01, 0.05
"""A gap may differ from the median by this fraction of it or by this many mm, whichever is more."""

_SAME_POSITION_MM = 0.01
_FAR_MM = 1e5
_TILT_DEGREES = 0.1


@dataclass(frozen=True, slots=True)
class Layout:
    """The arrangement of slices.

    Args:
        order: indices of the slices in ascending order along the normal; empty if unknown.
        grid: of the volume; None if the slices do not form one.
        faults: what is wrong with the arrangement.
        duplicates: groups of indices of slices at the same position.
    """

    order: tuple[int, ...]
    grid: VoxelGrid | None
    faults: tuple[Fault, ...] = ()
    duplicates: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class _Geometry:
    """Positions [N, 3], orientations [N, 6] and pixel spacings [N, 2] of N slices."""

    positions_mm: Float64
    orientations: Float64
    spacings_mm: Float64


def header_faults(headers: Sequence[SliceHeader]) -> list[Fault]:
    """Return faults of headers that cannot belong to one volume; positions are not checked here."""
    faults = [Fault("unreadable", f"{h.name}: {fault}") for h in headers for fault in h.faults]
    for name in _NEEDED:
        odd = [h for h in headers if not _has_attribute(h, name)]
        faults += faults_of("missing_attribute", odd, f"has no {name}")
    for name in ("RescaleSlope", "RescaleIntercept"):
        odd = [h for h in headers if not _has_attribute(h, name)]
        faults += faults_of("missing_rescale", odd, f"has no {name}")
        odd = [h for h in headers if len(set(h.numbers(name))) > 1]
        faults += faults_of("unreadable", odd, f"expected one {name}, got several values")
    odd = [h for h in headers if h.number("RescaleSlope") == 0]
    faults += faults_of("missing_rescale", odd, "RescaleSlope is 0")
    for name in ("Rows", "Columns"):
        odd = [h for h in headers if h.whole(name) == 0]
        faults += faults_of("missing_attribute", odd, f"{name} is 0")
    return faults + _consistency_faults(headers) + _format_faults(headers)


def arrange(headers: Sequence[SliceHeader]) -> Layout:
    """Order slices along their normal and check that they form a grid.

    Args:
        headers: slices of one series. If they belong to several, or an attribute is missing, the
            layout has neither grid nor faults: `header_faults` reports these faults.
    """
    if not headers:
        return Layout((), None, (Fault("few_slices", "no slices are left", allowable=False),))
    series = {h.text("SeriesInstanceUID") for h in headers}
    if len(series) != 1 or not all(map(has_geometry, headers)):
        return Layout((), None)
    geometry = _geometry_of(headers)
    if isinstance(geometry, Fault):
        return Layout((), None, (geometry,))
    faults = _orientation_faults(headers, geometry)
    if len(headers) < 2:
        faults.append(
            Fault("few_slices", f"a volume has at least 2 slices, got {len(headers)}", False)
        )
    if faults:
        return Layout((), None, tuple(faults))
    return _stack_layout(headers, geometry)


def _stack_layout(headers: Sequence[SliceHeader], geometry: _Geometry) -> Layout:
    """Order parallel slices and check their distances."""
    across = np.median(geometry.orientations, axis=0)
    normal = np.cross(across[:3], across[3:])
    along = geometry.positions_mm @ normal
    order = np.argsort(along, kind="stable")
    ordered = [headers[n] for n in order]
    duplicates = _duplicates(order, along[order])
    distinct = along[order][np.r_[True, np.diff(along[order]) >= _SAME_POSITION_MM]]
    indices = tuple(int(n) for n in order)
    if len(distinct) < 2:
        text = f"all {len(headers)} slices are at one position"
        return Layout(indices, None, (Fault("few_slices", text, allowable=False),), duplicates)
    faults = _gap_faults(ordered, along[order], float(np.median(np.diff(distinct))))
    faults += _sideways_faults(ordered, geometry.positions_mm[order], normal)
    faults += numbering_faults(ordered)
    spacing = float(distinct[-1] - distinct[0]) / (len(distinct) - 1)
    grid = None if duplicates else _grid(headers, geometry, indices, spacing_mm=spacing)
    return Layout(indices, grid, tuple(faults), duplicates)


def has_geometry(header: SliceHeader) -> bool:
    """Return whether a header has all attributes that are needed to position and decode a slice."""
    has_size = header.whole("Rows") and header.whole("Columns")
    return bool(has_size) and all(header.values.get(name) for name in _NEEDED)


def _has_attribute(header: SliceHeader, name: str) -> bool:
    """Return whether a header has an attribute, even with an unreadable value."""
    return bool(header.values.get(name)) or any(f.startswith(f"{name} ") for f in header.faults)


def _consistency_faults(headers: Sequence[SliceHeader]) -> list[Fault]:
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
            odd = join_names(h for h in headers if h.text(name) != usual)
            faults.append(Fault(code, f"expected one, got {len(seen)} {label}: {odd} differ"))
    copies = [h for h in headers if h.frame == 0 and h.text("SOPInstanceUID")]
    seen = Counter(h.text("SOPInstanceUID") for h in copies)
    copies = [h for h in copies if seen[h.text("SOPInstanceUID")] > 1]
    places = {(h.text("SOPInstanceUID"), h.numbers("ImagePositionPatient")) for h in copies}
    if len(places) > len({uid for uid, _ in places}):  # else reported as duplicate_positions
        faults += faults_of("duplicate_uids", copies, "the same SOPInstanceUID more than once")
    return faults


def _format_faults(headers: Sequence[SliceHeader]) -> list[Fault]:
    """Return faults for pixels that are not one 16-bit number each, stored in the low bits."""
    faults: list[Fault] = []
    code = "pixel_format"
    for name, expected in (
        ("SamplesPerPixel", "1"),
        ("NumberOfFrames", "1"),
        ("BitsAllocated", "16"),
        ("PhotometricInterpretation", "MONOCHROME2"),
    ):
        values = [_plain(h, name) or expected for h in headers]
        for other in sorted(set(values) - {expected}):
            odd = [h for h, value in zip(headers, values, strict=True) if value == other]
            faults += faults_of(code, odd, f"expected {name} {expected}, got {other[:16]}")
    odd = [h for h in headers if h.texts("ModalityLUTSequence")]
    text = "its values need a Modality LUT, which is not supported: expected a linear rescale"
    faults += faults_of(code, odd, text)
    odd = [h for h in headers if not _bits_agree(h)]
    text = "BitsStored, HighBit and PixelRepresentation do not agree"
    return faults + faults_of(code, odd, text)


def _plain(header: SliceHeader, name: str) -> str:
    whole = header.whole(name) if name != "PhotometricInterpretation" else None
    return header.text(name) if whole is None else str(whole)


def _bits_agree(header: SliceHeader) -> bool:
    stored, high = header.whole("BitsStored"), header.whole("HighBit")
    if stored is None:
        return True  # reported as missing elsewhere
    sign = header.whole("PixelRepresentation")
    return 1 <= stored <= 16 and high in (None, stored - 1) and sign in (None, 0, 1)


def _geometry_of(headers: Sequence[SliceHeader]) -> _Geometry | Fault:
    columns = []
    for name, length in _POSITION.items():
        odd = [h for h in headers if len(h.numbers(name)) != length]
        if odd:
            text = f"{join_names(odd)}: expected {length} finite numbers in {name}"
            return Fault("missing_attribute", text)
        odd = [h for h in headers if max(map(abs, h.numbers(name))) > _FAR_MM]
        if odd:
            text = f"{join_names(odd)}: {name} has values beyond {_FAR_MM:g} mm"
            return Fault("missing_attribute", text)
        columns.append(np.asarray([h.numbers(name) for h in headers], dtype=np.float64))
    return _Geometry(*columns)


def _orientation_faults(headers: Sequence[SliceHeader], geometry: _Geometry) -> list[Fault]:
    faults = []
    usual = np.median(geometry.orientations, axis=0)
    turned = np.abs(geometry.orientations - usual).max(axis=1) > ANGLE_TOLERANCE
    if turned.any():
        odd = join_names(compress(headers, turned))
        text = f"expected one orientation, but {odd} differ from the others"
        faults.append(Fault("mixed_orientation", text))
    axes = usual.reshape(2, 3)
    if not turned.any() and np.abs(axes @ axes.T - np.eye(2)).max() > ANGLE_TOLERANCE:
        text = f"rows and columns are not at right angles: {join_numbers(usual, shown=6)}"
        faults.append(Fault("mixed_orientation", text))
    spacings = geometry.spacings_mm
    if spacings.min() < _SAME_POSITION_MM:
        text = f"expected a positive PixelSpacing, got {spacings.min():g} mm"
        faults.append(Fault("missing_attribute", text))
        return faults
    other = np.abs(spacings / np.median(spacings, axis=0) - 1).max(axis=1) > ANGLE_TOLERANCE
    if other.any():
        odd = join_names(compress(headers, other))
        faults.append(Fault("mixed_size", f"expected one PixelSpacing, but {odd} differ"))
    return faults


def _duplicates(order: NDArray[np.intp], along: Float64) -> tuple[tuple[int, ...], ...]:
    """Return groups of slices at the same position."""
    starts = np.flatnonzero(np.r_[True, np.diff(along) >= _SAME_POSITION_MM])
    groups = np.split(order, starts[1:])
    return tuple(tuple(int(n) for n in group) for group in groups if len(group) > 1)


def _gap_faults(ordered: Sequence[SliceHeader], along: Float64, median_mm: float) -> list[Fault]:
    """Return faults for missing slices and for uneven distances."""
    gaps = np.diff(along)
    tolerance_mm = max(GAP_TOLERANCE * median_mm, GAP_TOLERANCE_MM)
    off = np.abs(gaps - median_mm) > tolerance_mm
    uneven = [int(n) for n in np.flatnonzero(off & (gaps >= _SAME_POSITION_MM))]
    steps = {n: round(float(gaps[n]) / median_mm) for n in uneven}
    missing = [
        n
        for n, count in steps.items()
        if count > 1 and abs(gaps[n] - count * median_mm) <= count * tolerance_mm
    ]
    faults = []
    if missing:
        gone_mm = [along[n] + step * median_mm for n in missing for step in range(1, steps[n])]
        between = ", ".join(f"{ordered[n].name} and {ordered[n + 1].name}" for n in missing[:3])
        text = (
            f"{len(gone_mm)} slices at {join_numbers(gone_mm)} mm along the normal, "
            f"between {between} (the slice spacing is {median_mm:g} mm)"
        )
        faults.append(Fault("missing_slices", text))
    irregular = [n for n in uneven if n not in missing]
    if irregular:
        text = (
            f"expected slices every {median_mm:g} mm, got {join_numbers(gaps[irregular])} mm "
            f"after {join_names(ordered[n] for n in irregular)}"
        )
        faults.append(Fault("irregular_spacing", text))
    return faults


def _sideways_faults(
    ordered: Sequence[SliceHeader], positions_mm: Float64, normal: Float64
) -> list[Fault]:
    """Return a fault if all slices shift sideways evenly (gantry tilt) or if single slices do."""
    along = positions_mm @ normal
    sideways = positions_mm - along[:, None] * normal
    steps = np.diff(along) >= _SAME_POSITION_MM
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
    text = f"{join_names(ordered[n] for n in shifted)}: shifted sideways by {off_mm.max():.2f} mm"
    return [Fault("irregular_spacing", text)]


def _grid(
    headers: Sequence[SliceHeader],
    geometry: _Geometry,
    order: tuple[int, ...],
    *,
    spacing_mm: float,
) -> VoxelGrid:
    """Build the grid from slices in order; PixelSpacing is (between rows, between columns)."""
    across = np.median(geometry.orientations, axis=0)
    row_step, column_step = np.median(geometry.spacings_mm, axis=0)
    affine = np.eye(4)
    affine[:3, 0] = across[:3] * column_step
    affine[:3, 1] = across[3:] * row_step
    affine[:3, 2] = np.cross(across[:3], across[3:]) * spacing_mm
    steps = np.arange(len(order))[:, None] * affine[:3, 2]
    affine[:3, 3] = np.median(geometry.positions_mm[list(order)] - steps, axis=0)
    columns, rows = headers[0].whole("Columns") or 0, headers[0].whole("Rows") or 0
    return VoxelGrid((columns, rows, len(order)), affine)
