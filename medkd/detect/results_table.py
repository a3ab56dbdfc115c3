"""results.csv: a row a mark of the scans that were searched, or a row a radiograph.

For scans, LUNA16's submission columns come first: `medkd froc` and the official script can read the
table. The other columns say where in the stored scan a mark is. Voxels count from 0 along i, j, k;
`slice_number` from 1 along k; `instance_number` and `sop_instance_uid` are the DICOM image's own,
empty for volumes. Paths and UIDs are empty where they may name a patient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medkd.io.luna16_tables import MARK_COLUMNS
from medkd.io.tables import write_table
from medkd.types import Candidate, CaseResult, MarkPlace

_PLACE_COLUMNS = (
    "diameter_mm", "voxel_i", "voxel_j", "voxel_k", "slice_number", "instance_number",
    "frame_number", "sop_instance_uid", "case", "path", "threshold", "above_threshold",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What a table says beside its results: kind of rows, frozen threshold, labels of images."""

    kind: Literal["scan", "image"] = "scan"
    threshold: float | None = None
    labels: tuple[str, ...] = ()


def write_results_table(path: Path, results: Sequence[CaseResult], facts: TableFacts) -> None:
    """Write the table of all results, whole or not at all."""
    if facts.kind == "image":
        write_table(path, _image_columns(facts), [_image_row(r, facts) for r in results])
    else:
        rows = [row for result in results for row in _mark_rows(result, facts)]
        write_table(path, (*MARK_COLUMNS, *_PLACE_COLUMNS), rows)


def _mark_rows(result: CaseResult, facts: TableFacts) -> Iterator[tuple[object, ...]]:
    places = result.places or (None,) * len(result.candidates)
    for mark, place in zip(result.candidates, places, strict=True):
        yield (
            mark.seriesuid, *mark.center_mm, mark.score, mark.diameter_mm, *_place_cells(place),
            result.seriesuid, result.path, facts.threshold, _above(mark, facts),
        )  # fmt: skip


def _place_cells(place: MarkPlace | None) -> tuple[object, ...]:
    if place is None:
        return ("",) * 7
    i, j, k = place.voxel
    image = place.image
    return (i, j, k, k + 1, image.instance_number, image.frame_number, image.sop_instance_uid)


def _above(mark: Candidate, facts: TableFacts) -> str:
    return "" if facts.threshold is None else str(int(mark.score >= facts.threshold))


def _image_columns(facts: TableFacts) -> tuple[str, ...]:
    probabilities = [f"probability_{label}" for label in facts.labels]
    return ("case", "path", "status", *probabilities, "threshold", "above_threshold", "reasons")


def _image_row(result: CaseResult, facts: TableFacts) -> tuple[object, ...]:
    found = [result.probabilities.get(label) for label in facts.labels]
    above = ""
    if facts.threshold is not None and len(found) == 1 and found[0] is not None:
        above = str(int(found[0] >= facts.threshold))
    return (
        result.seriesuid, result.path, result.status, *found, facts.threshold, above,
        "; ".join(result.reasons),
    )  # fmt: skip
