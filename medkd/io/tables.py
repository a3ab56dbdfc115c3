"""Checked reading of CSV tables: all faults of a file are collected before it is refused.

Files may be written by Excel in any country, by a PACS or by a script. Detected automatically:
gzip; UTF-8 with or without byte order mark, UTF-16 and UTF-32 with one, UTF-16 without one, else
Windows-1252; columns separated by comma, semicolon, tab or bar, or as Excel's first line "sep=;"
states; line breaks in quotes; any line ending. Only blank lines, and blank cells after the last
named column, are dropped. `number_text` converts cells to numbers. Row numbers are line numbers.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medkd.errors import SeriesError
from medkd.files import replacing
from medkd.io.number_text import MARKS, Decimal, is_grouped, number_in, numbers_in, why_no_number

if TYPE_CHECKING:
    from _csv import Reader

SEPARATORS = (",", ";", "\t", "|")
MAX_REASONS = 20
"""Most reasons shown for one table; the others are only counted."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
"""UTF-32 comes first because its byte order mark begins with that of UTF-16."""
_EXCEL_HINT = re.compile(r'\s*"?sep=(.)"?[^\S\r\n]*(?:\r\n|\r|\n)', re.IGNORECASE)
_HEADER_CHARACTERS = 1 << 18
"""The first row is searched within this many characters."""
_PACKED = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"BZh", b"\xfd7zXZ")


@dataclass(frozen=True, slots=True, eq=False)
class _CsvRows:
    """The unchanged cells of the rows that are not blank, all equally long.

    `lines` are the numbers of the lines, from 1, in which the rows begin. `encoding` is empty if
    the text is UTF-8.
    """

    rows: list[list[str]]
    lines: list[int]
    separator: str
    encoding: str


