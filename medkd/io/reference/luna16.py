"""LUNA16's annotation tables (LPS mm), matched with the series of an archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from medkd.io.luna16_tables import NODULE_COLUMNS, read_excluded, read_findings
from medkd.io.reference.places import ArchiveLookup
from medkd.io.reference.rows import ReferenceRows, RowCollector
from medkd.io.reference.source import AnnotationSource
from medkd.types import Nodule

COLUMNS = {"annotations": NODULE_COLUMNS}

_LEAST_MM = 3.0
"""LUNA16's nodules are at least this large; most irrelevant findings are smaller or unmeasured."""


class Luna16Annotations(AnnotationSource):
    """LUNA16's `annotations.csv` and `annotations_excluded.csv`: LPS mm."""

    kind: Literal["luna16"]
    annotations: Path | None = Field(None, description="Nodules that must be found.")
    excluded: Path | None = Field(None, description="Irrelevant findings.")

    @model_validator(mode="after")
    def _some_table(self) -> Luna16Annotations:
        if self.annotations is None and self.excluded is None:
            raise ValueError("give annotations, excluded or both")
        return self


def read_luna16_annotations(settings: Luna16Annotations, archive: ArchiveLookup) -> ReferenceRows:
    """Read nodules and irrelevant findings.

    Args:
        settings: paths of the two tables.
        archive: the series that can be annotated.

    Returns:
        Nodules inside their volume. A row is unmatched if its series is not in the archive, if it
        lies outside the volume, or if it is a nodule without a diameter.

    Raises:
        SeriesError: with every fault of a table, or if the table of nodules lists irrelevant
            findings.
    """
    rows = RowCollector("luna16", archive)
    for number, nodule in enumerate(
        read_findings(settings.annotations) if settings.annotations else [], start=1
    ):
        row = f"annotations, nodule {number}"
        if nodule.counts_as == "included" and nodule.diameter_mm <= 0:
            reason = f"expected a diameter above 0, got {nodule.diameter_mm:g}"
            rows.refuse(row, reason, nodule.seriesuid)
        else:
            rows.add(nodule, row)
    excluded = read_excluded(settings.excluded) if settings.excluded else []
    if settings.excluded and _may_be_nodules(settings.excluded, excluded):
        rows.note(
            f"all {len(excluded)} excluded findings have a diameter of at least {_LEAST_MM:g} mm, "
            "like nodules: if they are the nodules, give their table with --annotations"
        )
    for number, finding in enumerate(excluded, start=1):
        rows.add(finding, f"annotations_excluded, finding {number}")
    return rows.collected()


def _may_be_nodules(path: Path, findings: Sequence[Nodule]) -> bool:
    """Return whether name and diameters of a table of excluded findings are those of nodules."""
    if not findings or "excluded" in path.name.casefold():
        return False
    return all(finding.diameter_mm >= _LEAST_MM for finding in findings)
