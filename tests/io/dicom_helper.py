"""Write CT series as DICOM for tests: shuffled file names, any axes, faults planted by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medkd.geometry import VoxelGrid

SERIESUID = "1.2.826.0.1.3680043.8.498.7"
Edit = Callable[[Dataset, int], None]


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

    `edit(dataset, k)` may change or delete anything before slice k is saved. The third axis of
    `grid` must be the slice normal (cross product of the first two).
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(seed).permutation(grid.shape[2])
    paths = []
    for k in range(grid.shape[2]):
        stored = np.rint((voxels_hu[:, :, k].T.astype(np.float64) - intercept) / slope)
        dataset = _slice(grid, k, slope, intercept, syntax)
        dataset.PixelRepresentation = int(signed)
        dataset.BitsStored, dataset.HighBit = bits_stored, bits_stored - 1
        dataset.InstanceNumber = int(names[k])
        dataset.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
        dataset["PixelData"].VR = "OW"
        if edit is not None:
            edit(dataset, k)
        path = folder / f"{names[k]:05d}"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _slice(grid: VoxelGrid, k: int, slope: float, intercept: float, syntax: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(k)])
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PatientName, dataset.PatientID = "CT", "Doe^Jane", "hospital-17"
    dataset.SeriesInstanceUID = SERIESUID
    dataset.FrameOfReferenceUID = SERIESUID + ".1"
    dataset.ImageOrientationPatient = [*_ds(grid.direction[:, 0]), *_ds(grid.direction[:, 1])]
    dataset.ImagePositionPatient = _ds(grid.voxel_to_world([0, 0, k]))
    dataset.PixelSpacing = _ds(grid.spacing_mm[[1, 0]])
    dataset.SliceThickness = "2.5"
    dataset.Columns, dataset.Rows = grid.shape[0], grid.shape[1]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = 16
    dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope:g}", f"{intercept:g}"
    return dataset


def _ds(numbers: np.ndarray) -> list[str]:
    """Format numbers as DICOM decimal strings: at most 16 characters."""
    return [f"{number:.10f}"[:16] for number in np.asarray(numbers).tolist()]
