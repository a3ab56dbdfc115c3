"""Identifiers that reading does not need, and what is lost where they are missing or invalid.

Half of the samples of a public chest CT set have an empty SOPInstanceUID and a SeriesInstanceUID
with letters. Voxels and places do not depend on them: such a series is read, with a note. What
refers to images (`derive.py`) asks `missing_references` and refuses.
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
    """Say which identifiers are missing or are no valid UIDs (PS3.5 9.1), without their values."""
    notes = []
    for name in (*_UIDS, "PatientID"):
        missing = [h for h in headers if not h.text(name)]
        if missing:
            notes.append(f"{_which(missing, headers)}: no {name}")
        invalid = [] if name == "PatientID" else _invalid(headers, name)
        if invalid:
            notes.append(f"{_which(invalid, headers)}: {name} is no valid UID")
    studies = {header.text("StudyInstanceUID") for header in headers} - {""}
    if len(studies) > 1:
        notes.append(f"{len(studies)} values of StudyInstanceUID in one series")
    return notes


def missing_references(headers: Sequence[SliceHeader]) -> list[str]:
    """Say which identifiers are missing that a copy of these slices would be derived from.

    A copy names its originals by their SOPInstanceUID, which must be valid for that; its own study
    and series are hashes of the original's, whatever these look like.
    """
    lacking = {
        name: [h for h in headers if not h.text(name)]
        for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    }
    lacking["SOPInstanceUID"] += _invalid(headers, "SOPInstanceUID")
    return [
        f"{_which(odd, headers)}: expected a valid {name}, by which a copy names its original, got "
        "none: add it with a DICOM tool"
        for name, odd in lacking.items()
        if odd
    ]


def _invalid(headers: Sequence[SliceHeader], name: str) -> list[SliceHeader]:
    return [h for h in headers if h.text(name) and not uid_of(h.text(name)).is_valid]


def _which(some: Sequence[SliceHeader], every: Sequence[SliceHeader]) -> str:
    return "all slices" if len(some) == len(every) else named(some)
