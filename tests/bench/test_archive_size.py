"""The stored rows of `archive_size.py`: memory stays as it is, a kill costs nothing."""

from __future__ import annotations

import json

from tests.bench.archive_size import RESULTS


def test_memory_does_not_grow_with_the_archive() -> None:
    small, large = json.loads(RESULTS.read_text())["rows"]
    assert (small["files"], large["files"]) == (10_000, 100_000)
    assert large["resumed"]["peak_mib"] < 1.25 * small["resumed"]["peak_mib"]
    assert (
        large["resumed"]["peak_mib_of_a_worker"] < 1.25 * (small["resumed"]["peak_mib_of_a_worker"])
    )


def test_a_killed_run_leaves_no_process_and_loses_no_file() -> None:
    for row in json.loads(RESULTS.read_text())["rows"]:
        assert row["processes_left"] == 0
        assert row["counts"]["files"] == row["files"]
        assert row["counts"]["cases"] == row["series"] + row["pictures"]
        assert row["unchanged"]["seconds"] < row["resumed"]["seconds"] / 4
