"""Stored results are of the generators that the package has, and say what the package prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medkd.difficulty import MEASURED
from medkd.jsonio import read_json
from medkd.synthetic.implant.make import VERSION
from medkd.synthetic.phantom import generator_stamp
from tests.bench.phantom_difficulty.score import Result, failed_bars

RESULTS = Path(__file__).parent / "results"


@pytest.mark.parametrize(
    ("name", "keys", "expected"),
    [
        ("phantom_difficulty", ["generator"], generator_stamp()),
        ("phantom_speed", ["generator"], generator_stamp()),
        ("implant_realism", ["generator_version"], VERSION),
        ("implant_cost", ["implants", "implants_version"], VERSION),
    ],
)
def test_a_result_is_of_the_generator_of_today(name: str, keys: list[str], expected: str) -> None:
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    for key in keys:
        found = found[key]
    assert found == expected


def test_the_package_prints_the_stored_difficulty_which_keeps_to_its_bars() -> None:
    result = read_json(RESULTS / "phantom_difficulty.json", Result)
    known = MEASURED[generator_stamp()]
    classifier, surroundings = result.luna16_classifier, result.masked_surroundings
    assert failed_bars(result) == ()
    assert classifier is not None
    assert surroundings is not None
    for figure, value, interval in (
        (known.blob_cpm, result.blob_finder.cpm, result.blob_finder.interval_95),
        (known.classifier_auc, classifier.roc_auc, classifier.interval_95),
        (known.surroundings_auc, surroundings.roc_auc, surroundings.interval_95),
    ):
        assert figure is not None
        assert ((figure.low, figure.high), figure.value) == (interval, value)
    assert (known.scans, result.size) == (result.scans, "full")
