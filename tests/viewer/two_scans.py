"""An INDEX with three scans of one patient, one of them refused, and one of another patient."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from medkd.geometry import VoxelGrid
from medkd.index.case import Case
from medkd.io.volume import write_mhd
from medkd.types import Nodule, Scan
from tests.data.archives import write_archive
from tests.spheres import sphere_mask

LUNG_MM = (55.0, 75.0, 100.0)
"""Half axes of each lung in the current scan."""

NOW = VoxelGrid.from_parts((64, 48, 40), spacing_mm=(5, 5, 7), origin_mm=(-157, -118, -136))
BEFORE = VoxelGrid.from_parts((56, 44, 36), spacing_mm=(6, 6, 6), origin_mm=(-150, -140, 295))
NOW_MM = (0.0, 0.0, 0.0)
BEFORE_MM = (12.0, -8.0, 400.0)
"""The middle of the chest in each scan, LPS mm."""

REASON = "missing_slices: after position -120.0 mm"

SHORTER = 0.8
"""The patient breathed in less deeply before: the height of the lungs, as a share of now."""


def build_chest(name: str, grid: VoxelGrid, middle_mm, *, height=1.0, seed=0) -> Scan:
    """Build a body with two lungs and noise, which makes the voxels differ."""
    x, y, z = np.moveaxis(grid.voxel_to_world(np.indices(grid.shape).reshape(3, -1).T), -1, 0)
    x, y, z = x - middle_mm[0], y - middle_mm[1], z - middle_mm[2]
    voxels = np.where((x / 140) ** 2 + (y / 100) ** 2 < 1, 40.0, -1000.0)
    across, down, up = LUNG_MM
    for side in (-65, 65):
        lung = ((x - side) / across) ** 2 + (y / down) ** 2 + (z / (up * height)) ** 2 < 1
        voxels[lung] = -850
    noise = np.random.default_rng(seed).normal(0, 25, voxels.shape)
    content = (voxels + noise).clip(-1024, 3000).astype(np.int16)
    return Scan(name, content.reshape(grid.shape), grid, "p1")


def build_scans() -> list[Scan]:
    """Build the current scan, the earlier one, and that of another patient; with a nodule each."""
    scans = [
        build_chest("now", NOW, NOW_MM, seed=1),
        build_chest("before", BEFORE, BEFORE_MM, height=SHORTER, seed=2),
        build_chest("alone", NOW, NOW_MM, seed=3),
    ]
    for scan, nodule in zip(scans, nodules(), strict=True):
        scan.voxels_hu[sphere_mask(scan.grid, nodule.center_mm, nodule.diameter_mm)] = 60
    return scans


def nodules() -> list[Nodule]:
    """Return the nodule of each scan: at the same relative height, smaller before."""
    half = LUNG_MM[2] / 2
    before = (BEFORE_MM[0] + 65, BEFORE_MM[1], BEFORE_MM[2] + half * SHORTER)
    return [
        Nodule("now", (65.0, 0.0, half), 24.0),
        Nodule("before", before, 16.0),
        Nodule("alone", (65.0, 0.0, half), 20.0),
    ]


def write_two_scans(folder: Path, *, scans=None) -> Path:
    """Write the archive; return its index.csv."""
    ready = Case("", "p1", "scan", "ready", synthetic=True, generator="test")
    facts = {
        "now": {"day": 200},
        "before": {"day": 109, "slice_thickness_mm": 6.0, "kernel": "B50f"},
        "alone": {"patient_id": "p2", "day": 0},
    }
    cases = []
    for scan in scans or build_scans():
        path = folder / "DOE^JANE" / f"{scan.seriesuid}.mhd"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mhd(scan, path)
        case = replace(ready, case_id=scan.seriesuid, shape=scan.grid.shape, content=scan.seriesuid)
        case = replace(case, **facts[scan.seriesuid])
        cases.append((case, (path, path.with_suffix(".raw"))))
    refused = replace(ready, case_id="refused", status="not_analysed", reasons=(REASON,), day=150)
    cases.append((refused, cases[0][1]))
    return write_archive(folder / "work", cases, nodules=nodules())
