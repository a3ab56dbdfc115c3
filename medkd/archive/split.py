"""Divide an INDEX by patient, balanced by labels and sites or by its own folders, and freeze it.

Random divisions use iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011, "On the
stratification of multi-label data", algorithm 1) with patients as units: patients with the rarest
label or site are assigned first, each to the part that lacks most of it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from medkd.archive.leaks import bound_patients, find_leaks
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
        "fractions", description="official: what the archive's folders say."
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


def freeze_split(index: ArchiveIndex, settings: SplitSettings) -> SplitFile:
    """Divide the cases that are ready.

    Args:
        index: with its fingerprint.
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
    people = len({case.patient_id for case in ready})
    if empty := [name for name, ids in groups.items() if not ids]:
        raise SettingsError(
            "these cases cannot be divided like this",
            [
                f"no case is left for {', '.join(empty)}: {len(ready)} cases of {people} patients "
                "are ready, and all cases of a patient stay in one part",
                "index more patients, or check whether one PatientID stands for many: medkd check",
            ],
        )
    homes = {case_id: name for name, ids in groups.items() for case_id in ids}
    if leaks := find_leaks(ready, homes):
        patients = [leak for leak in leaks if leak.what == "patient"]
        raise SeriesError(
            f"{len(patients)} patients and {len(leaks) - len(patients)} equal pictures of several "
            "patients are in more than one part",
            [*map(str, leaks), "divide anew, by patient: medkd split without --official"],
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


def _official(ready: Sequence[Case]) -> dict[str, list[str]]:
    origins: dict[str, list[str]] = defaultdict(list)
    for case in ready:
        origins[case.origin].append(case.case_id)
    if silent := origins.pop("", []):
        reason = f"{len(silent)} of {len(ready)} cases lie in no folder that names a part"
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
    groups = bound_patients(ready)
    if settings.kind == "folds":
        shares = {f"fold{n}": 1 / settings.folds for n in range(settings.folds)}
    else:
        train = 1 - settings.val - settings.test
        shares = {"train": train, "val": settings.val, "test": settings.test}
    random = np.random.default_rng(settings.seed)
    order = random.permutation(len(groups)).tolist()
    groups = [groups[n] for n in order]
    tags = [_tags(group, labels) for group in groups]
    homes = _deal(tags, shares)
    parts: dict[str, list[str]] = {name: [] for name in shares}
    for group, home in zip(groups, homes, strict=True):
        parts[home] += [case.case_id for case in group]
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


def _deal(tags: Sequence[Tags], shares: Mapping[str, float]) -> list[str]:
    """Assign each group to a part, which distributes every tag in the wanted shares."""
    totals: Counter[str] = Counter()
    holders: dict[str, list[int]] = defaultdict(list)
    for number, counts in enumerate(tags):
        totals.update(counts)
        for tag in counts:
            holders[tag].append(number)
    lacking = {part: {tag: share * n for tag, n in totals.items()} for part, share in
               shares.items()}  # fmt: skip
    homes: dict[int, str] = {}
    for tag in sorted(totals, key=lambda tag: (totals[tag], tag)):
        free = [number for number in holders[tag] if number not in homes]
        # Large groups first, because small ones can fill the gaps.
        for number in sorted(free, key=lambda number: -tags[number][tag]):
            home = max(shares, key=lambda part: (lacking[part][tag], lacking[part][_EVERY]))
            homes[number] = home
            for held, count in tags[number].items():
                lacking[home][held] -= count
    dealt = [homes[number] for number in range(len(tags))]
    for part in shares:
        _give_one(part, dealt, tags)
    return dealt


def _give_one(part: str, homes: list[str], tags: Sequence[Tags]) -> None:
    """Move the smallest group of the largest part to a part that rounding left empty."""
    if part in homes:
        return
    counts = Counter(homes)
    richest = max(counts, key=lambda name: counts[name])
    if counts[richest] > 1:
        own = [number for number, home in enumerate(homes) if home == richest]
        homes[min(own, key=lambda number: tags[number][_EVERY])] = part
