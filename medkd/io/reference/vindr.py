"""Labels of VinDr-CXR: tables of findings or boxes, of one consensus or of several readers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from medkd.io.reference.labels import label_texts, label_values
from medkd.io.reference.places import ArchiveLookup
from medkd.io.reference.rows import LabelValue, ReferenceRows, RowCollector
from medkd.io.reference.source import AnnotationSource
from medkd.io.tables import read_table

COLUMNS = {"boxes": ("image_id", "class_name", "x_min"), "labels": ("image_id", "No finding")}

Votes = dict[str, dict[str, list[LabelValue]]]
"""The values of all readers, by image and finding."""


class VindrAnnotations(AnnotationSource):
    """VinDr-CXR's tables: findings or boxes, of one consensus or of several readers."""

    kind: Literal["vindr"]
    labels: Path | None = Field(
        None, description="Table with a column per finding and a row per reader and image."
    )
    boxes: Path | None = Field(None, description="Table with a row per reader, image and finding.")
    readers_needed: int = Field(
        2,
        ge=1,
        description="Readers that must report a finding to make it present (all, if an image has "
        "fewer readers); it is absent if all exclude it, else unknown.",
    )

    @model_validator(mode="after")
    def _some_table(self) -> VindrAnnotations:
        if self.labels is None and self.boxes is None:
            raise ValueError("give labels, boxes or both")
        return self


def read_vindr(settings: VindrAnnotations, archive: ArchiveLookup) -> ReferenceRows:
    """Read VinDr-CXR's tables.

    Labels come from the table of labels, or if there is none from the names of the boxes. A
    finding is present if at least `readers_needed` readers (or all, if there are fewer) report it,
    absent if all readers exclude it, and otherwise unknown.

    Args:
        settings: the tables.
        archive: rows of images that are not in it are unmatched.

    Raises:
        SeriesError: if a table cannot be read or lacks a column.
    """
    rows = RowCollector("vindr", archive)
    votes = _votes_of_boxes(settings.boxes, rows) if settings.boxes else {}
    if settings.labels:
        votes = _votes_of_labels(settings.labels, rows)
    for image, by_name in votes.items():
        needed = settings.readers_needed
        rows.add_labels(image, {name: _agreed(v, needed) for name, v in by_name.items()})
    return rows.collected()


def _votes_of_labels(path: Path, rows: RowCollector) -> Votes:
    table = read_table(path)
    images = table.texts("image_id")
    columns = {
        name: label_values(column)
        for name, column in label_texts(table, ("image_id", "rad_id")).items()
    }
    votes: Votes = defaultdict(lambda: defaultdict(list))
    for n, line in enumerate(table.lines):
        if rows.accepts(images[n], f"labels, row {line}"):
            for name, values in columns.items():
                votes[images[n]][name].append(values[n])
    return votes


def _votes_of_boxes(path: Path, rows: RowCollector) -> Votes:
    """Return the votes of readers, each of whom votes for the names of the boxes they drew."""
    table = read_table(path)
    images, names = table.texts("image_id"), table.texts("class_name")
    readers = table.texts("rad_id") if table.has("rad_id") else [""] * len(table)
    table.refuse_if_faulty()
    drawn: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for n, line in enumerate(table.lines):
        if rows.accepts(images[n], f"boxes, row {line}"):
            drawn[images[n]][readers[n]].add(names[n])
    return {
        image: {
            name: [1 if name in seen else 0 for seen in by_reader.values()]
            for name in sorted(set(names))
        }
        for image, by_reader in drawn.items()
    }


def _agreed(votes: Sequence[LabelValue], needed: int) -> LabelValue:
    if votes.count(1) >= min(needed, len(votes)):
        return 1
    return 0 if votes.count(0) == len(votes) else None
