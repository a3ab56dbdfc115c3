"""INDEX: what `medkd index` writes and every other command reads.

index.csv            one row a case (`Case`): scans and radiographs, refused ones too
index.nodules.csv    reference nodules: LUNA16's columns, what each counts as, and its sources
index.labels.csv     labels of whole cases: 1, 0, or empty if it is not known
index.files.csv      what became of every file of the archive
index.unmatched.csv  annotation rows that fit no case, each with its reason
index.json           the record: version, settings, counts, fingerprint
index.private/       mode 0700: key, link table, where the files are; never leaves the site

Under `identity: pseudonymise` nothing outside `index.private/` names a patient, a UID or a path
of the archive. Places are in LPS mm. The tables must not be edited by hand: `read_index` compares
them with the fingerprint in index.json and refuses tables that were changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from medkd.errors import SeriesError
from medkd.files import replacing
from medkd.formats import INDEX, VERSION_KEY
from medkd.index.case import Case
from medkd.index.cells import read_cells, write_cells
from medkd.types import Nodule

Row = TypeVar("Row")
Identity = Literal["keep", "pseudonymise"]
FileFate = Literal["case", "annotation", "table", "container", "other", "unreadable"]


@dataclass(frozen=True, slots=True)
class CaseLabel:
    """A label of a whole case. The value None means not known: masked in training, never 0."""

    case_id: str
    name: str
    value: Literal[0, 1] | None
    source: str = ""


@dataclass(frozen=True, slots=True)
class ArchiveIndex:
    """Everything in an INDEX except pixels. The `seriesuid` of a nodule is its case_id."""

    cases: tuple[Case, ...]
    nodules: tuple[Nodule, ...] = ()
    labels: tuple[CaseLabel, ...] = ()
    identity: Identity = "pseudonymise"
    notes: tuple[str, ...] = ()
    fingerprint: str = ""

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
    """A row of an annotation source that fits no case."""

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
    tables = (table_path(index, name) for name in (*_PRINTED[1:], "files", "unmatched"))
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
        files: one row a file of the archive.
        unmatched: annotation rows that fit no case.
        settings: how it was made, for the record; plain values without identities.

    Returns:
        The index as `read_index` gives it: its rows in order, its fingerprint, its place.
    """
    index = _in_order(index)
    counts = {"cases": len(index.cases), "nodules": len(index.nodules), "files": 0, "unmatched": 0}
    counts["ready"] = sum(case.status == "ready" for case in index.cases)
    with ExitStack() as stack:
        # All tables are written before the first one is renamed; the record is renamed last.
        record = stack.enter_context(replacing(path.with_suffix(".json")))
        places = {name: _place(path, name) for name in (*_PRINTED, "files", "unmatched")}
        written = {n: stack.enter_context(replacing(places[n])) for n in reversed(places)}
        write_cells(written["cases"], _CASE_COLUMNS, map(_case_cells, index.cases))
        _write_nodules(written["nodules"], index.nodules)
        _write_rows(written["labels"], CaseLabel, index.labels)
        counts["files"] = _write_rows(written["files"], IndexedFile, files)
        counts["unmatched"] = _write_rows(written["unmatched"], UnmatchedRow, unmatched)
        fingerprint = _fingerprint(written[name] for name in _PRINTED)
        content = {
            VERSION_KEY: INDEX.version, "identity": index.identity, "fingerprint": fingerprint,
            "counts": counts, "notes": list(index.notes), "settings": dict(settings or {}),
        }  # fmt: skip
        record.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    cases = tuple(replace(case, path=path, row=None, archived=True) for case in index.cases)
    return replace(index, cases=cases, fingerprint=fingerprint)


def read_index(path: Path) -> ArchiveIndex:
    """Read an INDEX.

    Args:
        path: index.csv, its other tables beside it.

    Raises:
        SeriesError: if a table is missing, was changed by hand, or is of a version that is not
            read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "index.csv"
        >>> case = Case("c1", "p1", "scan", "ready", spacing_mm=(0.7, 0.7, 1.25))
        >>> written = write_index(path, ArchiveIndex((case,)))
        >>> read_index(path) == written
        True
    """
    record = read_index_record(path)
    places = [_place(path, name) for name in _PRINTED]
    if missing := [place for place in places if not place.is_file()]:
        raise _refusal(path, [f"{place.name}: no such table beside it" for place in missing])
    if _fingerprint(places) != record["fingerprint"]:
        raise _refusal(path, ["its tables are not as they were written: run medkd index again"])
    _, nodules, labels = places
    return ArchiveIndex(
        cases=tuple(_read_cases(path)),
        nodules=tuple(_read_nodules(nodules)),
        labels=tuple(_read_rows(labels, CaseLabel)),
        identity=record["identity"],
        notes=tuple(record["notes"]),
        fingerprint=record["fingerprint"],
    )


