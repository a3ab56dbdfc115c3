"""An oblique series for tests: rows, columns and normal all off the axes of the world."""

from __future__ import annotations

import numpy as np

from medkd.geometry import VoxelGrid
from medkd.io.reference import SeriesPlaces

SERIESUID = "1.2.826.0.1.3680043.8.498.7"
FRAME = SERIESUID + ".1"


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
