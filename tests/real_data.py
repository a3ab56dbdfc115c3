"""Tests on real data find it through MEDKD_DATA alone, and skip where it is not set."""

from __future__ import annotations

import os

import pytest

needs_data = pytest.mark.skipif("MEDKD_DATA" not in os.environ, reason="MEDKD_DATA is not set")
