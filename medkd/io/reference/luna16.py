"""LUNA16's annotation tables against the series of an archive: places are LPS mm already."""

from __future__ import annotations

from medkd.io.annotations import read_annotations, read_excluded
from medkd.io.reference.places import PlaceFinder
from medkd.io.reference.rows import ReferenceRows, RowCollector
from medkd.io.reference.settings import Luna16Annotations


def read_luna16_annotations(settings: Luna16Annotations, finder: PlaceFinder) -> ReferenceRows:
    """Read nodules and irrelevant findings.

    Args:
        settings: where the two tables are.
        finder: the archive's series.

    Returns:
        Nodules inside their volume; a row of another series, or outside, is unmatched.

    Raises:
        SeriesError: with every fault of a table.
    """
    rows = RowCollector("luna16", finder)
    for number, nodule in enumerate(read_annotations(settings.annotations), start=1):
        rows.add(nodule, f"annotations, nodule {number}")
    for number, finding in enumerate(
        read_excluded(settings.excluded) if settings.excluded else [], start=1
    ):
        rows.add(finding, f"annotations_excluded, finding {number}")
    return rows.collected()
