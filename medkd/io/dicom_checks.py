"""What makes the slices of a folder one plain CT series, and in which order they lie.

Works on headers alone and never on pixels. Every check looks at all slices and words each
fault once for all slices that share it. Distances are mm in LPS. Tilted, irregular or doubled
slices are refused here; nothing is resampled or left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"

_REQUIRED = (
    "SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation",
    "RescaleSlope", "RescaleIntercept",
)  # fmt: skip

_PLACE = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
"""Attributes that say where a slice lies, and how many numbers each has."""

_SAME = {
    "SeriesInstanceUID": "series",
    "FrameOfReferenceUID": "frames of reference",
    "PatientID": "patients",
    "Rows": "numbers of rows",
    "Columns": "numbers of columns",
}
"""Attributes that are equal in all slices of a series."""

_SHOWN_VALUES = ("SeriesInstanceUID", "Rows", "Columns")
"""Those whose values a message may show; a PatientID is counted, never shown."""

_EXPECTED: dict[str, tuple[Any, Any]] = {
    "SOPClassUID": (CT_IMAGE_STORAGE, None),
    "Modality": ("CT", None),
    "SamplesPerPixel": (1, 1),
    "NumberOfFrames": (1, 1),
    "BitsAllocated": (16, None),
    "PhotometricInterpretation": ("MONOCHROME2", "MONOCHROME2"),
}
"""Attribute to the one value taken and the value meant where it is absent."""

ANGLE_TOLERANCE = 1e-3
"""Direction cosines of two slices, or of one slice's two axes, agree within this."""

SPACING_TOLERANCE = 0.01
"""Slice distances agree within this share of their median (highdicom's tolerance)."""

_ROUNDING_MM = 0.02
"""Positions are often written with two decimals."""

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """One file: its header, and where its pixels begin if they can be read as they stand."""

    path: Path
    dataset: Any
    pixel_offset: int | None
    pixel_bytes: int
    has_pixels: bool


@dataclass(frozen=True, slots=True)
class SlicePlaces:
    """The order of slices along their normal and the distance between neighbours."""

    order: tuple[int, ...]
    spacing_mm: float
    reasons: tuple[str, ...] = ()


def header_reasons(headers: list[SliceHeader]) -> list[str]:
    """Say why these headers cannot be slices of one plain CT series, apart from their places."""
    reasons = []
    for name in _REQUIRED:
        without = [h.path.name for h in headers if h.dataset.get(name) in (None, "")]
        reasons += [f"{_named(without)}: has no {name}"] if without else []
    for name, (value, default) in _EXPECTED.items():
        reasons += _unexpected(headers, name, value, default)
    for name, label in _SAME.items():
        values = {str(header.dataset.get(name)) for header in headers}
        if len(values) > 1:
            shown = f": {', '.join(sorted(values)[:_SHOWN])}" if name in _SHOWN_VALUES else ""
            reasons.append(f"expected one, got {len(values)} {label}{shown}")
    empty = [header.path.name for header in headers if not header.has_pixels]
    reasons += [f"{_named(empty)}: has no pixels"] if empty else []
    uids = Counter(str(h.dataset.get("SOPInstanceUID")) for h in headers if _uid(h) is not None)
    doubled = [h.path.name for h in headers if uids[str(_uid(h))] > 1]
    reasons += [f"{_named(doubled)}: the same SOPInstanceUID more than once"] if doubled else []
    return reasons + _bit_reasons(headers)


def place_slices(headers: list[SliceHeader]) -> SlicePlaces:
    """Order slices by their position along the slice normal and check that they form a grid.

    Args:
        headers: slices of one series; of several, or where an attribute is missing, nothing
            is said here, since `header_reasons` says it.

    Returns:
        Order, distance, and the reasons why they are not evenly spaced parallel slices.
    """
    series = {str(header.dataset.get("SeriesInstanceUID")) for header in headers}
    if len(series) != 1 or any(_lacks_place(header.dataset) for header in headers):
        return SlicePlaces((), 0.0)
    vectors = _vectors(headers)
    if isinstance(vectors, str):
        return SlicePlaces((), 0.0, (vectors,))
    positions, orientations, spacings = vectors
    reasons = _orientation_reasons(orientations, spacings)
    if len(headers) < 2:
        reasons.append("expected at least 2 slices, got 1")
    if reasons:
        return SlicePlaces((), 0.0, tuple(reasons))
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    spacing = float(along[order[-1]] - along[order[0]]) / (len(order) - 1)
    reasons = _distance_reasons(along[order])
    reasons += _drift_reasons(positions[order], along[order], normal)
    return SlicePlaces(tuple(int(index) for index in order), spacing, tuple(reasons))


def _lacks_place(dataset: Any) -> bool:  # noqa: ANN401  # pydicom has no types here
    return any(dataset.get(name) in (None, "") for name in _PLACE)


