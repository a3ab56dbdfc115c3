"""What adding nodules to a real scan costs."""

import json
from pathlib import Path
from typing import Any

import pytest

from medkd.synthetic.implant.make import VERSION
from tests.bench.test_phantom_speed import measured_alone

RESULT = Path(__file__).parent / "results" / "implant_cost.json"
NODULES = 10
MOST_MIB = 2048
MOST_SECONDS, MOST_SECONDS_A_NODULE = 15.0, 1.0
"""Of one core."""


def check(result: dict[str, Any]) -> None:
    row = result["implants"]
    assert row["nodules"] == NODULES
    assert row["peak_mib"] < MOST_MIB
    seconds = row["cpu_seconds"]
    assert seconds["reading"] + seconds["measuring"] <= MOST_SECONDS
    assert seconds["nodules"] <= NODULES * MOST_SECONDS_A_NODULE


@pytest.mark.bench
def test_implants_cost_no_more_than_they_may() -> None:
    row = measured_alone("tests.bench.implant_cost", str(NODULES))
    result = {"what": "nodules in a real series, one core", "implants": row}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    check(result)


def test_the_stored_cost_is_of_these_implants_and_within_the_limits() -> None:
    result = json.loads(RESULT.read_text())
    assert result["implants"]["implants_version"] == VERSION
    check(result)
