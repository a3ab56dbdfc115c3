"""What every form of reference standard is read into, and what becomes of rows that fit nothing.

UIDs are real here and keys stand as the source writes them: `medkd index` turns them into
pseudonyms. `reason`, `row` and `source` of an unmatched row name no patient, UID or free text;
its `key` may, and is for the site alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from medkd.io.reference.places import PlaceFinder
from medkd.types import Nodule

KeyKind = Literal["file", "seriesuid", "sop_uid"]
"""What the key of a label means: a file's name or path, a series, or one DICOM image."""


@dataclass(frozen=True, slots=True)
class FoundLabel:
    """A label of a whole case; value None: not known, never to be taken for 0."""

    key: str
    name: str
    value: Literal[0, 1] | None
    patient_id: str | None = None
    view: str | None = None
    key_is: KeyKind = "file"


@dataclass(frozen=True, slots=True)
class FoundBox:
    """A box around a finding on a radiograph.

    `box_px` is (column, row, width, height) from the image's upper left corner, in pixels of a
    picture of `picture_px` (columns, rows); None: of the image as it is stored.
    """

    key: str
    name: str
    box_px: tuple[float, float, float, float]
    picture_px: tuple[int, int] | None = None
    reader: str | None = None
    key_is: KeyKind = "file"


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A row or item that became nothing: where it stands and why.

    `key` is the UID or name that the source gives (real, so for the site alone).
    """

    source: str
    row: str
    reason: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class ReferenceRows:
    """All that one source says; each nodule lies inside the volume of its series."""

    nodules: tuple[Nodule, ...] = ()
    labels: tuple[FoundLabel, ...] = ()
    unmatched: tuple[Unmatched, ...] = ()
    notes: tuple[str, ...] = ()
    boxes: tuple[FoundBox, ...] = ()


def joined(parts: Iterable[ReferenceRows]) -> ReferenceRows:
    """Join what several files say; a note is kept once."""
    all_parts = list(parts)
    return ReferenceRows(
        nodules=tuple(nodule for part in all_parts for nodule in part.nodules),
        labels=tuple(label for part in all_parts for label in part.labels),
        unmatched=tuple(row for part in all_parts for row in part.unmatched),
        notes=tuple(dict.fromkeys(note for part in all_parts for note in part.notes)),
        boxes=tuple(box for part in all_parts for box in part.boxes),
    )


class RowCollector:
    """Keeps what lies inside its volume and lists the rest, each with its reason.

    Args:
        source: what messages call the source: its kind, or a file's label.
        finder: the archive's series.
    """

    def __init__(self, source: str, finder: PlaceFinder) -> None:
        self.source = source
        self.finder = finder
        self._nodules: list[Nodule] = []
        self._unmatched: list[Unmatched] = []
        self._notes: list[str] = []

    def add(self, nodule: Nodule, row: str) -> None:
        """Keep a nodule, unless its series is not here or it lies outside the volume."""
        series = self.finder.series(nodule.seriesuid)
        if series is None:
            self.refuse(row, "no series of the archive has this UID", nodule.seriesuid)
        elif not series.grid.contains_world(nodule.center_mm):
            i, j, k = series.grid.world_to_voxel(nodule.center_mm).round(1).tolist()
            reason = f"outside the volume: voxel ({i:g}, {j:g}, {k:g}) of {series.grid.shape}"
            self.refuse(row, reason, nodule.seriesuid)
        else:
            self._nodules.append(nodule)

    def refuse(self, row: str, reason: str, key: str = "") -> None:
        """List a row that becomes nothing."""
        self._unmatched.append(Unmatched(self.source, row, reason, key))

    def note(self, text: str) -> None:
        """Keep what must be known of how the source was read."""
        self._notes.append(text)

    def collected(self) -> ReferenceRows:
        """Return everything added so far."""
        notes = tuple(dict.fromkeys(self._notes))
        return ReferenceRows(tuple(self._nodules), (), tuple(self._unmatched), notes)
