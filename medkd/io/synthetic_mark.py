"""The mark by which synthetic scans are known: what made them, and how hard it makes them.

A folder that `medkd phantom` wrote holds `phantom.json`, one of `medkd implant` `implant.json`;
their DICOM files say the same in their headers. All name what made them by its stamp, "medkd
phantom 2 0123456789abcdef" or "medkd implant 1": version and, of phantoms, difficulty hash.
Whatever is made from such scans carries the stamp on.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

PHANTOM = "medkd phantom"
"""Makes whole scans; the Manufacturer of scans that no scanner made."""

IMPLANT = "medkd implant"
"""Puts synthetic nodules into real scans."""

SYNTHETIC_SCAN = "synthetic scan"
"""First words of a scan's note that tells its stamp."""

RECORDS = {"phantom.json": PHANTOM, "implant.json": IMPLANT}
"""A folder with such a file was made by that: all below is synthetic, whatever its headers say."""


def stamp_words(generator: str, version: str, difficulty: str = "") -> str:
    """Word a stamp.

    Args:
        generator: `PHANTOM` or `IMPLANT`.
        version: of the generator.
        difficulty: 16 hex digits; empty for generators that have none.

    Example:
        >>> stamp_words(PHANTOM, "2", "0123456789abcdef")
        'medkd phantom 2 0123456789abcdef'
    """
    return " ".join(word for word in (generator, version, difficulty) if word)


def not_stated(generator: str = PHANTOM) -> str:
    """Stand for the stamp of scans whose record or header does not tell it."""
    return f"{generator}, version not stated"


def read_stamp(record: Path) -> str:
    """Read what made the scans of a folder.

    Args:
        record: its file of `RECORDS`.

    Returns:
        The stamp; `not_stated` where the record is no such record.
    """
    generator = RECORDS[record.name]
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return not_stated(generator)
    if not isinstance(content, dict) or not content.get("generator_version"):
        return not_stated(generator)
    difficulty = str(content.get("difficulty") or "")
    return stamp_words(generator, str(content["generator_version"]), difficulty)


def stated_stamp(generator: str, text: str) -> str:
    """Take a stamp from a header's text; `not_stated` where it is none."""
    known = re.fullmatch(rf"{generator} \w{{1,8}}( [0-9a-f]{{16}})?", text)
    return text if known else not_stated(generator)


def stamp_of(path: Path, *, levels: int = 2) -> str:
    """Return the stamp of the set that a file belongs to; empty if it belongs to none.

    Args:
        path: a volume, a table or a series folder; or the folder of a set itself.
        levels: how many folders above it may be the set's.
    """
    for folder in (path, *list(path.parents)[:levels]):
        for name in RECORDS:
            if (folder / name).is_file():
                return read_stamp(folder / name)
    return ""
