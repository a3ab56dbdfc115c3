"""Values of label columns: 1 present, 0 absent, None unknown.

Uncertain and blank values are unknown, never 0 (CheXpert: Irvin et al. 2019, section 2: 1 present,
0 absent, -1 uncertain, blank not mentioned).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from medkd.errors import SeriesError
from medkd.io.reference.rows import LabelValue
from medkd.io.tables import CheckedTable

_UNKNOWN_TEXTS = ("", "-1", "-1.0")
"""Expected texts of unknown values: blank, and CheXpert's uncertain."""


def label_texts(table: CheckedTable, others: Iterable[str]) -> dict[str, list[str]]:
    """Return the texts of all columns by name, except those of other columns.

    Raises:
        SeriesError: with the faults of the table so far, or if it has no label column.
    """
    known = {name.casefold() for name in others}
    names = [name for name in table.names if name and name.casefold() not in known]
    texts = {name: table.texts(name) for name in names}
    table.refuse_if_faulty()
    if not texts:
        raise SeriesError(f"{table.path}: no label", ["expected at least one label column"])
    return texts


def label_values(
    texts: Sequence[str],
    positive: Iterable[str] = ("1", "1.0"),
    negative: Iterable[str] = ("0", "0.0"),
) -> list[LabelValue]:
    """Convert a column of texts to values; case and surrounding blanks are ignored."""
    meaning: dict[str, LabelValue] = {word.strip().lower(): 1 for word in positive}
    meaning |= {word.strip().lower(): 0 for word in negative}
    known = {text: meaning.get(text.strip().lower()) for text in set(texts)}
    return [known[text] for text in texts]


def unexpected_notes(texts: Sequence[str], values: Sequence[LabelValue], name: str) -> list[str]:
    """Return a note on the number of unexpected texts, which are read as unknown."""
    pairs = zip(texts, values, strict=True)
    count = sum(value is None and text.strip() not in _UNKNOWN_TEXTS for text, value in pairs)
    note = f"{name}: {count} values mean neither present nor absent and are read as unknown"
    return [note] if count else []
