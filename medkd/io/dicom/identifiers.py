"""Checks of UIDs and PatientID, which reading does not need.

Half of the samples of a public chest CT set have an empty SOPInstanceUID and a SeriesInstanceUID
with letters. Voxels and positions do not depend on them, so the series is read with a note. Code
that refers to single images (`derive.py`) calls `missing_references` and refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medkd.io.dicom.codes import named
from medkd.io.dicom.tags import uid_of

if TYPE_CHECKING:
    from medkd.io.dicom.header import SliceHeader

_UIDS = ("SeriesInstanceUID", "SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")


def identifier_notes(headers: Sequence[SliceHeader]) -> list[str]:
    """Return notes on identifiers that are missing or invalid UIDs (PS3.5 9.1).

    The notes do not show the identifiers.
    """
    notes = []
    for name in (*_UIDS, "PatientID"):
        missing = [h for h in headers if not h.text(name)]
        if missing:
            notes.append(f"{_which(missing, headers)}: no {name}")
        invalid = [] if name == "PatientID" else _invalid(headers, name)
        if invalid:
            notes.append(f"{_which(invalid, headers)}: {name} is not a valid UID")
    studies = {header.text("StudyInstanceUID") for header in headers} - {""}
    if len(studies) > 1:
        notes.append(f"{len(studies)} values of StudyInstanceUID in one series")
    return notes


def missing_references(headers: Sequence[SliceHeader]) -> list[str]:
    """Return the reasons why no derived copy can refer to these slices; empty if it can.

    A copy refers to its originals by their SOPInstanceUID, which must be a valid UID. Its study and
    series UIDs are hashes of the original's, which must exist but may be invalid.
    """
    lacking = {
        name: [h for h in headers if not h.text(name)]
        for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    }
    lacking["SOPInstanceUID"] += _invalid(headers, "SOPInstanceUID")
    return [
        f"{_which(odd, headers)}: expected a valid {name}, which a copy needs to refer to its "
        "original, got none: add it with a DICOM tool"
        for name, odd in lacking.items()
        if odd
    ]


def _invalid(headers: Sequence[SliceHeader], name: str) -> list[SliceHeader]:
    return [h for h in headers if h.text(name) and not uid_of(h.text(name)).is_valid]


def _which(some: Sequence[SliceHeader], every: Sequence[SliceHeader]) -> str:
    return "all slices" if len(some) == len(every) else named(some)
