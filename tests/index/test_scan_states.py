"""What is known of a whole case: an unknown label never becomes 0."""

from __future__ import annotations

import pytest

from medkd.index.case import Case
from medkd.index.scan_states import EXCLUDED_ALONE, label_values, scan_states
from medkd.index.table import CaseLabel
from medkd.types import Nodule

SCANS = tuple(Case(name, "p", "scan") for name in "abcd")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"a": 1, "b": None}, 1),
        ({"a": 0, "b": None}, None),
        ({"a": 0, "b": 0}, 0),
        ({"a": 0}, None),  # b was never asked
        ({"a": None, "b": None}, None),
    ],
)
def test_any_positive_label_counts_and_an_unknown_one_is_never_zero(
    values: dict[str, int | None], expected: int | None
) -> None:
    rows = [CaseLabel("x", name, value) for name, value in values.items()]  # type: ignore[arg-type]
    assert label_values(rows, ["A", "b"]) == {"x": expected}


def test_sources_that_contradict_each_other_leave_a_label_unknown() -> None:
    rows = [CaseLabel("x", "a", 1, "table"), CaseLabel("x", "a", 0, "report")]
    assert label_values(rows, ["a"]) == {"x": None}
    assert label_values([*rows[:1], CaseLabel("x", "a", None, "report")], ["a"]) == {"x": 1}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"A or b": 1}, 1),
        ({"b or a": 1, "a": 0}, 1),  # then it is b
        ({"A or b": 1, "a": 0, "b": 0}, None),
        ({"A or b": 0, "a": 0, "b": 0}, 0),
        ({"A or b": 0}, None),
        ({"a or b or c": 1, "a": 0}, None),  # it may be c
    ],
)
def test_a_label_of_two_findings_together_counts_where_both_are_wanted(
    values: dict[str, int | None], expected: int | None
) -> None:
    rows = [CaseLabel("x", name, value) for name, value in values.items()]  # type: ignore[arg-type]
    assert label_values(rows, ["a", "B"]).get("x") == expected


def test_a_scan_is_free_of_nodules_only_where_somebody_read_it() -> None:
    findings = [Nodule("a", (0.0, 0.0, 0.0), 5.0), Nodule("b", (0.0, 0.0, 0.0), 5.0, "excluded")]
    states = scan_states(SCANS, findings, known={"c": 1})
    assert states == {"a": "nodules", "b": "free", "c": "label_only", "d": "unannotated"}


def test_excluded_findings_alone_do_not_show_that_a_scan_was_read() -> None:
    source = (f"table, {EXCLUDED_ALONE}",)
    finding = Nodule("b", (0.0, 0.0, 0.0), 5.0, "excluded", sources=source)
    assert set(scan_states(SCANS, [finding], known={}).values()) == {"unannotated"}
