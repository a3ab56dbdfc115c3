"""What is known about a whole case: its label, and whether a scan has nodules.

A case that nobody annotated is not a case without findings: no function here converts "unknown"
to 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from medkd.index.case import Case
from medkd.index.table import CaseLabel
from medkd.types import Nodule, findings_in

Value = Literal[0, 1] | None
ScanState = Literal["nodules", "free", "label_only", "unannotated"]

EXCLUDED_ALONE = "excluded alone"
"""Suffix of the name of a source of annotations that contains only excluded findings."""

MASK = "mask"
"""Name of the source of a patch's own nodule; it says nothing about other scans."""


def label_values(labels: Iterable[CaseLabel], positive: Sequence[str]) -> dict[str, Value]:
    """Combine labels by case: 1 if any of them is 1, 0 if all are known to be 0.

    A label "A or B" with the value 1, as readers of a model for both leave it, counts if both are
    combined here. If labels contradict each other, the value is unknown.

    Args:
        labels: of all cases.
        positive: names of the labels to combine.

    Returns:
        Case id to value, None if it is unknown; cases without any of the labels are omitted.

    Example:
        >>> rows = [CaseLabel("a", "Nodule", 0), CaseLabel("a", "Mass", None)]
        >>> label_values(rows, ["nodule"]), label_values(rows, ["nodule", "mass"])
        ({'a': 0}, {'a': None})
    """
    wanted = {name.casefold() for name in positive}
    found: dict[str, dict[str, set[Value]]] = defaultdict(lambda: defaultdict(set))
    for label in labels:
        name = label.name.casefold()
        if name in wanted or (label.value == 1 and wanted.issuperset(findings_in(name))):
            found[label.case_id][name].add(label.value)
    return {case_id: _any_of(by_name, wanted) for case_id, by_name in found.items()}


def scan_states(
    ready: Iterable[Case], findings: Sequence[Nodule], *, known: Mapping[str, Value]
) -> dict[str, ScanState]:
    """Return what is known about the nodules of each scan.

    An excluded finding shows that somebody read the scan, but only if there is a source of nodules
    too: otherwise the excluded findings are known, but not the nodules.

    Args:
        ready: the scans.
        findings: reference nodules and excluded findings of all scans.
        known: labels of whole scans, as `label_values` returns them.
    """
    with_nodules = {n.seriesuid for n in findings if n.counts_as == "included"}
    has_source_of_nodules = any(
        not n.sources or any(name != MASK and EXCLUDED_ALONE not in name for name in n.sources)
        for n in findings
    )
    read = {n.seriesuid for n in findings} if has_source_of_nodules else set()
    states: dict[str, ScanState] = {}
    for case in ready:
        value = known.get(case.case_id)
        if case.case_id in with_nodules:
            states[case.case_id] = "nodules"
        elif value == 1:
            states[case.case_id] = "label_only"
        elif value == 0 or case.case_id in read:
            states[case.case_id] = "free"
        else:
            states[case.case_id] = "unannotated"
    return states


def _any_of(by_name: Mapping[str, set[Value]], wanted: set[str]) -> Value:
    # If sources contradict each other the label is unknown; `medkd check` names them.
    values = [by_name.get(name, set()) - {None} for name in wanted]
    absent = all(value == {0} for value in values)
    if set(by_name) - wanted:  # "A or B" is present
        return None if absent or {0, 1} in values else 1
    if {1} in values:
        return 1
    return 0 if absent else None
