"""The counting of `real_nodules` on made-up scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.bench.real_nodules import diameter_errors, highest_near, summary


def nodule(score: float, diameter_mm: float, found_mm: float | None = None) -> dict[str, Any]:
    return {"score": score, "diameter_mm": diameter_mm, "found_mm": found_mm}


def test_thresholds_are_those_of_the_false_marks_of_all_scans_together() -> None:
    # Three scans: 3, 6, 12 and 24 false marks are allowed; the limits are scores 17, 14, 8 and -4.
    best = {name: {"random": [-9.0], "best": list(range(20, -10, -1))[n::3]} for n, name in
            enumerate("abc")}  # fmt: skip
    nodules = [nodule(17.5, 5.0), nodule(17.0, 8.0), nodule(9.0, 12.0), nodule(-8.0, 12.0)]
    found = summary([{"nodules": nodules, "negatives": best}])
    assert found["sensitivity"]["all"] == {"1": 0.25, "2": 0.5, "4": 0.75, "8": 0.75}
    assert found["sensitivity"]["below 6 mm"]["1"] == 1.0
    assert found["sensitivity"]["above 10 mm"]["8"] == 0.5
    assert found["mean_sensitivity"] == pytest.approx(0.5625)


def test_diameters_are_compared_where_a_nodule_was_found() -> None:
    found = diameter_errors([nodule(0, 5.0, 6.0), nodule(0, 9.0, 8.0), nodule(0, 9.0)])
    assert found["4 to 15 mm"]["nodules"] == 2
    assert found["4 to 15 mm"]["median_absolute_error"] == 1.0
    assert found["4 to 15 mm"]["bias"] == 0.0
    assert found["below 6 mm"]["bias"] == 1.0
    assert "above 10 mm" not in found


def test_a_place_has_the_highest_logit_within_five_millimetres() -> None:
    heat = torch.full((5, 20, 20, 20), -5.0)
    heat[0, 5, 5, 5] = 2.0  # its centre is at voxel 10.5
    near, away = np.array([10.5, 10.5, 15.4]), np.array([10.5, 10.5, 15.6])
    assert highest_near(heat, np.array([near, away])) == [2.0, -5.0]
