"""Check that the slices of a series come from one acquisition and one reconstruction.

In some archives, one SeriesInstanceUID holds two of them: two halves of a volume with different
kernels, tube voltages or contrast phases, or alternating slices of both. They can fit together
without a gap, but noise and densities of the volume are then inconsistent. Exposure, tube current
and times vary within a valid scan and are not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from medkd.io.dicom.codes import Fault, join_names

if TYPE_CHECKING:
    from medkd.io.dicom.header import SliceHeader

Values = Sequence[str]

_BLOCK_SHARE = 0.2
"""Smallest share of the slices, with or without a value, that counts as a separate block."""

_MAX_GROUPS = 4
"""More groups of neighbouring slices, each with its own number, are the steps of one scan."""


@dataclass(frozen=True, slots=True)
class _Attribute:
    """An attribute that has a single value in a valid scan.

    Args:
        name: its keyword.
        shown: whether reasons may show its values; free text and times are not shown.
        absence_counts: whether a missing value counts as a different value.
        is_mixed: returns whether the values, in slice order, belong to several acquisitions.
    """

    name: str
    shown: bool = True
    absence_counts: bool = False
    is_mixed: Callable[[Values], bool] = lambda values: len(set(values)) > 1


def acquisition_faults(ordered: Sequence[SliceHeader]) -> list[Fault]:
    """Return a fault for each attribute whose values show several acquisitions.

    Args:
        ordered: headers of slices with positions, in order along their normal.
    """
    faults = []
    for attribute in _ATTRIBUTES:
        values = [_value(header, attribute.name) for header in ordered]
        known = values if attribute.absence_counts else [value for value in values if value]
        absent_block = not attribute.absence_counts and _is_block(values)
        if attribute.is_mixed(known) or absent_block:
            text = f"expected one {attribute.name}, got {_groups(ordered, values, attribute)}"
            faults.append(Fault("mixed_acquisition", text))
    return faults


def acquisition_notes(ordered: Sequence[SliceHeader]) -> list[str]:
    """Return notes on attributes that some slices lack or that number the steps of a scan.

    Args:
        ordered: headers of slices in order along their normal.
    """
    notes = []
    for attribute in _ATTRIBUTES:
        values = [_value(header, attribute.name) for header in ordered]
        without = [h for h, value in zip(ordered, values, strict=True) if not value]
        if attribute.absence_counts or _is_block(values):
            continue
        if 0 < len(without) < len(ordered):
            notes.append(
                f"{join_names(without)}: no {attribute.name}, which the other slices state"
            )
        count = len(set(values) - {""})
        if attribute.is_mixed is _are_acquisitions and 1 < count < len(ordered):
            notes.append(f"{count} values of {attribute.name}, which number the steps of one scan")
    thicknesses = {header.number("SliceThickness") for header in ordered} - {None}
    if len(thicknesses) > 1:
        notes.append(f"{len(thicknesses)} values of SliceThickness differ between slices")
    return notes


def _value(header: SliceHeader, name: str) -> str:
    """Return a text without differences in case and spaces, or the first number; else empty."""
    values = header.values.get(name, ())
    if values and isinstance(values[0], float):
        return f"{values[0]:g}"
    return " ".join(header.text(name).upper().split())


def _are_acquisitions(numbers: Values) -> bool:
    """Return whether acquisition numbers belong to several acquisitions.

    They number the steps of one acquisition if every slice has its own number, or if there are
    more than `_MAX_GROUPS` and each occurs in one run of neighbouring slices.
    """
    count = len(set(numbers))
    blocks = sum(one != other for one, other in pairwise(numbers)) + 1
    return 1 < count < len(numbers) and not blocks == count > _MAX_GROUPS


def _are_series_titles(texts: Values) -> bool:
    """Return whether titles belong to a few series, and do not merely count the slices."""
    return len(set(texts)) <= _MAX_GROUPS and _are_acquisitions(texts)


def _is_block(values: Values) -> bool:
    """Return whether a block of slices has, or lacks, the value, and neither group is small."""
    stated = [bool(value) for value in values]
    changes = sum(one != other for one, other in pairwise(stated))
    smaller = min(sum(stated), len(stated) - sum(stated))
    return 1 <= changes <= 2 and smaller > 1 and smaller >= _BLOCK_SHARE * len(stated)


def _groups(ordered: Sequence[SliceHeader], values: Values, attribute: _Attribute) -> str:
    """Describe the groups: value, number of slices, and range along the normal."""
    normal = np.cross(*np.reshape(ordered[0].numbers("ImageOrientationPatient"), (2, 3)))
    groups: dict[str, list[SliceHeader]] = {}
    for header, value in zip(ordered, values, strict=True):
        groups.setdefault(value, []).append(header)
    described = []
    for number, (value, group) in enumerate(groups.items()):
        shown = group[0].text(attribute.name) if attribute.shown else f"value {number + 1}"
        positions_mm = [float(normal @ h.numbers("ImagePositionPatient")) for h in group]
        described.append(
            f"{shown if value else 'none'} in {len(group)} slices "
            f"({min(positions_mm):.6g} to {max(positions_mm):.6g} mm along the normal)"
        )
    beyond = len(described) - _MAX_GROUPS
    more = f" and {beyond} more groups" if beyond > 0 else ""
    return "; ".join(described[:_MAX_GROUPS]) + more


_ATTRIBUTES = (
    _Attribute("ConvolutionKernel"),
    _Attribute("KVP"),
    _Attribute("AcquisitionNumber", is_mixed=_are_acquisitions),
    _Attribute("FrameAcquisitionNumber", is_mixed=_are_acquisitions),
    _Attribute("ContrastBolusAgent", shown=False, absence_counts=True),
    _Attribute("ContrastBolusAgentPhase", absence_counts=True),
    _Attribute("ContrastBolusStartTime", shown=False, absence_counts=True),
    _Attribute("ContrastBolusAgentSequence", shown=False, absence_counts=True),
    _Attribute("ContrastBolusAgentAdministered", absence_counts=True),
    _Attribute("ContrastBolusVolume", absence_counts=True),
    _Attribute("ContrastBolusRoute", shown=False, absence_counts=True),
    _Attribute("SeriesDescription", shown=False, is_mixed=_are_series_titles),
)
