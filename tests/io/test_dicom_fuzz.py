"""Broken headers, files and streams: a short form of `tests/bench/fuzz_dicom.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.fuzz_dicom import BAD, corpus, fuzz, judge
from tests.bench.fuzz_dicom import Mutation as Changed

RESULTS = Path(__file__).parents[1] / "bench" / "results" / "fuzz_dicom.json"


@pytest.mark.slow
def test_mutated_series_are_refused_or_read_as_they_were(tmp_path: Path) -> None:
    found = fuzz(400, 12345, tmp_path)
    assert found["bad"] == []
    assert found["outcomes"]["refused"] > 100
    assert found["outcomes"]["equal"] > 30


def test_a_shifted_slice_would_be_called_wrong(tmp_path: Path) -> None:
    """The judge itself: pixels that change in an uncompressed file are not excused."""
    series = corpus(tmp_path)[0]
    content = bytearray(series.files[3].read_bytes())
    content[series.pixels_at[3] + 100] ^= 1
    changed = Changed(3, bytes(content), "header")
    assert judge(series, changed, tmp_path, None)[0] == "wrong_voxels"


def test_the_stored_run_of_ten_thousand_found_nothing_wrong() -> None:
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert stored["cases"] >= 10_000
    assert sum(stored["outcomes"].values()) == stored["cases"]
    assert not set(stored["outcomes"]) & set(BAD)