def _vectors(
    headers: list[SliceHeader],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | str:
    """Return positions [N, 3], orientations [N, 6] and pixel spacings [N, 2], or what is amiss."""
    columns = []
    for name, length in _PLACE.items():
        rows = [[float(value) for value in header.dataset[name].value] for header in headers]
        if any(len(row) != length for row in rows) or not np.isfinite(rows).all():
            return f"expected {length} finite numbers in {name} of every slice"
        columns.append(np.asarray(rows, dtype=np.float64))
    return columns[0], columns[1], columns[2]


def _orientation_reasons(
    orientations: NDArray[np.float64], spacings: NDArray[np.float64]
) -> list[str]:
    reasons = []
    if np.abs(orientations - orientations[0]).max() > ANGLE_TOLERANCE:
        reasons.append("expected one orientation, but slices are turned against each other")
    first = orientations[0].reshape(2, 3)
    if np.abs(first @ first.T - np.eye(2)).max() > ANGLE_TOLERANCE:
        reasons.append(f"rows and columns are not at right angles: {orientations[0].tolist()}")
    if spacings.min() <= 0:
        reasons.append(f"expected a positive PixelSpacing, got {spacings.min():g} mm")
    elif np.abs(spacings / spacings[0] - 1).max() > ANGLE_TOLERANCE:
        reasons.append("expected one PixelSpacing, but slices differ")
    return reasons


def _distance_reasons(along: NDArray[np.float64]) -> list[str]:
    """Say where sorted slice positions are doubled or unevenly spaced."""
    gaps = np.diff(along)
    doubled = [float(along[n]) for n in np.flatnonzero(gaps < _ROUNDING_MM / 2)]
    distinct = gaps[gaps >= _ROUNDING_MM / 2]
    if not distinct.size:
        return ["all slices lie at one position"]
    reasons = []
    if doubled:
        reasons.append(f"{len(doubled)} slices doubled at {_listed(doubled)} mm along the normal")
    median = float(np.median(distinct))
    tolerance = max(SPACING_TOLERANCE * median, _ROUNDING_MM)
    uneven = [n for n in np.flatnonzero(np.abs(gaps - median) > tolerance) if gaps[n] > 0.01]
    if uneven:
        shown = _listed([float(gaps[n]) for n in uneven])
        starts = _listed([float(along[n]) for n in uneven])
        reasons.append(
            f"expected slices every {median:g} mm, got {len(uneven)} other distances "
            f"({shown} mm, after {starts} mm along the normal): slices are missing or irregular"
        )
    return reasons


def _drift_reasons(
    positions: NDArray[np.float64], along: NDArray[np.float64], normal: NDArray[np.float64]
) -> list[str]:
    """Refuse slices that shift sideways from one to the next (gantry tilt shears the volume)."""
    sideways = positions - along[:, None] * normal
    drift = float(np.linalg.norm(sideways - sideways[0], axis=1).max())
    if drift <= max(_ROUNDING_MM, ANGLE_TOLERANCE * float(along[-1] - along[0])):
        return []
    return [f"slices shift sideways by up to {drift:.2f} mm: the gantry was tilted"]


def _bit_reasons(headers: list[SliceHeader]) -> list[str]:
    """Refuse pixels that do not fill the low bits of their 16."""
    odd = []
    for header in headers:
        stored, high = header.dataset.get("BitsStored"), header.dataset.get("HighBit")
        if stored is not None and not (
            1 <= int(stored) <= 16 and (high is None or int(high) == int(stored) - 1)
        ):
            odd.append(header.path.name)
    return [f"{_named(odd)}: BitsStored and HighBit do not agree"] if odd else []


def _unexpected(headers: list[SliceHeader], name: str, value: Any, default: Any) -> list[str]:  # noqa: ANN401  # DICOM values
    reasons = []
    seen = {_plain(header.dataset.get(name, default)) for header in headers}
    for other in sorted(seen - {_plain(value)}):
        files = [h.path.name for h in headers if _plain(h.dataset.get(name, default)) == other]
        reasons.append(f"{_named(files)}: expected {name} {value}, got {other}")
    return reasons


def _plain(value: Any) -> str:  # noqa: ANN401  # DICOM values
    return "nothing" if value in (None, "") else str(value)


def _uid(header: SliceHeader) -> Any:  # noqa: ANN401  # DICOM values
    return header.dataset.get("SOPInstanceUID")


def _named(files: list[str]) -> str:
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return ", ".join(files[:_SHOWN]) + more


def _listed(numbers: Iterable[float]) -> str:
    values = [f"{number:g}" for number in numbers]
    return ", ".join(values[:_SHOWN]) + (" ..." if len(values) > _SHOWN else "")
