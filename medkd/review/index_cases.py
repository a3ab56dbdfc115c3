"""The cases of an INDEX as a worklist for review, without scores of a model.

Reference nodules and labels are shown with the pictures, so a reader can check that the
annotations are correct.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from medkd.index.case import Case
from medkd.index.scan_states import ScanState, label_values, scan_states
from medkd.index.table import ArchiveIndex
from medkd.review.worklist import order_cases
from medkd.types import RunCase


def index_cases(archive: ArchiveIndex) -> list[RunCase]:
    """List the cases of an INDEX in reading order, without scores."""
    placed = {nodule.seriesuid for nodule in archive.nodules if nodule.counts_as == "included"}
    return order_cases(_run_case(case, placed) for case in archive.cases)


def label_rows(archive: ArchiveIndex, case_id: str) -> list[tuple[str, str, str]]:
    """Return each label of a case as text: its name, present / absent / not known, its source."""
    words = {1: "present", 0: "absent", None: "not known"}
    return [
        (label.name, words[label.value], label.source)
        for label in archive.labels
        if label.case_id == case_id
    ]


@dataclass(frozen=True, slots=True)
class NoduleFact:
    """What is known about the nodules of a scan: `count` (None if unknown), and a text."""

    count: int | None
    words: str


def nodule_facts(archive: ArchiveIndex) -> dict[str, NoduleFact]:
    """Return what is known about the nodules of each scan, by case id."""
    scans = [case for case in archive.cases if case.kind == "scan"]
    known = label_values(archive.labels, ["nodule"])
    counts = Counter(n.seriesuid for n in archive.nodules if n.counts_as == "included")
    states = scan_states(scans, archive.nodules, known=known)
    return {
        name: NoduleFact(counts[name] if state in {"nodules", "free"} else None, STATE_WORDS[state])
        for name, state in states.items()
    }


def synthetic_words(case: Case) -> str:
    """Return "synthetic: GENERATOR" if a case or its nodules are synthetic, otherwise ""."""
    if not case.synthetic and not case.generator:
        return ""
    return f"synthetic: {case.generator}" if case.generator else "synthetic"


STATE_WORDS: dict[ScanState, str] = {
    "nodules": "nodules with their places",
    "free": "annotated, no nodule",
    "label_only": "has a nodule, place not known",
    "unannotated": "not annotated",
}


def _run_case(case: Case, placed: set[str]) -> RunCase:
    return RunCase(
        case_id=case.case_id,
        patient_id=case.patient_id,
        kind=case.kind,
        path=str(case.path),
        split=case.origin,
        row=None,
        label=1 if case.case_id in placed else None,
        score=None,
        status="analysed" if case.status == "ready" else "not_analysed",
        reasons=case.reasons,
    )
