"""Tests on real data find it through MEDKD_DATA alone, and skip where it is not set."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

needs_data = pytest.mark.skipif("MEDKD_DATA" not in os.environ, reason="MEDKD_DATA is not set")


def data_root() -> Path:
    """Return the folder of real data; skip the test where there is none."""
    if "MEDKD_DATA" not in os.environ:
        pytest.skip("MEDKD_DATA is not set")
    return Path(os.environ["MEDKD_DATA"])
