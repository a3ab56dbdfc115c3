"""The mark by which synthetic scans are known: what made them, and how hard it makes them.

A folder that `medkd phantom` wrote holds `phantom.json`, one of `medkd implant` `implant.json`;
their DICOM files say the same in their headers. All name what made them by its stamp, "medkd
phantom 2 0123456789abcdef" or "medkd implant 1": version and, of phantoms, difficulty hash.
Whatever is made from such scans carries the stamp on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Literal

from medkd.types import CaseOrigins

PHANTOM = "medkd phantom"
"""Makes whole scans; the Manufacturer of scans that no scanner made."""

IMPLANT = "medkd implant"
"""Puts synthetic nodules into real scans."""

SYNTHETIC_SCAN = "synthetic scan"
"""First words of a scan's note that tells its stamp."""

IMPLANTED_SCAN = "synthetic nodules in a real scan"
"""The same of a real scan with implanted nodules."""

RECORDS = {"phantom.json": PHANTOM, "implant.json": IMPLANT}
"""A folder with such a file was made by that: the series it lists are synthetic, whatever their
headers say. What lies beside them may be real. A record that lists none stands for all below."""


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


def is_implant(stamp: str) -> bool:
    """Say whether a stamp is of synthetic nodules in a real scan, not of a whole phantom."""
    return stamp.startswith(IMPLANT)


def synthetic_note(stamp: str, words: str = "") -> str:
    """Word the note of a synthetic scan, or of a real scan with synthetic nodules.

    Args:
        stamp: of what made it.
        words: what is told; the stamp itself where empty.

    Example:
        >>> synthetic_note("medkd implant 1")
        'synthetic nodules in a real scan: medkd implant 1'
    """
    return f"{IMPLANTED_SCAN if is_implant(stamp) else SYNTHETIC_SCAN}: {words or stamp}"


def is_synthetic_note(note: str) -> bool:
    """Say whether a scan's note is one of `synthetic_note`."""
    return note.startswith((f"{SYNTHETIC_SCAN}:", f"{IMPLANTED_SCAN}:"))


def count_origins(stamps: Iterable[str], *, kind: Literal["scans", "images"]) -> CaseOrigins:
    """Count cases by where they come from.

    Args:
        stamps: one a case, empty for a case that is real.
        kind: what the cases are.

    Example:
        >>> count_origins(["", "medkd phantom 2", "medkd implant 1", ""], kind="scans")
        CaseOrigins(real=2, implanted=1, phantom=1, kind='scans')
    """
    known = list(stamps)
    implanted = sum(is_implant(stamp) for stamp in known)
    real = known.count("")
    return CaseOrigins(real, implanted, len(known) - real - implanted, kind)


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


def listed_series(record: Path) -> frozenset[str]:
    """Read which series a record of `RECORDS` lists; empty if it lists none or cannot be read."""
    try:
        state = record.stat()
    except OSError:
        return frozenset()
    return _listed(record, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _listed(record: Path, _changed_ns: int, _bytes: int) -> frozenset[str]:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return frozenset()
    scans = content.get("scans") if isinstance(content, dict) else None
    rows = scans if isinstance(scans, list) else []
    uids = (row.get("seriesuid") for row in rows if isinstance(row, dict))
    return frozenset(uid for uid in uids if isinstance(uid, str) and uid)


def stamp_of(path: Path, *, levels: int = 2, seriesuid: str = "") -> str:
    """Return the stamp of the set that a file belongs to; empty if it belongs to none.

    Args:
        path: a volume, a table or a series folder; or the folder of a set itself.
        levels: how many folders above it may be the set's.
        seriesuid: of a scan, which belongs to a set alone whose record lists it (or none at all).
    """
    for folder in (path, *list(path.parents)[:levels]):
        for name in RECORDS:
            if not _is_there(folder / name):
                continue
            listed = listed_series(folder / name) if seriesuid else frozenset()
            if not listed or seriesuid in listed:
                return read_stamp(folder / name)
    return ""


def _is_there(record: Path) -> bool:
    """Say whether a folder holds a record; what may not be entered is refused where it is read."""
    try:
        return record.is_file()
    except OSError:
        return False
