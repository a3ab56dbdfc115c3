"""Labels of whole cases from tables: NIH ChestX-ray14, CheXpert, VinDr-CXR, and a hospital's own.

A label is 1, 0 or unknown. Uncertain and blank values are unknown, never 0 (CheXpert: Irvin et
al. 2019, section 2: 1 present, 0 absent, -1 uncertain, blank not mentioned). Keys are returned
as written in the table.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from medkd.errors import SeriesError
from medkd.io.reference.rows import FoundLabel, KeyKind, ReferenceRows, Unmatched
from medkd.io.reference.settings import (
    ChexpertAnnotations,
    NihAnnotations,
    TableAnnotations,
    VindrAnnotations,
)
from medkd.io.tables import CheckedTable, read_table

Wanted = Callable[[str, KeyKind], bool]
"""Returns whether the archive has a case with this key."""

Value = Literal[0, 1] | None

NIH_FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis",
    "Hernia", "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax",
)  # fmt: skip
NO_FINDING = "No Finding"

_CHEXPERT_FACTS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
_UNKNOWN_TEXTS = ("", "-1", "-1.0")
"""Expected texts of unknown values: blank, and CheXpert's uncertain."""
_VINDR_FACTS = ("image_id", "rad_id")


class _Labels:
    """Collects labels; a row whose key is not in the archive is listed as unmatched."""

    def __init__(self, kind: str, wanted: Wanted | None, key_is: KeyKind = "file") -> None:
        self.kind = kind
        self.key_is: KeyKind = key_is
        self._wanted = wanted
        self.labels: list[FoundLabel] = []
        self.unmatched: list[Unmatched] = []
        self.notes: list[str] = []

    def accepts(self, key: str, row: str) -> bool:
        """Return whether a row has a case in the archive; if not, list it as unmatched."""
        if not key:
            self.unmatched.append(Unmatched(self.kind, row, "it names no case"))
        elif self._wanted and not self._wanted(key, self.key_is):
            reason = "no case of the archive has this key"
            self.unmatched.append(Unmatched(self.kind, row, reason, key))
        else:
            return True
        return False

    def collected(self) -> ReferenceRows:
        return ReferenceRows((), tuple(self.labels), tuple(self.unmatched), tuple(self.notes))


def read_nih(settings: NihAnnotations, wanted: Wanted | None = None) -> ReferenceRows:
    """Read NIH's labels: for each image all fourteen findings and "No Finding".

    Args:
        settings: the two tables, plain or gzip.
        wanted: rows for which this returns False are listed as unmatched; None: no row.

    Raises:
        SeriesError: if a table cannot be read or lacks a column.
    """
    found = _Labels("nih", wanted)
    table = read_table(settings.data_entry)
    images, findings = table.texts("Image Index"), table.texts("Finding Labels")
    patients, views = table.texts("Patient ID"), table.texts("View Position")
    table.refuse_if_faulty()
    for n, line in enumerate(table.lines):
        row = f"data_entry, row {line}"
        named = set(findings[n].split("|"))
        if named - {*NIH_FINDINGS, NO_FINDING}:
            reason = "it has a finding that is not one of NIH's fourteen"
            found.unmatched.append(Unmatched("nih", row, reason, images[n]))
        elif found.accepts(images[n], row):
            found.labels += [
                FoundLabel(
                    images[n], name, _bit(name in named), patients[n] or None, views[n] or None
                )
                for name in (*NIH_FINDINGS, NO_FINDING)
            ]
    return found.collected()


def read_chexpert(settings: ChexpertAnnotations, wanted: Wanted | None = None) -> ReferenceRows:
    """Read a table in CheXpert's format: every column except the five facts is a label.

    Args:
        settings: the table.
        wanted: rows for which this returns False are listed as unmatched; None: no row.

    Raises:
        SeriesError: if the table cannot be read, or has no column Path or no label.
    """
    found = _Labels("chexpert", wanted)
    table = read_table(settings.path)
    names = _label_names(table, _CHEXPERT_FACTS)
    paths = table.texts("Path")
    sides = [table.texts(n) if table.has(n) else [] for n in ("Frontal/Lateral", "AP/PA")]
    texts = {name: table.texts(name) for name in names}
    _refuse_without_labels(table, names)
    columns = {name: _values(column) for name, column in texts.items()}
    for n, line in enumerate(table.lines):
        if found.accepts(paths[n], f"row {line}"):
            patient = re.search(r"patient\d+", paths[n])
            who = patient.group() if patient else None
            view = _chexpert_view(*(side[n] if side else "" for side in sides))
            found.labels += [
                FoundLabel(paths[n], name, values[n], who, view) for name, values in columns.items()
            ]
    found.notes += [note for name in names for note in _odd_notes(texts[name], columns[name], name)]
    return found.collected()


def read_vindr(settings: VindrAnnotations, wanted: Wanted | None = None) -> ReferenceRows:
    """Read VinDr-CXR's tables.

    Labels come from the table of labels, or if there is none from the names of the boxes. A
    finding is present if at least `readers_needed` readers (or all, if there are fewer) report it,
    absent if all readers exclude it, and otherwise unknown.

    Args:
        settings: the tables.
        wanted: rows for which this returns False are listed as unmatched; None: no row.

    Raises:
        SeriesError: if a table cannot be read or lacks a column.
    """
    found = _Labels("vindr", wanted)
    votes: dict[str, dict[str, list[Value]]] = {}
    if settings.boxes:
        votes = _vindr_boxes(settings.boxes, found)
    if settings.labels:
        votes = _vindr_votes(settings.labels, found)
    for image, by_name in votes.items():
        for name, values in by_name.items():
            value = _agreed(values, settings.readers_needed)
            found.labels.append(FoundLabel(image, name, value))
    return found.collected()


