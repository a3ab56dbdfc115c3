"""How often labels are present, absent and unknown: always three numbers, never two."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medkd.index.case import Case
from medkd.index.scan_states import label_values, scan_states
from medkd.index.table import ArchiveIndex

SCAN_LABEL = "scan with a nodule"
"""Name of the combined information on nodules of a scan: places, or a label `nodule`."""


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


def label_balance(index: ArchiveIndex, ready: Sequence[Case]) -> Iterator[LabelBalance]:
    """Count every label at every site, then the scans with and without nodules.

    Args:
        index: provides labels and nodules.
        ready: its cases that are ready.
    """
    known: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for label in index.labels:
        values = known[label.name][label.case_id]
        values.update([] if label.value is None else [label.value])
    for name, of_cases in sorted(known.items()):
        kinds = {case.kind for case in ready if case.case_id in of_cases}
        mine = [case for case in ready if case.kind in kinds]
        yield from _by_site(name, mine, {c.case_id: of_cases.get(c.case_id, set()) for c in mine})
    scans = [case for case in ready if case.kind == "scan"]
    labelled = label_values(index.labels, ["nodule"])
    states = scan_states(scans, index.nodules, known=labelled)
    meaning = {"nodules": {1}, "label_only": {1}, "free": {0}, "unannotated": set[int]()}
    states_of = {name: meaning[state] for name, state in states.items()}
    yield from _by_site(SCAN_LABEL, scans, states_of)


def _by_site(
    label: str, cases: Sequence[Case], known: Mapping[str, set[int]]
) -> Iterator[LabelBalance]:
    """Count a label at each site; it is unknown if sources contradict each other."""
    for site in sorted({case.site for case in cases}):
        values = [known[case.case_id] for case in cases if case.site == site]
        present, absent = values.count({1}), values.count({0})
        yield LabelBalance(label, site, present, absent, len(values) - present - absent)
