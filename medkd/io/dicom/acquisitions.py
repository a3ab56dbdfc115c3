"""Whether the slices of a series come from one acquisition and one reconstruction.

Archives hold two under one SeriesInstanceUID: halves of a volume with another kernel, tube voltage
or contrast phase, or slices of both in turn. They can fit together without a gap, and neither
noise nor densities of such a volume are those of one scan. Exposure, tube current and times differ
between the slices of a good scan and say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from medkd.io.dicom.codes import Fault, named

if TYPE_CHECKING:
    from medkd.io.dicom.header import SliceHeader

Values = Sequence[str]

_BLOCK_SHARE = 0.2
"""A value that a block of at least this share of the slices lacks, or alone has, divides them."""

_MOST_GROUPS = 4
"""More groups of neighbouring slices with a number each are the steps of one scan."""


@dataclass(frozen=True, slots=True)
class _Divider:
    """An attribute that is one value in a good scan.

    Args:
        name: its keyword.
        read: its value as text, empty where there is none.
        shown: whether reasons may show its values: free text and times stay unsaid.
        absence_counts: whether slices without it differ from those with it.
        divides: whether values, in the order of the slices, are those of several acquisitions.
    """

    name: str
    read: Callable[[SliceHeader, str], str]
    shown: bool = True
    absence_counts: bool = False
    divides: Callable[[Values], bool] = lambda values: len(set(values)) > 1


def acquisition_faults(ordered: Sequence[SliceHeader]) -> list[Fault]:
    """Say which attributes divide slices into acquisitions, and name the groups.

    Args:
        ordered: headers of slices with places, in order along their normal.
    """
    faults = []
    for divider in _DIVIDERS:
        values = [divider.read(header, divider.name) for header in ordered]
        known = values if divider.absence_counts else [value for value in values if value]
        absent_block = not divider.absence_counts and _is_block(values)
        if divider.divides(known) or absent_block:
            text = f"expected one {divider.name}, got {_groups(ordered, values, divider)}"
            faults.append(Fault("mixed_acquisition", text))
    return faults


def acquisition_notes(ordered: Sequence[SliceHeader]) -> list[str]:
    """Say which of these attributes only some slices state, and which number the steps of a scan.

    Args:
        ordered: headers of slices in order along their normal.
    """
    notes = []
    for divider in _DIVIDERS:
        values = [divider.read(header, divider.name) for header in ordered]
        without = [h for h, value in zip(ordered, values, strict=True) if not value]
        if divider.absence_counts or _is_block(values):
            continue
        if 0 < len(without) < len(ordered):
            notes.append(f"{named(without)}: no {divider.name}, which the other slices state")
        count = len(set(values) - {""})
        if divider.divides is _are_acquisitions and 1 < count < len(ordered):
            notes.append(f"{count} values of {divider.name}, as of the steps of one scan")
    thicknesses = {header.number("SliceThickness") for header in ordered} - {None}
    if len(thicknesses) > 1:
        notes.append(f"{len(thicknesses)} values of SliceThickness differ between slices")
    return notes


def _text(header: SliceHeader, name: str) -> str:
    return " ".join(header.text(name).upper().split())


def _number(header: SliceHeader, name: str) -> str:
    number = header.number(name)
    return "" if number is None else f"{number:g}"


def _are_acquisitions(numbers: Values) -> bool:
    """Tell a few acquisitions from the steps of one: a number a slice, or many in a row."""
    count = len(set(numbers))
    blocks = sum(one != other for one, other in pairwise(numbers)) + 1
    is_stepped = count == len(numbers) or (blocks == count > _MOST_GROUPS)
    return count > 1 and not is_stepped


def _is_title(texts: Values) -> bool:
    """Tell a few series by their titles from a title that counts the slices."""
    return 1 < len(set(texts)) <= _MOST_GROUPS and _are_acquisitions(texts)


def _is_block(values: Values) -> bool:
    """Say whether slices with a value and slices without one lie apart, neither of them few."""
    stated = [bool(value) for value in values]
    changes = sum(one != other for one, other in pairwise(stated))
    fewer = min(sum(stated), len(stated) - sum(stated))
    return 1 <= changes <= 2 and fewer > 1 and fewer >= _BLOCK_SHARE * len(stated)


def _groups(ordered: Sequence[SliceHeader], values: Values, divider: _Divider) -> str:
    """Word the groups: their value, how many slices, where they lie along the normal."""
    axes = np.reshape(ordered[0].numbers("ImageOrientationPatient"), (2, 3))
    normal = np.cross(*axes)
    groups: dict[str, list[SliceHeader]] = {}
    for header, value in zip(ordered, values, strict=True):
        groups.setdefault(value, []).append(header)
    told = []
    for number, (value, group) in enumerate(groups.items()):
        shown = group[0].text(divider.name) if divider.shown else f"value {number + 1}"
        places_mm = [float(normal @ h.numbers("ImagePositionPatient")) for h in group]
        told.append(
            f"{shown if value else 'none'} in {len(group)} slices "
            f"({min(places_mm):.6g} to {max(places_mm):.6g} mm along the normal)"
        )
    more = f" and {len(told) - _MOST_GROUPS} more groups" if len(told) > _MOST_GROUPS else ""
    return "; ".join(told[:_MOST_GROUPS]) + more


_DIVIDERS = (
    _Divider("ConvolutionKernel", _text),
    _Divider("KVP", _number),
    _Divider("AcquisitionNumber", _number, divides=_are_acquisitions),
    _Divider("FrameAcquisitionNumber", _number, divides=_are_acquisitions),
    _Divider("ContrastBolusAgent", _text, shown=False, absence_counts=True),
    _Divider("ContrastBolusAgentPhase", _text, absence_counts=True),
    _Divider("ContrastBolusStartTime", _text, shown=False, absence_counts=True),
    _Divider("ContrastBolusAgentSequence", _text, shown=False, absence_counts=True),
    _Divider("ContrastBolusAgentAdministered", _text, absence_counts=True),
    _Divider("ContrastBolusVolume", _number, absence_counts=True),
    _Divider("ContrastBolusRoute", _text, shown=False, absence_counts=True),
    _Divider("SeriesDescription", _text, shown=False, divides=_is_title),
)
