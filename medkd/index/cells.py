"""How values are written into the cells of an INDEX's CSV tables, and how they are read back.

None becomes an empty cell. Tuples of texts are joined by " | ", tuples of numbers by "x". Numbers
are written with all their digits, so they are read back unchanged. `table.py` lists the columns.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from medkd.errors import SeriesError

_TEXTS = " | "
_NUMBERS = "x"


def write_cells(path: Path, names: Iterable[str], rows: Iterable[Iterable[object]]) -> int:
    """Write a table and return the number of its rows.

    Args:
        path: the CSV file.
        names: its columns.
        rows: one value a column: text, number, bool, None, or a tuple of texts or numbers.
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
    **dict.fromkeys(("reasons", "allowed", "notes", "sources"), _tuple_of(str, _TEXTS)),
    **dict.fromkeys(("day", "value", "readers_agreeing"), _optional(int)),
    **dict.fromkeys(("coordX", "coordY", "coordZ", "diameter_mm"), float),
    "slice_thickness_mm": _optional(float),
    "shape": _tuple_of(int, _NUMBERS),
    "spacing_mm": _tuple_of(float, _NUMBERS),
    "synthetic": lambda text: text == "1",
    "kind": _one_of("scan", "image"),
    "status": _one_of("ready", "not_analysed"),
    "counts_as": _one_of("included", "excluded"),
    "became": _one_of("case", "annotation", "table", "container", "other", "unreadable"),
}
"""How the cells of a column are read; columns that are not listed hold text."""


def read_cells(path: Path, names: tuple[str, ...]) -> Iterator[list[Any]]:
    """Yield the values of each row of a table.

    Args:
        path: the CSV file.
        names: the columns that it must have; the type of the values follows from the name.

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