def read_index_record(path: Path, *, older: bool = False) -> dict[str, Any]:
    """Read index.json of an INDEX: version, identity, fingerprint, counts, notes, settings.

    Args:
        path: index.csv.
        older: accept a version whose tables are not read any more.

    Raises:
        SeriesError: if it is missing, not JSON, or of a version that is not read.
    """
    place = path.with_suffix(".json")
    if not path.is_file():
        raise _refusal(path, ["there is no such file: medkd index ROOT --out index.csv makes it"])
    try:
        record = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        reason = f"{place.name} is missing beside it: run medkd index again, it resumes"
        raise _refusal(path, [reason]) from error
    except ValueError as error:
        raise _refusal(path, [f"{place.name} is no JSON"]) from error
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
    """Say whether a file is the index.csv of an INDEX, by its first line alone."""
    wanted = ",".join(_CASE_COLUMNS[:4]).encode()
    try:
        with path.open("rb") as stream:
            return stream.read(len(wanted)) == wanted
    except OSError:  # a folder, nothing there, or a file that may not be read
        return False


def read_indexed_files(path: Path) -> Iterator[IndexedFile]:
    """Read what became of each file, row by row, since there may be millions."""
    yield from _read_rows(table_path(path, "files"), IndexedFile)


def read_unmatched(path: Path) -> tuple[UnmatchedRow, ...]:
    """Read the annotation rows that fit no case."""
    return tuple(_read_rows(table_path(path, "unmatched"), UnmatchedRow))


_PRINTED = ("cases", "nodules", "labels")
"""Tables that the fingerprint covers."""

_CASE_COLUMNS = tuple(
    field.name for field in fields(Case) if field.name not in {"path", "row", "archived"}
)
_NODULE_COLUMNS = (
    "seriesuid", "coordX", "coordY", "coordZ", "diameter_mm", "counts_as", "readers_agreeing",
    "sources",
)  # fmt: skip


def _place(path: Path, table: str) -> Path:
    return path if table == "cases" else table_path(path, table)


def _in_order(index: ArchiveIndex) -> ArchiveIndex:
    return replace(
        index,
        cases=tuple(sorted(index.cases, key=lambda case: case.case_id)),
        nodules=tuple(sorted(index.nodules, key=lambda n: (n.seriesuid, n.center_mm))),
        labels=tuple(sorted(index.labels, key=lambda c: (c.case_id, c.name, c.source))),
    )


def _fingerprint(tables: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for table in tables:
        with table.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _case_cells(case: Case) -> list[object]:
    return [getattr(case, name) for name in _CASE_COLUMNS]


def _write_rows(path: Path, kind: type[Any], rows: Iterable[Any]) -> int:
    names = [field.name for field in fields(kind)]
    return write_cells(path, names, ([getattr(row, name) for name in names] for row in rows))


def _read_cases(path: Path) -> Iterator[Case]:
    for values in read_cells(path, _CASE_COLUMNS):
        known = dict(zip(_CASE_COLUMNS, values, strict=True))
        yield Case(**known, path=path, archived=True)


def _write_nodules(path: Path, nodules: Iterable[Nodule]) -> None:
    rows = (
        (n.seriesuid, *n.center_mm, n.diameter_mm, n.counts_as, n.readers_agreeing, n.sources)
        for n in nodules
    )
    write_cells(path, _NODULE_COLUMNS, rows)


def _read_rows(path: Path, kind: type[Row]) -> Iterator[Row]:
    names = tuple(field.name for field in fields(kind))  # type: ignore[arg-type]  # dataclasses
    for values in read_cells(path, names):
        yield kind(*values)


def _read_nodules(path: Path) -> Iterator[Nodule]:
    for seriesuid, x, y, z, *rest in read_cells(path, _NODULE_COLUMNS):
        yield Nodule(seriesuid, (x, y, z), *rest)


def _refusal(path: Path, reasons: list[str]) -> SeriesError:
    return SeriesError(f"{path}: not a usable index", reasons)
