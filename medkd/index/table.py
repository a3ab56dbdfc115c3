"""INDEX: the tables that `medkd index` writes and every other command reads.

index.csv            one row per case (`Case`): scans and radiographs, including refused ones
index.nodules.csv    reference nodules: LUNA16's columns, what each counts as, and its sources
index.marks.csv      marks that readers accepted, added or rejected; only if there are any
index.readings.csv   whole images on which readers decided; only if there are any
index.labels.csv     labels of whole cases: 1, 0, or empty if unknown
index.files.csv      what became of every file of the archive
index.unmatched.csv  annotation rows that match no case, each with its reason
index.json           the record: version, settings, counts, fingerprint
index.private/       mode 0700: key, link table, paths of the files; never leaves the hospital

Under `identity: pseudonymise` nothing outside `index.private/` contains a patient's name, a UID or
a path of the archive. Places are in LPS mm. In cells, None is empty, tuples of texts are joined by
" | " and tuples of numbers by "x"; numbers have all their digits, so they are read back unchanged.
The tables must not be edited by hand: `read_index` compares them with the fingerprint in
index.json and refuses tables that were changed.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from medkd.errors import SeriesError
from medkd.files import replacing
from medkd.formats import INDEX, VERSION_KEY
from medkd.index.case import Case
from medkd.types import Nodule, ReviewedImage, ReviewedMark

Row = TypeVar("Row")
Identity = Literal["keep", "pseudonymise"]
FileFate = Literal["case", "annotation", "table", "container", "other", "unreadable"]

_TEXTS = " | "
_NUMBERS = "x"


@dataclass(frozen=True, slots=True)
class CaseLabel:
    """A label of a whole case. The value None means unknown: it is masked in training, never 0."""

    case_id: str
    name: str
    value: Literal[0, 1] | None
    source: str = ""


@dataclass(frozen=True, slots=True)
class ArchiveIndex:
    """Everything in an INDEX except pixels. The `seriesuid` of nodule and mark is the case_id.

    `marks` and `readings` are decisions of readers; the accepted and added marks are among the
    nodules too, and the readings among the labels.
    """

    cases: tuple[Case, ...]
    nodules: tuple[Nodule, ...] = ()
    labels: tuple[CaseLabel, ...] = ()
    identity: Identity = "pseudonymise"
    notes: tuple[str, ...] = ()
    fingerprint: str = ""
    marks: tuple[ReviewedMark, ...] = ()
    readings: tuple[ReviewedImage, ...] = ()

    def by_id(self) -> dict[str, Case]:
        """Return the cases by their id."""
        return {case.case_id: case for case in self.cases}


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """What became of one file: the case that it belongs to, or why it belongs to none."""

    file: str
    became: FileFate
    case_id: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class UnmatchedRow:
    """A row of an annotation source that matches no case."""

    source: str
    row: str
    reason: str


def table_path(index: Path, table: str) -> Path:
    """Return the path of a table of an INDEX, for example of its "nodules".

    Example:
        >>> table_path(Path("work/index.csv"), "nodules").as_posix()
        'work/index.nodules.csv'
    """
    return index.with_name(f"{index.stem}.{table}.csv")


def index_tables(index: Path) -> tuple[Path, ...]:
    """Return the files of an INDEX without its private folder."""
    names = (*_PRINTED[1:], *_DECIDED, "files", "unmatched")
    tables = (table_path(index, name) for name in names)
    return (index, index.with_suffix(".json"), *tables)


def write_index(
    path: Path,
    index: ArchiveIndex,
    *,
    files: Iterable[IndexedFile] = (),
    unmatched: Iterable[UnmatchedRow] = (),
    settings: Mapping[str, object] | None = None,
) -> ArchiveIndex:
    """Write every table of an INDEX.

    If the writer is killed, either the old INDEX is left or reading refuses the mixture.

    Args:
        path: index.csv.
        index: its content; rows are sorted and the fingerprint is computed here.
        files: one row per file of the archive.
        unmatched: annotation rows that match no case.
        settings: how it was made, for the record; plain values without identities.

    Returns:
        The index as `read_index` returns it: sorted, with its fingerprint and paths.
    """
    index = _sorted(index)
    counts = {"cases": len(index.cases), "nodules": len(index.nodules), "files": 0, "unmatched": 0}
    counts["ready"] = sum(case.status == "ready" for case in index.cases)
    with ExitStack() as stack:
        # All tables are written before the first one is renamed; the record is renamed last.
        record = stack.enter_context(replacing(path.with_suffix(".json")))
        decided = _decided_cells(index)
        printed = (*_PRINTED, *decided)
        places = {name: _place(path, name) for name in (*printed, "files", "unmatched")}
        written = {n: stack.enter_context(replacing(places[n])) for n in reversed(places)}
        cases = ([getattr(case, name) for name in _CASE_COLUMNS] for case in index.cases)
        write_cells(written["cases"], _CASE_COLUMNS, cases)
        nodules = (
            (n.seriesuid, *n.center_mm, n.diameter_mm, n.counts_as, n.readers_agreeing, n.sources)
            for n in index.nodules
        )
        write_cells(written["nodules"], _NODULE_COLUMNS, nodules)
        _write_rows(written["labels"], CaseLabel, index.labels)
        counts["files"] = _write_rows(written["files"], IndexedFile, files)
        counts["unmatched"] = _write_rows(written["unmatched"], UnmatchedRow, unmatched)
        for name, (columns, rows) in decided.items():
            counts[name] = write_cells(written[name], columns, rows)
        fingerprint = _fingerprint(written[name] for name in printed)
        content = {
            VERSION_KEY: INDEX.version, "identity": index.identity, "fingerprint": fingerprint,
            "counts": counts, "notes": list(index.notes), "settings": dict(settings or {}),
        }  # fmt: skip
        record.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for name in set(_DECIDED) - set(decided):
        _place(path, name).unlink(missing_ok=True)  # of an earlier INDEX; the record names none
    own = tuple(replace(case, path=path, row=None, archived=True) for case in index.cases)
    return replace(index, cases=own, fingerprint=fingerprint)


def write_cells(path: Path, names: Iterable[str], rows: Iterable[Iterable[object]]) -> int:
    """Write a table and return the number of its rows.

    Args:
        path: the CSV file.
        names: its columns.
        rows: one value per column: text, number, bool, None, or a tuple of texts or numbers.
    """
    count = 0
    # A file's name need not be valid UTF-8: other bytes are written as escapes.
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            writer.writerow([_cell(value) for value in row])
            count += 1
    return count


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, tuple):
        if all(isinstance(part, str) for part in value):
            return _TEXTS.join(part.replace("|", "/") for part in value)
        return _NUMBERS.join(_cell(part) for part in value)
    return repr(float(value)) if isinstance(value, float) else str(value)


def read_index(path: Path) -> ArchiveIndex:
    """Read an INDEX.

    Args:
        path: index.csv, its other tables beside it.

    Raises:
        SeriesError: if a table is missing, was changed by hand, or has a version that is not
            supported.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "index.csv"
        >>> case = Case("c1", "p1", "scan", "ready", spacing_mm=(0.7, 0.7, 1.25))
        >>> written = write_index(path, ArchiveIndex((case,)))
        >>> read_index(path) == written
        True
    """
    record = read_index_record(path)
    decided = [name for name in _DECIDED if record.get("counts", {}).get(name)]
    places = {name: _place(path, name) for name in (*_PRINTED, *decided)}
    if missing := [place for place in places.values() if not place.is_file()]:
        raise _refusal(path, [f"{place.name}: no such table beside it" for place in missing])
    if _fingerprint(places.values()) != record["fingerprint"]:
        raise _refusal(
            path, ["its tables were changed after they were written: run medkd index again"]
        )
    return ArchiveIndex(
        cases=tuple(_read_cases(path)),
        nodules=tuple(_read_nodules(places["nodules"])),
        labels=tuple(_read_rows(places["labels"], CaseLabel)),
        identity=record["identity"],
        notes=tuple(record["notes"]),
        fingerprint=record["fingerprint"],
        marks=tuple(_read_marks(places["marks"])) if "marks" in places else (),
        readings=tuple(_read_rows(places["readings"], ReviewedImage))
        if "readings" in places
        else (),
    )


def read_index_record(path: Path, *, older: bool = False) -> dict[str, Any]:
    """Read index.json of an INDEX: version, identity, fingerprint, counts, notes, settings.

    Args:
        path: index.csv, with index.json beside it.
        older: also accept an older version of the format, whose tables `read_index` refuses.

    Raises:
        SeriesError: if one of the two files is missing, or if index.json is not JSON, is not the
            record of an INDEX, or has a version that is not supported.
    """
    place = path.with_suffix(".json")
    if not path.is_file():
        raise _refusal(path, ["there is no such file: medkd index ROOT --out index.csv creates it"])
    try:
        record = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        reason = f"{place.name} is missing beside it: run medkd index again, it resumes"
        raise _refusal(path, [reason]) from error
    except ValueError as error:
        raise _refusal(path, [f"{place.name} is not JSON"]) from error
    wanted = {"identity", "fingerprint", "notes"}
    if not isinstance(record, dict) or not wanted <= set(record):
        raise _refusal(path, [f"{place.name} is not the record of an index"])
    if VERSION_KEY not in record and "version" in record:
        record[VERSION_KEY] = record["version"]  # what earlier versions of medkd called it
    reason = INDEX.refusal(record)
    if reason and not (older and record.get(VERSION_KEY, 1) < INDEX.version):
        raise _refusal(path, [reason])
    return record


def is_index(path: Path) -> bool:
    """Return whether a file is the index.csv of an INDEX; only its first line is examined."""
    wanted = ",".join(_CASE_COLUMNS[:4]).encode()
    try:
        with path.open("rb") as stream:
            return stream.read(len(wanted)) == wanted
    except OSError:  # a folder, nothing there, or a file that may not be read
        return False


def read_indexed_files(path: Path) -> Iterator[IndexedFile]:
    """Yield what became of each file, row by row, since there may be millions."""
    yield from _read_rows(table_path(path, "files"), IndexedFile)


_PRINTED = ("cases", "nodules", "labels")
"""Tables that the fingerprint covers, and that every INDEX has."""

_DECIDED = ("marks", "readings")
"""Tables that the fingerprint covers, of an INDEX with decisions of readers."""

_CASE_COLUMNS = tuple(
    field.name for field in fields(Case) if field.name not in {"path", "row", "archived"}
)
_NODULE_COLUMNS = (
    "seriesuid", "coordX", "coordY", "coordZ", "diameter_mm", "counts_as", "readers_agreeing",
    "sources",
)  # fmt: skip
_MARK_COLUMNS = (
    "seriesuid", "coordX", "coordY", "coordZ", "diameter_mm", "verdict", "readers", "decided_at",
)  # fmt: skip

_READING_COLUMNS = tuple(field.name for field in fields(ReviewedImage))


def _optional(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: kind(text) if text else None


def _tuple_of(kind: Callable[[str], Any], between: str) -> Callable[[str], tuple[Any, ...]]:
    return lambda text: tuple(kind(part) for part in text.split(between)) if text else ()


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"expected one of {', '.join(allowed)}")
        return text

    return read


_READ: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("reasons", "allowed", "notes", "sources", "readers"), _tuple_of(str, _TEXTS)),
    **dict.fromkeys(("day", "value", "readers_agreeing"), _optional(int)),
    **dict.fromkeys(("coordX", "coordY", "coordZ", "diameter_mm"), float),
    "slice_thickness_mm": _optional(float),
    "shape": _tuple_of(int, _NUMBERS),
    "spacing_mm": _tuple_of(float, _NUMBERS),
    "synthetic": lambda text: text == "1",
    "kind": _one_of("scan", "image"),
    "extent": _one_of("whole", "patch"),
    "status": _one_of("ready", "not_analysed"),
    "counts_as": _one_of("included", "excluded"),
    "verdict": _one_of("accepted", "added", "rejected"),
    "became": _one_of("case", "annotation", "table", "container", "other", "unreadable"),
}
"""How the cells of a column are read; columns that are not listed contain text."""


def _place(path: Path, table: str) -> Path:
    return path if table == "cases" else table_path(path, table)


def _sorted(index: ArchiveIndex) -> ArchiveIndex:
    return replace(
        index,
        cases=tuple(sorted(index.cases, key=lambda case: case.case_id)),
        nodules=tuple(sorted(index.nodules, key=lambda n: (n.seriesuid, n.center_mm))),
        labels=tuple(sorted(index.labels, key=lambda c: (c.case_id, c.name, c.source))),
        marks=tuple(sorted(index.marks, key=lambda m: (m.seriesuid, m.center_mm))),
        readings=tuple(sorted(index.readings, key=lambda r: (r.case_id, r.finding, r.decided_at))),
    )


def _fingerprint(tables: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for table in tables:
        with table.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _write_rows(path: Path, kind: type[Any], rows: Iterable[Any]) -> int:
    names = [field.name for field in fields(kind)]
    return write_cells(path, names, ([getattr(row, name) for name in names] for row in rows))


def _read_cases(path: Path) -> Iterator[Case]:
    for values in _read_cells(path, _CASE_COLUMNS):
        known = dict(zip(_CASE_COLUMNS, values, strict=True))
        yield Case(**known, path=path, archived=True)


def _read_rows(path: Path, kind: type[Row]) -> Iterator[Row]:
    names = tuple(field.name for field in fields(kind))  # type: ignore[arg-type]  # dataclasses
    for values in _read_cells(path, names):
        yield kind(*values)


def _read_nodules(path: Path) -> Iterator[Nodule]:
    for seriesuid, x, y, z, *rest in _read_cells(path, _NODULE_COLUMNS):
        yield Nodule(seriesuid, (x, y, z), *rest)


def _decided_cells(
    index: ArchiveIndex,
) -> dict[str, tuple[tuple[str, ...], list[tuple[object, ...]]]]:
    """Return columns and rows of each table of decisions that is not empty."""
    tables = {
        "marks": (_MARK_COLUMNS, [_mark_row(mark) for mark in index.marks]),
        "readings": (_READING_COLUMNS, [astuple(reading) for reading in index.readings]),
    }
    return {name: table for name, table in tables.items() if table[1]}


def _mark_row(mark: ReviewedMark) -> tuple[object, ...]:
    return (mark.seriesuid, *mark.center_mm, mark.diameter_mm, mark.verdict, mark.readers,
            mark.decided_at)  # fmt: skip


def _read_marks(path: Path) -> Iterator[ReviewedMark]:
    for seriesuid, x, y, z, *rest in _read_cells(path, _MARK_COLUMNS):
        yield ReviewedMark(seriesuid, (x, y, z), *rest)


def _read_cells(path: Path, names: tuple[str, ...]) -> Iterator[list[Any]]:
    """Yield the values of each row; the names of the columns determine the types.

    Raises:
        SeriesError: at the first fault, with its line.
    """
    readers = [_READ.get(name, str) for name in names]
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = csv.reader(stream)
            if (header := tuple(next(rows, ()))) != names:
                raise _refusal(path, [f"expected the columns {list(names)}, got {list(header)}"])
            for row in rows:
                try:
                    yield [read(cell) for read, cell in zip(readers, row, strict=True)]
                except ValueError as error:
                    raise _refusal(path, [f"line {rows.line_num}: {error}"]) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _refusal(path, [f"cannot be read: {type(error).__name__}"]) from error


def _refusal(path: Path, reasons: list[str]) -> SeriesError:
    return SeriesError(f"{path}: not a usable index", reasons)
