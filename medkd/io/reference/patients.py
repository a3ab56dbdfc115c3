"""A table that names the patient of each series or file whose header names none."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

from pydantic import Field

from medkd.errors import SeriesError
from medkd.io.reference.places import ArchiveLookup, KeyKind
from medkd.io.reference.rows import FoundPatient, ReferenceRows
from medkd.io.reference.source import Column, TableSource
from medkd.io.tables import read_table

_SHOWN = 3


class PatientsTable(TableSource):
    """Patients of series or files: one row per series or file."""

    kind: Literal["patients"]
    key: Column = Field("seriesuid", description="Column that names the series or the file.")
    key_is: KeyKind = Field(
        "seriesuid",
        description="Content of this column: SeriesInstanceUID (also of the series that patches "
        "were cut from), a file's name or path, or SOPInstanceUID.",
    )
    patient: Column = Field("patient_id", description="Column of the patient.")


def read_patients(settings: PatientsTable, _archive: ArchiveLookup) -> ReferenceRows:
    """Read a table of patients.

    Args:
        settings: the table and its columns.

    Returns:
        One patient per key; equal rows count once. Rows without a patient are ignored, with a note.

    Raises:
        SeriesError: if the table cannot be read, lacks a column, or names two patients for one key.
    """
    table = read_table(settings.path, separator=settings.separator, encoding=settings.encoding)
    keys, patients = table.texts(settings.key), table.texts(settings.patient)
    table.refuse_if_faulty()
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for key, patient, line in zip(keys, patients, table.lines, strict=True):
        if patient.strip():
            found[key.strip()].setdefault(patient.strip(), line)
    # Keys and patients are not shown, because they identify people.
    torn = [list(lines.values())[:2] for lines in found.values() if len(lines) > 1]
    if torn:
        shown = "; ".join(f"rows {first} and {second}" for first, second in torn[:_SHOWN])
        reason = f"{len(torn)} keys have several patients ({shown}): expected one patient for each"
        raise SeriesError(f"{settings.path}: cannot be used as a table of patients", [reason])
    blank = sum(not patient.strip() for patient in patients)
    notes = (f"{blank} rows name no patient and are ignored",) if blank else ()
    rows = (FoundPatient(key, next(iter(of_key)), settings.key_is) for key, of_key in found.items())
    return ReferenceRows(patients=tuple(rows), notes=notes)
