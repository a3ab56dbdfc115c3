"""Reading and writing of LUNA16's tables: nodules, irrelevant findings, candidates, marks, series.

All coordinates are LPS mm as in the official CSV files. A table with any fault (missing column,
text instead of a number, NaN, duplicate seriesuid) is refused with all its faults and their row
numbers. Duplicate rows of marks are kept: LUNA16's script counts each one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from medkd.errors import SeriesError
from medkd.files import write_text
from medkd.io.tables import MAX_REASONS, read_table, write_table
from medkd.types import Candidate, LabelledCandidate, Nodule, Point, Reference

T = TypeVar("T")
CountsAs = Literal["included", "excluded"]
_COUNTS: dict[str, CountsAs] = {"included": "included", "excluded": "excluded"}

EXCLUDED_NAME = "annotations_excluded"
"""Name of LUNA16's table of irrelevant findings; see `is_named_excluded`."""

SAME_TABLE = "the nodules and the excluded findings are the same table: name two different tables"
"""Reason to refuse one table as both: every nodule would be excluded."""

PLACE_COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ")
MARK_COLUMNS = (*PLACE_COLUMNS, "probability")
NODULE_COLUMNS = (*PLACE_COLUMNS, "diameter_mm")
CANDIDATE_COLUMNS = (*PLACE_COLUMNS, "class")


def read_annotations(path: Path) -> list[Nodule]:
    """Read the nodules that must be found (`annotations.csv`).

    If the table has a column counts_as (`index.nodules.csv`), only its included rows are returned.

    Raises:
        SeriesError: with every fault of the table.
    """
    return [n for n in _read_nodules(path, "included") if n.counts_as == "included"]


def read_excluded(path: Path) -> list[Nodule]:
    """Read the irrelevant findings (`annotations_excluded.csv`); diameter -1 means unknown.

    If the table has a column counts_as, only its excluded rows are returned.

    Raises:
        SeriesError: with every fault of the table.
    """
    return [n for n in _read_nodules(path, "excluded") if n.counts_as == "excluded"]


def read_findings(path: Path) -> list[Nodule]:
    """Read the rows that a column counts_as includes or excludes; without it all are included.

    Raises:
        SeriesError: with every fault of the table, or if it is a table of irrelevant findings:
            it is named like one, or at least half of its diameters are unknown (-1).
    """
    findings = _read_nodules(path, "included")
    included = [finding for finding in findings if finding.counts_as == "included"]
    unknown = sum(finding.diameter_mm < 0 for finding in included)
    named = is_named_excluded(path) and included
    if named or (unknown and 2 * unknown >= len(included)):
        sign = "by its name" if named else f"{unknown} of {len(included)} diameters are -1"
        raise SeriesError(
            f"{path}: not a table of nodules",
            [f"it lists irrelevant findings ({sign}): pass it as the table of excluded findings"],
        )
    return findings


def is_named_excluded(path: Path) -> bool:
    """Return whether a file is named like LUNA16's irrelevant findings; only letters are compared.

    Example:
        >>> is_named_excluded(Path("Annotations-excluded (1).csv"))
        True
    """
    return _letters(EXCLUDED_NAME) in _letters(path.name)


def is_same_table(one: Path, other: Path) -> bool:
    """Return whether two paths are the same table: the same file, or equal non-empty contents."""
    if one.resolve() == other.resolve():
        return True
    contents = [path.read_bytes() if path.is_file() else b"" for path in (one, other)]
    return contents[0] == contents[1] and len(contents[0].split()) > 1


def read_candidates(path: Path) -> list[LabelledCandidate]:
    """Read the official candidates for false-positive reduction (`candidates_V2.csv`).

    Raises:
        SeriesError: with every fault of the table, for example a class other than 0 or 1.
    """
    table = read_table(path)
    uids, points = table.words("seriesuid"), table.points_mm()
    labels = table.numbers("class")
    for row in np.flatnonzero(np.isfinite(labels) & ~np.isin(labels, (0, 1))):
        table.reasons.append(f"row {table.lines[row]}: class must be 0 or 1, got {labels[row]:g}")
    table.refuse_if_faulty()
    return [
        LabelledCandidate(uid, place, label)
        for uid, place, label in zip(
            uids, _places(points), labels.astype(int).tolist(), strict=True
        )
    ]


def read_marks(path: Path) -> list[Candidate]:
    """Read marks in LUNA16's submission columns: seriesuid, coordX, coordY, coordZ, probability.

    Raises:
        SeriesError: with every fault of the table.
    """
    table = read_table(path)
    uids, points = table.words("seriesuid"), table.points_mm()
    scores = table.numbers("probability")
    table.refuse_if_faulty()
    return [
        Candidate(uid, place, score)
        for uid, place, score in zip(uids, _places(points), scores.tolist(), strict=True)
    ]


