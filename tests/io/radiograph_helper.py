"""Write small DICOM radiographs for tests: any header, any stored values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

STORED = np.array([[0, 1000, 2000], [3000, 4000, 4095]], np.uint16)


def write_dx(
    path: Path,
    stored: np.ndarray = STORED,
    *,
    bits: int = 12,
    syntax: str = ExplicitVRLittleEndian,
    **header: Any,
) -> Path:
    """Write stored values [row, col] as a DX image; header values by keyword, None: left out."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    little = UID(syntax).is_little_endian
    dataset = FileDataset("", {}, b"\0" * 128, meta, is_little_endian=little)
    values = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "DX", "BodyPartExamined": "CHEST", "PatientID": "hospital-17",
        "PatientName": "Doe^Jane", "Rows": stored.shape[0], "Columns": stored.shape[1],
        "SamplesPerPixel": 1 if stored.ndim == 2 else 3,
        "PhotometricInterpretation": "MONOCHROME2" if stored.ndim == 2 else "RGB",
        "BitsAllocated": stored.dtype.itemsize * 8, "BitsStored": bits, "HighBit": bits - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        "PlanarConfiguration": None if stored.ndim == 2 else 0,
    } | header  # fmt: skip
    for name, value in values.items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    dataset["PixelData"].VR = "OW" if stored.dtype.itemsize == 2 else "OB"
    if UID(syntax).is_encapsulated:
        dataset.compress(UID(syntax), generate_instance_uid=False)
    else:
        meta.TransferSyntaxUID = UID(syntax)
    if not little:
        dataset.PixelData = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def lut(first: int, entries: list[int], bits: int) -> Dataset:
    """Return an item of a modality or VOI LUT sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", entries)
    return item
