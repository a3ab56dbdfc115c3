"""Check of an INDEX: its refusals, warnings, leaks, shortcuts, labels and acquisitions.

Only the tables are read; radiographs are measured beforehand (`brightness.py`). A leak is a
patient, or equal pixels, in two parts of a division. The division is a frozen split if one is
given, otherwise the folders of the archive itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from medkd.archive.brightness import Brightness
from medkd.archive.known_labels import known_labels
from medkd.archive.notices import CANNOT_SPLIT, Notice, split_notices
from medkd.archive.shortcuts import NumberOfLabel, measure_numbers, shortcut_notices
from medkd.archive.split import Leak, find_leaks, same_pixels
from medkd.archive.unreadable import UnreadableCount
from medkd.errors import SeriesError
from medkd.index.case import Case
from medkd.index.frozen_split import PARTS, SplitFile
from medkd.index.table import ArchiveIndex
from medkd.io.remedies import accepting_option, codes_in
from medkd.types import findings_in

SCHEMA = 2
"""Increased when a field of `IndexCheck` is renamed or changes its meaning, not for new fields."""

_EXAMPLES = 3
_PLACEHOLDER_CASES = 20
_PLACEHOLDER_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class LabelBalance:
    """In how many cases at one site a label is present, absent, or unknown.

    Cases that no source mentions count as unknown, never as absent.
    """

    label: str
    site: str
    present: int
    absent: int
    unknown: int


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """A code of refusal (or of an accepted fault) and the cases that have it.

    `option` is the option of `medkd index` that accepts the fault; empty if there is none.
    """

    kind: str
    code: str
    cases: int
    ids: tuple[str, ...]
    option: str = ""


@dataclass(frozen=True, slots=True)
class SiteSummary:
    """Summary of the cases of one kind at one site; spacings are (least, median, most).

    `patches` counts the scans that are cut-outs around a nodule.
    """

    site: str
    kind: str
    cases: int
    patients: int
    ready: int
    spacing_mm: tuple[float, ...]
    slice_spacing_mm: tuple[float, ...]
    manufacturers: dict[str, int]
    kernels: dict[str, int]
    views: dict[str, int]
    patches: int = 0


@dataclass(frozen=True, slots=True)
class LeakSummary:
    """Leaks of one division: "origin" (the archive's folders) or "split" (a frozen one).

    `cases` counts the cases of each part, `leaking` those whose patient is in another part too.
    """

    division: str
    patients: int
    pixels: int
    cases: dict[str, int]
    leaking: dict[str, int]
    leaks: tuple[Leak, ...]


@dataclass(frozen=True, slots=True)
class IndexCheck:
    """Everything that `medkd check` reports; written as JSON for scripts.

    Args:
        fingerprint: of the INDEX.
        cases: their number; `ready`, `patients` and `nodules` are numbers too.
        refusals: why cases are not analysed, by code.
        allowed: faults that were accepted, by code.
        warnings: what should be checked, each with its code.
        balance: labels by site.
        sites: summaries of the cases of each site.
        leaks: of the archive's own division and of the frozen one.
        notes: of `medkd index`.
        unreadable: what could not be read, by code.
        obstacles: why the INDEX cannot be used, each with its code and remedy.
        usable: whether there are no obstacles; then `medkd check` exits with 0, otherwise with 1.
        divisible: whether its patients can be divided into train, val and test.
        numbers: how well each number of a case, alone, predicts each label.
        schema: version of these fields.
    """

    fingerprint: str
    cases: int
    ready: int
    patients: int
    nodules: int
    refusals: tuple[ReasonCount, ...]
    allowed: tuple[ReasonCount, ...]
    warnings: tuple[Notice, ...]
    balance: tuple[LabelBalance, ...]
    sites: tuple[SiteSummary, ...]
    leaks: tuple[LeakSummary, ...]
    notes: tuple[str, ...]
    unreadable: tuple[UnreadableCount, ...]
    obstacles: tuple[Notice, ...]
    usable: bool
    divisible: bool
    numbers: tuple[NumberOfLabel, ...] = ()
    schema: int = SCHEMA


def check_index(
    index: ArchiveIndex,
    split: SplitFile | None = None,
    *,
    unreadable: Sequence[UnreadableCount] = (),
    allow: Collection[str] = (),
    brightness: Brightness | None = None,
) -> IndexCheck:
    """Check an INDEX.

    Args:
        index: as read.
        split: a frozen division, checked for leaks instead of the folders of the archive.
        unreadable: parts of the archive that could not be read.
        allow: codes of `ARCHIVE_CODES` that were accepted when it was indexed.
        brightness: of radiographs (`measure_brightness`), compared with the labels too.

    Raises:
        SeriesError: if the split is of another index.
    """
    if split is not None and split.index_fingerprint != index.fingerprint:
        raise SeriesError(
            "the split is not of this index",
            [f"expected index {split.index_fingerprint[:12]}, got {index.fingerprint[:12]}: "
             "divide it again"],
        )  # fmt: skip
    ready = [case for case in index.cases if case.status == "ready"]
    refusals = _counted((case, case.reasons) for case in index.cases)
    leaks = tuple(_leaks(ready, split))
    obstacles = tuple(_obstacles(index, leaks, unreadable, allow))
    divided = [] if split or _is_divided(leaks) else list(split_notices(index, ready))
    numbers = measure_numbers(index, brightness.shares if brightness else {})
    return IndexCheck(
        fingerprint=index.fingerprint,
        cases=len(index.cases),
        ready=len(ready),
        patients=len({case.patient_id for case in index.cases}),
        nodules=sum(nodule.counts_as == "included" for nodule in index.nodules),
        refusals=refusals,
        allowed=_counted((case, case.allowed) for case in index.cases),
        warnings=(*divided, *shortcut_notices(numbers), *_warnings(index, ready)),
        balance=tuple(label_balance(index, ready)),
        sites=tuple(_sites(index.cases)),
        leaks=leaks,
        notes=(*index.notes, *(brightness.notes if brightness else ())),
        unreadable=tuple(unreadable),
        obstacles=obstacles,
        usable=not obstacles,
        divisible=bool(ready) and all(notice.code != CANNOT_SPLIT for notice in divided),
        numbers=numbers,
    )


def label_balance(index: ArchiveIndex, ready: Sequence[Case]) -> Iterator[LabelBalance]:
    """Count every label at every site, then the scans with and without nodules.

    Args:
        index: provides labels and nodules.
        ready: its cases that are ready.
    """
    for label in known_labels(index, ready):
        for site in sorted({case.site for case in label.cases}):
            values = [label.value(case) for case in label.cases if case.site == site]
            present, absent = values.count(1), values.count(0)
            unknown = len(values) - present - absent
            yield LabelBalance(label.name, site, present, absent, unknown)


def _is_divided(leaks: Sequence[LeakSummary]) -> bool:
    """Return whether the folders of the archive already divide it without leaks."""
    return bool(leaks) and not leaks[-1].leaks and len(leaks[-1].cases) >= len(PARTS)


def _obstacles(
    index: ArchiveIndex,
    leaks: Sequence[LeakSummary],
    unreadable: Sequence[UnreadableCount],
    allow: Collection[str],
) -> Iterator[Notice]:
    """Yield why an INDEX cannot be used, and what to do about it."""
    if not any(case.status == "ready" for case in index.cases):
        yield _nothing_ready(index.cases)
    for count in unreadable:
        if count.is_obstacle and count.code not in allow:
            text = f"{count.files} {count.what}: {count.names}"
            yield Notice(count.code, text, count.examples, count.remedy)
    if leaks and leaks[-1].leaks:
        last = leaks[-1]
        whose = "the split" if last.division == "split" else "the archive's own folders"
        text = f"{len(last.leaks)} patients or equal pictures are in several parts of {whose}"
        ids = tuple(dict.fromkeys(name for leak in last.leaks for name in leak.patients))
        yield Notice("leak", text, ids, "divide by patient: medkd split INDEX --out SPLIT, then "
                     "medkd check INDEX --split SPLIT")  # fmt: skip


def _nothing_ready(cases: Sequence[Case]) -> Notice:
    if not cases:
        return Notice(
            "nothing_found",
            "the index contains no scan and no radiograph",
            remedy="index the folder that contains them; index.files.csv lists what each file is",
        )
    acceptable = [case for case in cases if accepting_option(codes_in(case.reasons))]
    option = accepting_option(code for case in acceptable for code in codes_in(case.reasons))
    remedy = "no option accepts these faults: the files themselves must be repaired or replaced"
    if acceptable:
        remedy = f"index again with {option}, which accepts {len(acceptable)} of {len(cases)}"
    return Notice("nothing_ready", f"none of {len(cases)} cases is ready", remedy=remedy)


def _counted(cases: Iterable[tuple[Case, Sequence[str]]]) -> tuple[ReasonCount, ...]:
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for case, reasons in cases:
        for code in codes_in(reasons):
            found[case.kind, code].append(case.case_id)
    ordered = sorted(found.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][1]))
    return tuple(
        ReasonCount(kind, code, len(ids), tuple(ids), accepting_option([code]))
        for (kind, code), ids in ordered
    )


def _warnings(index: ArchiveIndex, ready: Sequence[Case]) -> Iterator[Notice]:
    yield from _duplicates(ready)
    yield from _conflicts(index, ready)
    counts = Counter(case.patient_id for case in ready)
    for patient, count in counts.most_common(_EXAMPLES):
        if count >= _PLACEHOLDER_CASES and count >= _PLACEHOLDER_SHARE * len(ready):
            text = f"patient {patient} has {count} of {len(ready)} cases: a placeholder for many?"
            yield Notice("one_patient", text, (patient,))


def _duplicates(ready: Sequence[Case]) -> Iterator[Notice]:
    for members in same_pixels(ready):
        ids = tuple(case.case_id for case in members)
        patients = sorted({case.patient_id for case in members})
        shown = ", ".join(ids[:_EXAMPLES]) + (" ..." if len(ids) > _EXAMPLES else "")
        if len(patients) == 1:
            yield Notice("duplicate", f"{len(ids)} cases of one patient are equal: {shown}", ids)
        else:
            text = f"{len(ids)} cases of {len(patients)} patients have the same pixels: {shown}"
            yield Notice("same_pixels_two_patients", text, ids)


def _conflicts(index: ArchiveIndex, ready: Sequence[Case]) -> Iterator[Notice]:
    values: dict[tuple[str, str], set[int]] = defaultdict(set)
    for label in index.labels:
        if label.value is not None:
            values[label.case_id, label.name].add(label.value)
    for (case_id, name), known in sorted(values.items()):
        if len(known) > 1:
            text = f"{case_id}: label {name} is present in one row and absent in another"
            yield Notice("label_conflict", text, (case_id,))
        parts = findings_in(name)
        if 1 in known and name not in parts and all(values.get((case_id, p)) == {0} for p in parts):
            text = f"{case_id}: label {name} is present, but each of its findings is absent"
            yield Notice("label_conflict", text, (case_id,))
    for members in same_pixels(ready):
        ids = tuple(case.case_id for case in members)
        for name in sorted({name for case_id, name in values if case_id in ids}):
            known = set().union(*(values.get((case_id, name), set()) for case_id in ids))
            if len(known) > 1:
                text = f"equal pixels, label {name} present in one and absent in another"
                yield Notice("label_conflict", f"{', '.join(ids)}: {text}", ids)


def _sites(cases: Sequence[Case]) -> Iterator[SiteSummary]:
    grouped: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in cases:
        grouped[case.site, case.kind].append(case)
    for (site, kind), members in sorted(grouped.items()):
        ready = [case for case in members if case.status == "ready"]
        spaced = [case.spacing_mm for case in ready if case.spacing_mm]
        yield SiteSummary(
            site=site,
            kind=kind,
            cases=len(members),
            patients=len({case.patient_id for case in members}),
            ready=len(ready),
            spacing_mm=_spread(spacing[0] for spacing in spaced),
            slice_spacing_mm=_spread(spacing[2] for spacing in spaced if len(spacing) == 3),
            manufacturers=_tally(case.manufacturer for case in ready),
            kernels=_tally(case.kernel for case in ready if kind == "scan"),
            views=_tally(case.view for case in ready if kind == "image"),
            patches=sum(case.extent == "patch" for case in members),
        )


def _leaks(ready: Sequence[Case], split: SplitFile | None) -> Iterator[LeakSummary]:
    """Summarise the leaks between the archive's own folders, then those of the frozen split.

    Only a division that exists is summarised; own folders are for example train, val and test.
    """
    own = {case.case_id: case.origin for case in ready if case.origin}
    if len(set(own.values())) > 1:
        yield _leaks_of("origin", ready, own)
    if split is not None:
        part_of = {case_id: name for name, ids in split.groups.items() for case_id in ids}
        yield _leaks_of("split", ready, part_of)


def _leaks_of(division: str, ready: Sequence[Case], part_of: Mapping[str, str]) -> LeakSummary:
    leaks = find_leaks(ready, part_of)
    patients = [leak for leak in leaks if leak.what == "patient"]
    parts = Counter(part_of[case_id] for leak in patients for case_id in leak.case_ids)
    return LeakSummary(
        division=division,
        patients=len(patients),
        pixels=len(leaks) - len(patients),
        cases=dict(Counter(part_of.values())),
        leaking=dict(sorted(parts.items())),
        leaks=tuple(leaks),
    )


def _spread(values: Iterable[float]) -> tuple[float, ...]:
    found = sorted(values)
    return (found[0], float(median(found)), found[-1]) if found else ()


def _tally(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(value or "not stated" for value in values).most_common())
