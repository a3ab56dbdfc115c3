"""What people look at: the parts of a report, and the cases of the viewer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medkd.types.results import RunRecord


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a report: every cell is text as shown."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a report: an SVG or PNG, with the words for those who cannot see it."""

    title: str
    media_type: Literal["image/svg+xml", "image/png"]
    content: bytes
    alt: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report: paragraphs, tables, figures, a listing of plain text, in that order."""

    key: str
    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    listing: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Ordered sections and the record of the run they describe; `banner` has a line a notice."""

    title: str
    sections: tuple[Section, ...]
    record: RunRecord
    banner: str = ""


@dataclass(frozen=True, slots=True)
class RunCase:
    """A row of a run's `cases.csv`: how the viewer finds and ranks one case.

    `kind` is "scan" (path is a volume or DICOM folder) or "image" (path is a PNG, or a MedMNIST
    `.npz` of which `row` of `split` is meant); the path of a case of an archive is its INDEX.
    `score` is the student's highest probability.
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
