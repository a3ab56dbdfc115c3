"""What a run of the tests may not go without: MEDKD_REQUIRE names it, and nothing of it skips."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import postgres_program

TOOLS = ("dciodvfy", "nginx", "openssl")
"""Programs whose tests skip where they are not installed."""


if "PYTEST_XDIST_WORKER" in os.environ:  # two of them share two cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_sessionstart() -> None:
    required = os.environ.get("MEDKD_REQUIRE", "").split(",")
    missing = [name for name in TOOLS if name in required and shutil.which(name) is None]
    if "postgresql" in required and postgres_program("initdb") is None:
        missing.append("PostgreSQL's server programs")
    if "data" in required and not Path(os.environ.get("MEDKD_DATA", "none")).is_dir():
        missing.append("the folder of MEDKD_DATA")
    if missing:
        pytest.exit(f"MEDKD_REQUIRE asks for {', '.join(missing)}", returncode=1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch  # loaded by the tests that are so marked alone

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """Give the main module back: AppTest leaves the app there, and new processes would run it."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main
