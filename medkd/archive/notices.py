"""Notices on an INDEX, above all whether it can be divided by patient.

`medkd check` reports them before `medkd split` is run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medkd.archive.split import group_inseparable, positive_labels
from medkd.index.case import Case
from medkd.index.frozen_split import PARTS
from medkd.index.scan_states import label_values, scan_states
from medkd.index.table import ArchiveIndex

CANNOT_SPLIT = "cannot_split"
STAND_INS = {
    "study": "the header names no patient: its study counts as one",
    "series": "nothing names the patient of the patch: its series counts as one",
}
"""What is used as the patient of a case that names none, to the note on the case."""

_SEVERAL = {"study": "studies", "series": "series"}

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that should be checked: a code for scripts, a text for people, a remedy.

    `ids` are the cases or patients concerned. `remedy` is empty if nothing can be done.
    """

    code: str
    text: str
    ids: tuple[str, ...] = ()
    remedy: str = ""

    def __str__(self) -> str:
        """Return the notice as one line of text."""
        return f"{self.code}: {self.text}" + (f"; {self.remedy}" if self.remedy else "")


def split_notices(index: ArchiveIndex, ready: Sequence[Case]) -> Iterator[Notice]:
    """Yield why the cases cannot be divided into train, val and test, each with positives.

    Args:
        index: provides labels and nodules.
        ready: its cases that are ready.
    """
    if not ready:
        return
    groups = group_inseparable(ready)
    yield from _nameless(ready)
    if len(groups) < len(PARTS):
        yield _too_few(ready, len(groups))
        return
    yield from _few_annotated(index, groups)
    labels = positive_labels(index)
    positive: dict[str, list[list[Case]]] = defaultdict(list)
    for group in groups:
        for name in set().union(*(labels.get(case.case_id, set()) for case in group)):
            positive[name].append(group)
    for name, found in sorted(positive.items()):
        if len(found) < len(PARTS):
            ids = tuple(sorted({case.patient_id for group in found for case in group}))
            yield Notice(
                "few_positive_patients",
                f"{name}: known to be present in only {len(found)} of {len(groups)} patients: "
                f"{len(PARTS) - len(found)} of train, val and test will have none",
                ids,
                "index more patients with it, or give more annotations",
            )


def _nameless(ready: Sequence[Case]) -> Iterator[Notice]:
    for unit, note in STAND_INS.items():
        if nameless := tuple(case.case_id for case in ready if note in case.notes):
            yield Notice(
                "no_patient_id",
                f"{len(nameless)} of {len(ready)} cases name no patient, and each {unit} counts as "
                f"one: two {_SEVERAL[unit]} of one patient can get into different parts of a split",
                nameless,
                "restore PatientID in the archive, or give a table of patients: medkd index "
                "--patients",
            )


def _few_annotated(index: ArchiveIndex, groups: Sequence[Sequence[Case]]) -> Iterator[Notice]:
    """Warn if so few scans are annotated that train, val and test cannot all be filled."""
    scans = [case for group in groups for case in group if case.kind == "scan"]
    states = scan_states(scans, index.nodules, known=label_values(index.labels, ["nodule"]))
    if "nodules" not in states.values() or "unannotated" not in states.values():
        return  # Training on scans needs nodules with places.
    useful = {name for name, state in states.items() if state in ("nodules", "free")}
    annotated = [group for group in groups if any(case.case_id in useful for case in group)]
    if len(annotated) < len(PARTS):
        yield Notice(
            "few_annotated_patients",
            f"only {len(annotated)} of {len(groups)} patients have annotated scans; training "
            "omits the other scans, and then cannot fill train, val and test",
            tuple(sorted(name for name, state in states.items() if state == "unannotated")),
            f"give annotations of at least {len(PARTS)} patients; or, if the other "
            "scans were read and have no nodules, train with --set "
            "target.data.unannotated=negative",
        )


def _too_few(ready: Sequence[Case], groups: int) -> Notice:
    patients = sorted({case.patient_id for case in ready})
    ids = tuple(patients[:_SHOWN])
    if len(patients) == 1 and len(ready) > 1:
        units = [u for u, note in STAND_INS.items() if all(note in case.notes for case in ready)]
        what = f"are of one {units[0]} and name no patient" if units else "have one PatientID"
        return Notice(
            CANNOT_SPLIT,
            f"all {len(ready)} cases {what}: they cannot be divided by patient",
            ids,
            "if it is a placeholder for many patients, give each patient an ID of their own in "
            "the archive and index it again; for one patient, detect and review work",
        )
    joined = ", since patients with equal pixels count as one" if len(patients) > groups else ""
    return Notice(
        CANNOT_SPLIT,
        f"cases of only {groups} patient{'s' * (groups > 1)} are ready, which cannot fill train, "
        f"val and test{joined}",
        ids,
        f"index at least {len(PARTS)} patients to train; for fewer, detect and review work",
    )
