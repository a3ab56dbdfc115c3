"""A hospital's archive as a data set: what an INDEX (`medkd index`) gives to train on.

Scans train through the places of their nodules, images through a label of the whole image, which
is put together from the labels that count as positive. A label that nobody knows is never 0: an
image without one has no known label, and a scan that nobody annotated is left out, since a
nodule in it would be taught as none.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from medkd.data.cases import CaseIndex, Told, ignore
from medkd.data.prepared import PreparedScans
from medkd.data.roots import find_data
from medkd.data.training_places import ProposalSettings, propose_candidates
from medkd.errors import SettingsError
from medkd.index.case import Case
from medkd.index.scan_states import ScanState, Value, label_values, scan_states
from medkd.index.table import ArchiveIndex, read_index
from medkd.settings import InputPath, Settings


class ArchiveData(Settings):
    """The scans or the radiographs of an INDEX."""

    kind: Literal["archive"] = "archive"
    index: InputPath = Field(description="The index.csv that `medkd index` left.")
    cases: Literal["scans", "images"] = Field(description="CT scans, or radiographs.")
    positive: tuple[str, ...] = Field(
        ("nodule",),
        min_length=1,
        description="Names of labels, any of which makes a case positive; it is negative where "
        "all of them are known to be absent. Case does not matter.",
    )
    unannotated: Literal["leave_out", "negative"] = Field(
        "leave_out",
        description="Scans without a nodule, an excluded finding or a label: left out, or taken "
        "to be read and free of nodules.",
    )
    views: tuple[str, ...] = Field(
        ("PA", "AP", "frontal", ""),
        description="Views of radiographs that are used; empty text: view not stated.",
    )
    proposals: ProposalSettings = Field(
        default_factory=ProposalSettings, description="Negative places in scans."
    )

    def read_cases(self, _work_dir: Path, _told: Told = ignore) -> CaseIndex:
        """Read what of the INDEX can be trained on; see `CaseSource` and `archive_index`."""
        return archive_index(self, find_data(self.index))


def archive_index(settings: ArchiveData, path: Path) -> CaseIndex:
    """Read what of an archive can be trained on; scans get their candidates by `add_candidates`.

    Args:
        settings: which cases, and what makes one positive.
        path: index.csv.

    Raises:
        SettingsError: if the index has no such case or label, or scans whose nodules have no
            place, with the reason.
        SeriesError: if the index cannot be read.
    """
    archive = read_index(path)
    kind = "scan" if settings.cases == "scans" else "image"
    mine = [case for case in archive.cases if case.kind == kind]
    ready = [case for case in mine if case.status == "ready"]
    if not ready:
        raise _none_ready(settings, path, archive)
    refused = tuple(case for case in mine if case.status == "not_analysed")
    known = label_values(archive.labels, settings.positive)
    build = _scan_index if kind == "scan" else _image_index
    found = build(settings, path, archive, ready, known=known)
    told = [*archive.notes, *found.notes]
    if refused:
        codes = _codes(reason for case in refused for reason in case.reasons)
        told.append(f"{len(refused)} {settings.cases} of the archive are not analysed: {codes}")
    used = found.by_id()
    if allowed := [case for case in ready if case.allowed and case.case_id in used]:
        codes = _codes(fault for case in allowed for fault in case.allowed)
        told.append(f"{len(allowed)} {settings.cases} are used in spite of faults: {codes}")
    return replace(found, refused=refused, notes=tuple(told))


def add_candidates(
    index: CaseIndex,
    settings: ArchiveData,
    case_ids: Collection[str],
    *,
    scans: PreparedScans,
    work_dir: Path,
    progress: Callable[[int, int], None] | None = None,
) -> CaseIndex:
    """Find the places to train on in the scans that are used; images have none.

    Args:
        index: of `archive_index`.
        settings: the same.
        case_ids: cases of the split.
        scans: the prepared scans.
        work_dir: what a scan gave is kept below its `data/`.
        progress: called with (scans done, scans in all).

    Raises:
        SeriesError: naming every scan that cannot be read or has no lungs.
    """
    wanted = set(case_ids)
    found = propose_candidates(
        [case for case in index.cases if case.kind == "scan" and case.case_id in wanted],
        (*index.nodules, *index.excluded),
        settings.proposals,
        scans=scans,
        folder=work_dir / "data" / "proposals",
        workers=min(4, os.cpu_count() or 1),
        progress=progress,
    )
    return replace(index, candidates=tuple(found))


def _none_ready(settings: ArchiveData, path: Path, archive: ArchiveIndex) -> SettingsError:
    held = Counter(f"{case.kind}s {case.status.replace('_', ' ')}" for case in archive.cases)
    words = ", ".join(f"{n} {name}" for name, n in sorted(held.items())) or "nothing"
    reasons = [f"expected {settings.cases} that are ready, as `cases: {settings.cases}` says; the "
               f"index holds {words}"]  # fmt: skip
    if any(case.status == "not_analysed" for case in archive.cases):
        reasons.append(f"medkd check {path.name} says why cases are refused")
    other = "images" if settings.cases == "scans" else "scans"
    if held[f"{other} ready"]:
        fitting = "hospital_ct" if other == "scans" else "hospital_xray"
        reasons.append(f"for its {other}: transfer/{fitting}")
    return SettingsError(f"{path}: nothing to train on", reasons)


def _codes(reasons: Iterable[str]) -> str:
    """Count the codes of "code: text" reasons, most frequent first."""
    codes = Counter(reason.partition(":")[0] for reason in reasons)
    return ", ".join(f"{code} {n}" for code, n in codes.most_common()) or "no reason given"


def known_scan_labels(archive: ArchiveIndex, positive: Sequence[str]) -> dict[str, int]:
    """Say of each ready scan whether it holds a nodule, where that is known.

    Args:
        archive: of any cases.
        positive: names of labels, any of which makes a scan positive.
    """
    ready = [c for c in archive.cases if c.kind == "scan" and c.status == "ready"]
    states = scan_states(ready, archive.nodules, known=label_values(archive.labels, positive))
    values: dict[ScanState, int] = {"nodules": 1, "label_only": 1, "free": 0}
    return {name: values[state] for name, state in states.items() if state in values}


def _image_index(
    settings: ArchiveData,
    path: Path,
    archive: ArchiveIndex,
    ready: Sequence[Case],
    *,
    known: Mapping[str, Value],
) -> CaseIndex:
    _check_names(settings, path, archive)
    views = {view.casefold() for view in settings.views}
    used = [case for case in ready if case.view.casefold() in views]
    other = Counter(case.view for case in ready if case.view.casefold() not in views)
    labels = {case.case_id: known.get(case.case_id) for case in used}
    notes = [f"{n} images of view {view} left out" for view, n in sorted(other.items())]
    if unknown := sum(value is None for value in labels.values()):
        notes.append(f"{unknown} of {len(used)} images have no known label")
    return CaseIndex(
        name=f"archive {path.name}",
        cases=tuple(replace(case, generator=case.stamp) for case in used),
        nodules=(),
        excluded=(),
        candidates=(),
        labels={name: value for name, value in labels.items() if value is not None},
        label_names=(" or ".join(settings.positive),),
        fingerprint=archive.fingerprint,
        notes=tuple(notes),
    )


def _scan_index(
    settings: ArchiveData,
    path: Path,
    archive: ArchiveIndex,
    ready: Sequence[Case],
    *,
    known: Mapping[str, Value],
) -> CaseIndex:
    nodules = [n for n in archive.nodules if n.counts_as == "included"]
    excluded = [n for n in archive.nodules if n.counts_as == "excluded"]
    states = scan_states(ready, archive.nodules, known=known)
    used = [case for case in ready if _is_used(states[case.case_id], settings)]
    if not any(states[case.case_id] == "nodules" for case in used):
        raise _no_places(path, states)
    ids = {case.case_id for case in used}
    return CaseIndex(
        name=f"archive {path.name}",
        cases=tuple(replace(case, generator=case.stamp) for case in used),
        nodules=tuple(n for n in nodules if n.seriesuid in ids),
        excluded=tuple(n for n in excluded if n.seriesuid in ids),
        candidates=(),
        labels={name: int(states[name] == "nodules") for name in sorted(ids)},
        label_names=("nodule",),
        fingerprint=archive.fingerprint,
        notes=tuple(_scan_notes(states, settings)),
    )


def _is_used(state: ScanState, settings: ArchiveData) -> bool:
    counted = state == "unannotated" and settings.unannotated == "negative"
    return counted or state in ("nodules", "free")


def _scan_notes(states: Mapping[str, ScanState], settings: ArchiveData) -> Iterator[str]:
    counts = Counter(states.values())
    if n := counts["label_only"]:
        yield (
            f"{n} scans have a label but no nodule's place: they cannot train; they serve "
            "evaluation by `medkd detect MODEL INDEX` alone"
        )
    if (n := counts["unannotated"]) and settings.unannotated == "leave_out":
        yield (
            f"{n} {'scan' if n == 1 else 'scans'} without any annotation left out; where they were "
            "read and are free of nodules: --set target.data.unannotated=negative"
        )
    elif n:
        scans = "scan" if n == 1 else "scans"
        yield f"{n} {scans} without any annotation counted as free of nodules"
    yield (
        "candidates are the reference nodules themselves and places drawn as negatives: the "
        "candidates track says nothing of finding nodules, the whole-scan track does"
    )


def _no_places(path: Path, states: Mapping[str, ScanState]) -> SettingsError:
    counts = Counter(states.values())
    reasons = [f"of {len(states)} scans that are ready none has a nodule with a place"]
    if n := counts["label_only"] + counts["free"]:
        reasons.append(
            f"{n} have a label of the whole scan: a patch classifier of CT cannot learn from it, "
            "because it says not where; such labels serve evaluation alone (`medkd detect MODEL "
            "INDEX` gives the ROC AUC of the highest mark)"
        )
    reasons.append("index the archive again with --annotations that give places")
    return SettingsError(f"{path}: nothing to train a CT model on", reasons)


def _check_names(settings: ArchiveData, path: Path, archive: ArchiveIndex) -> None:
    """Refuse a name that no label has: all of its cases would be unknown."""
    counts = Counter(label.name for label in archive.labels if label.value == 1)
    there = {label.name.casefold() for label in archive.labels}
    if absent := [name for name in settings.positive if name.casefold() not in there]:
        names = sorted({label.name for label in archive.labels}, key=lambda n: (-counts[n], n))
        known = ", ".join(f"{name} ({counts[name]})" for name in names) or "none at all"
        reasons = [f"positive: no case has the label {name!r}" for name in absent]
        reasons.append(f"labels of the index, with their positive cases: {known}")
        raise SettingsError(f"{path}: labels that it does not hold", reasons)
