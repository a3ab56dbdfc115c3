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
    blobs, classifier, trees = (
        result.blob_finder, result.luna16_classifier, result.masked_surroundings,
    )  # fmt: skip
    assert failed_bars(result) == ()
    assert classifier is not None
    assert trees is not None
    assert result.size == "full"
    assert MEASURED[generator_stamp()] == (
        f"blob finder CPM {_figure(blobs.cpm, blobs.interval_95)}, "
        f"LUNA16 classifier AUC {_figure(classifier.roc_auc, classifier.interval_95)}, "
        f"masked surroundings AUC {_figure(trees.roc_auc, trees.interval_95)} "
        f"({result.scans} full scans)"
    )


def _figure(value: float, interval: tuple[float, float] | None) -> str:
    assert interval is not None
    return f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"
