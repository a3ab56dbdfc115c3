"""The common result of all annotation readers, including rows that match no case.

UIDs are real and keys are as written in the source: `medkd index` replaces them by pseudonyms.
`reason`, `row` and `source` of an unmatched row contain no patient name, UID or free text; its
`key` may contain them and must not leave the hospital.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from medkd.io.reference.places import ArchiveLookup, KeyKind, SeriesPlaces
from medkd.types import Nodule, ReviewedImage, ReviewedMark

LabelValue = Literal[0, 1] | None
"""1 present, 0 absent, None unknown; unknown is not absent."""


@dataclass(frozen=True, slots=True)
class FoundLabel:
    """A label of a whole case."""

    key: str
    name: str
    value: LabelValue
    patient_id: str | None = None
    view: str | None = None
    key_is: KeyKind = "file"


@dataclass(frozen=True, slots=True)
class FoundPatient:
    """The patient of a series (and of the patches that were cut from it), a file or an image."""

    key: str
    patient_id: str
    key_is: KeyKind = "seriesuid"


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A row or item that matches no case: its position in the source, and the reason.

    `key` is the real UID or name in the source and must not leave the hospital.
    """

    source: str
    row: str
    reason: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class ReferenceRows:
    """All annotations of one source; each nodule and mark lies inside the volume of its series.

    `marks` and `readings` are decisions of readers; what follows from them is among `nodules` and
    `labels` too.
    """

    nodules: tuple[Nodule, ...] = ()
    labels: tuple[FoundLabel, ...] = ()
    unmatched: tuple[Unmatched, ...] = ()
    notes: tuple[str, ...] = ()
    patients: tuple[FoundPatient, ...] = ()
    marks: tuple[ReviewedMark, ...] = ()
    readings: tuple[ReviewedImage, ...] = ()


def joined(parts: Iterable[ReferenceRows]) -> ReferenceRows:
    """Join the annotations of several files; duplicate notes are removed."""
    all_parts = list(parts)
    return ReferenceRows(
        nodules=tuple(nodule for part in all_parts for nodule in part.nodules),
        labels=tuple(label for part in all_parts for label in part.labels),
        unmatched=tuple(row for part in all_parts for row in part.unmatched),
        notes=tuple(dict.fromkeys(note for part in all_parts for note in part.notes)),
        patients=tuple(patient for part in all_parts for patient in part.patients),
        marks=tuple(mark for part in all_parts for mark in part.marks),
        readings=tuple(reading for part in all_parts for reading in part.readings),
    )


class RowCollector:
    """Collects nodules inside their volume, labels, and unmatched rows with their reasons.

    Args:
        source: name of the source in messages: its kind, or a file's label.
        archive: series and cases that can be annotated.
    """

    def __init__(self, source: str, archive: ArchiveLookup) -> None:
        self.source = source
        self.archive = archive
        self._nodules: list[Nodule] = []
        self._marks: list[ReviewedMark] = []
        self._readings: list[ReviewedImage] = []
        self._labels: list[FoundLabel] = []
        self._unmatched: list[Unmatched] = []
        self._notes: list[str] = []

    def add(self, nodule: Nodule, row: str) -> None:
        """Add a nodule; it is unmatched if its series is unknown or it is outside the volume.

        If the archive has patches of the series, it is added to each patch that contains it.
        """
        self._nodules += self._placed(nodule, row)

    def add_mark(self, mark: ReviewedMark, row: str) -> None:
        """Add a mark of readers, and its nodule unless it was rejected; see `add`."""
        readers = len(mark.readers) or None
        nodule = Nodule(mark.seriesuid, mark.center_mm, mark.diameter_mm, "included", readers)
        placed = self._placed(nodule, row)
        self._marks += [replace(mark, seriesuid=one.seriesuid) for one in placed]
        if mark.verdict != "rejected":
            self._nodules += placed

    def add_reading(self, reading: ReviewedImage, row: str) -> None:
        """Add a decision of readers on a whole image, and the labels that follow from it."""
        if self.accepts(reading.case_id, row, "seriesuid"):
            self._readings.append(reading)
            self.add_labels(reading.case_id, reading.labels, key_is="seriesuid")

    def _placed(self, nodule: Nodule, row: str) -> list[Nodule]:
        """Return a finding in every volume that contains it; none: it is unmatched."""
        series = self.archive.series(nodule.seriesuid)
        if patches := self.archive.patches_of(nodule.seriesuid):
            return self._in_patches(nodule, row, [*patches, *([series] if series else [])])
        if series is None:
            self.refuse(row, "no series of the archive has this UID", nodule.seriesuid)
        elif not series.grid.contains_world(nodule.center_mm):
            i, j, k = series.grid.world_to_voxel(nodule.center_mm).round(1).tolist()
            reason = f"outside the volume: voxel ({i:g}, {j:g}, {k:g}) of {series.grid.shape}"
            self.refuse(row, reason, nodule.seriesuid)
        else:
            return [nodule]
        return []

    def _in_patches(
        self, nodule: Nodule, row: str, volumes: Sequence[SeriesPlaces]
    ) -> list[Nodule]:
        inside = [v for v in volumes if v.grid.contains_world(nodule.center_mm)]
        if not inside:
            reason = f"outside all {len(volumes)} patches of its series"
            self.refuse(row, reason, nodule.seriesuid)
        return [replace(nodule, seriesuid=volume.seriesuid) for volume in inside]

    def accepts(self, key: str, row: str, key_is: KeyKind = "file") -> bool:
        """Return whether the archive has the case of a label; if not, the row is unmatched."""
        if not key:
            self.refuse(row, "it names no case")
        elif not self.archive.has_case(key, key_is):
            self.refuse(row, "no case of the archive has this key", key)
        else:
            return True
        return False

    def add_labels(
        self,
        key: str,
        values: Mapping[str, LabelValue],
        *,
        patient_id: str = "",
        view: str = "",
        key_is: KeyKind = "file",
    ) -> None:
        """Add the labels of a case, by name; patient and view are empty if not stated."""
        self._labels += [
            FoundLabel(key, name, value, patient_id or None, view or None, key_is)
            for name, value in values.items()
        ]

    def refuse(self, row: str, reason: str, key: str = "") -> None:
        """Add an unmatched row."""
        self._unmatched.append(Unmatched(self.source, row, reason, key))

    def note(self, text: str) -> None:
        """Add a note on how the source was read."""
        self._notes.append(text)

    def collected(self) -> ReferenceRows:
        """Return everything added so far."""
        notes = tuple(dict.fromkeys(self._notes))
        return ReferenceRows(
            tuple(self._nodules),
            tuple(self._labels),
            tuple(self._unmatched),
            notes,
            marks=tuple(self._marks),
            readings=tuple(self._readings),
        )
