"""The content of a volume file's header, and the common rules of MHD, NRRD and NIfTI.

Missing geometry is a fault with its own code. Only if `allow` names that code, a default is used,
which the scan's notes report. A length in another unit than mm is also a fault; if it is allowed,
the length is converted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkd.geometry import VoxelGrid
from medkd.io.dicom.codes import Fault
from medkd.io.voxel_data import VoxelData

Float64 = NDArray[np.float64]

DIRECTION_TOLERANCE = 1e-3
"""Largest deviation of direction cosines from orthonormal: rounding of a header, not a shear."""

SPACING_LIMITS_MM, FARTHEST_MM = (1e-4, 1e4), 1e6
"""Limits of spacings and origins, far outside those of any scanner; beyond, a header is damaged."""

MM_PER_UNIT = {
    "mm": 1.0, "millimeter": 1.0, "millimetre": 1.0, "cm": 10.0, "centimeter": 10.0,
    "centimetre": 10.0, "m": 1000.0, "meter": 1000.0, "metre": 1000.0, "um": 1e-3, "μm": 1e-3,
    "µm": 1e-3, "micron": 1e-3, "micrometer": 1e-3, "micrometre": 1e-3, "nm": 1e-6,
    "nanometer": 1e-6, "nanometre": 1e-6,
}  # fmt: skip
"""Name of a unit of length in headers (lower case, singular) to its mm."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf)", re.ASCII | re.I)


@dataclass(frozen=True, slots=True, eq=False)
class VolumeHeader:
    """The content of a header, in LPS mm; None means that the header does not state a value.

    Args:
        sizes: voxels along (i, j, k), of any number of axes; empty if unknown.
        spacing_mm: distance between voxel centres along each axis.
        origin_mm: centre of voxel (0, 0, 0).
        direction: [3, 3]; column a is the direction of index axis a.
        data: place of the voxels; None if the header does not determine it.
        slope: HU are stored values * slope + intercept.
        intercept: see `slope`.
        faults: why the file cannot be read, or only with `allow`.
        notes: notes for the scan.
    """

    sizes: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] | None = None
    origin_mm: tuple[float, ...] | None = None
    direction: Float64 | None = None
    data: VoxelData | None = None
    slope: float = 1.0
    intercept: float = 0.0
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()

    def grid(self) -> VoxelGrid:
        """Return the grid, with defaults for geometry that the header does not state.

        Raises:
            ValueError: if `geometry_faults` returns a fault.
        """
        i, j, k = self.sizes
        return VoxelGrid.from_parts(
            (i, j, k),
            spacing_mm=(1.0, 1.0, 1.0) if self.spacing_mm is None else self.spacing_mm,
            origin_mm=(0.0, 0.0, 0.0) if self.origin_mm is None else self.origin_mm,
            direction=self.direction,
        )


def numbers_in(text: str) -> tuple[float, ...] | None:
    """Return the numbers of a text, separated by blanks; None if the text has anything else.

    Example:
        >>> numbers_in("0.7 -1e-3 2"), numbers_in("1_0 2"), numbers_in("0,7")
        ((0.7, -0.001, 2.0), None, None)
    """
    parts = text.split()
    return tuple(map(float, parts)) if all(map(_NUMBER.fullmatch, parts)) else None


def whole_numbers_in(text: str) -> tuple[int, ...] | None:
    """Return the non-negative integers of a text; None if the text has anything else."""
    parts = text.split()
    return tuple(map(int, parts)) if all(re.fullmatch(r"[0-9]{1,18}", p) for p in parts) else None


def mm_per_unit(unit: str) -> float | None:
    """Return the millimetres per unit of length; None if the unit is unknown.

    Example:
        >>> mm_per_unit("Millimeters"), mm_per_unit("cm"), mm_per_unit("voxels")
        (1.0, 10.0, None)
    """
    name = unit.strip().lower()
    return MM_PER_UNIT.get(name) or MM_PER_UNIT.get(name.removesuffix("s"))


def unit_fault(unit: str, *, where: str) -> tuple[float, list[Fault]]:
    """Return the millimetres per unit of length, and a fault unless the unit is mm.

    Args:
        unit: name of the unit in the header.
        where: the header's field, for the message.

    Returns:
        Millimetres per unit (1 if the unit is unknown), and the faults.
    """
    factor = mm_per_unit(unit)
    if factor == 1.0:
        return 1.0, []
    if factor is None:
        text = f"expected mm, got {where} {unit!r}, an unknown unit: correct the header"
        return 1.0, [Fault("bad_geometry", text)]
    text = (
        f"expected mm, got {where} {unit!r}: if the numbers are mm, correct the header; "
        f"if allowed, they are multiplied by {factor:g}"
    )
    return factor, [Fault("other_units", text)]


def no_spacing(what: str) -> Fault:
    """Return the fault of a header without spacing; `what` names the missing field."""
    text = f"the header states no spacing ({what}): add it; if allowed, 1 mm is assumed"
    return Fault("spacing_not_stated", text)


def no_placement(what: str) -> Fault:
    """Return the fault of a header without origin or directions; `what` names the missing field."""
    text = (
        f"the header states no orientation or origin of the volume ({what}), so left and right "
        "are unknown: add it; if allowed, LPS axes and the origin 0 0 0 are assumed where the "
        "header states none"
    )
    return Fault("placement_not_stated", text)


def not_numbers(what: str, text: str, count: int) -> Fault:
    """Return the fault of a geometry field whose value is not a list of plain numbers.

    Args:
        what: the header's field.
        text: its value.
        count: expected count of numbers.
    """
    detail = f"expected {count} plain numbers with decimal points in {what}, got {text[:60]!r}"
    return Fault("bad_geometry", f"{detail}: correct the header")


def geometry_faults(header: VolumeHeader) -> list[Fault]:
    """Return why the stated geometry is not a valid `VoxelGrid`; missing geometry is ignored."""
    if not header.sizes:
        return []
    if len(header.sizes) != 3:
        text = f"expected 3 dimensions, got {len(header.sizes)}: sizes {header.sizes}"
        return [Fault("pixel_format", text)]
    texts = []
    if header.spacing_mm is not None and not _three(header.spacing_mm, *SPACING_LIMITS_MM):
        low, high = SPACING_LIMITS_MM
        texts.append(
            f"expected three positive spacings of {low:g} to {high:g} mm, got {header.spacing_mm}"
        )
    if header.origin_mm is not None and not _three(header.origin_mm, -FARTHEST_MM, FARTHEST_MM):
        texts.append(
            f"expected an origin of three finite mm within {FARTHEST_MM:g}, got {header.origin_mm}"
        )
    if header.direction is not None:
        texts += _direction_texts(header.direction)
    return [Fault("bad_geometry", text) for text in texts]


def _three(values: tuple[float, ...], low: float, high: float) -> bool:
    return len(values) == 3 and all(low <= value <= high for value in values)


def _direction_texts(direction: Float64) -> list[str]:
    if direction.shape != (3, 3) or not np.isfinite(direction).all():
        return [f"expected nine finite direction cosines, got {direction.ravel().tolist()}"]
    if abs(np.linalg.det(direction)) < DIRECTION_TOLERANCE:
        return [f"the direction is degenerate (two axes coincide): {direction.tolist()}"]
    error = float(np.abs(direction.T @ direction - np.eye(3)).max())
    if error <= DIRECTION_TOLERANCE:
        return []
    return [
        f"the direction is sheared or not of unit length (off by {error:.2g}, at most "
        f"{DIRECTION_TOLERANCE:g} allowed): {direction.tolist()}"
    ]
