"""CSV files as rows of text, written by Excel in any country, by a PACS or by a script.

Detected automatically: gzip; UTF-8 with or without byte order mark, UTF-16 and UTF-32 with one,
UTF-16 without one, else Windows-1252; columns separated by comma, semicolon, tab or bar, or as
Excel's first line "sep=;" states; line breaks in quotes; any line ending; blank lines. Only blank
lines, and blank cells after the last named column, are dropped.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medkd.errors import SeriesError

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
class CsvRows:
    """The rows of a CSV file that are not blank, all equally long, the header (if any) first.

    Args:
        rows: unchanged texts of the cells.
        lines: number of the line in which each row begins, from 1.
        separator: the character between columns.
        encoding: encoding of the text if it is not UTF-8; else empty.
    """

    rows: list[list[str]]
    lines: list[int]
    separator: str
    encoding: str = ""


def read_csv_rows(
    path: Path, *, separator: str | None = None, encoding: str | None = None
) -> CsvRows:
    """Read a CSV file.

    Args:
        path: a CSV file, plain or gzip.
        separator: the character between columns; None: the one that gives the first row most
            columns.
        encoding: encoding of the text; a byte order mark overrides it. None: it is detected.

    Raises:
        SeriesError: if the file is missing, empty or not CSV, or a row is longer than the first.
    """
    text, found = _text_of(path, encoding)
    if hint := _EXCEL_HINT.match(text):
        separator = separator or hint.group(1)
        # The hint becomes a blank line, which keeps the line numbers of the file.
        text = "\n" + text[hint.end() :]
    separator = separator or _separator_of(text)
    try:
        rows, lines = _filled_rows(text, separator)
    except csv.Error as error:
        detail = f"expected a CSV table with equally long rows: {error}"
        raise _refusal(path, detail) from error
    if not rows:
        raise _refusal(path, "the file is empty; expected a CSV table")
    return CsvRows(_of_equal_length(path, rows, lines, separator), lines, separator, found)


def header_of(path: Path) -> list[str]:
    """Return the names in the first row of a CSV file; empty if it is not a CSV file."""
    try:
        text, _ = _text_of(path, None)
    except SeriesError:
        return []
    hint = _EXCEL_HINT.match(text)
    text = text[hint.end() :] if hint else text
    return _first_row(text, hint.group(1) if hint else _separator_of(text))


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
    """Give all rows the width of the first row, not counting its trailing blank cells.

    Short rows are padded with blank cells; blank cells beyond the width are cut.

    Raises:
        SeriesError: if a row has text beyond the width.
    """
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


def shortened(reasons: Sequence[str]) -> list[str]:
    """Keep the first `MAX_REASONS` reasons and add how many others there are."""
    if len(reasons) <= MAX_REASONS:
        return list(reasons)
    return [*reasons[:MAX_REASONS], f"and {len(reasons) - MAX_REASONS} more"]


def _refusal(path: Path, *reasons: str) -> SeriesError:
    return SeriesError(f"{path}: cannot be read as a table", reasons)
