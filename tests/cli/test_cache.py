"""`medkd cache`: the size of caches, and clearing them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from medkd.cli import app
from medkd.data.cache_folder import CacheFolder


@pytest.fixture
def cache(tmp_path: Path) -> CacheFolder:
    folder = CacheFolder(tmp_path / "run" / "cache")
    folder.entry("scan", lambda made: (made / "voxels").write_bytes(bytes(3 * 2**20)) and None)
    return folder


def run(*words: str) -> str:
    return CliRunner().invoke(app, ["cache", *words], catch_exceptions=False).output


def test_it_shows_entries_and_size(cache: CacheFolder, tmp_path: Path) -> None:
    assert f"{cache.path}: holds 1 entry, 3.0 MiB" in run(str(tmp_path))


def test_it_clears_and_keeps_everything_else(cache: CacheFolder, tmp_path: Path) -> None:
    (tmp_path / "run" / "config.yaml").write_text("seed: 0")
    assert "removed 1 entry, 3.0 MiB" in run(str(tmp_path), "--clear")
    assert cache.entries() == []
    assert (tmp_path / "run" / "config.yaml").is_file()


def test_a_folder_without_caches_says_so(tmp_path: Path) -> None:
    assert "no cache in" in run(str(tmp_path))
