"""Where two models disagree: by the peaks of their maps, or by their predictions."""

from __future__ import annotations

import numpy as np
import pytest

from medkd.explain.disagreement import MOST_PER_CASE, compare_maps, compare_predictions, rank_cases
from medkd.geometry import VoxelGrid
from medkd.io.heat_maps import HeatMap
from medkd.runs import Prediction


def build_map(arm: str, *peaks: tuple[tuple[int, int, int], int], origin: float = 0.0) -> HeatMap:
    """Build a map of 2 mm cells with single hot cells."""
    grid = VoxelGrid.from_parts((20, 20, 20), spacing_mm=(2, 2, 2), origin_mm=(origin, 0, 0))
    values = np.zeros(grid.shape, dtype=np.uint8)
    for cell, value in peaks:
        values[cell] = value
    return HeatMap(values, grid, "probability", arm, "nodule")


def test_a_place_that_one_model_alone_finds_is_the_greatest_disagreement() -> None:
    teacher = build_map("teacher", ((5, 5, 5), 204), ((15, 5, 5), 102))
    student = build_map("student", ((6, 5, 5), 153), ((5, 15, 5), 255))
    first, second, third = compare_maps("c", teacher, student)
    assert first.center_mm == (10.0, 30.0, 10.0)
    assert (first.teacher, first.student, first.difference) == (0.0, 1.0, 1.0)
    assert (second.center_mm, second.teacher, second.student) == ((30.0, 10.0, 10.0), 0.4, 0.0)
    # The same nodule one cell further: .8 and .6, listed once.
    assert third.center_mm in {(10.0, 10.0, 10.0), (12.0, 10.0, 10.0)}
    assert third.difference == pytest.approx(-0.2)


def test_places_are_compared_in_millimetres_though_the_grids_differ() -> None:
    teacher = build_map("teacher", ((5, 5, 5), 204))
    student = build_map("student", ((2, 5, 5), 204), origin=6.0)
    (row,) = compare_maps("c", teacher, student)
    assert row.difference == 0.0


def test_a_place_outside_the_other_map_has_probability_zero_there() -> None:
    (row,) = compare_maps(
        "c", build_map("teacher", ((5, 5, 5), 204)), build_map("student", origin=500.0)
    )
    assert (row.teacher, row.student) == (0.8, 0.0)


def test_a_case_has_at_most_ten_places() -> None:
    peaks = [((i, j, 5), 200) for i in range(1, 20, 4) for j in range(1, 20, 4)]
    assert (
        len(compare_maps("c", build_map("teacher", *peaks), build_map("student"))) == MOST_PER_CASE
    )


def test_predictions_are_compared_by_sample_and_label() -> None:
    def row(sample: str, *probabilities: float) -> Prediction:
        return Prediction(sample, "p", sample, (1, 0), (0.0, 0.0), probabilities)

    teacher = [row("a", 0.9, 0.1), row("b", 0.5, 0.5), row("only teacher", 1.0, 1.0)]
    student = [row("b", 0.5, 0.9), row("a", 0.2, 0.1)]
    found = compare_predictions(teacher, student, ["opacity", "fluid"])
    assert [(one.case_id, one.label) for one in found[:2]] == [("a", "opacity"), ("b", "fluid")]
    assert found[0].difference == pytest.approx(-0.7)
    assert len(found) == 4


def test_a_case_is_ranked_by_its_greatest_difference_over_samples_and_labels() -> None:
    def row(sample: str, case: str, *probabilities: float) -> Prediction:
        return Prediction(sample, "p", case, (None, None), (0.0, 0.0), probabilities, (1, 2, 3))

    teacher = [row("a:0", "a", 0.9, 0.1), row("a:1", "a", 0.5, 0.5), row("b", "b", 0.2, 0.2)]
    student = [row("b", "b", 0.2, 0.9), row("a:1", "a", 0.5, 0.1), row("a:0", "a", 0.8, 0.1)]

    first, second = rank_cases(teacher, student, ["nodule", "mass"])

    assert (first.case_id, first.label, first.teacher, first.student) == ("b", "mass", 0.2, 0.9)
    assert (second.case_id, second.label, second.difference) == ("a", "mass", -0.4)


def test_equal_disagreements_are_ranked_by_case_id() -> None:
    rows = [Prediction(name, "p", name, (None,), (0.0,), (0.5,)) for name in "cab"]
    assert [row.case_id for row in rank_cases(rows, rows[::-1], ["nodule"])] == ["a", "b", "c"]
