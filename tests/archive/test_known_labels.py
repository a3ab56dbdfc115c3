"""The labels of cases: present, absent, or neither, by the name of the label."""

from __future__ import annotations

from medkd.archive.known_labels import SCAN_LABEL, known_labels
from medkd.index.case import Case
from medkd.index.table import ArchiveIndex, CaseLabel
from medkd.types import Nodule

SCANS = tuple(Case(name, name, "scan") for name in ("s1", "s2", "s3"))
IMAGES = tuple(Case(name, name, "image") for name in ("i1", "i2", "i3", "i4"))
INDEX = ArchiveIndex(
    (*SCANS, *IMAGES),
    nodules=(Nodule("s1", (0, 0, 0), 5.0), Nodule("s2", (0, 0, 0), 5.0, "excluded")),
    labels=(CaseLabel("i1", "mass", 1, "one"), CaseLabel("i1", "mass", 0, "two"),
            CaseLabel("i2", "mass", 1, "one"), CaseLabel("i3", "mass", None, "one")),
)  # fmt: skip


def values(name: str) -> dict[str, int | None]:
    found = next(label for label in known_labels(INDEX, INDEX.cases) if label.name == name)
    return {case.case_id: found.value(case) for case in found.cases}


def test_a_label_is_unknown_where_it_is_blank_contradictory_or_not_mentioned() -> None:
    assert values("mass") == {"i1": None, "i2": 1, "i3": None, "i4": None}


def test_scans_have_nodules_have_none_or_were_not_annotated() -> None:
    assert values(SCAN_LABEL) == {"s1": 1, "s2": 0, "s3": None}


def test_only_the_cases_that_are_asked_for_are_returned() -> None:
    found = {label.name: label.cases for label in known_labels(INDEX, SCANS[:1])}
    assert found == {"mass": (), SCAN_LABEL: SCANS[:1]}
