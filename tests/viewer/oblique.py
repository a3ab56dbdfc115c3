"""A small oblique, anisotropic scan with a different HU at every voxel, as a run to review."""

from dataclasses import replace

import numpy as np

from medkd.geometry import VoxelGrid
from medkd.io.volume import write_mhd
from medkd.jsonio import write_json
from medkd.types import Candidate, CaseResult, RunCase, Scan
from tests.viewer import factory

SHAPE = (64, 56, 30)
SPACING_MM = (0.9, 0.7, 2.5)


def turn(degrees, axis):
    """Return the rotation about an axis."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    one, other = (number for number in range(3) if number != axis)
    matrix = np.eye(3)
    matrix[[one, other], [one, other]] = cos
    matrix[one, other], matrix[other, one] = -sin, sin
    return matrix


OBLIQUE = turn(14.0, 0) @ turn(-9.0, 2)
POSES = {
    "supine": np.diag([1.0, 1.0, 1.0]),
    "prone": np.diag([-1.0, -1.0, 1.0]),
    "feet first": np.diag([-1.0, 1.0, -1.0]),
    "slices reversed": np.diag([1.0, 1.0, -1.0]),
}
"""The stored axes before the tilt, in LPS."""


def build_scan(name, *, pose="supine", oblique=True):
    """Build a scan whose HU tell the voxel."""
    direction = (OBLIQUE if oblique else np.eye(3)) @ POSES[pose]
    grid = VoxelGrid.from_parts(
        SHAPE, spacing_mm=SPACING_MM, origin_mm=(12.5, -33.0, 81.0), direction=direction
    )
    i, j, k = np.indices(SHAPE)
    voxels = ((i * 37 + j * 211 + k * 1031) % 2000 - 1000).astype(np.int16)
    return Scan(name, voxels, grid, "patient")


def write_run(path, scans, *, marks=()):
    """Write a run with these scans; `marks` are on the first one: index, score, diameter in mm."""
    cases = []
    for scan in scans:
        write_mhd(scan, path / "data" / f"{scan.seriesuid}.mhd")
        place = f"data/{scan.seriesuid}.mhd"
        cases.append(RunCase(scan.seriesuid, "p", "scan", place, "test", None, 1, 0.9, "analysed"))
    run = factory.write_bare_run(path, cases)
    first = scans[0]
    found = [
        Candidate(first.seriesuid, tuple(first.grid.voxel_to_world(index)), score, diameter_mm)
        for index, score, diameter_mm in marks
    ]
    for scan in scans:
        result = CaseResult(scan.seriesuid, (), "analysed")
        write_json(run.result("student", scan.seriesuid), result)
    write_json(
        run.result("student", first.seriesuid),
        replace(CaseResult(first.seriesuid, (), "analysed"), candidates=tuple(found)),
    )
    return run
