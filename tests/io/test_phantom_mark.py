"""The stamp of phantoms: read from their record or header, never guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medkd.io.phantom_mark import NOT_STATED, read_stamp, stamp_of, stamp_words, stated_stamp

STAMP = "medkd phantom 2 0123456789abcdef"


def write_record(folder: Path, **content: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "phantom.json").write_text(json.dumps(content))
    return folder / "phantom.json"


def test_a_record_gives_version_and_difficulty(tmp_path: Path) -> None:
    record = write_record(tmp_path, generator_version="2", difficulty="0123456789abcdef")
    assert read_stamp(record) == STAMP == stamp_words("2", "0123456789abcdef")


def test_the_record_of_a_generator_without_difficulty_gives_its_version(tmp_path: Path) -> None:
    assert read_stamp(write_record(tmp_path, generator_version="1")) == "medkd phantom 1"


def test_an_empty_or_damaged_record_still_means_phantoms(tmp_path: Path) -> None:
    assert read_stamp(write_record(tmp_path)) == NOT_STATED
    (tmp_path / "phantom.json").write_text("no json")
    assert stamp_of(tmp_path) == NOT_STATED


def test_a_scan_belongs_to_the_set_two_folders_above_and_no_higher(tmp_path: Path) -> None:
    write_record(tmp_path, generator_version="1")
    assert stamp_of(tmp_path / "subset0" / "a.mhd") == "medkd phantom 1"
    assert stamp_of(tmp_path / "patient" / "series" / "slice") == ""


@pytest.mark.parametrize("text", ["", "VB10", "medkd phantom", f"{STAMP} Mustermann"])
def test_a_header_without_a_stamp_gives_none(text: str) -> None:
    assert stated_stamp(text) == NOT_STATED
    assert stated_stamp(STAMP) == STAMP
