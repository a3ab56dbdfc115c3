"""Shortcuts: a single number of a case that predicts a label on its own.

Where the view, the scanner, the slice thickness or the size of the finding predicts the label, a
network can score well without seeing the finding, and fails where the number does not follow the
label. Columns of the INDEX describe the acquisition and should say nothing about the label. The
share of bright pixels (`brightness.py`) may belong to the finding: a network counts for what it
adds to it. If the status (ready or not analysed) predicts the label, the ready cases are no fair
sample.

Nothing is refused: a warning says what to balance or to compare. Combinations of several numbers
are not examined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from medkd.archive.brightness import BRIGHT
from medkd.archive.known_labels import KnownLabel, known_labels
from medkd.archive.notices import Notice
from medkd.evaluate.intervals import LabelledSamples, holm
from medkd.evaluate.separation import Separation, measure_separation
from medkd.index.case import Case
from medkd.index.table import ArchiveIndex

LEAST_AUC = 0.60
"""From this AUC on, a number is a shortcut, if chance is ruled out.

Models of one task often differ by 0.05 to 0.10 in AUC, so a number that reaches 0.60 alone can
decide which of them looks better.
"""

LARGEST_P = 0.05
"""Chance is ruled out up to this p-value, adjusted by Holm for all numbers compared with a label.

Labels are not adjusted for each other: each is a question of its own, and a missed shortcut costs
more than a needless warning.
"""

RESAMPLES = 500

NOT_STATED = "not stated"
_SHOWN = 3

_REMEDIES = {
    "status": "the ready cases are no fair sample: repair or accept the faults of the others; "
    "results do not hold for cases like them",
    BRIGHT: "report this AUC beside that of a network: only what it adds counts",
}
_REMEDY_OF_COLUMNS = (
    "a network can learn it instead of the finding: balance it between present and absent cases, "
    "or compare models within one value of it"
)

Kind = Literal["scan", "image"]
Value = float | str


@dataclass(frozen=True, slots=True)
class NumberOfLabel:
    """How well one number of the cases of one kind predicts one label."""

    number: str
    label: str
    kind: Kind
    separation: Separation
    is_shortcut: bool = False


def numbers_of(case: Case) -> dict[str, Value | None]:
    """Return what the INDEX states of a case: text is a category, None means no value."""
    if case.status != "ready":
        return {"status": "not analysed"}
    rows, columns = (1, 0) if case.kind == "scan" else (0, 1)
    found: dict[str, Value | None] = {
        "status": "ready",
        "site": case.site or NOT_STATED,
        "manufacturer": case.manufacturer or NOT_STATED,
        "generator": case.stamp or "real",
        "rows": _at(case.shape, rows),
        "columns": _at(case.shape, columns),
        "pixel spacing": _at(case.spacing_mm, 0),
    }
    if case.kind == "image":
        of_kind: dict[str, Value | None] = {
            "modality": case.modality or NOT_STATED,
            "view": case.view or NOT_STATED,
        }
    else:
        of_kind = {
            "kernel": case.kernel or NOT_STATED,
            "slice thickness": case.slice_thickness_mm,
            "slice spacing": _at(case.spacing_mm, 2),
            "number of slices": _at(case.shape, 2),
        }
    return {**found, **of_kind}


def measure_numbers(index: ArchiveIndex, bright: Mapping[str, float]) -> tuple[NumberOfLabel, ...]:
    """Compare every number of the cases with every label that has enough cases.

    Patches of scans are left out, because they are chosen around findings.

    Args:
        index: provides cases, labels and nodules.
        bright: shares of bright pixels of radiographs, by case id.
    """
    whole = [case for case in index.cases if case.extent == "whole"]
    kinds: tuple[Kind, ...] = ("scan", "image")
    found: list[NumberOfLabel] = []
    for kind in kinds:
        cases = [case for case in whole if case.kind == kind]
        columns = _columns(cases, bright)
        for label in known_labels(index, cases):
            of_label = list(_numbers_of_label(label, kind, columns))
            p_values = holm([one.separation.p_value for one in of_label])
            found += [
                replace(one, is_shortcut=one.separation.auc >= LEAST_AUC and p_value <= LARGEST_P)
                for one, p_value in zip(of_label, p_values, strict=True)
            ]
    return tuple(found)


def shortcut_notices(found: Sequence[NumberOfLabel]) -> Iterator[Notice]:
    """Yield a warning for each number that is a shortcut, the labels with the highest AUC first."""
    groups: dict[tuple[str, Kind], list[NumberOfLabel]] = {}
    for one in sorted(found, key=lambda one: -one.separation.auc):
        if one.is_shortcut:
            groups.setdefault((one.number, one.kind), []).append(one)
    for (number, kind), members in groups.items():
        listed = "; ".join(map(_words, members[:_SHOWN]))
        more = f"; and {len(members) - _SHOWN} more labels" if len(members) > _SHOWN else ""
        text = f"in {kind}s, {number} alone predicts {listed}{more}"
        yield Notice("shortcut", text, remedy=_REMEDIES.get(number, _REMEDY_OF_COLUMNS))


def _at(values: Sequence[float], place: int) -> float | None:
    return float(values[place]) if place < len(values) else None


def _columns(cases: Sequence[Case], bright: Mapping[str, float]) -> dict[str, dict[str, Value]]:
    """Return the known values of each number that varies, by its name and by case id."""
    columns: dict[str, dict[str, Value]] = {}
    for case in cases:
        numbers = {**numbers_of(case), BRIGHT: bright.get(case.case_id)}
        for name, value in numbers.items():
            if value is not None:
                columns.setdefault(name, {})[case.case_id] = value
    return {name: column for name, column in columns.items() if len(set(column.values())) > 1}


def _numbers_of_label(
    label: KnownLabel, kind: Kind, columns: Mapping[str, Mapping[str, Value]]
) -> Iterator[NumberOfLabel]:
    known = [
        (case.case_id, present, case.patient_id)
        for case in label.cases
        if (present := label.value(case)) is not None
    ]
    for name, column in columns.items():
        rows = [(column[case_id], *others) for case_id, *others in known if case_id in column]
        if not rows:
            continue
        values, labels, patients = zip(*rows, strict=True)
        separation = measure_separation(
            values, LabelledSamples(labels, patients), least=LEAST_AUC, resamples=RESAMPLES
        )
        if separation:
            yield NumberOfLabel(name, label.name, kind, separation)


def _words(one: NumberOfLabel) -> str:
    """Describe the AUC for a label, with the share of present cases of common categories."""
    found = one.separation
    text = f"{one.label} (AUC {found.auc:.2f}"
    if found.interval:
        low, high = found.interval.low, found.interval.high
        text += f", 95 % interval by patient {low:.2f} to {high:.2f}"
    shares = [f"{name} {100 * share:.0f} %" for name, share in found.shares.items()]
    return text + (f"; present: {', '.join(shares[:_SHOWN])})" if shares else ")")
