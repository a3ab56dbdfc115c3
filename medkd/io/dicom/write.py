"""Write a `Scan` as a DICOM CT series: one CT Image Storage file per slice (PS3.3 A.3).

This is for phantoms and tests, and for passing a volume to a viewer. Any grid without shear can be
written. The header contains the given values and no invented patient data. Pixels are stored
exactly, in any lossless transfer syntax that an installed codec supports. Enhanced multi-frame CT
is not supported.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medkd.io.dicom.tags import uid_of
from medkd.io.synthetic_mark import PHANTOM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from medkd.types import Scan

Syntax = Literal["explicit", "implicit", "deflated", "rle", "jpegls", "jpeg_lossless", "jpeg2000"]

SYNTAXES: dict[Syntax, UID] = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpegls": JPEGLSLossless,
    "jpeg_lossless": JPEGLosslessSV1,
    "jpeg2000": JPEG2000Lossless,
}
"""The lossless transfer syntaxes (PS3.5 annex A) that can be written, by name."""

SYNTHETIC_MANUFACTURER = PHANTOM
"""Value of Manufacturer that marks a series as synthetic."""

_INTERCEPT_HU = -1024


def write_dicom_series(
    scan: Scan,
    folder: Path,
    *,
    patient_name: str,
    patient_id: str,
    syntax: Syntax = "explicit",
    names: Literal["shuffled", "ordered"] = "shuffled",
    extra: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write a scan as a DICOM series; the same arguments produce the same files.

    Args:
        scan: HU on any grid. Its `seriesuid` becomes the SeriesInstanceUID if it is a valid UID;
            otherwise the UID is derived from it.
        folder: created if missing; must not hold files of the same names.
        patient_name: PatientName, "Family^Given".
        patient_id: PatientID.
        syntax: name in `SYNTAXES`.
        names: "shuffled": names without suffix in random order; "ordered": 00000.dcm, ... by k.
        extra: maps DICOM keywords to values that are set last in every slice ("StudyDate",
            "BodyPartExamined", "SeriesInstanceUID" ...); None removes the attribute.

    Returns:
        The files in order of k.

    Raises:
        ValueError: if `syntax` is unknown.
        RuntimeError: if no codec for it is installed.

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
    if syntax not in SYNTAXES:
        raise ValueError(f"expected a syntax of {sorted(SYNTAXES)}, got {syntax!r}")
    folder.mkdir(parents=True, exist_ok=True)
    signed = bool(scan.voxels_hu.min() < _INTERCEPT_HU)
    paths = []
    for k in range(scan.grid.shape[2]):
        dataset = ct_slice(scan, k, signed=signed)
        dataset.PatientName, dataset.PatientID = patient_name, patient_id
        for keyword, value in (extra or {}).items():
            if value is None:
                dataset.pop(keyword, None)
            else:
                setattr(dataset, keyword, value)
        path = folder / (_shuffled_name(dataset) if names == "shuffled" else f"{k:05d}.dcm")
        save_slice(dataset, path, syntax)
        paths.append(path)
    return paths


def ct_slice(scan: Scan, k: int, *, signed: bool = False) -> Dataset:
    """Build the uncompressed data set of slice k, with empty patient attributes.

    Stored values are unsigned HU + 1024, or signed HU (`signed`, needed below -1024 HU).
    """
    uid = _series_uid(scan.seriesuid)
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, _uid(uid, "slice", k)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _uid(uid, "study"), uid
    dataset.FrameOfReferenceUID = _uid(uid, "frame of reference")
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
    _state_acquisition(dataset, scan)
    _state_plane(dataset, scan, k)
    _state_pixels(dataset, scan.voxels_hu[:, :, k], signed=signed)
    return dataset


def save_slice(dataset: Dataset, path: Path, syntax: Syntax = "explicit") -> None:
    """Save an uncompressed little-endian data set in a transfer syntax, with its file meta."""
    uid = SYNTAXES[syntax]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if not uid.is_compressed or uid == DeflatedExplicitVRLittleEndian:
        dataset.file_meta.TransferSyntaxUID = uid
        dataset.save_as(path, enforce_file_format=True)
        return
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if uid == JPEGLosslessSV1:
        _to_jpeg_lossless(dataset, path)
    else:
        dataset.compress(uid, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)


def _state_acquisition(dataset: Dataset, scan: Scan) -> None:
    made = scan.acquisition
    spacing_mm = float(scan.grid.spacing_mm[2])
    dataset.Manufacturer = made.manufacturer or ""
    dataset.KVP = "" if made.kvp is None else f"{made.kvp:g}"
    dataset.SliceThickness = f"{made.slice_thickness_mm or spacing_mm:.6g}"
    if made.kernel:
        dataset.ConvolutionKernel = made.kernel


def _state_plane(dataset: Dataset, scan: Scan, k: int) -> None:
    """Set position, orientation and pixel spacing of the image plane (PS3.3 C.7.6.2)."""
    grid = scan.grid
    dataset.ImagePositionPatient = decimals(grid.voxel_to_world([0, 0, k]))
    dataset.ImageOrientationPatient = decimals(grid.direction[:, :2].T.reshape(-1))
    dataset.PixelSpacing = decimals(grid.spacing_mm[[1, 0]])


def _state_pixels(dataset: Dataset, slice_hu: NDArray[np.int16], *, signed: bool) -> None:
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


def decimals(numbers: NDArray[np.float64]) -> list[str]:
    """Format numbers as DICOM decimal strings, at most 16 characters (PS3.5 6.2)."""
    return [f"{number:.10f}"[:16] for number in np.asarray(numbers, dtype=np.float64).tolist()]


def _to_jpeg_lossless(dataset: Dataset, path: Path) -> None:
    """Encode pixels as JPEG lossless, selection value 1, with GDCM.

    GDCM writes whole files and changes positions in the header: only its pixels are used.
    """
    try:
        import gdcm
    except ImportError as error:
        raise RuntimeError("JPEG lossless needs a codec: pip install python-gdcm") from error
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain, compressed = Path(folder) / "plain", Path(folder) / "compressed"
        dataset.save_as(plain, enforce_file_format=True)
        reader, writer = gdcm.ImageReader(), gdcm.ImageWriter()
        reader.SetFileName(str(plain))
        writer.SetFileName(str(compressed))
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        done = reader.Read()
        if done:
            change.SetInput(reader.GetImage())
            done = change.Change()
        if done:
            writer.SetFile(reader.GetFile())
            writer.SetImage(change.GetOutput())
            done = writer.Write()
        if not done:
            raise RuntimeError(f"{path.name}: GDCM could not write JPEG lossless")
        dataset.PixelData = dcmread(compressed).PixelData
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1


def _series_uid(name: str) -> str:
    return name if uid_of(name).is_valid else _uid(name, "series")


def _uid(seed: str, *words: object) -> str:
    """Derive a UID under the root 2.25 (PS3.5 B.2) from a seed."""
    digest = hashlib.sha256(" ".join([seed, *map(str, words)]).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _shuffled_name(dataset: Dataset) -> str:
    return "I" + hashlib.sha256(str(dataset.SOPInstanceUID).encode()).hexdigest()[:11].upper()
