"""`medkd bench` takes two kinds of benches, and tells them apart by their keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from medkd.cli import app
from medkd.errors import SettingsError

BENCH = "bench/phantom_difficulty"


def test_the_bench_of_phantoms_is_checked_and_explained_like_the_others(tmp_path: Path) -> None:
    checked = CliRunner().invoke(app, ["config", "check", BENCH], catch_exceptions=False)
    assert checked.stdout.startswith("ok")
    copied = CliRunner().invoke(app, ["config", "copy", BENCH, str(tmp_path)])
    assert "run it with: medkd bench" in copied.stdout


def test_a_bench_of_phantoms_has_nothing_to_cross_validate() -> None:
    refused = CliRunner().invoke(app, ["bench", BENCH, "--cross-validate"])
    assert refused.exit_code == 2
    assert "trains nothing" in refused.output


def test_a_mistake_in_a_bench_of_phantoms_is_named(tmp_path: Path) -> None:
    words = ["bench", BENCH, "--out", str(tmp_path / "b"), "--set", "blobs.sigmas=[9, 1]"]
    with pytest.raises(SettingsError) as refused:
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert any("expected [low, high], got [9, 1]" in reason for reason in refused.value.reasons)
    assert not (tmp_path / "b").exists()
