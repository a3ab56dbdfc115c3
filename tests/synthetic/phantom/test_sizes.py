"""Diameters follow LUNA16's distribution."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from medkd.synthetic.phantom.forms import LUNA16_DIAMETERS_MM, LUNA16_SHARES, draw_diameter
from tests.real_data import needs_data


def test_drawn_diameters_have_the_tables_quantiles() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_diameter(rng) for _ in range(20_000)]
    wanted = np.asarray(LUNA16_DIAMETERS_MM)[2:-3]
    assert np.quantile(drawn, LUNA16_SHARES[2:-3]) == pytest.approx(wanted, rel=0.03)


def test_a_range_truncates_the_distribution() -> None:
    rng = np.random.default_rng(1)
    drawn = [draw_diameter(rng, low_mm=6.0, high_mm=9.0) for _ in range(2000)]
    assert min(drawn) >= 6.0
    assert max(drawn) <= 9.0
    assert np.median(drawn) < 7.5  # small nodules are more frequent


def test_diameters_are_uniform_in_a_range_without_luna16_nodules() -> None:
    drawn = draw_diameter(np.random.default_rng(2), low_mm=40.0, high_mm=41.0)
    assert 40.0 <= drawn <= 41.0


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(ValueError, match="low_mm <= high_mm"):
        draw_diameter(np.random.default_rng(3), low_mm=9.0, high_mm=6.0)


@needs_data
def test_the_table_is_that_of_the_official_annotations() -> None:
    table = Path(os.environ["MEDKD_DATA"]) / "luna16" / "annotations.csv"
    with table.open(encoding="utf-8") as file:
        diameters = [float(row["diameter_mm"]) for row in csv.DictReader(file)]
    assert np.quantile(diameters, LUNA16_SHARES) == pytest.approx(LUNA16_DIAMETERS_MM, abs=0.006)
