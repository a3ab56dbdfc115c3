"""What a phantom costs: processor time on one core, and memory, each in a process of its own."""

import json
import math
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from medkd.synthetic.phantom import generator_stamp

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).parent / "results" / "phantom_speed.json"
SITES = ("a", "b", "c")
FULL_SECONDS, FULL_MIB = 60.0, 2048
SMALL_SECONDS = 6.0
REGION_SHARE = 0.1
"""Most of a full scan's time that a region may take: its patient is drawn whole as well."""
ONE_CORE = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}


def measured_alone(module: str, *words: str) -> dict[str, Any]:
    """Run a module that prints JSON, in a process of its own on one core."""
    done = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-m", module, *words],
        cwd=ROOT, env={**os.environ, **ONE_CORE}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def cost_of(size: str, site: str, *, seed: int = 31) -> dict[str, Any]:
    return measured_alone("tests.bench.phantom_cost", size, site, str(seed))


def check(rows: list[dict[str, Any]]) -> None:
    full = [row for row in rows if row["size"] == "full"]
    assert {row["site"] for row in full} == set(SITES)
    for row in full:
        assert row["cpu_seconds"] < FULL_SECONDS
        assert row["peak_mib"] < FULL_MIB
        assert row["shape"][:2] == [512, 512]
        assert row["shape"][2] >= 300
    worst = max(row["cpu_seconds"] for row in full)
    fewest = min(math.prod(row["shape"]) for row in full)
    for row in rows:
        if row["size"] == "region":
            assert row["cpu_seconds"] < REGION_SHARE * worst
            assert math.prod(row["shape"]) <= 0.0101 * fewest
        if row["size"] == "small":
            assert row["cpu_seconds"] < SMALL_SECONDS


@pytest.mark.bench
def test_phantoms_of_every_size_cost_no_more_than_they_may() -> None:
    rows = [cost_of(size, site) for size in ("small", "region", "full") for site in SITES]
    result = {
        "what": "making and writing one phantom as a volume, alone in its process, one core",
        "generator": generator_stamp(),
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "scipy")},
        "rows": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    check(rows)
