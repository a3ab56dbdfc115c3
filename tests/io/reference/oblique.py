"""An oblique series for tests: rows, columns and normal all off the axes of the world."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pydicom

from medkd.geometry import VoxelGrid
from medkd.io.dicom.write import write_dicom_series
from medkd.io.reference import SeriesPlaces
from medkd.types import Scan
from tests.spheres import sphere_mask

SERIESUID = "1.2.826.0.1.3680043.8.498.7"
FRAME = SERIESUID + ".1"
CENTER_VOX = (13, 21, 9)
DIAMETER_MM = 8.0


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """Turn about x, then y, then z, in degrees."""
    matrix = np.eye(3)
    for axis, degrees in enumerate((x, y, z)):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        a, b = [n for n in range(3) if n != axis]
        turn = np.eye(3)
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
        matrix = turn @ matrix
    return matrix


def oblique_grid(shape: tuple[int, int, int] = (40, 32, 24)) -> VoxelGrid:
    """Anisotropic and turned about all three axes."""
    return VoxelGrid.from_parts(
        shape,
        spacing_mm=(0.7, 0.9, 1.5),
        origin_mm=(-31.0, 12.0, -204.0),
        direction=rotation(12, -17, 25),
    )


def oblique_places(grid: VoxelGrid | None = None, seriesuid: str = SERIESUID) -> SeriesPlaces:
    """Places as the headers would state them; InstanceNumbers run against k, from 101 down."""
    grid = grid or oblique_grid()
    count = grid.shape[2]
    return SeriesPlaces(
        seriesuid,
        grid,
        FRAME,
        sop_uids=tuple(f"{seriesuid}.2.{k}" for k in range(count)),
        instance_numbers=tuple(101 - k for k in range(count)),
    )


def places_of_files(paths: Iterable[Path]) -> SeriesPlaces:
    """Read the places of the DICOM slices of one series, apart from the reader under test."""
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    cosines = np.asarray(headers[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    normal = np.cross(*cosines)
    headers.sort(key=lambda h: float(normal @ np.asarray(h.ImagePositionPatient, dtype=float)))
    first, last = (
        np.asarray(h.ImagePositionPatient, dtype=float) for h in headers[:: len(headers) - 1]
    )
    row_step, column_step = (float(step) for step in headers[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = cosines[0] * column_step, cosines[1] * row_step
    affine[:3, 2], affine[:3, 3] = (last - first) / (len(headers) - 1), first
    shape = (int(headers[0].Columns), int(headers[0].Rows), len(headers))
    return SeriesPlaces(
        str(headers[0].SeriesInstanceUID),
        VoxelGrid(shape, affine),
        str(headers[0].get("FrameOfReferenceUID", "")),
        tuple(str(h.SOPInstanceUID) for h in headers),
        tuple(None if h.get("InstanceNumber") is None else int(h.InstanceNumber) for h in headers),
    )


def write_oblique_series(folder: Path) -> SeriesPlaces:
    """Write an oblique CT series with one bright sphere at CENTER_VOX; return its places."""
    grid = oblique_grid()
    voxels = np.full(grid.shape, -850, dtype=np.int16)
    voxels[sphere_mask(grid, grid.voxel_to_world(CENTER_VOX), DIAMETER_MM)] = 40
    scan = Scan(SERIESUID, voxels, grid, "p1")
    return places_of_files(
        write_dicom_series(scan, folder, patient_name="Doe^Jane", patient_id="hospital-17")
    )


def off_by_vox(places: SeriesPlaces, center_mm: tuple[float, float, float]) -> float:
    """How many voxels a place lies off the bright sphere's centre, along the worst axis."""
    return float(np.abs(places.grid.world_to_voxel(center_mm) - CENTER_VOX).max())
