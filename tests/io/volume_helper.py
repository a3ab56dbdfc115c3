"""Grids and scans for the tests of reading, as hypothesis strategies and by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medkd.geometry import VoxelGrid
from medkd.types import Scan


@st.composite
def grids(draw: st.DrawFn, largest: int = 6) -> VoxelGrid:
    """Oblique, flipped, permuted and anisotropic grids."""
    size = st.integers(1, largest)
    angles = [draw(st.floats(-180, 180)) for _ in range(3)]
    axes = np.eye(3)[draw(st.permutations(range(3)))]
    flips = np.diag([draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)])
    return VoxelGrid.from_parts(
        (draw(size), draw(size), draw(size)),
        spacing_mm=[draw(st.floats(0.3, 5.0)) for _ in range(3)],
        origin_mm=[draw(st.floats(-500, 500)) for _ in range(3)],
        direction=Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ axes @ flips,
    )


def make_scan(grid: VoxelGrid, seed: int = 0, uid: str = "1.2.3") -> Scan:
    """A scan whose voxels are all different where they can be."""
    values = np.random.default_rng(seed).integers(-1024, 3072, grid.shape).astype(np.int16)
    return Scan(uid, values, grid, patient_id=uid)


def oblique_grid(shape: tuple[int, int, int] = (5, 4, 3), *, flip: bool = False) -> VoxelGrid:
    """A fixed oblique, anisotropic grid; right-handed unless `flip`."""
    return VoxelGrid.from_parts(
        shape,
        spacing_mm=[0.7, 0.8, 2.0],
        origin_mm=[-120.5, 33.25, -700.0],
        direction=Rotation.from_euler("xyz", [10, -15, 25], degrees=True).as_matrix()
        @ np.diag([1.0, 1.0, -1.0 if flip else 1.0]),
    )
