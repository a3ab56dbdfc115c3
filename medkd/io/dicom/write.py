"""Write a `Scan` as a DICOM CT series: one CT Image Storage file per slice (PS3.3 A.3).

This is for phantoms and tests. Any grid without shear can be written. The header contains the given
values and no invented patient data. Pixels are stored exactly, as explicit VR little endian.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from medkd.io.dicom.tags import hashed_uid, uid_of
from medkd.io.synthetic_mark import PHANTOM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from medkd.types import Scan

SYNTHETIC_MANUFACTURER = PHANTOM
"""Value of Manufacturer that marks a series as synthetic."""

_INTERCEPT_HU = -1024


def write_dicom_series(
    scan: Scan,
    folder: Path,
    *,
    patient_name: str,
    patient_id: str,
    extra: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write a scan as a DICOM series; the same arguments produce the same files.

    Args:
        scan: HU on any grid. Its `seriesuid` becomes the SeriesInstanceUID if it is a valid UID;
            otherwise the UID is derived from it.
        folder: created if missing; must not hold files of the same names.
        patient_name: PatientName, "Family^Given".
        patient_id: PatientID.
        extra: maps DICOM keywords to values that are set last in every slice ("StudyDate",
            "BodyPartExamined", "SeriesInstanceUID" ...).

    Returns:
        The files in order of k; their names are shuffled and have no suffix.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from medkd.geometry import VoxelGrid
        >>> from medkd.types import Scan
        >>> grid = VoxelGrid.from_parts((8, 6, 2), spacing_mm=[1, 1, 2], origin_mm=[0, 0, 0])
        >>> scan = Scan("2.25.1", np.zeros(grid.shape, np.int16), grid, "p1")
        >>> folder = Path(tempfile.mkdtemp())
        >>> len(write_dicom_series(scan, folder, patient_name="A^B", patient_id="17"))
        2
    """
    folder.mkdir(parents=True, exist_ok=True)
    signed = bool(scan.voxels_hu.min() < _INTERCEPT_HU)
    paths = []
    for k in range(scan.grid.shape[2]):
        dataset = ct_slice(scan, k, signed=signed)
        dataset.PatientName, dataset.PatientID = patient_name, patient_id
        for keyword, value in (extra or {}).items():
            setattr(dataset, keyword, value)
        digest = hashlib.sha256(str(dataset.SOPInstanceUID).encode()).hexdigest()
        path = folder / f"I{digest[:11].upper()}"
        save_slice(dataset, path)
        paths.append(path)
    return paths


def ct_slice(scan: Scan, k: int, *, signed: bool = False) -> Dataset:
    """Build the uncompressed data set of slice k, with empty patient attributes.

    Stored values are unsigned HU + 1024, or signed HU (`signed`, needed below -1024 HU).
    """
    uid = scan.seriesuid
    if not uid_of(uid).is_valid:
        uid = hashed_uid(f"{uid} series")
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, hashed_uid(f"{uid} slice {k}")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = hashed_uid(f"{uid} study"), uid
    dataset.FrameOfReferenceUID = hashed_uid(f"{uid} frame of reference")
    dataset.PatientName, dataset.PatientID = "", ""
    dataset.PatientBirthDate, dataset.PatientSex = "", ""
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "", "", ""
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "", ""
    dataset.SeriesNumber, dataset.AcquisitionNumber = 1, 1
    # As in a scan from head to feet: InstanceNumber falls while k rises along the slice normal.
    dataset.InstanceNumber = scan.grid.shape[2] - k
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.BodyPartExamined, dataset.PatientPosition = "CHEST", "HFS"
    dataset.PositionReferenceIndicator = ""
    _set_acquisition(dataset, scan)
    _set_plane(dataset, scan, k)
    _set_pixels(dataset, scan.voxels_hu[:, :, k], signed=signed)
    return dataset


def save_slice(dataset: Dataset, path: Path) -> None:
    """Save an uncompressed data set as explicit VR little endian, with its file meta."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)


def _set_acquisition(dataset: Dataset, scan: Scan) -> None:
    stated = scan.acquisition
    dataset.Manufacturer = stated.manufacturer or ""
    dataset.KVP = "" if stated.kvp is None else f"{stated.kvp:g}"
    dataset.SliceThickness = f"{stated.slice_thickness_mm or float(scan.grid.spacing_mm[2]):.6g}"
    if stated.kernel:
        dataset.ConvolutionKernel = stated.kernel


def _set_plane(dataset: Dataset, scan: Scan, k: int) -> None:
    """Set position, orientation and pixel spacing of the image plane (PS3.3 C.7.6.2)."""
    grid = scan.grid
    dataset.ImagePositionPatient = _decimals(grid.voxel_to_world([0, 0, k]))
    dataset.ImageOrientationPatient = _decimals(grid.direction[:, :2].T)
    dataset.PixelSpacing = _decimals(grid.spacing_mm[[1, 0]])


def _set_pixels(dataset: Dataset, slice_hu: NDArray[np.int16], *, signed: bool) -> None:
    rows = slice_hu.T
    intercept = 0 if signed else _INTERCEPT_HU
    stored = rows.astype(np.int32) - intercept
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = rows.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(signed)
    dataset.RescaleIntercept, dataset.RescaleSlope = str(intercept), "1"
    dataset.RescaleType = "HU"
    dataset.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
    dataset["PixelData"].VR = "OW"


def _decimals(numbers: NDArray[np.float64]) -> list[str]:
    """Format numbers as DICOM decimal strings, at most 16 characters (PS3.5 6.2)."""
    return [f"{number:.10f}"[:16] for number in numbers.astype(np.float64).ravel().tolist()]
