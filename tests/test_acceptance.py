"""Scores of an acceptance test by hand: groups, chance, intervals, choice of scans."""

from __future__ import annotations

import pytest

from medkd.acceptance.results import PointResult, ScoredNodule, ScoredScan
from medkd.acceptance.run import choose_scans
from medkd.acceptance.score import score_nodules, score_points
from medkd.index.case import Case
from medkd.synthetic.implant.kept import NoduleRow, ScanRow
from medkd.types import Candidate, OperatingPoint


def nodule(diameter_mm: float = 8.0, texture: str = "solid", x: float = 0.0) -> NoduleRow:
    return NoduleRow((x, 0.0, 0.0), diameter_mm, texture, "round", "free", 40, 800, 9.0)


def scan(number: int, *nodules: ScoredNodule, false: tuple[float, ...] = ()) -> ScoredScan:
    return ScoredScan(
        f"s{number}", f"p{number}", analysed=True, false_scores=false, nodules=nodules
    )


def scored(*scans: ScoredScan, threshold: float = 0.5) -> PointResult:
    points = {"whole-scan": OperatingPoint(threshold, "r", fp_per_scan=1.0)}
    (result,) = score_points(scans, points, seed=0)
    return result


def test_sensitivity_is_counted_by_size_and_type() -> None:
    result = scored(
        scan(1, ScoredNodule(nodule(5.9), 0.5, 0.0), ScoredNodule(nodule(6.0), 0.4, 0.0)),
        scan(2, ScoredNodule(nodule(10.1, "ground-glass"), 0.9, 0.6)),
    )
    found = {group.name: (group.found, group.nodules) for group in result.groups}
    assert found == {
        "all nodules": (2, 3), "below 6 mm": (1, 1), "6 to 10 mm": (0, 1), "above 10 mm": (1, 1),
        "solid": (1, 2), "ground-glass": (1, 1), "free": (2, 3),
    }  # fmt: skip
    assert result.groups[0].sensitivity.value == pytest.approx(2 / 3)
    assert result.groups[0].marked_before == 1


def test_false_marks_are_counted_per_analysed_scan() -> None:
    refused = ScoredScan("s9", "p9", analysed=False, reasons=("dark",))
    result = scored(scan(1, false=(0.9, 0.5, 0.4)), scan(2, false=(0.49,)), refused)
    assert result.false_marks.value == 1.0  # 2 of scan 1, none of scan 2
    assert result.false_marks.interval is not None
    assert (result.false_marks.interval.low, result.false_marks.interval.high) == (0.0, 2.0)
    assert result.groups == ()


def test_intervals_resample_patients_not_nodules() -> None:
    many = [ScoredNodule(nodule(), 0.9, 0.0)] * 50
    none = [ScoredNodule(nodule(), 0.0, 0.0)] * 50
    interval = scored(scan(1, *many), scan(2, *none)).groups[0].sensitivity.interval
    assert interval is not None
    assert (interval.low, interval.high, interval.unit) == (0.0, 1.0, "patient")
    assert scored(scan(1, *many)).groups[0].sensitivity.interval is None


def test_points_with_one_threshold_are_one_result() -> None:
    points = {
        "whole-scan": OperatingPoint(0.5, "r"),
        "whole-scan@4": OperatingPoint(0.1, "r"),
        "whole-scan@1": OperatingPoint(0.5, "r"),
    }
    results = list(score_points([scan(1)], points, seed=0))
    assert [r.names for r in results] == [("whole-scan", "whole-scan@1"), ("whole-scan@4",)]


def test_a_nodule_has_the_score_of_its_mark_after_and_before() -> None:
    row = ScanRow("s1", "s1", "memory", 1.0, 0.0, 9, 1.0, 10.0, (nodule(), nodule(x=50.0)))
    after = [Candidate("s1", (3.0, 0.0, 0.0), 0.8), Candidate("s1", (54.1, 0.0, 0.0), 0.7)]
    before = [Candidate("s1", (1.0, 0.0, 0.0), 0.2)]
    found = score_nodules(row, before=before, after=after)
    assert [(n.score, n.score_before) for n in found] == [(0.8, 0.2), (0.0, 0.0)]


def test_scans_are_of_as_many_patients_as_possible_and_the_same_for_a_seed() -> None:
    ready = [Case(f"s{n}", f"p{n // 4}", "scan") for n in range(12)]
    chosen = choose_scans(ready, 3, seed=1)
    assert {case.patient_id for case in chosen} == {"p0", "p1", "p2"}
    assert choose_scans(ready, 3, seed=1) == chosen
    assert {case.case_id for case in choose_scans(ready, 99, seed=1)} == {
        f"s{n}" for n in range(12)
    }
