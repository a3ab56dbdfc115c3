"""Writing of the tables of an INDEX, public and private ones, from the work store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from medkd.archive.assess import FACTS_JSON
from medkd.archive.join import Joined, Joiner
from medkd.archive.names import CaseName, CaseNamer
from medkd.archive.notices import STAND_INS
from medkd.archive.settings import IndexSettings, paths_of
from medkd.archive.suspects import Suspects
from medkd.archive.work_store import KnownFile, WorkStore
from medkd.index.case import Case
from medkd.index.case_store import CaseFiles, CaseForm, write_case_store
from medkd.index.pseudonyms import LinkTable, Pseudonyms, days_since_first, private_folder_of
from medkd.index.table import (
    ArchiveIndex,
    FileFate,
    IndexedFile,
    UnmatchedRow,
    write_cells,
    write_index,
)
from medkd.io.file_ref import FileRef
from medkd.io.reference import SeriesPlaces
from medkd.io.reference.regions import Region
from medkd.io.remedies import codes_in
from medkd.io.synthetic_mark import RECORDS, listed_series, read_stamp, unknown_stamp

_FATES: dict[str, FileFate] = {
    "series": "case", "image": "case", "volume": "case", "sr": "annotation", "seg": "annotation",
    "rtstruct": "annotation", "table": "table", "container": "container", "other": "other",
    "unreadable": "unreadable",
}  # fmt: skip
OBJECT_FORMS = ("sr", "seg", "rtstruct")


@dataclass(slots=True)
class Gathered:
    """All cases of an archive before annotations are joined.

    `names` is keyed by the group of the work store, `cases` and `forms` by case id, and `places` by
    the real SeriesInstanceUID (or file name). `places` is needed only to join annotations. `masks`
    has the segmented nodule of each patch that is analysed, by case id.
    """

    names: dict[str, CaseName] = field(default_factory=dict)
    cases: dict[str, Case] = field(default_factory=dict)
    forms: dict[str, CaseForm] = field(default_factory=dict)
    places: dict[str, SeriesPlaces] = field(default_factory=dict)
    masks: dict[str, Region] = field(default_factory=dict)


class TableWriter:
    """Writes the tables of one INDEX.

    Args:
        store: has every file classified and every group assessed.
        out: index.csv.
        ref_of: returns the reference of a file.
        settings: how the archive is indexed.
        pseudonyms: turns identifiers into names.
    """

    def __init__(
        self,
        store: WorkStore,
        out: Path,
        *,
        ref_of: Callable[[KnownFile], FileRef],
        settings: IndexSettings,
        pseudonyms: Pseudonyms,
    ) -> None:
        self._store = store
        self._out = out
        self._ref_of = ref_of
        self._settings = settings
        self._namer = CaseNamer(store, settings, pseudonyms=pseudonyms)
        self._private = settings.identity == "pseudonymise"

    def write(self) -> ArchiveIndex:
        """Name the cases, join the annotations and write everything, the record last.

        Raises:
            SeriesError: if a source of annotations cannot be used.
        """
        gathered = self._gather()
        joined = self._join(gathered)
        cases = self._completed(gathered, joined)
        index = ArchiveIndex(
            cases=tuple(cases.values()),
            nodules=tuple(joined.nodules),
            labels=tuple(joined.labels),
            identity=self._settings.identity,
            notes=tuple(self._notes(gathered, joined)),
            marks=tuple(joined.marks),
            readings=tuple(joined.readings),
        )
        self._write_private(gathered, cases, joined)
        return write_index(
            self._out,
            index,
            files=self._files(gathered, cases),
            unmatched=[self._public(row.source, row.row, row.reason, row.key)
                       for row in joined.unmatched],
            settings=self._recorded_settings(),
        )  # fmt: skip

    def _gather(self) -> Gathered:
        gathered = Gathered()
        sets = self._synthetic_sets()
        suspects = Suspects(self._store, self._ref_of)
        for key, text in self._store.facts():
            facts = FACTS_JSON.validate_json(text)
            reasons = (*facts.case.reasons, *suspects.reasons(key))
            name = self._namer.name(key)
            case = self._case(replace(facts.case, reasons=reasons), name)
            if inside := sets.keys() & set(PurePosixPath(name.place).parents):
                stamp, listed = sets[max(inside)]
                # Real scans may be there too; an unreadable case is not known to be real.
                if not listed or name.real in listed or reasons:
                    case = replace(case, synthetic=True, generator=case.generator or stamp)
            gathered.names[key] = name
            gathered.cases[name.case_id] = case
            gathered.forms[name.case_id] = facts.form
            if case.status != "ready":
                continue
            if facts.mask:
                gathered.masks[name.case_id] = facts.mask
            if facts.places and self._settings.annotations:
                places = facts.places.as_series(name.real, patch_of=name.patch_of)
                gathered.places[name.real] = places
        return gathered

    def _synthetic_sets(self) -> dict[PurePosixPath, tuple[str, frozenset[str]]]:
        """Return the stamp of the generator and the series of each folder of synthetic scans."""
        found = {}
        for name, generator in RECORDS.items():
            for file in self._store.tables_named(name):
                record = self._ref_of(file).path
                hidden = bool(file.member)
                stamp = unknown_stamp(generator) if hidden else read_stamp(record)
                listed = frozenset() if hidden else listed_series(record)
                found[PurePosixPath(file.place).parent] = (stamp, listed)
        return found

    def _case(self, case: Case, name: CaseName) -> Case:
        def redact(text: str) -> str:
            return self._namer.redact(text, name)

        return replace(
            case,
            case_id=name.case_id,
            patient_id=name.patient_id,
            status="not_analysed" if case.reasons else "ready",
            reasons=tuple(map(redact, case.reasons)),
            allowed=tuple(map(redact, case.allowed)),
            notes=tuple(map(redact, case.notes)),
            site=name.site,
            origin=name.origin,
            modality=redact(case.modality),
            view=redact(case.view),
            manufacturer=redact(case.manufacturer),
            kernel=redact(case.kernel),
        )

    def _join(self, gathered: Gathered) -> Joined:
        if not self._settings.annotations and not gathered.masks:
            return Joined()
        refs: dict[str, list[FileRef]] = {
            form: [self._ref_of(file) for file in self._store.files(form)] for form in OBJECT_FORMS
        }
        files = {
            file.place: gathered.names[file.key].case_id
            for form in ("image", "volume")
            for file in self._store.files(form)
        }
        names = list(gathered.names.values())
        joiner = Joiner(
            names, gathered.cases, places=gathered.places, files=files, masks=gathered.masks
        )
        return joiner.join(self._settings, refs, self._namer)

    def _completed(self, gathered: Gathered, joined: Joined) -> dict[str, Case]:
        """Add the patient and view from tables, and the day of the study, to each case."""
        cases = {}
        by_real = {name.real: name for name in gathered.names.values()}
        for name in gathered.names.values():
            case = gathered.cases[name.case_id]
            whole = by_real.get(name.patch_of)
            patient = self._patient_of(name, whole, joined)
            view = case.view or joined.views.get(name.case_id, "")
            known = whole is not None or name.case_id in joined.patients
            stand_in = [] if known else [STAND_INS.get(name.patient_from, "")]
            notes = (*case.notes, *filter(None, stand_in))
            cases[name.case_id] = replace(case, patient_id=patient, view=view, notes=notes)
        dates: dict[str, list[CaseName]] = defaultdict(list)
        for name in gathered.names.values():
            if name.study_date:
                dates[cases[name.case_id].patient_id].append(name)
        for names in dates.values():
            days = days_since_first([name.study_date for name in names])
            for name, day in zip(names, days, strict=True):
                cases[name.case_id] = replace(cases[name.case_id], day=day)
        return cases

    def _patient_of(self, name: CaseName, whole: CaseName | None, joined: Joined) -> str:
        """Return the patient of a case.

        A table overrides a study or series that is used as the patient, but not a PatientID. The
        patient of a patch is that of the whole scan, if the archive has it.
        """
        if name.patient_from == "header":
            return name.patient_id
        if of_table := joined.patients.get(name.case_id):
            return of_table
        if whole is not None:
            return self._patient_of(whole, None, joined)
        return name.patient_id or self._own_patient(name)

    def _own_patient(self, name: CaseName) -> str:
        """Return a separate patient for a case that names no patient."""
        return f"p{name.case_id[1:]}" if self._private else name.case_id

    def _notes(self, gathered: Gathered, joined: Joined) -> Iterator[str]:
        nameless = sum(
            not name.patient_id and name.case_id not in joined.patients
            for name in gathered.names.values()
        )
        if nameless:
            effect = "each counts as one, so their leaks cannot be detected"
            yield f"cases that name no patient: {nameless}; {effect}"
        kinds = {source.kind for source in self._settings.annotations}
        for form in OBJECT_FORMS:
            count = sum(1 for _ in self._store.files(form))
            if count and form not in kinds:
                what = f"{count} {form.upper()} objects"
                yield f"{what} are not read; --annotations {form} reads them"
        yield from joined.notes

    def _files(self, gathered: Gathered, cases: Mapping[str, Case]) -> Iterator[IndexedFile]:
        sources = {p.resolve() for s in self._settings.annotations for p in paths_of(s)}
        for file in self._store.files():
            ref = self._ref_of(file)
            if not file.key:
                used = file.form == "table" and ref.path in sources
                reason = "a table: read as a source of annotations" if used else file.reason
                yield IndexedFile(ref.name, _FATES[file.form], reason=reason)
                continue
            case = cases[gathered.names[file.key].case_id]
            refused = f"not_analysed: {', '.join(codes_in(case.reasons))}" if case.reasons else ""
            yield IndexedFile(ref.name, "case", case.case_id, refused)

    def _public(self, source: str, row: str, reason: str, key: str) -> UnmatchedRow:
        shown = row if self._private or not key else f"{row}: {key}"
        return UnmatchedRow(source, shown, reason)

    def _write_private(self, gathered: Gathered, cases: Mapping[str, Case], joined: Joined) -> None:
        stored = (
            (
                cases[name.case_id],
                CaseFiles(
                    gathered.forms[name.case_id],
                    tuple(self._ref_of(file) for file in self._store.files_of(key)),
                ),
            )
            for key, name in gathered.names.items()
        )
        kept = self._settings.model_dump_json(include={"gate", "allow_images"})
        write_case_store(self._out, stored, settings=kept)
        if not self._private:
            return
        folder = private_folder_of(self._out)
        links = LinkTable(folder)
        links.record(dict.fromkeys(self._namer.links))
        links.record((f"f{file.number:06d}", "file", file.place)
                         for file in self._store.files())  # fmt: skip
        rows = ((row.source, row.row, row.key) for row in joined.unmatched)
        place = folder / "unmatched.csv"
        place.touch(mode=0o600)
        write_cells(place, ("source", "row", "key"), rows)

    def _recorded_settings(self) -> dict[str, object]:
        if not self._private:
            return self._settings.model_dump(mode="json")
        kept = self._settings.model_dump(mode="json", exclude={"annotations", "workers"})
        counted = Counter(source.kind for source in self._settings.annotations)
        return {**kept, "annotations": dict(counted)}
