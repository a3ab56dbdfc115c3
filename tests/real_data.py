"""Tests on real data find it through MEDKD_DATA alone, and skip where it is not set."""

from __future__ import annotations

import csv
import lzma
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from medkd.geometry import VoxelGrid
from medkd.io.dicom.series import read_dicom_folder
from medkd.types import Scan

needs_data = pytest.mark.skipif(
    "MEDKD_DATA" not in os.environ, reason="the real data are not in the repository: set MEDKD_DATA"
)


def data_root() -> Path:
    """Return the folder of real data; skip the test where there is none."""
    if "MEDKD_DATA" not in os.environ:
        pytest.skip("the real data are not in the repository: set MEDKD_DATA")
    return Path(os.environ["MEDKD_DATA"])


def read_lidc(patient: str, folder: Path) -> Scan:
    """Unpack a complete LIDC-IDRI scan into a folder, unless it is there, and read it."""
    if not (folder / patient).is_dir():
        with tarfile.open(data_root() / "lidc_full" / f"{patient}.tar.xz") as archive:
            archive.extractall(folder, filter="data")
    return read_dicom_folder(folder / patient)


def read_box(name: str) -> Scan:
    """Read a box around the lungs at 1 mm: slice differences of uint8, HU = 8 v - 1024."""
    folder = data_root() / "ct_negative"
    with (folder / "index.csv").open(encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["name"] == name)
    k, j, i = (int(row[f"size_{axis}"]) for axis in "kji")
    steps = np.frombuffer(lzma.decompress((folder / f"{name}.u8.xz").read_bytes()), np.uint8)
    hu = 8 * np.cumsum(steps.reshape(k, j, i), axis=0, dtype=np.uint8).astype(np.int16) - 1024
    origin = [float(row[f"origin_{axis}_mm"]) for axis in "xyz"]
    grid = VoxelGrid.from_parts((i, j, k), spacing_mm=[1, 1, 1], origin_mm=origin)
    return Scan(name, hu.transpose(2, 1, 0), grid, "p")