class CheckedTable:
    """A table of text that collects its faults: read columns, then call `refuse_if_faulty`.

    Args:
        path: the file, for messages.
        names: names of the columns. A column is found by its exact name, else ignoring case.
        content: the rows without the header.
        decimal: decimal mark of the numbers; None: it is detected (see `decimal_of`).
    """

    def __init__(
        self, path: Path, names: Sequence[str], *, content: _CsvRows, decimal: Decimal | None
    ) -> None:
        self.path = path
        self.lines = np.asarray(content.lines, dtype=np.int64)
        self.reasons: list[str] = []
        self._names = [name.strip() for name in names]
        self._separator, self._encoding = content.separator, content.encoding
        self._columns = list(zip(*content.rows, strict=True))
        self._decimal = decimal

    def __len__(self) -> int:
        return len(self.lines)

    def words(self, name: str) -> list[str]:
        """Return a column of names; an empty name or one with blanks around it is a fault."""
        words = self._column(name)
        if all(word and word == word.strip() for word in set(words)):
            return words
        for line, word in zip(self.lines, words, strict=False):
            if not word or word != word.strip():
                self.reasons.append(
                    f"row {line}: {name} must be a name without blanks around it, got {word!r}"
                )
        return words

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(self._names)

    def has(self, name: str) -> bool:
        """Return whether there is a column of this name."""
        return bool(self._places(name))

    def row(self, number: int) -> tuple[str, ...]:
        """Return the cells of a row, counted from 0."""
        return tuple(column[number] for column in self._columns)

    def texts(self, name: str) -> list[str]:
        """Return the unchanged texts of a column; blank cells are accepted."""
        return self._column(name)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column of finite numbers [N]; other cells are faults and become NaN."""
        texts = self._column(name)
        decimal = self.decimal_of([name])
        numbers = numbers_in(texts, decimal)
        if None not in numbers:
            return np.asarray(numbers, dtype=np.float64)
        for line, text, number in zip(self.lines, texts, numbers, strict=False):
            if number is None:
                why = why_no_number(text, decimal)
                detail = f"got {text!r}" + (f": {why}" if why else "")
                self.reasons.append(f"row {line}: {name} must be a finite number, {detail}")
        return np.asarray([np.nan if n is None else n for n in numbers], dtype=np.float64)

    def decimal_of(self, columns: Iterable[str]) -> Decimal:
        """Return the decimal mark of the table, detected in the given columns.

        The first number with a mark decides for the whole table. In a table separated by commas
        a quoted "1,234" is ignored, since its comma may be a thousands separator.
        """
        if self._decimal:
            return self._decimal
        places = [place for name in columns for place in self._places(name)]
        for text in (text for place in places for text in self._cells(place)):
            for mark in MARKS:
                if mark not in text or number_in(text, mark) is None:
                    continue
                if mark != self._separator or not is_grouped(text):
                    self._decimal = mark
                    return mark
        return "."

    def points_mm(self) -> NDArray[np.float64]:
        """Return coordX, coordY, coordZ as [N, 3] LPS mm."""
        axes = [self.numbers(f"coord{axis}") for axis in "XYZ"]
        if len({len(axis) for axis in axes}) > 1:
            return np.zeros((0, 3))
        return np.stack(axes, axis=1)

    def refuse_if_faulty(self) -> None:
        """Refuse the table if it has faults.

        Raises:
            SeriesError: with all reasons collected so far, if there are any.
        """
        if not self.reasons:
            return
        detail = f" (it is not UTF-8 and was read as {self._encoding})" if self._encoding else ""
        headline = f"{self.path}: the table cannot be used{detail}"
        raise SeriesError(headline, shortened(self.reasons))

    def _column(self, name: str) -> list[str]:
        """Return the cells of a column; empty, and a fault, if it does not exist exactly once."""
        found = self._places(name)
        if len(found) == 1:
            return list(self._cells(found[0]))
        count = "missing" if not found else f"present {len(found)} times"
        self.reasons.append(
            f"row 1: column {name!r} is {count}: expected the column {name!r} once, "
            f"got {self._names}{self._separator_hint()}"
        )
        return []

    def _cells(self, place: int) -> Sequence[str]:
        return self._columns[place] if self._columns else ()

    def _places(self, name: str) -> list[int]:
        """Return the indices of a column: those of its exact name, else ignoring case."""
        low = name.strip().casefold()
        alike = [index for index, present in enumerate(self._names) if present.casefold() == low]
        return [index for index in alike if self._names[index] == name.strip()] or alike

    def _separator_hint(self) -> str:
        """Return a hint about the separator if the header was read as one column; else empty."""
        others = [s for s in SEPARATORS if s != self._separator]
        seems = next((s for s in others if len(self._names) == 1 and s in self._names[0]), "")
        if not seems:
            return ""
        got = self._separator
        return f"; they seem separated by {seems!r}, not {got!r}: set separator={seems!r}"


def read_table(
    path: Path,
    *,
    header: bool = True,
    separator: str | None = None,
    encoding: str | None = None,
    decimal: Decimal | None = None,
) -> CheckedTable:
    r"""Read a CSV table; blank lines are ignored.

    Args:
        path: a CSV file, plain or gzip.
        header: whether the first line names the columns; if not, they are named "0", "1", ...
        separator: the character between columns; None: the one that gives the first row most
            columns.
        encoding: encoding of the text; a byte order mark overrides it. None: it is detected.
        decimal: decimal mark of the numbers; None: it is detected (see
            `CheckedTable.decimal_of`).

    Raises:
        SeriesError: if the file is missing, empty or not CSV, or a row is longer than the first.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "points.csv"
        >>> _ = path.write_text("name;x\na;0,5\n")
        >>> table = read_table(path)
        >>> table.numbers("x").tolist()
        [0.5]
        >>> table.refuse_if_faulty()
    """
    content = _read_csv_rows(path, separator, encoding)
    if not header:
        names = [str(number) for number in range(len(content.rows[0]))]
        return CheckedTable(path, names, content=content, decimal=decimal)
    below = replace(content, rows=content.rows[1:], lines=content.lines[1:])
    return CheckedTable(path, content.rows[0], content=below, decimal=decimal)


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV file with a header atomically; numbers are written without loss."""
    frame = pd.DataFrame(list(rows), columns=list(columns), dtype=object)
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")


def header_of(path: Path) -> list[str]:
    """Return the names in the first row of a CSV file; empty if it is not a CSV file."""
    try:
        text, hinted = _without_hint(_text_of(path, None)[0])
    except SeriesError:
        return []
    return _first_row(text, hinted or _separator_of(text))


def shortened(reasons: Sequence[str], most: int = MAX_REASONS) -> list[str]:
    """Keep the first `most` reasons and add how many others there are."""
    more = len(reasons) - most
    return [*reasons[:most], *([f"and {more} more"] if more > 0 else [])]


