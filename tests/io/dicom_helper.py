"""Write CT series as DICOM for tests: values stored in any way, planted faults, enhanced CT."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medkd.geometry import VoxelGrid
from medkd.io.dicom.write import ct_slice, save_slice, write_dicom_series
from medkd.types import Scan

SERIESUID = "1.2.826.0.1.3680043.8.498.7"
SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpegls": JPEGLSLossless,
    "jpeg_lossless": JPEGLosslessSV1,
    "jpeg2000": JPEG2000Lossless,
}
"""Lossless transfer syntaxes (PS3.5 annex A) by name."""
Edit = Callable[[Dataset, int], None]


def write_encoded_series(
    scan: Scan, folder: Path, *, syntax: str, extra: dict[str, object] | None = None
) -> list[Path]:
    """Write a scan as a series of the patient Doe^Jane in a transfer syntax of `SYNTAXES`."""
    paths = write_dicom_series(scan, folder, patient_name="Doe^Jane", patient_id="17", extra=extra)
    for path in paths:
        encode(path, syntax)
    return paths


def encode(path: Path, syntax: str) -> None:
    """Change an uncompressed file to another transfer syntax."""
    if syntax == "jpeg_lossless":
        _encode_jpeg_lossless(path)
        return
    dataset, uid = pydicom.dcmread(path), SYNTAXES[syntax]
    if uid.is_encapsulated:
        dataset.compress(uid, generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = uid
    dataset.save_as(path, enforce_file_format=True)


def _encode_jpeg_lossless(path: Path) -> None:
    """Encode pixels with GDCM, which also changes positions: only its pixels are used."""
    import gdcm

    with tempfile.TemporaryDirectory() as folder:
        compressed = Path(folder) / "compressed"
        reader, writer = gdcm.ImageReader(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        writer.SetFileName(str(compressed))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        pixels = pydicom.dcmread(compressed).PixelData
    dataset = pydicom.dcmread(path)
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.save_as(path, enforce_file_format=True)


def write_ct_series(
    folder: Path,
    voxels_hu: np.ndarray,
    grid: VoxelGrid,
    *,
    slope: float = 1.0,
    intercept: float = -1024.0,
    signed: bool = False,
    bits_stored: int = 16,
    edit: Edit | None = None,
    syntax: str = ExplicitVRLittleEndian,
    seed: int = 0,
) -> list[Path]:
    """Write voxels [i, j, k] HU one slice a file; names and InstanceNumbers are shuffled.

    `edit(dataset, k)` may change or delete anything before slice k is saved as it stands, in a
    file that names `syntax`. The third axis of `grid` must be the slice normal (cross product of
    the first two).
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(seed).permutation(grid.shape[2])
    scan = Scan(SERIESUID, voxels_hu, grid, patient_id="hospital-17")
    paths = []
    for k in range(grid.shape[2]):
        stored = np.rint((voxels_hu[:, :, k].T.astype(np.float64) - intercept) / slope)
        dataset = ct_slice(scan, k)
        dataset.PatientName, dataset.PatientID = "Doe^Jane", "hospital-17"
        dataset.SliceThickness = "2.5"
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope:g}", f"{intercept:g}"
        dataset.PixelRepresentation = int(signed)
        dataset.BitsStored, dataset.HighBit = bits_stored, bits_stored - 1
        dataset.InstanceNumber = int(names[k])
        dataset.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
        dataset["PixelData"].VR = "OW"
        if edit is not None:
            edit(dataset, k)
        path = folder / f"{names[k]:05d}"
        save_as_it_stands(dataset, path, syntax)
        paths.append(path)
    return paths


def save_as_it_stands(dataset: Dataset, path: Path, syntax: str) -> None:
    """Save a data set in a file that names a transfer syntax, without encoding its pixels."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)


def write_enhanced_ct(
    path: Path,
    scan: Scan,
    *,
    syntax: str = "explicit",
    uid: str = "1.2.3",
    seed: int = 0,
    edit: Callable[[Dataset], None] | None = None,
) -> Path:
    """Write a scan as one enhanced multi-frame CT whose frames are in no order (PS3.3 A.38).

    `edit` may change the data set before it is saved.
    """
    order = np.random.default_rng(seed).permutation(scan.grid.shape[2])
    slices = [ct_slice(scan, int(k)) for k in order]
    dataset = slices[0]
    pixels = b"".join(part.PixelData for part in slices)
    shared = _item(
        PixelMeasuresSequence=_item(
            PixelSpacing=dataset.PixelSpacing, SliceThickness=dataset.SliceThickness
        ),
        PlaneOrientationSequence=_item(ImageOrientationPatient=dataset.ImageOrientationPatient),
        PixelValueTransformationSequence=_item(
            RescaleIntercept=dataset.RescaleIntercept, RescaleSlope="1", RescaleType="HU"
        ),
        FrameAnatomySequence=_item(AnatomicRegionSequence=_item(CodeMeaning="Chest")),
    )
    frames = [
        _item(PlanePositionSequence=_item(ImagePositionPatient=part.ImagePositionPatient))
        for part in slices
    ]
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
                 "SliceThickness", "RescaleIntercept", "RescaleSlope", "RescaleType"):  # fmt: skip
        del dataset[name]
    dataset.SOPInstanceUID = uid
    dataset.SOPClassUID, dataset.NumberOfFrames = EnhancedCTImageStorage, len(slices)
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "hospital-17"
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OW"
    if edit is not None:
        edit(dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_slice(dataset, path)
    encode(path, syntax)
    return path


def _item(**values: object) -> Dataset:
    """Make a sequence item; an item as a value becomes a sequence of one."""
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, Sequence([value]) if isinstance(value, Dataset) else value)
    return item
