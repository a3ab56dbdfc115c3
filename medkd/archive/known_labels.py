"""The labels of an INDEX case by case: what is known of each, and what contradicts itself."""

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
class KnownLabel:
    """One label and the cases that can have it.

    `values` maps case ids to the values that sources state: {1} present, {0} absent, both if they
    contradict each other; cases that are not in it, or have no value, are unknown.
    """

    name: str
    cases: tuple[Case, ...]
    values: Mapping[str, set[int]]

    def value(self, case: Case) -> int | None:
        """Return 1 or 0, or None if it is unknown or contradictory."""
        found = self.values.get(case.case_id, set())
        return next(iter(found)) if len(found) == 1 else None


def known_labels(index: ArchiveIndex, cases: Sequence[Case]) -> Iterator[KnownLabel]:
    """Yield every label, then whether scans have nodules.

    Args:
        index: provides labels and nodules.
        cases: those of its cases whose labels are wanted.
    """
    known: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for label in index.labels:
        values = known[label.name][label.case_id]
        values.update([] if label.value is None else [label.value])
    for name, of_cases in sorted(known.items()):
        kinds = {case.kind for case in cases if case.case_id in of_cases}
        mine = tuple(case for case in cases if case.kind in kinds)
        yield KnownLabel(name, mine, dict(of_cases))
    scans = tuple(case for case in cases if case.kind == "scan")
    labelled = label_values(index.labels, ["nodule"])
    states = scan_states(scans, index.nodules, known=labelled)
    meaning = {"nodules": {1}, "label_only": {1}, "free": {0}, "unannotated": set[int]()}
    states_of = {name: meaning[state] for name, state in states.items()}
    yield KnownLabel(SCAN_LABEL, scans, states_of)
