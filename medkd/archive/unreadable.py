"""Files and folders that could not be read, counted from the table of files of an INDEX."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from medkd.index.table import read_index_record, read_indexed_files
from medkd.io.file_kind import UNKNOWN, UNREADABLE
from medkd.io.grouping import FOLDER_CODE

_EXAMPLES = 3

_WORDS = {**UNREADABLE, "unknown_file": "files of no known format"}

ARCHIVE_CODES = (FOLDER_CODE,)
"""Faults of an archive as a whole that make its INDEX unusable, unless they are accepted."""


@dataclass(frozen=True, slots=True)
class UnreadableCount:
    """A reason why files could not be read, and the number of these files (or folders).

    `code` is one of `file_kind.UNREADABLE`, or "unknown_file" for a file that has no known format
    and is not text; `what` is its meaning. `examples` are named as in index.files.csv.
    """

    code: str
    what: str
    files: int
    examples: tuple[str, ...]

    @property
    def names(self) -> str:
        """The examples, with dots if there are more."""
        return ", ".join(self.examples) + (", ..." if self.files > len(self.examples) else "")

    @property
    def is_obstacle(self) -> bool:
        """Whether it makes the INDEX unusable unless it is accepted."""
        return self.code in ARCHIVE_CODES

    @property
    def remedy(self) -> str:
        """What the user can do about folders that could not be entered (`is_obstacle`)."""
        return (
            "their content is not in the index: get the right to enter them and index again, or "
            f"accept it by --allow {self.code} of medkd index"
        )


def unreadable_in(index: Path) -> tuple[UnreadableCount, ...]:
    """Count the files that `medkd index` could not read, folders first.

    Args:
        index: index.csv, with index.files.csv beside it.

    Raises:
        SeriesError: if that table cannot be read.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for file in read_indexed_files(index):
        if file.became == "unreadable":
            found[file.reason.partition(":")[0]].append(file.file)
        elif file.became == "other" and file.reason == UNKNOWN:
            found["unknown_file"].append(file.file)
    ordered = dict.fromkeys([*(code for code in _WORDS if code in found), *found])
    return tuple(
        UnreadableCount(
            code, _WORDS.get(code, code), len(found[code]), tuple(found[code][:_EXAMPLES])
        )
        for code in ordered
    )


def allowed_in(index: Path) -> tuple[str, ...]:
    """Return the codes of `ARCHIVE_CODES` that were accepted when an INDEX was made.

    Raises:
        SeriesError: if its record cannot be read.
    """
    return tuple(read_index_record(index).get("settings", {}).get("allow_archive", ()))


def places_of_cases(index: Path, case_ids: Collection[str]) -> dict[str, str]:
    """Return the location of cases: their file, or the folder of the first of their files.

    Args:
        index: index.csv of an INDEX that keeps identities; otherwise places are only labels.
        case_ids: which cases.
    """
    wanted, found = set(case_ids), dict[str, str]()
    counts: Counter[str] = Counter()
    for file in read_indexed_files(index) if wanted else ():
        if file.case_id in wanted:
            counts[file.case_id] += 1
            found.setdefault(file.case_id, file.file)
    folders = {name: place.rpartition("/")[0] or "." for name, place in found.items()}
    return {name: folders[name] if counts[name] > 1 else place for name, place in found.items()}
