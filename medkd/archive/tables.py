"""Write the tables of an INDEX from the work store: public ones without identities, and private."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter

from medkd.archive.assess import CaseFacts
from medkd.archive.divisible import STUDY_PATIENT
from medkd.archive.join import Joined, Joiner, codes_of
from medkd.archive.names import CaseName, CaseNamer
from medkd.archive.settings import IndexSettings, paths_of
from medkd.archive.suspects import Suspects
from medkd.archive.work_store import KnownFile, WorkStore
from medkd.index.case import Case
from medkd.index.case_store import CaseFiles, CaseForm, write_case_store
from medkd.index.cells import write_cells
from medkd.index.pseudonyms import LinkTable, Pseudonyms, days_since_first, private_folder_of
from medkd.index.table import ArchiveIndex, FileFate, IndexedFile, UnmatchedRow, write_index
from medkd.io.file_ref import FileRef
from medkd.io.reference import SeriesPlaces
from medkd.io.synthetic_mark import RECORDS, listed_series, not_stated, read_stamp

_FATES: dict[str, FileFate] = {
    "series": "case", "image": "case", "volume": "case", "sr": "annotation", "seg": "annotation",
    "rtstruct": "annotation", "table": "table", "container": "container", "other": "other",
    "unreadable": "unreadable",
}  # fmt: skip
OBJECT_FORMS = ("sr", "seg", "rtstruct")

_facts_json = TypeAdapter(CaseFacts)


@dataclass(slots=True)
class Gathered:
    """All cases of an archive, named, before annotations."""

    names: dict[str, CaseName] = field(default_factory=dict)
    cases: dict[str, Case] = field(default_factory=dict)
    forms: dict[str, CaseForm] = field(default_factory=dict)
    places: dict[str, SeriesPlaces] = field(default_factory=dict)


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
            SeriesError: if a source of annotations cannot be used as it stands.
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
            facts = _facts_json.validate_json(text)
            reasons = (*facts.case.reasons, *suspects.reasons(key))
            name = self._namer.name(key)
            case = self._case(replace(facts.case, reasons=reasons), name)
            if inside := sets.keys() & set(PurePosixPath(name.place).parents):
                stamp, listed = sets[max(inside)]
                # Real scans may lie there too; a case that cannot be read is not known as real.
                if not listed or name.real in listed or reasons:
                    case = replace(case, synthetic=True, generator=case.generator or stamp)
            gathered.names[key] = name
            gathered.cases[name.case_id] = case
            gathered.forms[name.case_id] = facts.form
            if facts.places and case.status == "ready" and self._settings.annotations:
                gathered.places[name.real] = facts.places.as_series(name.real)
        return gathered

    def _synthetic_sets(self) -> dict[PurePosixPath, tuple[str, frozenset[str]]]:
        """Map each folder of synthetic scans to the stamp of their generator, and their series."""
        found = {}
        for name, generator in RECORDS.items():
            for file in self._store.tables_named(name):
                record = self._ref_of(file).path
                hidden = bool(file.member)
                stamp = not_stated(generator) if hidden else read_stamp(record)
                listed = frozenset() if hidden else listed_series(record)
                found[PurePosixPath(file.place).parent] = (stamp, listed)
        return found

    def _case(self, case: Case, name: CaseName) -> Case:
        def clean(text: str) -> str:
            return self._namer.clean(text, name)

        return replace(
            case,
            case_id=name.case_id,
            patient_id=name.patient_id,
            status="not_analysed" if case.reasons else "ready",
            reasons=tuple(map(clean, case.reasons)),
            allowed=tuple(map(clean, case.allowed)),
            notes=tuple(map(clean, case.notes)),
            site=name.site,
            origin=name.origin,
            modality=clean(case.modality),
            view=clean(case.view),
            manufacturer=clean(case.manufacturer),
            kernel=clean(case.kernel),
        )

    def _join(self, gathered: Gathered) -> Joined:
        if not self._settings.annotations:
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
        joiner = Joiner(names, gathered.cases, places=gathered.places, files=files)
        return joiner.join(self._settings, refs, self._namer)

    def _completed(self, gathered: Gathered, joined: Joined) -> dict[str, Case]:
        """Add patient, day and view, as far as tables know them, to each case."""
        cases = {}
        for name in gathered.names.values():
            case = gathered.cases[name.case_id]
            named = joined.patients.get(name.case_id, "")
            patient = (
                (named if name.of_study else "") or case.patient_id or named or self._own(name)
            )
            view = case.view or joined.views.get(name.case_id, "")
            notes = (*case.notes, STUDY_PATIENT) if name.of_study and not named else case.notes
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

    def _own(self, name: CaseName) -> str:
        """Return a patient of its own for a case whose patient nothing names."""
        return f"p{name.case_id[1:]}" if self._private else name.case_id

    def _notes(self, gathered: Gathered, joined: Joined) -> Iterator[str]:
        nameless = sum(
            not name.patient_id and name.case_id not in joined.patients
            for name in gathered.names.values()
        )
        if nameless:
            effect = "each counts as one, so their leaks cannot be seen"
            yield f"cases that name no patient: {nameless}; {effect}"
        kinds = {source.kind for source in self._settings.annotations}
        for form in OBJECT_FORMS:
            count = sum(1 for _ in self._store.files(form))
            if count and form not in kinds:
                yield f"{count} {form.upper()} objects are not read: --annotations {form} does"
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
            refused = f"not_analysed: {codes_of(case.reasons)}" if case.reasons else ""
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
        links.record_all(dict.fromkeys(self._namer.links))
        links.record_all((f"f{file.number:06d}", "file", file.place)
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
