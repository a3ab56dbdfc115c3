"""Labels of whole cases from a hospital's own table: one row per case, one column per label."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from medkd.io.reference.labels import label_values, unexpected_notes
from medkd.io.reference.places import ArchiveLookup, KeyKind
from medkd.io.reference.rows import ReferenceRows, RowCollector
from medkd.io.reference.source import Column, TableSource
from medkd.io.tables import read_table


class TableAnnotations(TableSource):
    """Labels of whole cases: one row per case, one column per label."""

    kind: Literal["table"]
    key: Column = Field(description="Column that names the case.")
    key_is: KeyKind = Field(
        "file",
        description="Content of this column: a file's name or path, SeriesInstanceUID, or "
        "SOPInstanceUID.",
    )
    labels: dict[str, Column] = Field(
        min_length=1, description="Name of each label, with the column that contains it."
    )
    rule: Literal["words", "non_blank"] = Field(
        "words",
        description="words: only the texts of `positive` and `negative` are known; non_blank: "
        "blank and the texts of `negative` mean absent, every other text means present.",
    )
    positive: tuple[str, ...] = Field(
        ("1", "1.0", "yes", "true", "positive"),
        description="Texts that mean present (case is ignored).",
    )
    negative: tuple[str, ...] = Field(
        ("0", "0.0", "no", "false", "negative"),
        description="Texts that mean absent; by the rule words, any other text and blank is "
        "unknown.",
    )
    patient: Column | None = Field(None, description="Column of the patient, if there is one.")
    view: Column | None = Field(None, description="Column of the view, if there is one.")

    @model_validator(mode="after")
    def _words_are_distinct(self) -> TableAnnotations:
        both = {t.lower() for t in self.positive} & {t.lower() for t in self.negative}
        if both:
            raise ValueError(f"texts that mean both present and absent: {sorted(both)}")
        return self


def read_case_table(settings: TableAnnotations, archive: ArchiveLookup) -> ReferenceRows:
    """Read a hospital's own table of labels.

    Args:
        settings: the table, its columns, and which texts mean present and absent.
        archive: rows of cases that are not in it are unmatched.

    Raises:
        SeriesError: if the table cannot be read or lacks a column.
    """
    rows = RowCollector("table", archive)
    table = read_table(settings.path, separator=settings.separator, encoding=settings.encoding)
    keys = [key.strip() for key in table.texts(settings.key)]
    texts = {name: table.texts(column) for name, column in settings.labels.items()}
    patients = table.texts(settings.patient) if settings.patient else [""] * len(table)
    views = table.texts(settings.view) if settings.view else [""] * len(table)
    table.refuse_if_faulty()
    columns = {}
    for name, column in texts.items():
        if settings.rule == "words":
            columns[name] = label_values(column, settings.positive, settings.negative)
        else:
            columns[name] = label_values(column, set(column), ["", *settings.negative])
            blank = sum(not text.strip() for text in column)
            rows.note(
                f"{name}: by the rule non_blank, {columns[name].count(1)} texts mean present and "
                f"{blank} blank cells mean absent"
            )
        for note in unexpected_notes(column, columns[name], name):
            rows.note(note)
    for n, line in enumerate(table.lines):
        if rows.accepts(keys[n], f"row {line}", settings.key_is):
            rows.add_labels(
                keys[n],
                {name: values[n] for name, values in columns.items()},
                patient_id=patients[n].strip(),
                view=views[n].strip(),
                key_is=settings.key_is,
            )
    return rows.collected()