def _read_csv_rows(path: Path, separator: str | None, encoding: str | None) -> _CsvRows:
    text, found = _text_of(path, encoding)
    text, hinted = _without_hint(text)
    separator = separator or hinted or _separator_of(text)
    try:
        rows, lines = _filled_rows(text, separator)
    except csv.Error as error:
        detail = f"expected a CSV table with equally long rows: {error}"
        raise _refusal(path, detail) from error
    if not rows:
        raise _refusal(path, "the file is empty; expected a CSV table")
    return _CsvRows(_of_equal_length(path, rows, lines, separator), lines, separator, found)


def _without_hint(text: str) -> tuple[str, str]:
    """Return a text without Excel's first line "sep=;", and the separator that it states.

    The line becomes a blank one, which keeps the line numbers of the file.
    """
    hint = _EXCEL_HINT.match(text)
    return ("\n" + text[hint.end() :], hint.group(1)) if hint else (text, "")


def _text_of(path: Path, encoding: str | None) -> tuple[str, str]:
    """Return the text of a file, and its encoding if that is not UTF-8."""
    if not path.is_file():
        raise _refusal(path, "no such file; check the path")
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError, zlib.error) as error:
        detail = getattr(error, "strerror", None) or error
        raise _refusal(path, f"expected a CSV table: {detail}") from error
    if data.startswith(_PACKED):
        raise _refusal(path, "it is a workbook or an archive: save it as CSV (UTF-8) or gzip")
    stated = next((name for mark, name in _MARKS if data.startswith(mark)), encoding)
    for name in [stated] if stated else [*_unmarked(data), "utf-8", "cp1252", "latin-1"]:
        try:
            text = data.decode(name)
        except UnicodeError:
            continue
        if "\0" in text:
            break
        return text, "" if name.startswith("utf-8") else name
    shown = (stated or "utf-8").upper().removesuffix("-SIG")
    raise _refusal(
        path, f"expected a CSV table with equally long rows in {shown}: save it as UTF-8"
    )


def _unmarked(data: bytes) -> Iterator[str]:
    """Yield the UTF-16 encoding of a text without a mark: every other byte of Latin text is 0."""
    half = len(data) // 2
    for first, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if data[first::2].count(0) > 0.5 * half and not data[1 - first :: 2].count(0):
            yield name


def _separator_of(text: str) -> str:
    return max(SEPARATORS, key=lambda separator: len(_first_row(text, separator)))


def _first_row(text: str, separator: str) -> list[str]:
    try:
        rows = _reader(text[:_HEADER_CHARACTERS], separator)
        return next((row for row in rows if any(map(str.strip, row))), [])
    except csv.Error:
        return []


def _filled_rows(text: str, separator: str) -> tuple[list[list[str]], list[int]]:
    """Return the rows that are not blank, and the number of the line in which each begins."""
    if '"' in text:
        numbered = list(_rows_of(text, separator))
        rows, lines = [row for row, _ in numbered], [line for _, line in numbered]
    else:  # Each line is a row: this is much faster for tables of a million rows.
        rows = list(_reader(text, separator))
        lines = list(range(1, len(rows) + 1))
    filled = [bool(row) and (row[0].strip() != "" or any(map(str.strip, row))) for row in rows]
    if all(filled):
        return rows, lines
    return list(itertools.compress(rows, filled)), list(itertools.compress(lines, filled))


def _rows_of(text: str, separator: str) -> Iterator[tuple[list[str], int]]:
    """Yield each row and the number of the line in which it begins."""
    reader = _reader(text, separator)
    line = 1
    for row in reader:
        yield row, line
        line = reader.line_num + 1


def _reader(text: str, separator: str) -> Reader:
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)


def _of_equal_length(
    path: Path, rows: list[list[str]], lines: Sequence[int], separator: str
) -> list[list[str]]:
    """Pad or cut all rows to the width of the first row, not counting its trailing blank cells."""
    first = rows[0]
    while len(first) > 1 and not first[-1].strip():
        first = first[:-1]
    width = len(first)
    if set(map(len, rows)) == {width}:
        return rows
    reasons = [
        f"row {line}: expected equally long rows of {width} cells separated by {separator!r}, got "
        f"{len(row)}: put quotes around a cell that contains {separator!r}"
        for line, row in zip(lines, rows, strict=True)
        if len(row) > width and any(map(str.strip, row[width:]))
    ]
    if reasons:
        raise _refusal(path, *shortened(reasons))
    return [
        row if len(row) == width else [*row[:width], *[""] * (width - len(row))] for row in rows
    ]


def _refusal(path: Path, *reasons: str) -> SeriesError:
    return SeriesError(f"{path}: cannot be read as a table", reasons)
