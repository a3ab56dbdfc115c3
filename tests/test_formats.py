"""Versions of what medkd leaves: older ones are read or can be made again, newer ones refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from medkd.errors import CheckpointError
from medkd.formats import INDEX, MODEL, RESULTS, RUN, Format
from medkd.jsonio import read_json, write_json

THING = Format("THING", 3, 2, "medkd thing --out THING")


@dataclass(frozen=True)
class Thing:
    """What is stored."""

    name: str
    format_version: int = THING.version


@pytest.mark.parametrize("form", [INDEX, RUN, RESULTS, MODEL])
def test_the_present_version_of_every_format_is_read(form: Format) -> None:
    assert form.refusal({"format_version": form.version}) == ""
    assert "update medkd" in form.refusal({"format_version": form.version + 1})


def test_a_file_reads_back_and_an_older_one_that_can_be_read_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "thing.json", Thing("a"))
    assert read_json(tmp_path / "thing.json", Thing, form=THING) == Thing("a")
    (tmp_path / "thing.json").write_text('{"name": "b", "format_version": 2}')
    assert read_json(tmp_path / "thing.json", Thing, form=THING).name == "b"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({}, r"made by an earlier medkd \(THING format 1, this one reads 3\): make it again with "
             "`medkd thing --out THING`"),
        ({"format_version": 4}, "made by a newer medkd .THING format 4.*: update medkd"),
        ({"format_version": 0}, "expected a whole number from 1, got 0"),
        ({"format_version": True}, "expected a whole number from 1, got True"),
    ],
)  # fmt: skip
def test_another_version_is_refused_with_what_to_do(
    tmp_path: Path, record: dict[str, object], expected: str
) -> None:
    (tmp_path / "thing.json").write_text(json.dumps({"name": "a"} | record))
    with pytest.raises(CheckpointError, match=expected):
        read_json(tmp_path / "thing.json", Thing, form=THING)


@pytest.mark.parametrize("text", ["", "[]", "{", "{}"])
def test_what_is_no_record_is_refused_as_before(tmp_path: Path, text: str) -> None:
    (tmp_path / "thing.json").write_text(text)
    with pytest.raises(CheckpointError):
        read_json(tmp_path / "thing.json", Thing, form=Format("THING", 1, 1, "medkd thing"))
