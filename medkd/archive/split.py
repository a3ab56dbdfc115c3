"""Division of an INDEX by patient, balanced by labels and sites or by its own folders; leaks.

Random divisions use iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011, "On the
stratification of multi-label data", algorithm 1) with patients as units: patients with the rarest
label or site are assigned first, each to the part that lacks most of it.

A leak is a patient, or equal pixels, in more than one part. Equal pixels under two identities are
most likely one patient, so patients who share an image or a scan are kept together.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from medkd.errors import SeriesError, SettingsError
from medkd.index.case import Case
from medkd.index.frozen_split import PARTS, SplitFile
from medkd.index.table import ArchiveIndex
from medkd.settings import Settings

_EVERY = "case"
_FOLD = re.compile(r"subset(\d+)")

Group = list[Case]
Tags = dict[str, int]


class SplitSettings(Settings):
    """How an INDEX is divided."""

    kind: Literal["fractions", "folds", "official"] = Field(
        "fractions", description="official: by the archive's own folders."
    )
    val: float = Field(0.2, gt=0, lt=1, description="Share of the cases for validation.")
    test: float = Field(0.2, gt=0, lt=1, description="Share of the cases for test.")
    folds: int = Field(5, ge=3, le=100, description="Number of folds.")
    seed: int = Field(0, ge=0, description="Same seed, same split.")

    @model_validator(mode="after")
    def _something_left(self) -> SplitSettings:
        if self.val + self.test >= 1:
            raise ValueError(f"val {self.val} and test {self.test} leave nothing to train on")
        return self


@dataclass(frozen=True, slots=True)
class Leak:
    """One patient, or equal pixels of several patients, in several parts (sorted) of a division."""

    what: Literal["patient", "pixels"]
    patients: tuple[str, ...]
    parts: tuple[str, ...]
    case_ids: tuple[str, ...]

    def __str__(self) -> str:
        """Return the leak as one line of text."""
        where = " and ".join(self.parts)
        if self.what == "patient":
            return f"patient {self.patients[0]}: {len(self.case_ids)} cases in {where}"
        return f"equal pixels in {where}: {', '.join(self.case_ids)}"


def freeze_split(index: ArchiveIndex, settings: SplitSettings) -> SplitFile:
    """Divide the cases that are ready.

    Args:
        index: as read, with its fingerprint.
        settings: how to divide.

    Returns:
        The division, with notes on what was done. No patient and no pixels are in two parts.

    Raises:
        SettingsError: if the cases cannot be divided in this way.
        SeriesError: if the archive's own division leaks, naming every patient.
    """
    ready = [case for case in index.cases if case.status == "ready"]
    if not ready:
        raise SettingsError("nothing to divide", ["no case of the index is ready: medkd check"])
    if settings.kind == "official":
        groups, notes = _official(ready), list[str]()
    else:
        groups, notes = _stratified(index, ready, settings)
    patients = len({case.patient_id for case in ready})
    if empty := [name for name, ids in groups.items() if not ids]:
        raise SettingsError(
            "these cases cannot be divided in this way",
            [
                f"no case is left for {', '.join(empty)}: {len(ready)} cases of {patients} "
                "patients are ready, and all cases of a patient stay in one part",
                "index more patients, or check whether one PatientID stands for many: medkd check",
            ],
        )
    part_of = {case_id: name for name, ids in groups.items() for case_id in ids}
    if leaks := find_leaks(ready, part_of):
        of_patients = sum(leak.what == "patient" for leak in leaks)
        raise SeriesError(
            f"{of_patients} patients and {len(leaks) - of_patients} equal pictures of several "
            "patients are in more than one part",
            [*map(str, leaks), "divide again, by patient: medkd split without --official"],
        )
    return SplitFile(
        kind=settings.kind,
        index_fingerprint=index.fingerprint,
        groups={name: tuple(sorted(ids)) for name, ids in groups.items()},
        seed=None if settings.kind == "official" else settings.seed,
        notes=tuple(notes),
    )


def positive_labels(index: ArchiveIndex) -> dict[str, set[str]]:
    """Return the labels that are known to be present; scans with a nodule have "nodule"."""
    found: dict[str, set[str]] = defaultdict(set)
    for label in index.labels:
        if label.value == 1:
            found[label.case_id].add(label.name)
    for nodule in index.nodules:
        if nodule.counts_as == "included":
            found[nodule.seriesuid].add("nodule")
    return found


def find_leaks(cases: Iterable[Case], part_of: Mapping[str, str]) -> list[Leak]:
    """Find patients with cases in several parts, and cases in several parts with equal pixels.

    Args:
        cases: of an INDEX; cases without a part are ignored.
        part_of: case id to its part, such as "train" or "test".

    Returns:
        The leaks, those of patients first. Equal pixels are reported only if several patients have
        them; if one patient has them, the leak of that patient already covers them.
    """
    placed = [case for case in cases if part_of.get(case.case_id)]
    leaks = []
    for patient, members in _grouped(placed, lambda case: case.patient_id).items():
        if len(parts := _parts(members, part_of)) > 1:
            leaks.append(Leak("patient", (patient,), parts, _ids(members)))
    for members in same_pixels(placed):
        patients = tuple(sorted({case.patient_id for case in members}))
        if len(parts := _parts(members, part_of)) > 1 and len(patients) > 1:
            leaks.append(Leak("pixels", patients, parts, _ids(members)))
    return leaks


def same_pixels(cases: Iterable[Case]) -> list[list[Case]]:
    """Return the groups of two or more cases whose pixels are equal."""
    grouped = _grouped((case for case in cases if case.content), lambda case: case.content)
    return [members for members in grouped.values() if len(members) > 1]


def group_inseparable(cases: Sequence[Case]) -> list[list[Case]]:
    """Group cases that must stay in one part: of one patient, or of patients who share pixels."""
    leader = {case.patient_id: case.patient_id for case in cases}

    def lead(patient: str) -> str:
        while leader[patient] != patient:
            leader[patient] = leader[leader[patient]]
            patient = leader[patient]
        return patient

    for members in same_pixels(cases):
        first, *others = sorted({lead(case.patient_id) for case in members})
        for other in others:
            leader[other] = first
    grouped = _grouped(cases, lambda case: lead(case.patient_id))
    return [grouped[name] for name in sorted(grouped)]


def _official(ready: Sequence[Case]) -> dict[str, list[str]]:
    origins: dict[str, list[str]] = defaultdict(list)
    for case in ready:
        origins[case.origin].append(case.case_id)
    if undivided := origins.pop("", []):
        reason = f"{len(undivided)} of {len(ready)} cases are in no folder that names a part"
        raise SettingsError("there is no official split", [reason])
    if set(origins) == set(PARTS):
        return {part: origins[part] for part in PARTS}
    if len(origins) >= 3 and all(_FOLD.fullmatch(origin) for origin in origins):
        ordered = sorted(origins, key=lambda origin: int(origin.removeprefix("subset")))
        return {f"fold{n}": origins[origin] for n, origin in enumerate(ordered)}
    expected = "expected folders train, val and test, or three or more subsets"
    raise SettingsError("there is no official split", [f"{expected}, got {sorted(origins)}"])


def _stratified(
    index: ArchiveIndex, ready: list[Case], settings: SplitSettings
) -> tuple[dict[str, list[str]], list[str]]:
    labels = positive_labels(index)
    groups = group_inseparable(ready)
    if settings.kind == "folds":
        shares = {f"fold{n}": 1 / settings.folds for n in range(settings.folds)}
    else:
        train = 1 - settings.val - settings.test
        shares = {"train": train, "val": settings.val, "test": settings.test}
    random = np.random.default_rng(settings.seed)
    order = random.permutation(len(groups)).tolist()
    groups = [groups[n] for n in order]
    tags = [_tags(group, labels) for group in groups]
    parts: dict[str, list[str]] = {name: [] for name in shares}
    for group, part in zip(groups, _assign(tags, shares), strict=True):
        parts[part] += [case.case_id for case in group]
    patients = len({case.patient_id for case in ready})
    notes = [f"{len(ready)} cases of {patients} patients; {len(index.cases) - len(ready)} "
             "not analysed left out"]  # fmt: skip
    if joined := patients - len(groups):
        notes.append(f"{joined} patients kept with another who has equal pixels")
    return parts, notes


def _tags(group: Group, labels: Mapping[str, set[str]]) -> Tags:
    """Count the cases of a group that have each label, kind and site."""
    tags: Counter[str] = Counter()
    for case in group:
        tags.update([_EVERY, f"kind {case.kind}", f"site {case.site}"])
        tags.update(f"label {name}" for name in labels.get(case.case_id, ()))
    return dict(tags)


def _assign(tags: Sequence[Tags], shares: Mapping[str, float]) -> list[str]:
    """Assign each group to a part, which distributes every tag in the wanted shares."""
    totals: Counter[str] = Counter()
    groups_with: dict[str, list[int]] = defaultdict(list)
    for number, counts in enumerate(tags):
        totals.update(counts)
        for tag in counts:
            groups_with[tag].append(number)
    lacking = {
        part: {tag: share * count for tag, count in totals.items()}
        for part, share in shares.items()
    }
    assigned: dict[int, str] = {}
    for tag in sorted(totals, key=lambda tag: (totals[tag], tag)):
        free = [number for number in groups_with[tag] if number not in assigned]
        # Large groups first, because small ones can fill the gaps.
        for number in sorted(free, key=lambda number: -tags[number][tag]):
            part = max(shares, key=lambda part: (lacking[part][tag], lacking[part][_EVERY]))
            assigned[number] = part
            for own_tag, count in tags[number].items():
                lacking[part][own_tag] -= count
    parts = [assigned[number] for number in range(len(tags))]
    for part in shares:
        _fill_if_empty(part, parts, tags)
    return parts


def _fill_if_empty(part: str, parts: list[str], tags: Sequence[Tags]) -> None:
    """Move the smallest group of the largest part to a part that rounding left empty."""
    counts = Counter(parts)
    largest = max(counts, key=lambda name: counts[name])
    if part not in counts and counts[largest] > 1:
        own = [number for number, name in enumerate(parts) if name == largest]
        parts[min(own, key=lambda number: tags[number][_EVERY])] = part


def _grouped(cases: Iterable[Case], key: Callable[[Case], str]) -> dict[str, list[Case]]:
    grouped: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        grouped[key(case)].append(case)
    return dict(sorted(grouped.items()))


def _parts(members: Iterable[Case], part_of: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted({part_of[case.case_id] for case in members}))


def _ids(members: Iterable[Case]) -> tuple[str, ...]:
    return tuple(case.case_id for case in members)
