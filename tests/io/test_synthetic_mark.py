"""The stamp of synthetic scans: read from their record or header, never guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medkd.io.synthetic_mark import (
    IMPLANT,
    PHANTOM,
    parse_stamp,
    read_stamp,
    stamp_of,
    stamp_words,
    unknown_stamp,
)

STAMP = "medkd phantom 2 0123456789abcdef"


def write_record(folder: Path, **content: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "phantom.json").write_text(json.dumps(content))
    return folder / "phantom.json"


def test_a_record_gives_version_and_difficulty(tmp_path: Path) -> None:
    record = write_record(tmp_path, generator_version="2", difficulty="0123456789abcdef")
    assert read_stamp(record) == STAMP == stamp_words(PHANTOM, "2", "0123456789abcdef")


def test_the_record_of_a_generator_without_difficulty_gives_its_version(tmp_path: Path) -> None:
    assert read_stamp(write_record(tmp_path, generator_version="1")) == "medkd phantom 1"


def test_an_empty_or_damaged_record_still_means_phantoms(tmp_path: Path) -> None:
    assert read_stamp(write_record(tmp_path)) == unknown_stamp()
    (tmp_path / "phantom.json").write_text("no json")
    assert stamp_of(tmp_path) == unknown_stamp()


def test_a_scan_belongs_to_the_set_two_folders_above_and_no_higher(tmp_path: Path) -> None:
    write_record(tmp_path, generator_version="1")
    assert stamp_of(tmp_path / "subset0" / "a.mhd") == "medkd phantom 1"
    assert stamp_of(tmp_path / "patient" / "series" / "slice") == ""


@pytest.mark.parametrize("text", ["", "VB10", "medkd phantom", f"{STAMP} Mustermann"])
def test_a_header_without_a_stamp_gives_none(text: str) -> None:
    assert parse_stamp(PHANTOM, text) == unknown_stamp()
    assert parse_stamp(PHANTOM, STAMP) == STAMP


def test_the_record_of_implants_marks_all_below_it(tmp_path: Path) -> None:
    (tmp_path / "implant.json").write_text(json.dumps({"generator_version": "3"}))
    assert stamp_of(tmp_path / "scans" / "1.2.3") == "medkd implant 3"
    (tmp_path / "implant.json").write_text("{}")
    assert stamp_of(tmp_path) == unknown_stamp(IMPLANT)


def test_a_folder_that_may_not_be_entered_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(_: Path) -> bool:  # modes do not bind root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", locked)
    assert stamp_of(tmp_path / "series") == ""
