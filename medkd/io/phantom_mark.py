"""The mark by which phantoms are known: which generator made them, and how hard it makes them.

A folder that `medkd phantom` wrote holds `phantom.json`; a DICOM phantom says the same in its
header (Manufacturer, SoftwareVersions). Both name the generator by its stamp, "medkd phantom 2
0123456789abcdef": version and difficulty hash. Whatever is made from phantoms carries it on.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

GENERATOR = "medkd phantom"
"""First words of every stamp; the Manufacturer of scans that no scanner made."""

RECORD_NAME = "phantom.json"
"""A folder with this file holds phantoms: all below is synthetic, whatever its headers say."""

NOT_STATED = f"{GENERATOR}, version not stated"
"""Stands for the stamp of phantoms whose record does not tell it."""


def stamp_words(version: str, difficulty: str = "") -> str:
    """Word a stamp.

    Args:
        version: of the generator.
        difficulty: 16 hex digits; empty for generators that had none.

    Example:
        >>> stamp_words("2", "0123456789abcdef")
        'medkd phantom 2 0123456789abcdef'
    """
    return " ".join(word for word in (GENERATOR, version, difficulty) if word)


def read_stamp(record: Path) -> str:
    """Read which generator made the phantoms of a folder.

    Args:
        record: its phantom.json.

    Returns:
        The stamp; `NOT_STATED` where the record is no such record.
    """
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return NOT_STATED
    if not isinstance(content, dict) or not content.get("generator_version"):
        return NOT_STATED
    return stamp_words(str(content["generator_version"]), str(content.get("difficulty") or ""))


def stated_stamp(text: str) -> str:
    """Take a stamp from a header's text; `NOT_STATED` where it is none."""
    return text if re.fullmatch(rf"{GENERATOR} \w{{1,8}}( [0-9a-f]{{16}})?", text) else NOT_STATED


def stamp_of(path: Path, *, levels: int = 2) -> str:
    """Return the stamp of the phantom set that a file belongs to; empty if it belongs to none.

    Args:
        path: a volume, a table or a series folder; or the folder of a set itself.
        levels: how many folders above it may be the set's.
    """
    for folder in (path, *list(path.parents)[:levels]):
        if (folder / RECORD_NAME).is_file():
            return read_stamp(folder / RECORD_NAME)
    return ""
