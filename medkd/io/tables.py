"""Reading CSV tables whole and checked: every fault of a file is found before it is refused.

Numbers are parsed as Python parses them (correctly rounded), as LUNA16's official script does.
Nothing is stripped, filled or guessed. Row numbers are line numbers of the file: the header is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medkd.errors import SeriesError
from medkd.files import replacing

MAX_REASONS = 20
"""Reasons shown of one table; the rest is counted."""


class CheckedTable:
    """A table of text with its faults: ask for columns, then call `refuse_if_faulty`.

    Args:
        path: where it was read, for messages.
        names: the columns.
        cells: one row a row, all text.
        lines: [N] line number of each row in the file.
    """

    def __init__(
        self, path: Path, names: Sequence[str], *, cells: pd.DataFrame, lines: NDArray[np.int64]
    ) -> None:
        self.path = path
        self.lines = lines
        self.reasons: list[str] = []
        self._names = list(names)
        self._cells = cells

    def __len__(self) -> int:
        return len(self._cells)

    def words(self, name: str) -> list[str]:
        """Return a column of names; blank names and blanks around them are faults."""
        words = [str(value) for value in self._column(name)]
        for line, word in zip(self.lines, words, strict=False):
            if not word or word != word.strip():
                self.reasons.append(
                    f"row {line}: {name} must be a name without blanks around it, got {word!r}"
                )
        return words

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in order."""
        return tuple(self._names)

    def texts(self, name: str) -> list[str]:
        """Return a column as it stands; blank cells are no faults."""
        return [str(value) for value in self._column(name)]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column of finite numbers [N]; anything else is a fault and reads as NaN."""
        values = self._column(name)
        try:
            numbers = values.astype(np.float64)
        except ValueError:
            numbers = np.asarray([_number(str(value)) for value in values])
        for row in np.flatnonzero(~np.isfinite(numbers)):
            self.reasons.append(
                f"row {self.lines[row]}: {name} must be a finite number, got {values[row]!r}"
            )
        return numbers

    def points_mm(self) -> NDArray[np.float64]:
        """Return coordX, coordY, coordZ as [N, 3] LPS mm."""
        axes = [self.numbers(f"coord{axis}") for axis in "XYZ"]
        if len({len(axis) for axis in axes}) > 1:
            return np.zeros((0, 3))
        return np.stack(axes, axis=1)

    def refuse_if_faulty(self) -> None:
        """Refuse the table with all reasons collected so far.

        Raises:
            SeriesError: if there is any.
        """
        if not self.reasons:
            return
        shown = self.reasons[:MAX_REASONS]
        if len(self.reasons) > MAX_REASONS:
            shown = [*shown, f"and {len(self.reasons) - MAX_REASONS} more"]
        raise SeriesError(f"{self.path}: the table cannot be used as it stands", shown)

    def _column(self, name: str) -> NDArray[np.object_]:
        """Return the cells of a column; none, and a fault, if it is not there exactly once."""
        found = [index for index, present in enumerate(self._names) if present == name]
        if len(found) == 1:
            return self._cells.iloc[:, found[0]].to_numpy(dtype=object)
        count = "missing" if not found else f"there {len(found)} times"
        self.reasons.append(f"row 1: column {name!r} is {count}; columns are {self._names}")
        return np.zeros(0, dtype=object)


def read_table(
    path: Path, *, header: bool = True, separator: str = ",", encoding: str = "utf-8-sig"
) -> CheckedTable:
    r"""Read a CSV table; lines without any text are passed over.

    Args:
        path: a CSV file.
        header: whether the first line names the columns; if not, they are "0", "1", ...
        separator: what divides the columns.
        encoding: of its text; UTF-8, with or without byte order mark, where not given.

    Raises:
        SeriesError: if the file is missing, empty or no CSV.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "points.csv"
        >>> _ = path.write_text("name,x\na,0.5\n")
        >>> table = read_table(path)
        >>> table.numbers("x").tolist()
        [0.5]
        >>> table.refuse_if_faulty()
    """
    cells = _read_cells(path, separator, encoding)
    lines = np.arange(1, len(cells) + 1, dtype=np.int64)
    filled = (cells != "").any(axis=1).to_numpy()
    cells, lines = cells[filled], lines[filled]
    if not header:
        names = [str(number) for number in range(cells.shape[1])]
        return CheckedTable(path, names, cells=cells, lines=lines)
    names = [str(name) for name in cells.iloc[0]] if len(cells) else []
    return CheckedTable(path, names, cells=cells.iloc[1:], lines=lines[1:])


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV with a header, whole or not at all; numbers so that they read back the same."""
    frame = pd.DataFrame(list(rows), columns=list(columns), dtype=object)
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _read_cells(path: Path, separator: str, encoding: str) -> pd.DataFrame:
    """Read every cell as text; the header, if any, is row 0."""
    if not path.is_file():
        _refuse(path, "no such file; check the path")
    try:
        return pd.read_csv(
            path,
            sep=separator,
            header=None,
            dtype=object,
            na_filter=False,
            skip_blank_lines=False,
            encoding=encoding,
        )
    except pd.errors.EmptyDataError:
        _refuse(path, "the file is empty; expected a CSV table")
    except (pd.errors.ParserError, UnicodeError) as error:
        name = encoding.upper().removesuffix("-SIG")
        _refuse(path, f"expected a CSV table with equally long rows in {name}: {error}")


def _refuse(path: Path, reason: str) -> NoReturn:
    raise SeriesError(f"{path}: cannot be read as a table", [reason])
