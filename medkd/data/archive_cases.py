"""An INDEX of a hospital's archive (`medkd index`) as a data set.

Scans are used through the positions of their nodules. Images are used through one label of the
whole image, which combines the labels that count as positive, or through several labels. An unknown
label is never 0: an image without a label has no known label, and a scan without annotations is
left out, because a nodule in it would be trained as negative.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from medkd.data.cases import CaseIndex, OnProgress
from medkd.data.data_sets import find_data
from medkd.data.prepared import PreparedScans
from medkd.data.training_places import ProposalSettings, propose_candidates
from medkd.errors import SettingsError
from medkd.index.case import Case
from medkd.index.scan_states import ScanState, label_values, scan_states
from medkd.index.table import ArchiveIndex, read_index
from medkd.settings import InputPath, Settings
from medkd.types import LabelledCandidate, combine_findings, findings_in


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
    labels: tuple[str, ...] = Field(
        (),
        description="Several labels of radiographs instead of `positive`, one output for each; "
        "any of them may be unknown. `nodule or mass` combines two.",
    )
    unannotated: Literal["leave_out", "negative"] = Field(
        "leave_out",
        description="Scans without a nodule, an excluded finding or a label: left out, or used "
        "as read and free of nodules.",
    )
    views: tuple[str, ...] = Field(
        ("PA", "AP", "frontal", ""),
        description="Views of radiographs that are used; empty text: view not stated.",
    )
    proposals: ProposalSettings = Field(
        default_factory=ProposalSettings, description="Negative places in scans."
    )

    @model_validator(mode="after")
    def _labels_of_images(self) -> ArchiveData:
        names = [name.casefold() for name in self.labels]
        if names and self.cases == "scans":
            raise ValueError("labels: for radiographs (cases: images); scans have nodules")
        if len(set(names)) < len(names):
            raise ValueError(f"labels: a label is named twice: {list(self.labels)}")
        return self

    def read_cases(self, _work_dir: Path, _progress: OnProgress | None = None) -> CaseIndex:
        """Read the usable cases of the INDEX; scans get their candidates by `add_candidates`.

        Raises:
            SettingsError: if the index has no such case or label, or no scan has a nodule with a
                position; the reasons explain it.
            SeriesError: if the index cannot be read.
        """
        path = find_data(self.index)
        archive = read_index(path)
        kind = "scan" if self.cases == "scans" else "image"
        mine = [case for case in archive.cases if case.kind == kind]
        ready = [case for case in mine if case.status == "ready"]
        if not ready:
            raise _none_ready(self, path, archive)
        refused = tuple(case for case in mine if case.status == "not_analysed")
        build = _scan_index if kind == "scan" else _image_index
        found = build(self, path, archive, ready)
        notes = [*archive.notes, *found.notes]
        if refused:
            codes = _codes(reason for case in refused for reason in case.reasons)
            notes.append(f"{len(refused)} {self.cases} of the archive are not analysed: {codes}")
        used = found.by_id()
        if allowed := [case for case in ready if case.allowed and case.case_id in used]:
            codes = _codes(fault for case in allowed for fault in case.allowed)
            notes.append(f"{len(allowed)} {self.cases} are used in spite of faults: {codes}")
        return replace(found, refused=refused, notes=tuple(notes))


def add_candidates(
    index: CaseIndex,
    settings: ArchiveData,
    case_ids: Collection[str],
    *,
    scans: PreparedScans,
    work_dir: Path,
    progress: OnProgress | None = None,
) -> CaseIndex:
    """Add candidates to the scans that are used; images have none.

    Args:
        index: the result of `ArchiveData.read_cases`.
        settings: the same settings.
        case_ids: the cases of the split.
        scans: the prepared scans.
        work_dir: the candidates of each scan are saved below its `data/`.
        progress: called with (scans done, total).

    Raises:
        SeriesError: lists every scan that cannot be read or has no lungs.
    """
    wanted = set(case_ids)
    found = propose_candidates(
        [case for case in index.cases if case.kind == "scan" and case.case_id in wanted],
        (*index.nodules, *index.excluded),
        settings.proposals,
        rejected=index.negatives,
        scans=scans,
        folder=work_dir / "data" / "proposals",
        progress=progress,
    )
    return replace(index, candidates=tuple(found))


def _none_ready(settings: ArchiveData, path: Path, archive: ArchiveIndex) -> SettingsError:
    held = Counter(f"{case.kind}s {case.status.replace('_', ' ')}" for case in archive.cases)
    words = ", ".join(f"{n} {name}" for name, n in sorted(held.items())) or "nothing"
    reasons = [f"`cases: {settings.cases}` needs {settings.cases} that are ready; the index holds "
               f"{words}"]  # fmt: skip
    if any(case.status == "not_analysed" for case in archive.cases):
        reasons.append(f"medkd check {path.name} shows why cases are refused")
    other = "images" if settings.cases == "scans" else "scans"
    if held[f"{other} ready"]:
        fitting = "hospital_ct" if other == "scans" else "hospital_xray"
        reasons.append(f"for its {other}: transfer/{fitting}")
    return SettingsError(f"{path}: no case can be used for training", reasons)


def _codes(reasons: Iterable[str]) -> str:
    """Count the codes of "code: text" reasons, most frequent first."""
    codes = Counter(reason.partition(":")[0] for reason in reasons)
    return ", ".join(f"{code} {n}" for code, n in codes.most_common()) or "no reason given"


def known_scan_labels(archive: ArchiveIndex, positive: Sequence[str]) -> dict[str, int]:
    """Return for each ready scan whether it has a nodule (1 or 0), if that is known.

    Args:
        archive: the INDEX.
        positive: names of the labels; a scan with any of them is positive.
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
) -> CaseIndex:
    wanted = [findings_in(name) for name in settings.labels] or [settings.positive]
    key = "labels" if settings.labels else "positive"
    _check_names(path, archive, [name for names in wanted for name in names], key)
    found = [label_values(archive.labels, names) for names in wanted]
    views = {view.casefold() for view in settings.views}
    used = [case for case in ready if case.view.casefold() in views]
    other = Counter(case.view for case in ready if case.view.casefold() not in views)
    values: dict[str, tuple[int | None, ...]] = {
        case.case_id: tuple(one.get(case.case_id) for one in found) for case in used
    }
    names = settings.labels or (combine_findings(settings.positive),)
    notes = [f"{n} images of view {view} left out" for view, n in sorted(other.items())]
    for number, name in enumerate(names):
        if unknown := sum(known[number] is None for known in values.values()):
            label = f"label {name}" if settings.labels else "label"
            notes.append(f"{unknown} of {len(used)} images have no known {label}")
    known = {name: [v for v in own if v is not None] for name, own in values.items()}
    return CaseIndex(
        name=f"archive {path.name}",
        cases=tuple(replace(case, generator=case.stamp) for case in used),
        labels={name: max(own) for name, own in known.items() if own},
        several=values if settings.labels else {},
        label_names=names,
        fingerprint=archive.fingerprint,
        notes=tuple(notes),
    )


