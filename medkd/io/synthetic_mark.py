"""Stamps of synthetic scans, which name the generator and identify the difficulty of phantoms.

A folder from `medkd phantom` contains the stamp in `phantom.json`, a folder from `medkd implant` in
`implant.json`; the headers of their DICOM files contain it too. A stamp is "medkd phantom 2
0123456789abcdef" or "medkd implant 1": generator, version and, for phantoms, a hash of the
difficulty. Everything derived from such scans keeps the stamp.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from medkd.types import CaseOrigins

PHANTOM = "medkd phantom"
"""Generator of whole synthetic scans; also the Manufacturer in their DICOM headers."""

IMPLANT = "medkd implant"
"""Generator of synthetic nodules in real scans."""

SYNTHETIC_SCAN = "synthetic scan"
"""First words of the note with the stamp of a synthetic scan."""

IMPLANTED_SCAN = "synthetic nodules in a real scan"
"""First words of the note with the stamp of a real scan with implanted nodules."""

RECORDS = {"phantom.json": PHANTOM, "implant.json": IMPLANT}
"""Record file to the generator of its folder. The series that a record lists are synthetic,
whatever their headers state; other series beside them may be real. If a record lists no series,
all series below its folder are synthetic."""


def stamp_words(generator: str, version: str, difficulty: str = "") -> str:
    """Return a stamp as text.

    Args:
        generator: `PHANTOM` or `IMPLANT`.
        version: version of the generator.
        difficulty: 16 hex digits; empty for generators that have none.

    Example:
        >>> stamp_words(PHANTOM, "2", "0123456789abcdef")
        'medkd phantom 2 0123456789abcdef'
    """
    return " ".join(word for word in (generator, version, difficulty) if word)


def is_implant(stamp: str) -> bool:
    """Return whether a stamp means synthetic nodules in a real scan, not a whole phantom."""
    return stamp.startswith(IMPLANT)


def synthetic_note(stamp: str, words: str = "") -> str:
    """Return the note of a synthetic scan, or of a real scan with synthetic nodules.

    Args:
        stamp: stamp of the generator.
        words: text of the note; if empty, the stamp.

    Example:
        >>> synthetic_note("medkd implant 1")
        'synthetic nodules in a real scan: medkd implant 1'
    """
    return f"{IMPLANTED_SCAN if is_implant(stamp) else SYNTHETIC_SCAN}: {words or stamp}"


def is_synthetic_note(note: str) -> bool:
    """Return whether a note is one of `synthetic_note`."""
    return note.startswith((f"{SYNTHETIC_SCAN}:", f"{IMPLANTED_SCAN}:"))


def count_origins(stamps: Iterable[str], *, kind: Literal["scans", "images"]) -> CaseOrigins:
    """Count cases by origin: real, implanted or phantom.

    Args:
        stamps: one per case; empty for a real case.
        kind: type of the cases.

    Example:
        >>> count_origins(["", "medkd phantom 2", "medkd implant 1", ""], kind="scans")
        CaseOrigins(real=2, implanted=1, phantom=1, kind='scans', patches=0)
    """
    known = list(stamps)
    implanted = sum(is_implant(stamp) for stamp in known)
    real = known.count("")
    return CaseOrigins(real, implanted, len(known) - real - implanted, kind)


def unknown_stamp(generator: str = PHANTOM) -> str:
    """Return the stamp of synthetic scans whose record or header does not state a valid stamp."""
    return f"{generator}, version not stated"


def read_stamp(record: Path) -> str:
    """Read the stamp of a folder of synthetic scans.

    Args:
        record: the folder's file that is named in `RECORDS`.

    Returns:
        The stamp; `unknown_stamp` if the record is unreadable or states no version.
    """
    generator, content = RECORDS[record.name], _content(record)
    if not content.get("generator_version"):
        return unknown_stamp(generator)
    difficulty = str(content.get("difficulty") or "")
    return stamp_words(generator, str(content["generator_version"]), difficulty)


def parse_stamp(generator: str, text: str) -> str:
    """Return the stamp in a header's text; `unknown_stamp` if the text is not a valid stamp."""
    known = re.fullmatch(rf"{generator} \w{{1,8}}( [0-9a-f]{{16}})?", text)
    return text if known else unknown_stamp(generator)


def listed_series(record: Path) -> frozenset[str]:
    """Read which series a record lists; empty if it lists none or cannot be read."""
    try:
        state = record.stat()
    except OSError:
        return frozenset()
    return _listed(record, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _listed(record: Path, _changed_ns: int, _bytes: int) -> frozenset[str]:
    scans = _content(record).get("scans")
    rows = scans if isinstance(scans, list) else []
    uids = (row.get("seriesuid") for row in rows if isinstance(row, dict))
    return frozenset(uid for uid in uids if isinstance(uid, str) and uid)


def _content(record: Path) -> dict[str, Any]:
    """Return the content of a record; empty if it cannot be read."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def stamp_of(path: Path, *, levels: int = 2, seriesuid: str = "") -> str:
    """Return the stamp of the synthetic set that a file belongs to; empty if there is none.

    Args:
        path: a volume, a table or a series folder; or the folder of a set itself.
        levels: number of folders above it that are searched for a record.
        seriesuid: UID of a scan; it belongs to a set only if the record lists it or lists no
            series. Empty: any record counts.
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
    """Return whether a record exists; False if its folder cannot be entered."""
    try:
        return record.is_file()
    except OSError:
        return False
