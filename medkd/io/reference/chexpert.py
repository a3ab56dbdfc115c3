"""Labels in CheXpert's format: every column except five known ones is a label."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from medkd.io.reference.labels import label_texts, label_values, unexpected_notes
from medkd.io.reference.places import ArchiveLookup
from medkd.io.reference.rows import ReferenceRows, RowCollector
from medkd.io.reference.source import AnnotationSource
from medkd.io.tables import read_table

COLUMNS = {"path": ("Path", "Frontal/Lateral")}

_NO_LABELS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")


class ChexpertAnnotations(AnnotationSource):
    """A table in CheXpert's format: 1 present, 0 absent, -1 and blank unknown."""

    kind: Literal["chexpert"]
    path: Path = Field(description="train.csv or valid.csv.")


def read_chexpert(settings: ChexpertAnnotations, archive: ArchiveLookup) -> ReferenceRows:
    """Read the labels; the view of a row is AP, PA or LATERAL, its patient is part of its path.

    Args:
        settings: the table.
        archive: rows of images that are not in it are unmatched.

    Raises:
        SeriesError: if the table cannot be read, or has no column Path or no label.
    """
    rows = RowCollector("chexpert", archive)
    table = read_table(settings.path)
    paths = table.texts("Path")
    blank = [""] * len(table)
    sides, directions = (
        table.texts(name) if table.has(name) else blank for name in ("Frontal/Lateral", "AP/PA")
    )
    texts = label_texts(table, _NO_LABELS)
    columns = {name: label_values(column) for name, column in texts.items()}
    for n, line in enumerate(table.lines):
        if rows.accepts(paths[n], f"row {line}"):
            patient = re.search(r"patient\d+", paths[n])
            rows.add_labels(
                paths[n],
                {name: values[n] for name, values in columns.items()},
                patient_id=patient.group() if patient else "",
                view="LATERAL" if sides[n] == "Lateral" else directions[n],
            )
    for name, column in texts.items():
        for note in unexpected_notes(column, columns[name], name):
            rows.note(note)
    return rows.collected()