def read_seriesuids(path: Path) -> list[str]:
    """Read the series to evaluate, one per line; the official file has no header.

    A table with a header that has a column "seriesuid" is accepted too.

    Raises:
        SeriesError: with every fault of the table, for example a duplicate series.
    """
    table = read_table(path, header=False)
    header = [name.strip().casefold() for name in table.row(0)]
    first = 1 if "seriesuid" in header else 0
    if len(header) > 1 and not first:
        table.reasons.append(f"row 1: expected one seriesuid per line, got {len(header)} cells")
    words = table.words(str(header.index("seriesuid") if first else 0))
    seen: dict[str, int] = {}
    for line, word in zip(table.lines.tolist()[first:], words[first:], strict=True):
        if word in seen:
            table.reasons.append(f"row {line}: series {word} is already in row {seen[word]}")
        seen.setdefault(word, line)
    if not words[first:]:
        table.reasons.append("it lists no series; expected one seriesuid per line")
    table.refuse_if_faulty()
    return words[first:]


def read_patients(path: Path) -> dict[str, str]:
    """Read which patient each series belongs to: columns seriesuid, patient_id.

    Raises:
        SeriesError: with every fault of the table, for example a series with two patients.
    """
    table = read_table(path)
    uids, names = table.words("seriesuid"), table.words("patient_id")
    patients: dict[str, str] = {}
    for line, uid, name in zip(table.lines.tolist(), uids, names, strict=False):
        if patients.setdefault(uid, name) != name:
            table.reasons.append(f"row {line}: series {uid} has another patient in an earlier row")
    table.refuse_if_faulty()
    return patients


def read_reference(
    annotations: Path, excluded: Path | None, *, seriesuids: Path, patients: Path | None = None
) -> Reference:
    """Read the reference standard of a set of scans; all tables are read before any refusal.

    Args:
        annotations: nodules that must be found; a column counts_as may exclude some of its rows.
        excluded: table of further irrelevant findings, if any.
        seriesuids: series to evaluate.
        patients: which patient each series belongs to, if known.

    Raises:
        SeriesError: with every fault of every table, or if `annotations` and `excluded` are the
            same table.
    """
    reasons: list[str] = []
    findings = _attempt(read_findings, annotations, reasons) or []
    others = (_attempt(read_excluded, excluded, reasons) if excluded else None) or []
    uids = _attempt(read_seriesuids, seriesuids, reasons) or []
    groups = (_attempt(read_patients, patients, reasons) if patients else None) or {}
    if patients and not reasons:
        missing = [uid for uid in uids if uid not in groups]
        reasons += [f"{patients}: no patient for series {uid}" for uid in missing[:MAX_REASONS]]
    if excluded and is_same_table(annotations, excluded):
        reasons.append(f"{excluded}: {SAME_TABLE}")
    if reasons:
        raise SeriesError("the reference standard cannot be used", reasons)
    nodules = tuple(finding for finding in findings if finding.counts_as == "included")
    others = [*(finding for finding in findings if finding.counts_as == "excluded"), *others]
    return Reference(nodules, tuple(others), tuple(uids), groups)


def write_annotations(path: Path, nodules: Sequence[Nodule]) -> None:
    """Write nodules or irrelevant findings atomically, with LUNA16's columns."""
    rows = [(n.seriesuid, *n.center_mm, n.diameter_mm) for n in nodules]
    write_table(path, NODULE_COLUMNS, rows)


def write_candidates(path: Path, candidates: Sequence[LabelledCandidate]) -> None:
    """Write candidates with their class atomically, with LUNA16's columns."""
    write_table(path, CANDIDATE_COLUMNS, [(c.seriesuid, *c.center_mm, c.label) for c in candidates])


def write_marks(path: Path, marks: Sequence[Candidate]) -> None:
    """Write marks atomically, with LUNA16's submission columns."""
    write_table(path, MARK_COLUMNS, [(m.seriesuid, *m.center_mm, m.score) for m in marks])


def write_seriesuids(path: Path, seriesuids: Sequence[str]) -> None:
    """Write the series to evaluate atomically, one per line without a header."""
    write_text(path, "".join(f"{uid}\n" for uid in seriesuids))


def _read_nodules(path: Path, counts_as: CountsAs) -> list[Nodule]:
    """Read nodules with diameters; `counts_as` applies if the table has no column counts_as."""
    table = read_table(path)
    uids, points = table.words("seriesuid"), table.points_mm()
    diameters = table.numbers("diameter_mm")
    stated: list[CountsAs] = [counts_as] * len(uids)
    if table.has("counts_as"):
        for row, word in enumerate(table.texts("counts_as")):
            if word not in _COUNTS:
                table.reasons.append(
                    f"row {table.lines[row]}: counts_as must be included or excluded, got {word!r}"
                )
            stated[row] = _COUNTS.get(word, counts_as)
    table.refuse_if_faulty()
    return [
        Nodule(uid, place, diameter, counted)
        for uid, place, diameter, counted in zip(
            uids, _places(points), diameters.tolist(), stated, strict=True
        )
    ]


def _letters(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalpha())


def _places(points_mm: NDArray[np.float64]) -> list[Point]:
    return [(x, y, z) for x, y, z in points_mm.tolist()]


def _attempt(read: Callable[[Path], T], path: Path, reasons: list[str]) -> T | None:
    """Read a table; if it is refused, add why to `reasons` and return None."""
    try:
        return read(path)
    except SeriesError as error:
        reasons += [f"{error.headline}: {reason}" for reason in error.reasons]
        return None
