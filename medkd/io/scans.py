"""Reading of any CT on disk into `Scan`; the table `READERS` assigns a reader to each path.

A volume is one file; a DICOM series is one folder, or the files that `find_scans.find_places`
groups. The reader is chosen before reading: after a refusal no other reader is tried.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from medkd.errors import SeriesError
from medkd.io.dicom.header import HeaderSet, read_headers
from medkd.io.dicom.series import read_dicom_folder, read_series
from medkd.io.file_ref import FileRef
from medkd.io.find_scans import ScanPlace, find_places, find_scans
from medkd.io.grouping import unread_reasons
from medkd.io.volume import VOLUME_SUFFIXES, read_volume, volume_suffix

if TYPE_CHECKING:
    from pathlib import Path

    from medkd.io.dicom.gate import GateSettings
    from medkd.types import Scan

__all__ = ["FOLDER", "READERS", "ScanPlace", "find_places", "find_scans", "headers_of",
           "read_place", "read_scan"]  # fmt: skip


class ScanReader(Protocol):
    """An entry of `READERS`: it returns the scan at a path, or raises `SeriesError`."""

    def __call__(
        self, path: Path, *, seriesuid: str | None = None, patient_id: str | None = None
    ) -> Scan:
        """Read the scan at `path`."""


FOLDER = "folder"

READERS: dict[str, ScanReader] = {
    **dict.fromkeys(VOLUME_SUFFIXES, read_volume),
    FOLDER: read_dicom_folder,
}
"""File suffix (or `FOLDER`) to reader. A new format needs one line here."""


def read_scan(path: Path, *, seriesuid: str | None = None, patient_id: str | None = None) -> Scan:
    """Read the CT at a path: a volume file or the folder of one DICOM series.

    Args:
        path: file whose suffix is in `READERS`, or a folder with the slices of one series.
        seriesuid: name of the series; default: the UID of a DICOM series, or the file's name.
        patient_id: pseudonym of the patient; default: a short hash of DICOM's PatientID, or the
            seriesuid for a volume file, which has no patient.

    Returns:
        The scan: HU int16 [i, j, k] on its grid in LPS mm.

    Raises:
        SeriesError: with all reasons why the scan cannot be read.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> try:
        ...     read_scan(Path(tempfile.mkdtemp()) / "absent.mhd")
        ... except SeriesError as error:
        ...     print(error.reasons)
        ('unreadable: there is no such file',)
    """
    key = FOLDER if path.is_dir() else volume_suffix(path)
    reader = READERS.get(key)
    if reader is None:
        expected = ", ".join(VOLUME_SUFFIXES)
        reason = f"expected a file that ends in one of {expected}, or a folder of DICOM slices"
        raise SeriesError(f"{path}: not a scan", [reason])
    return reader(path, seriesuid=seriesuid, patient_id=patient_id)


def read_place(place: ScanPlace, *, gate: GateSettings | None = None) -> Scan:
    """Read a scan that `find_places` found.

    Args:
        place: place of the scan.
        gate: requirements for a DICOM series, and the accepted faults of a volume's header; None:
            any series that is one CT volume is accepted, and no faults of a volume file.

    Returns:
        The scan: HU int16 [i, j, k] on its grid in LPS mm.

    Raises:
        SeriesError: with all reasons why the scan cannot be read or is not complete.
    """
    if place.seriesuid:
        return read_series(headers_of(place), gate=gate, seriesuid=place.seriesuid)
    if place.reasons:
        raise SeriesError(f"{place.path}: not a scan", place.reasons)
    if volume_suffix(place.path):
        return read_volume(place.path, allow=gate.allow if gate else ())
    return read_scan(place.path)


def headers_of(place: ScanPlace) -> HeaderSet:
    """Read the headers of a DICOM series; their reasons include why it may not be complete."""
    found = read_headers([FileRef(file) for file in place.files])
    unread = unread_reasons(found.not_dicom)
    return replace(found, reasons=(*place.reasons, *found.reasons, *unread))
