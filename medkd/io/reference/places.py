"""Geometry of an archive's series, and lookup of what annotations refer to.

Annotations give places in world mm, or on a slice that they name by SOPInstanceUID,
InstanceNumber or z. Slices are numbered by k along the slice normal, as in the series' grid; an
image column is index i, a row is index j. This module reads no files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medkd.geometry import VoxelGrid
from medkd.io.file_ref import FileRef
from medkd.types import Point

KeyKind = Literal["file", "seriesuid", "sop_uid"]
"""Meaning of a label's key: a file's name or path, a series, or one DICOM image."""


@dataclass(frozen=True, slots=True, eq=False)
class SeriesPlaces:
    """Grid and slice identifiers of one series, from its headers.

    Args:
        seriesuid: real SeriesInstanceUID; for a volume that is not DICOM, its name.
        grid: voxels in LPS mm; axis i along a row, j along a column, k along the slice normal.
        frame_of_reference_uid: empty if not stated.
        sop_uids: SOPInstanceUID of each slice, by k, "" if not stated; empty for a volume. In a
            multi-frame image all are equal.
        instance_numbers: InstanceNumber of each slice, by k, None if not stated.
        frame_numbers: frame (from 1) of each slice in a multi-frame image, by k; else empty.
        patch_of: real SeriesInstanceUID of the scan that a patch was cut from; else empty.

    Raises:
        ValueError: if a tuple is not empty and its length is not the number of slices.
    """

    seriesuid: str
    grid: VoxelGrid
    frame_of_reference_uid: str = ""
    sop_uids: tuple[str, ...] = ()
    instance_numbers: tuple[int | None, ...] = ()
    frame_numbers: tuple[int, ...] = ()
    patch_of: str = ""

    def __post_init__(self) -> None:
        for name in ("sop_uids", "instance_numbers", "frame_numbers"):
            count = len(getattr(self, name))
            if count not in (0, self.grid.shape[2]):
                raise ValueError(
                    f"expected one of {name} for each of {self.grid.shape[2]} slices, got {count}"
                )

    def slices_of_sop(self, sop_uid: str, frame: int | None = None) -> tuple[int, ...]:
        """Return k of every slice of an image: one, or one per frame if no frame is given."""
        return tuple(
            k
            for k, uid in enumerate(self.sop_uids)
            if uid == sop_uid != ""  # two missing UIDs do not match
            and (frame is None or not self.frame_numbers or self.frame_numbers[k] == frame)
        )

    def slices_of_instance(self, number: int) -> tuple[int, ...]:
        """Return k of every slice with an InstanceNumber: one, unless the number is repeated."""
        return tuple(k for k, stated in enumerate(self.instance_numbers) if stated == number)


class ArchiveLookup:
    """Finds the series, cases and annotation objects of an archive.

    Args:
        places: the series, by seriesuid.
        objects: annotation objects, by kind.
        has_case: returns for a label's (key, kind of key) whether there is such a case; None:
            every key is accepted.
        real_names: real seriesuid of each case, by its case id in the INDEX.
    """

    def __init__(
        self,
        places: Mapping[str, SeriesPlaces],
        objects: Mapping[str, Sequence[FileRef]] | None = None,
        has_case: Callable[[str, KeyKind], bool] | None = None,
        real_names: Mapping[str, str] | None = None,
    ) -> None:
        self.objects = objects or {}
        self.has_case = has_case or (lambda *_: True)
        self._real_names = real_names or {}
        self._places = places
        self._by_sop = {
            uid: series.seriesuid for series in places.values() for uid in series.sop_uids if uid
        }
        self._by_frame: dict[str, list[SeriesPlaces]] = defaultdict(list)
        self._patches: dict[str, list[SeriesPlaces]] = defaultdict(list)
        for series in places.values():
            if series.patch_of:
                self._patches[series.patch_of].append(series)
            if series.frame_of_reference_uid:
                self._by_frame[series.frame_of_reference_uid].append(series)

    def series(self, seriesuid: str) -> SeriesPlaces | None:
        """Return the series with this UID; None if it is not in the archive."""
        return self._places.get(seriesuid)

    def real_name(self, name: str) -> str:
        """Return the real seriesuid of a case id of the INDEX; any other name is returned as is."""
        return self._real_names.get(name, name)

    def patches_of(self, seriesuid: str) -> tuple[SeriesPlaces, ...]:
        """Return the patches of the archive that were cut from the series with this UID."""
        return tuple(self._patches.get(seriesuid, ()))

    def of_sop(self, sop_uid: str) -> SeriesPlaces | None:
        """Return the series to which an image belongs; None if it is not in the archive."""
        return self._places.get(self._by_sop.get(sop_uid, ""))

    def sharing_frame(
        self, frame_of_reference_uid: str, named: Iterable[str] = ()
    ) -> tuple[SeriesPlaces, ...]:
        """Return the series to which a place in world mm of a frame of reference belongs.

        Several reconstructions of one acquisition may share a frame of reference; a place has the
        same coordinates in each (DICOM PS3.3 C.7.4.1).

        Args:
            frame_of_reference_uid: frame of reference of the place.
            named: series that the annotation names; if any of them is in the frame, only those
                are returned.
        """
        inside = self._by_frame.get(frame_of_reference_uid, [])
        wanted = set(named)
        return tuple([s for s in inside if s.seriesuid in wanted] or inside)

    def seriesuids(self) -> Iterable[str]:
        """Return the UIDs (or names) of all series."""
        return self._places.keys()


def to_point(place_mm: NDArray[np.float64]) -> Point:
    """Convert an array [3] to a point."""
    x, y, z = place_mm.tolist()
    return x, y, z
