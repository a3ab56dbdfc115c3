"""Broken volume files: a short form of `tests/bench/fuzz_volumes.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.fuzz_volumes import BAD, FORMATS, Mutation, corpus, fuzz, judge

RESULTS = Path(__file__).parents[1] / "bench" / "results" / "fuzz_volumes.json"


@pytest.mark.parametrize("kind", FORMATS)
def test_mutated_volumes_are_refused_or_read_as_they_were(tmp_path: Path, kind: str) -> None:
    found = fuzz(kind, 60, 12345, tmp_path)
    assert found["bad"] == []
    assert found["outcomes"]["refused"] > 20
    assert found["outcomes"]["equal"] > 2


def test_a_voxel_that_changes_behind_a_checksum_would_be_called_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge itself: other voxels from a compressed file are not excused."""
    packed = next(v for v in corpus("nifti", tmp_path) if v.packed)
    other = packed.scan.voxels_hu.copy(order="K")
    other[0, 0, 0] += 1
    wrong = type(packed.scan)("a", other, packed.scan.grid, "a")
    monkeypatch.setattr("tests.bench.fuzz_volumes.read_volume", lambda _: wrong)
    unchanged = Mutation(0, packed.files[0].read_bytes(), "stream")
    assert judge(packed, unchanged)[0] == "wrong_voxels"


def test_the_stored_run_of_three_thousand_each_found_nothing_wrong() -> None:
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    for kind in FORMATS:
        assert stored[kind]["cases"] >= 3_000
        assert sum(stored[kind]["outcomes"].values()) == stored[kind]["cases"]
        assert not set(stored[kind]["outcomes"]) & set(BAD)
