"""Leaks of a division: patients, or equal pixels, that are in more than one part.

Equal pixels under two identities are most likely one patient, so patients who share an image or a
scan are kept together although their identifiers differ.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from medkd.index.case import Case


@dataclass(frozen=True, slots=True)
class Leak:
    """A patient, an image or a scan that is in several parts.

    Args:
        what: one patient, or equal pixels of several patients.
        patients: the patients concerned.
        parts: the parts, sorted.
        case_ids: all cases concerned.
    """

    what: Literal["patient", "pixels"]
    patients: tuple[str, ...]
    parts: tuple[str, ...]
    case_ids: tuple[str, ...]

    def __str__(self) -> str:
        """Return the leak as one line of text."""
        where = " and ".join(self.parts)
        if self.what == "patient":
            return f"patient {self.patients[0]}: {len(self.case_ids)} cases in {where}"
        return f"equal pixels in {where}: {', '.join(self.case_ids)}"


def find_leaks(cases: Iterable[Case], homes: Mapping[str, str]) -> list[Leak]:
    """Find patients and equal pixels that are in several parts.

    Args:
        cases: of an INDEX; cases without a part are ignored.
        homes: case id to its part.

    Returns:
        Patients first. Equal pixels are reported only for different patients, since copies of
        one patient are already reported as that patient.
    """
    placed = [case for case in cases if homes.get(case.case_id)]
    leaks = []
    for patient, members in _grouped(placed, lambda case: case.patient_id).items():
        if len(parts := _parts(members, homes)) > 1:
            leaks.append(Leak("patient", (patient,), parts, _ids(members)))
    for members in same_pixels(placed):
        patients = tuple(sorted({case.patient_id for case in members}))
        if len(parts := _parts(members, homes)) > 1 and len(patients) > 1:
            leaks.append(Leak("pixels", patients, parts, _ids(members)))
    return leaks


def same_pixels(cases: Iterable[Case]) -> list[list[Case]]:
    """Return the groups of two or more cases whose pixels are equal."""
    grouped = _grouped((case for case in cases if case.content), lambda case: case.content)
    return [members for members in grouped.values() if len(members) > 1]


def bound_patients(cases: Sequence[Case]) -> list[list[Case]]:
    """Group cases that must stay in one part: of one patient, or of patients who share pixels."""
    leader = {case.patient_id: case.patient_id for case in cases}

    def lead(patient: str) -> str:
        while leader[patient] != patient:
            leader[patient] = leader[leader[patient]]
            patient = leader[patient]
        return patient

    for members in same_pixels(cases):
        first, *others = sorted({lead(case.patient_id) for case in members})
        for other in others:
            leader[other] = first
    grouped = _grouped(cases, lambda case: lead(case.patient_id))
    return [grouped[name] for name in sorted(grouped)]


def _grouped(cases: Iterable[Case], key: Callable[[Case], str]) -> dict[str, list[Case]]:
    grouped: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        grouped[key(case)].append(case)
    return dict(sorted(grouped.items()))


def _parts(members: Iterable[Case], homes: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted({homes[case.case_id] for case in members}))


def _ids(members: Iterable[Case]) -> tuple[str, ...]:
    return tuple(case.case_id for case in members)
