"""What putting nodules into a real scan costs, beside a phantom that is made in the same run."""

import json
from pathlib import Path
from typing import Any

import pytest

from medkd.synthetic.implant.make import VERSION
from tests.bench.test_phantom_speed import cost_of, measured_alone

RESULT = Path(__file__).parent / "results" / "implant_cost.json"
NODULES = 10
MOST_MIB = 2048
MOST_PHANTOMS = 4.0
"""Full phantoms that could be made while a scan is made ready."""


def check(result: dict[str, Any]) -> None:
    row = result["implants"]
    assert row["nodules"] == NODULES
    assert row["peak_mib"] < MOST_MIB
    assert result["ready_in_phantoms"] < MOST_PHANTOMS


@pytest.mark.bench
def test_implants_cost_no_more_than_they_may() -> None:
    phantom = cost_of("full", "a")
    row = measured_alone("tests.bench.implant_cost", str(NODULES))
    parts, full = row["cpu_seconds"], phantom["cpu_seconds"]
    result = {
        "what": "nodules into a real series, one core; ratios to making a full phantom in this run",
        "phantom_cpu_seconds": full,
        "ready_in_phantoms": round((parts["measuring"] + parts["rehearsal"]) / full, 2),
        "nodule_in_phantoms": round(parts["nodules"] / NODULES / full, 3),
        "implants": row,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    check(result)


def test_the_stored_cost_is_of_these_implants_and_within_the_limits() -> None:
    result = json.loads(RESULT.read_text())
    assert result["implants"]["implants_version"] == VERSION
    check(result)
