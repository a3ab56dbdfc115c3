"""Where the slices of a series lie, and which series a UID of an annotation means.

Annotations name places by world mm, by a slice's SOPInstanceUID, by its InstanceNumber or by its
z. Slices are counted by k, along the slice normal, as in the series' grid; a column of an image is
index i, a row is index j. Nothing here reads a file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from medkd.geometry import VoxelGrid


@dataclass(frozen=True, slots=True, eq=False)
class SeriesPlaces:
    """The places of one series, as its headers state them.

    Args:
        seriesuid: real SeriesInstanceUID; the name of a volume that is no DICOM.
        grid: voxels in LPS mm; axis i along a row, j along a column, k along the slice normal.
        frame_of_reference_uid: empty where none is stated.
        sop_uids: SOPInstanceUID of each slice, by k, "" where not stated; empty for a volume. All
            the same in a multi-frame image.
        instance_numbers: InstanceNumber of each slice, by k, None where not stated.
        frame_numbers: frame (from 1) of each slice in a multi-frame image, by k; else empty.

    Raises:
        ValueError: if a tuple has neither no entry nor one a slice.
    """

    seriesuid: str
    grid: VoxelGrid
    frame_of_reference_uid: str = ""
    sop_uids: tuple[str, ...] = ()
    instance_numbers: tuple[int | None, ...] = ()
    frame_numbers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("sop_uids", "instance_numbers", "frame_numbers"):
            count = len(getattr(self, name))
            if count not in (0, self.grid.shape[2]):
                raise ValueError(
                    f"expected one of {name} for each of {self.grid.shape[2]} slices, got {count}"
                )

    def slices_of_sop(self, sop_uid: str, frame: int | None = None) -> tuple[int, ...]:
        """Return k of every slice of an image: one, or one a frame where no frame is named."""
        return tuple(
            k
            for k, uid in enumerate(self.sop_uids)
            if uid == sop_uid != ""  # not stated by the file and the annotation is no match
            and (frame is None or not self.frame_numbers or self.frame_numbers[k] == frame)
        )

    def slices_of_instance(self, number: int) -> tuple[int, ...]:
        """Return k of every slice with an InstanceNumber: one, unless the series repeats it."""
        return tuple(k for k, stated in enumerate(self.instance_numbers) if stated == number)


class PlaceFinder:
    """Finds the series that an annotation means.

    Args:
        places: the series of an archive, by seriesuid.
    """

    def __init__(self, places: Mapping[str, SeriesPlaces]) -> None:
        self._places = places
        self._by_sop = {
            uid: series.seriesuid for series in places.values() for uid in series.sop_uids if uid
        }
        self._by_frame: dict[str, list[SeriesPlaces]] = defaultdict(list)
        for series in places.values():
            if series.frame_of_reference_uid:
                self._by_frame[series.frame_of_reference_uid].append(series)

    def series(self, seriesuid: str) -> SeriesPlaces | None:
        """Return the series of this UID, if the archive holds it."""
        return self._places.get(seriesuid)

    def of_sop(self, sop_uid: str) -> SeriesPlaces | None:
        """Return the series that an image belongs to, if the archive holds it."""
        return self._places.get(self._by_sop.get(sop_uid, ""))

    def sharing_frame(
        self, frame_of_reference_uid: str, named: Iterable[str] = ()
    ) -> tuple[SeriesPlaces, ...]:
        """Return the series that a place in world mm of a frame of reference belongs to.

        One frame of reference may hold several reconstructions of one acquisition; a place is
        the same in each (DICOM PS3.3 C.7.4.1).

        Args:
            frame_of_reference_uid: the frame that the place is given in.
            named: series that the annotation names; where some of the frame are among them,
                those alone.
        """
        inside = self._by_frame.get(frame_of_reference_uid, [])
        wanted = set(named)
        return tuple([s for s in inside if s.seriesuid in wanted] or inside)

    def seriesuids(self) -> Iterable[str]:
        """Return the UIDs (or names) of all series."""
        return self._places.keys()
