"""The agreement of LIDC-IDRI as read here with LUNA16's list, stored whole and tried in part."""

from __future__ import annotations

import json

from tests.bench.lidc_against_luna16 import RESULT, compare, summarise
from tests.real_data import data_root


def test_the_stored_agreement_meets_its_bars() -> None:
    stored = json.loads(RESULT.read_text())
    assert (stored["scans"], stored["nodules"]) == (601, 1186)
    assert stored["matched"] + len(stored["not_matched"]) == 1186
    assert stored["matched"] == stored["matched_to_a_nodule_of_its_own"] >= 1150
    assert all(row["reason"] for row in stored["not_matched"])
    assert stored["diameter_difference_mm"]["median"] < 0.5
    assert stored["diameter_difference_mm"]["share_within_2"] >= 0.95
    assert stored["z_difference_mm"]["max"] <= 2


def test_every_twentieth_scan_agrees_today() -> None:
    found = summarise(compare(data_root(), every=20))
    assert found["matched"] == found["nodules"] == 63
    assert found["diameter_difference_mm"]["median"] < 0.2
    assert found["diameter_difference_mm"]["max"] < 2
    assert found["z_difference_mm"]["max"] < 1.3
