"""Data types of reports, and the rows that the viewer lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medkd.types.results import RunRecord


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a report; every cell is the text that is shown."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a report: an SVG or PNG with its alternative text."""

    title: str
    media_type: Literal["image/svg+xml", "image/png"]
    content: bytes
    alt: str


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a report: paragraphs, tables, figures and a text listing, in this order."""

    key: str
    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    listing: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Ordered sections and the record of their run; `banner` has one notice per line."""

    title: str
    sections: tuple[Section, ...]
    record: RunRecord
    banner: str = ""


@dataclass(frozen=True, slots=True)
class RunCase:
    """A row of a run's `cases.csv`, by which the viewer finds and ranks one case.

    `kind` is "scan" (`path` is a volume or a DICOM folder) or "image" (`path` is a PNG, or a
    MedMNIST `.npz` in which the image is row `row` of `split`). For a case of an archive, `path`
    is the INDEX (`.csv`). `score` is the student's highest probability.
    """

    case_id: str
    patient_id: str
    kind: Literal["scan", "image"]
    path: str
    split: str
    row: int | None
    label: int | None
    score: float | None
    status: Literal["analysed", "not_analysed"]
    reasons: tuple[str, ...] = ()
