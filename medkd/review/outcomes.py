"""How the marks of a scan compare with its reference standard, by LUNA16's rules.

Shown to a reader only when the reader asks for it, because it would otherwise bias the reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from medkd.evaluate.matching import find_hits
from medkd.index.scan_states import label_values, scan_states
from medkd.index.table import read_index
from medkd.review.cases import Mark
from medkd.review.opened import Review
from medkd.review.stored_scores import read_reference
from medkd.types import Nodule, Reference

Outcome = Literal["hit", "false", "ignored", "found", "missed", ""]
"""hit, false, ignored: a mark; found, missed: an included nodule; "": not known."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The outcome of each mark by its id, and of each finding in the given order."""

    marks: Mapping[str, Outcome]
    findings: tuple[Outcome, ...]


def read_findings(review: Review) -> dict[str, tuple[Nodule, ...]]:
    """Read the reference standard of all scans that have one.

    For a RUN these are the scans of its `reference/`, for RESULTS the annotated scans of the INDEX
    that was given, and for an INDEX its own.
    Scans of which only some findings are known are left out.

    Returns:
        Included nodules and excluded findings by case id; () for a scan without a finding.

    Raises:
        MedkdError: if a file cannot be read, with all reasons.
    """
    if review.kind == "RUN":
        return findings_by_scan(read_reference(review.run))
    place = review.path if review.kind == "INDEX" else review.index
    if place is None:
        return {}
    archive = read_index(place)
    scans = [case for case in archive.cases if case.kind == "scan"]
    states = scan_states(scans, archive.nodules, known=label_values(archive.labels, ["nodule"]))
    known = [name for name, state in states.items() if state in {"nodules", "free"}]
    return _group(archive.nodules, known)


def findings_by_scan(reference: Reference) -> dict[str, tuple[Nodule, ...]]:
    """Return included nodules and excluded findings by scan; () for a scan without a finding."""
    return _group((*reference.nodules, *reference.excluded), reference.seriesuids)


def numbered(nodules: Sequence[Nodule]) -> list[tuple[int, Nodule]]:
    """Number nodules from 1: included ones first, then by position from the feet upwards."""
    ordered = sorted(nodules, key=lambda n: (n.counts_as == "excluded", n.center_mm[2]))
    return list(enumerate(ordered, start=1))


def nodule_name(number: int) -> str:
    """Return the name under which a nodule can be selected."""
    return f"reference-{number}"


def judge_marks(marks: Sequence[Mark], findings: Sequence[Nodule]) -> Outcomes:
    """Compare the marks of one scan with its reference standard.

    A mark inside an included nodule is a hit, one inside only an excluded finding is ignored, and
    any other is a false positive. An included nodule without a mark is missed.

    Args:
        marks: the marks of the scan.
        findings: its included nodules and excluded findings; the reference must be complete.
    """
    inside = find_hits([mark.candidate for mark in marks], findings)
    hits: list[list[bool]] = inside.tolist()
    found: list[bool] = [bool(column.any()) for column in inside.T]
    included = [finding.counts_as == "included" for finding in findings]
    judged: dict[str, Outcome] = {}
    for mark, row in zip(marks, hits, strict=True):
        found_in = [is_in for is_in, is_hit in zip(included, row, strict=True) if is_hit]
        judged[mark.mark_id] = "hit" if any(found_in) else "ignored" if found_in else "false"
    outcomes: list[Outcome] = [
        ("found" if is_hit else "missed") if is_in else ""
        for is_in, is_hit in zip(included, found, strict=True)
    ]
    return Outcomes(judged, tuple(outcomes))


def _group(nodules: Sequence[Nodule], known: Sequence[str]) -> dict[str, tuple[Nodule, ...]]:
    grouped: dict[str, list[Nodule]] = {name: [] for name in known}
    for nodule in nodules:
        if nodule.seriesuid in grouped:
            grouped[nodule.seriesuid].append(nodule)
    return {name: tuple(found) for name, found in grouped.items()}
