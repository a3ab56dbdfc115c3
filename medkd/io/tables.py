"""Checked reading of CSV tables: all faults of a file are collected before it is refused.

`csv_text` splits files into rows, `number_text` converts cells to numbers. Numbers are rounded as
by Python, like in LUNA16's official script. Missing values are not filled in. Row numbers are line
numbers of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medkd.errors import SeriesError
from medkd.files import replacing
from medkd.io.csv_text import MAX_REASONS, SEPARATORS, CsvRows, read_csv_rows, shortened
from medkd.io.number_text import MARKS, Decimal, is_grouped, number_in, numbers_in, why_no_number

__all__ = ["MAX_REASONS", "CheckedTable", "read_table", "write_table"]


class CheckedTable:
    """A table of text that collects its faults: read columns, then call `refuse_if_faulty`.

    Args:
        path: the file, for messages.
        names: names of the columns. A column is found by its exact name, else ignoring case.
        content: the rows without the header.
        decimal: decimal mark of the numbers; None: it is detected (see `decimal_of`).
    """

    def __init__(
        self,
        path: Path,
        names: Sequence[str],
        *,
        content: CsvRows,
        decimal: Decimal | None = None,
    ) -> None:
        self.path = path
        self.lines = np.asarray(content.lines, dtype=np.int64)
        self.reasons: list[str] = []
        self._names = [name.strip() for name in names]
        self._separator, self._encoding = content.separator, content.encoding
        self._columns = list(zip(*content.rows, strict=True))
        self._decimal: Decimal | None = decimal

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
        read_as = self._encoding
        detail = f" (it is not UTF-8 and was read as {read_as})" if read_as else ""
        headline = f"{self.path}: the table cannot be used{detail}"
        raise SeriesError(headline, shortened(self.reasons))

    def _column(self, name: str) -> list[str]:
        """Return the cells of a column; empty, and a fault, if it does not exist exactly once."""
        found = self._places(name)
        if len(found) == 1:
            return list(self._cells(found[0]))
        count = "missing" if not found else f"present {len(found)} times"
        reason = (
            f"row 1: column {name!r} is {count}: expected the column {name!r} once, "
            f"got {self._names}"
        )
        self.reasons.append(reason + self._separator_hint())
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
        encoding: encoding of the text; None: it is detected (see `csv_text`).
        decimal: decimal mark of the numbers; None: it is detected (see
            `CheckedTable.decimal_of`).

    Raises:
        SeriesError: if the file is missing, empty or not CSV.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "points.csv"
        >>> _ = path.write_text("name;x\na;0,5\n")
        >>> table = read_table(path)
        >>> table.numbers("x").tolist()
        [0.5]
        >>> table.refuse_if_faulty()
    """
    content = read_csv_rows(path, separator=separator, encoding=encoding)
    if not header:
        names = [str(number) for number in range(len(content.rows[0]))]
        return CheckedTable(path, names, content=content, decimal=decimal)
    below = CsvRows(content.rows[1:], content.lines[1:], content.separator, content.encoding)
    return CheckedTable(path, content.rows[0], content=below, decimal=decimal)


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV file with a header atomically; numbers are written without loss."""
    frame = pd.DataFrame(list(rows), columns=list(columns), dtype=object)
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")
