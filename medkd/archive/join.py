"""Joining of annotations to the cases of an archive, under the names of the INDEX."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from medkd.archive.masks import add_masks
from medkd.archive.merge import merge_nodules, reach_mm
from medkd.archive.names import CaseName, CaseNamer
from medkd.archive.settings import IndexSettings
from medkd.index.case import Case
from medkd.index.scan_states import EXCLUDED_ALONE
from medkd.index.table import CaseLabel
from medkd.io.file_ref import FileRef
from medkd.io.reference import (
    AnnotationSettings,
    FileNames,
    FoundLabel,
    FoundPatient,
    ReferenceRows,
    SeriesPlaces,
    Unmatched,
    read_reference_source,
)
from medkd.io.reference.luna16 import Luna16Annotations
from medkd.io.reference.regions import Region
from medkd.io.remedies import codes_in
from medkd.types import Nodule, ReviewedImage, ReviewedMark


@dataclass(slots=True)
class Joined:
    """The annotations of all sources, under the names of the INDEX.

    `patients` and `views` come from tables, for cases whose headers do not state them.
    `unmatched` keeps real keys, so it may only be written to the private folder.
    """

    nodules: list[Nodule] = field(default_factory=list)
    marks: list[ReviewedMark] = field(default_factory=list)
    readings: list[ReviewedImage] = field(default_factory=list)
    labels: dict[CaseLabel, None] = field(default_factory=dict)
    unmatched: list[Unmatched] = field(default_factory=list)
    patients: dict[str, str] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)


class Joiner:
    """Joins sources of annotations to cases.

    Args:
        names: the names of every case.
        cases: the same cases by case id.
        places: geometry of every scan that is analysed, by its real name.
        files: case id of each file, by its path below the root.
        masks: the segmented nodule of each patch that is analysed, by its case id.
    """

    def __init__(
        self,
        names: Sequence[CaseName],
        cases: Mapping[str, Case],
        *,
        places: Mapping[str, SeriesPlaces],
        files: Mapping[str, str],
        masks: Mapping[str, Region] | None = None,
    ) -> None:
        self._cases = cases
        self._places = places
        self._files = files
        self._file_names = FileNames(files)
        self._by_real = {name.real: name.case_id for name in names}
        self._real_names = {name.case_id: name.real for name in names}
        self._headed = {name.case_id for name in names if name.patient_from == "header"}
        self._masks = masks or {}
        self._patches: dict[str, list[str]] = defaultdict(list)
        for name in names:
            if name.patch_of:
                self._patches[name.patch_of].append(name.case_id)
        self._by_sop = {
            uid: self._by_real[real]
            for real, place in places.items()
            for uid in place.sop_uids
            if uid
        }

    def join(
        self, settings: IndexSettings, refs: Mapping[str, Sequence[FileRef]], namer: CaseNamer
    ) -> Joined:
        """Read every source and join its annotations to the cases.

        Args:
            settings: the sources.
            refs: annotation objects of the archive, by kind.
            namer: names patients that occur only in tables.

        Raises:
            SeriesError: if a source cannot be used.
        """
        joined = Joined()
        found: list[tuple[str, list[Nodule]]] = []
        for name, source in _named(settings.annotations):
            rows = read_reference_source(
                source, self._places, refs, has_case=self._has_case, real_names=self._real_names
            )
            self._add(joined, rows, source.kind, namer)
            found.append((name, [self._renamed(nodule) for nodule in rows.nodules]))
        masked = add_masks(found, self._masks)
        merged = merge_nodules(masked.found)
        joined.nodules += merged.nodules
        joined.notes |= dict.fromkeys((*masked.notes, *merged.notes))
        self._settle_reviews(joined)
        return joined

    def _settle_reviews(self, joined: Joined) -> None:
        """Let nodules of other sources count where readers contradict them, and note it."""
        nodules: dict[str, list[Nodule]] = defaultdict(list)
        for nodule in joined.nodules:
            if nodule.counts_as == "included":
                nodules[nodule.seriesuid].append(nodule)
        rejected = [mark for mark in joined.marks if mark.verdict == "rejected"]
        if denied := sum(_is_on(mark, nodules[mark.seriesuid]) for mark in rejected):
            joined.notes[f"reviews: {denied} rejected marks are on nodules, which count"] = None
        free = [label for label in joined.labels if label.source == "reviews"]
        if wrong := [label for label in free if nodules[label.case_id]]:
            for label in wrong:
                del joined.labels[label]
            note = (
                f"reviews: {len(wrong)} scans in which readers found no nodule have nodules of "
                "another source, which count"
            )
            joined.notes[note] = None

    def _renamed(self, nodule: Nodule) -> Nodule:
        return replace(nodule, seriesuid=self._by_real[nodule.seriesuid])

    def _add(self, joined: Joined, rows: ReferenceRows, source: str, namer: CaseNamer) -> None:
        for label in rows.labels:
            self._add_label(joined, label, source, namer)
        for patient in rows.patients:
            self._add_patient(joined, patient, source, namer)
        joined.marks += [
            replace(mark, seriesuid=self._by_real[mark.seriesuid]) for mark in rows.marks
        ]
        joined.readings += [
            replace(reading, case_id=self._by_real[reading.case_id]) for reading in rows.readings
        ]
        joined.unmatched += [self._explained(row) for row in rows.unmatched]
        joined.notes |= dict.fromkeys(f"{source}: {note}" for note in rows.notes)

    def _add_label(self, joined: Joined, label: FoundLabel, source: str, namer: CaseNamer) -> None:
        found = self._find(label.key, label.key_is)
        if len(found) != 1:
            what = f"{len(found)} files of the archive match" if found else "no case matches"
            reason = f"{what} its key"
            joined.unmatched.append(Unmatched(source, f"label {label.name}", reason, label.key))
            return
        case_id = found[0]
        joined.labels[CaseLabel(case_id, label.name, label.value, source)] = None
        if label.patient_id and case_id not in self._headed:
            joined.patients[case_id] = namer.patient(label.patient_id)
        if label.view and not self._cases[case_id].view:
            joined.views[case_id] = label.view

    def _add_patient(
        self, joined: Joined, found: FoundPatient, source: str, namer: CaseNamer
    ) -> None:
        """Name the patient of every case of a series; a patient in the header is kept."""
        cases = self._find(found.key, found.key_is)
        if found.key_is == "seriesuid":
            cases = (*cases, *self._patches.get(found.key, ()))
        if not cases:
            reason = "no case matches its key"
            joined.unmatched.append(Unmatched(source, "patient", reason, found.key))
        for case_id in cases:
            if case_id not in self._headed:
                joined.patients[case_id] = namer.patient(found.patient_id)

    def _has_case(self, key: str, key_is: str) -> bool:
        return bool(self._find(key, key_is))

    def _find(self, key: str, key_is: str) -> tuple[str, ...]:
        """Return the cases that a key may refer to."""
        if key_is == "file":
            return tuple(dict.fromkeys(self._files[f] for f in self._file_names.find(key)))
        found = self._by_real.get(key) or (self._by_sop.get(key) if key_is == "sop_uid" else None)
        return (found,) if found else ()

    def _explained(self, row: Unmatched) -> Unmatched:
        """Replace the reason of a row by the refusal of its series if the series was refused."""
        case_id = self._by_real.get(row.key, "")
        if not case_id or row.key in self._places:
            return row
        codes = ", ".join(codes_in(self._cases[case_id].reasons))
        return replace(row, reason=f"its series is not analysed: {codes}")


def _is_on(mark: ReviewedMark, nodules: Sequence[Nodule]) -> bool:
    """Return whether a mark is inside a nodule, or within 2 mm of the centre of a small one."""
    return any(
        math.dist(mark.center_mm, nodule.center_mm) <= reach_mm(nodule.diameter_mm)
        for nodule in nodules
    )


def _named(sources: Iterable[AnnotationSettings]) -> Iterator[tuple[str, AnnotationSettings]]:
    """Name each source by its kind; the second and later ones of a kind also get a number."""
    seen: Counter[str] = Counter()
    for source in sources:
        name = f"{source.kind} {EXCLUDED_ALONE}" if _has_no_nodules(source) else source.kind
        seen[name] += 1
        yield name + (f" {seen[name]}" if seen[name] > 1 else ""), source


def _has_no_nodules(source: AnnotationSettings) -> bool:
    if isinstance(source, Luna16Annotations):
        return source.annotations is None
    return getattr(source, "counts_as", "included") == "excluded"
