"""Labels of NIH ChestX-ray14: for each image all fourteen findings and "No Finding"."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from medkd.io.reference.places import ArchiveLookup
from medkd.io.reference.rows import LabelValue, ReferenceRows, RowCollector
from medkd.io.reference.source import AnnotationSource
from medkd.io.tables import read_table

COLUMNS = {"data_entry": ("Image Index", "Finding Labels")}

_LABELS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis",
    "Hernia", "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax",
    "No Finding",
)  # fmt: skip


class NihAnnotations(AnnotationSource):
    """NIH ChestX-ray14: `Data_Entry_2017`."""

    kind: Literal["nih"]
    data_entry: Path = Field(description="Findings of each image.")


def read_nih(settings: NihAnnotations, archive: ArchiveLookup) -> ReferenceRows:
    """Read NIH's labels; a row with an unknown finding is unmatched.

    Args:
        settings: the table, plain or gzip.
        archive: rows of images that are not in it are unmatched.

    Raises:
        SeriesError: if the table cannot be read or lacks a column.
    """
    rows = RowCollector("nih", archive)
    table = read_table(settings.data_entry)
    images, findings = table.texts("Image Index"), table.texts("Finding Labels")
    patients, views = table.texts("Patient ID"), table.texts("View Position")
    table.refuse_if_faulty()
    for n, line in enumerate(table.lines):
        row = f"data_entry, row {line}"
        present = set(findings[n].split("|"))
        if not present.issubset(_LABELS):
            reason = "it has a finding that is not one of NIH's fourteen"
            rows.refuse(row, reason, images[n])
        elif rows.accepts(images[n], row):
            values: dict[str, LabelValue] = {name: 1 if name in present else 0 for name in _LABELS}
            rows.add_labels(images[n], values, patient_id=patients[n], view=views[n])
    return rows.collected()