def read_label_table(settings: TableAnnotations, wanted: Wanted | None = None) -> ReferenceRows:
    """Read a hospital's own table of labels.

    Args:
        settings: the table, its columns, and which texts mean present and absent.
        wanted: rows for which this returns False are listed as unmatched; None: no row.

    Raises:
        SeriesError: if the table cannot be read or lacks a column.
    """
    found = _Labels("table", wanted, settings.key_is)
    table = read_table(settings.path, separator=settings.separator, encoding=settings.encoding)
    keys = [key.strip() for key in table.texts(settings.key)]
    texts = {name: table.texts(column) for name, column in settings.labels.items()}
    patients = table.texts(settings.patient) if settings.patient else [""] * len(table)
    views = table.texts(settings.view) if settings.view else [""] * len(table)
    table.refuse_if_faulty()
    columns = {name: _site_values(column, settings) for name, column in texts.items()}
    for n, line in enumerate(table.lines):
        if found.accepts(keys[n], f"row {line}"):
            who, view = patients[n].strip() or None, views[n].strip() or None
            found.labels += [
                FoundLabel(keys[n], name, values[n], who, view, settings.key_is)
                for name, values in columns.items()
            ]
    for name, column in texts.items():
        if settings.rule == "non_blank":
            found.notes.append(_non_blank_note(column, columns[name], name))
        found.notes += _odd_notes(column, columns[name], name)
    return found.collected()


def _site_values(texts: Sequence[str], settings: TableAnnotations) -> list[Value]:
    """Convert a column of a hospital's table to values by the rule of its settings."""
    if settings.rule == "words":
        return _values(texts, settings.positive, settings.negative)
    return _values(texts, set(texts), ["", *settings.negative])


def _non_blank_note(texts: Sequence[str], values: Sequence[Value], name: str) -> str:
    blank = sum(not text.strip() for text in texts)
    return (
        f"{name}: by the rule non_blank, {sum(v == 1 for v in values)} texts mean present and "
        f"{blank} blank cells mean absent"
    )


def _vindr_votes(path: Path, found: _Labels) -> dict[str, dict[str, list[Value]]]:
    """Return the values of all readers, by image and finding."""
    table = read_table(path)
    names = _label_names(table, _VINDR_FACTS)
    images = table.texts("image_id")
    texts = {name: table.texts(name) for name in names}
    _refuse_without_labels(table, names)
    columns = {name: _values(column) for name, column in texts.items()}
    votes: dict[str, dict[str, list[Value]]] = defaultdict(lambda: defaultdict(list))
    for n, line in enumerate(table.lines):
        if found.accepts(images[n], f"labels, row {line}"):
            for name, values in columns.items():
                votes[images[n]][name].append(values[n])
    return votes


def _vindr_boxes(path: Path, found: _Labels) -> dict[str, dict[str, list[Value]]]:
    """Return the values of all readers, derived from the names of the boxes they drew."""
    table = read_table(path)
    images, names = table.texts("image_id"), table.texts("class_name")
    readers = table.texts("rad_id") if table.has("rad_id") else [""] * len(table)
    table.refuse_if_faulty()
    named: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for n, line in enumerate(table.lines):
        if found.accepts(images[n], f"boxes, row {line}"):
            named[images[n]][readers[n]].add(names[n])
    all_names = sorted(set(names))
    return {
        image: {name: [_bit(name in seen) for seen in by_reader.values()] for name in all_names}
        for image, by_reader in named.items()
    }


def _agreed(values: Sequence[Value], needed: int) -> Value:
    """Return 1 if enough readers have 1, 0 if all have 0, else None."""
    present = sum(value == 1 for value in values)
    if present >= min(needed, len(values)):
        return 1
    return 0 if all(value == 0 for value in values) else None


def _values(
    texts: Sequence[str],
    positive: Iterable[str] = ("1", "1.0"),
    negative: Iterable[str] = ("0", "0.0"),
) -> list[Value]:
    """Convert a column of texts to 1, 0 and None; case and surrounding blanks are ignored."""
    meaning: dict[str, Value] = {word.strip().lower(): 1 for word in positive}
    meaning |= {word.strip().lower(): 0 for word in negative}
    known = {text: meaning.get(text.strip().lower()) for text in set(texts)}
    return [known[text] for text in texts]


def _odd_notes(texts: Sequence[str], values: Sequence[Value], name: str) -> list[str]:
    """Return a note on the number of unexpected texts, which are read as unknown."""
    pairs = zip(texts, values, strict=True)
    count = sum(value is None and text.strip() not in _UNKNOWN_TEXTS for text, value in pairs)
    note = f"{name}: {count} values mean neither present nor absent and are read as unknown"
    return [note] if count else []


def _bit(present: bool) -> Literal[0, 1]:
    return 1 if present else 0


def _chexpert_view(side: str, direction: str) -> str | None:
    """Return AP, PA or LATERAL; None if the row has no view."""
    return "LATERAL" if side == "Lateral" else direction or None


def _label_names(table: CheckedTable, facts: Iterable[str]) -> list[str]:
    """Return the columns that are labels: all except the known facts."""
    known = {fact.casefold() for fact in facts}
    return [name for name in table.names if name and name.casefold() not in known]


def _refuse_without_labels(table: CheckedTable, names: Sequence[str]) -> None:
    table.refuse_if_faulty()
    if not names:
        raise SeriesError(f"{table.path}: no label", ["expected at least one label column"])