def _scan_index(
    settings: ArchiveData,
    path: Path,
    archive: ArchiveIndex,
    ready: Sequence[Case],
) -> CaseIndex:
    known = label_values(archive.labels, settings.positive)
    nodules = [n for n in archive.nodules if n.counts_as == "included"]
    excluded = [n for n in archive.nodules if n.counts_as == "excluded"]
    states = scan_states(ready, archive.nodules, known=known)
    used = [case for case in ready if _is_used(states[case.case_id], settings)]
    negative = used and settings.unannotated == "negative"  # all scans are free of nodules
    if not negative and not any(states[case.case_id] == "nodules" for case in used):
        raise _no_places(path, states)
    ids = {case.case_id for case in used}
    return CaseIndex(
        name=f"archive {path.name}",
        cases=tuple(replace(case, generator=case.stamp) for case in used),
        nodules=tuple(n for n in nodules if n.seriesuid in ids),
        excluded=tuple(n for n in excluded if n.seriesuid in ids),
        negatives=_rejected(archive, ids),
        labels={name: int(states[name] == "nodules") for name in sorted(ids)},
        label_names=("nodule",),
        fingerprint=archive.fingerprint,
        notes=(*_scan_notes(states, settings), *_review_notes(archive, ids)),
    )


def _rejected(archive: ArchiveIndex, ids: Collection[str]) -> tuple[LabelledCandidate, ...]:
    """Return the marks of some scans that readers rejected."""
    return tuple(
        LabelledCandidate(mark.seriesuid, mark.center_mm, 0)
        for mark in archive.marks
        if mark.verdict == "rejected" and mark.seriesuid in ids
    )


