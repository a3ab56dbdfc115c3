"""Any CT on disk into `Scan`: one table says which reader takes which path.

A volume is one file, a DICOM series is one folder. What a path is, is said by its suffix (or by
being a folder), not by trying readers in turn: a refusal is never followed by another attempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from medkd.errors import SeriesError
from medkd.io.dicom.series import read_dicom_folder
from medkd.io.volume import VOLUME_SUFFIXES, read_volume, volume_suffix

if TYPE_CHECKING:
    from pathlib import Path

    from medkd.types import Scan


class ScanReader(Protocol):
    """What stands in `READERS`: a path to a scan, or `SeriesError` with all reasons."""

    def __call__(
        self, path: Path, *, seriesuid: str | None = None, patient_id: str | None = None
    ) -> Scan:
        """Read the scan at `path`."""


FOLDER = "folder"

READERS: dict[str, ScanReader] = {
    **dict.fromkeys(VOLUME_SUFFIXES, read_volume),
    FOLDER: read_dicom_folder,
}
"""File suffix (or `FOLDER`) to reader. A new format is one line here."""


def read_scan(path: Path, *, seriesuid: str | None = None, patient_id: str | None = None) -> Scan:
    """Read the CT at a path: a volume file or the folder of one DICOM series.

    Args:
        path: file whose suffix is in `READERS`, or a folder with the slices of one series.
        seriesuid: name to give the series; else a DICOM series' own UID or the file's name.
        patient_id: pseudonym to give the patient; else a short hash of DICOM's PatientID, or
            the seriesuid for a volume file, which names no patient.

    Returns:
        The scan: HU int16 [i, j, k] on its grid in LPS mm.

    Raises:
        SeriesError: with all reasons why it cannot be read.

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


def find_scans(path: Path) -> tuple[Path, ...]:
    """List the scans at or below a path, sorted: volume files, and folders that hold others.

    A folder without volume files below it is taken to be one DICOM series if it holds files;
    whether it really is one, `read_scan` says.

    Args:
        path: a file or a folder.
    """
    if not path.is_dir():
        return (path,)
    volumes = {p for p in path.rglob("*") if p.is_file() and volume_suffix(p)}
    folders = {
        p.parent
        for p in path.rglob("*")
        if p.is_file() and not p.name.startswith(".") and p.suffix.lower() in ("", ".dcm")
    }
    return tuple(sorted(volumes | (folders - {p.parent for p in volumes})))