def _review_notes(archive: ArchiveIndex, ids: Collection[str]) -> Iterator[str]:
    counts = Counter(mark.verdict for mark in archive.marks if mark.seriesuid in ids)
    if counts:
        yield (
            f"decisions of readers: {counts['accepted']} accepted and {counts['added']} added "
            f"marks are nodules, {counts['rejected']} rejected marks are negatives"
        )
    rejected = [m for m in archive.marks if m.verdict == "rejected"]
    if unused := sum(mark.seriesuid not in ids for mark in rejected):
        yield f"{unused} rejected marks are in scans that are not used"


def _is_used(state: ScanState, settings: ArchiveData) -> bool:
    counted = state == "unannotated" and settings.unannotated == "negative"
    return counted or state in ("nodules", "free")


def _scan_notes(states: Mapping[str, ScanState], settings: ArchiveData) -> Iterator[str]:
    counts = Counter(states.values())
    if n := counts["label_only"]:
        yield (
            f"{n} scans have a label but no nodule position: they cannot be used for training, "
            "only for evaluation by `medkd detect MODEL INDEX`"
        )
    if (n := counts["unannotated"]) and settings.unannotated == "leave_out":
        yield (
            f"{n} {'scan' if n == 1 else 'scans'} without any annotation left out; if they were "
            "read and are free of nodules: --set target.data.unannotated=negative"
        )
    elif n:
        scans = "scan" if n == 1 else "scans"
        yield f"{n} {scans} without any annotation counted as free of nodules"
    yield (
        "candidates are the reference nodules and negative positions chosen by medkd: only the "
        "whole-scan track measures how well nodules are found, the candidates track does not"
    )


def _no_places(path: Path, states: Mapping[str, ScanState]) -> SettingsError:
    counts = Counter(states.values())
    reasons = [f"none of the {len(states)} ready scans has a nodule with a position"]
    if n := counts["label_only"] + counts["free"]:
        reasons.append(
            f"{n} have a label of the whole scan: a patch classifier cannot learn from it, because "
            "it has no position; such labels can only be used for evaluation (`medkd detect MODEL "
            "INDEX` gives the ROC AUC of the highest mark)"
        )
    reasons.append("index the archive again with --annotations that contain positions")
    return SettingsError(f"{path}: no scan can be used for training", reasons)


def _check_names(path: Path, archive: ArchiveIndex, wanted: Sequence[str], key: str) -> None:
    """Refuse the name of a label that the index lacks, because all cases would be unknown."""
    counts = Counter(label.name for label in archive.labels if label.value == 1)
    there = {label.name.casefold() for label in archive.labels}
    if absent := [name for name in wanted if name.casefold() not in there]:
        names = sorted({label.name for label in archive.labels}, key=lambda n: (-counts[n], n))
        known = ", ".join(f"{name} ({counts[name]})" for name in names) or "none at all"
        reasons = [f"{key}: no case has the label {name!r}" for name in absent]
        reasons.append(f"labels of the index, with their positive cases: {known}")
        raise SettingsError(f"{path}: it does not have these labels", reasons)
