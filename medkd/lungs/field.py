"""The lungs of one scan: which points lie in them, in which lung and at which height."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.spatial import cKDTree

from medkd.lungs.sides import LEFT, RIGHT
from medkd.types import LungPlace

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from medkd.geometry import VoxelGrid
    from medkd.types import Scan

PLAUSIBLE_LITRES = (1.5, 10.0)
"""Usual volume of both lungs of an adult in a chest CT, deep expiration to emphysema."""

LEAST_RATIO = 0.5
"""Least volume of the smaller lung as a share of the larger one."""

ONE_LUNG_RATIO = 0.05
"""A lung with a smaller share than this has no air that could be searched."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class LungField:
    """The lungs of one scan.

    Args:
        box: the voxels of the scan around the lungs, with a margin.
        sides: [i, j, k] uint8 on `grid`: 0 outside, 1 right lung, 2 left lung of the patient; the
            lungs include vessels and tissue at the pleura.
        grid: the coarse grid of `sides` in LPS mm.
        right_litres: volume of the air-filled right lung, before closing.
        left_litres: the same of the left lung.
    """

    box: Box
    sides: NDArray[np.uint8]
    grid: VoxelGrid
    right_litres: float
    left_litres: float

    @property
    def mask(self) -> NDArray[np.bool_]:
        """[i, j, k] bool on `grid`: whether a voxel is in one of the lungs."""
        return np.asarray(self.sides > 0)

    @property
    def litres(self) -> float:
        """Volume of both air-filled lungs, before closing."""
        return self.right_litres + self.left_litres

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what is implausible about the lungs; empty if nothing is."""
        volumes = f"right {self.right_litres:.1f}, left {self.left_litres:.1f} litres"
        found = []
        if not PLAUSIBLE_LITRES[0] <= self.litres <= PLAUSIBLE_LITRES[1]:
            low, high = PLAUSIBLE_LITRES
            found.append(
                f"lung volume outside {low:g} to {high:g} litres ({volumes}): parts of the lungs "
                "may be missing, or air outside them may be included"
            )
        smaller, larger = sorted((self.right_litres, self.left_litres))
        if smaller < ONE_LUNG_RATIO * larger:
            name = "left" if self.left_litres > self.right_litres else "right"
            found.append(f"air was found in the {name} lung only ({volumes}): the other lung was "
                         "not searched")  # fmt: skip
        elif smaller < LEAST_RATIO * larger:
            found.append(f"the lungs differ strongly in volume ({volumes}): dense disease may hide "
                         "a part of the smaller lung from the search")  # fmt: skip
        return tuple(found)

    def contains(self, points_mm: ArrayLike) -> NDArray[np.bool_]:
        """Return for each point [N, 3] (LPS mm) whether it lies in the lungs."""
        places = np.rint(self.grid.world_to_voxel(np.reshape(points_mm, (-1, 3)))).astype(int)
        known = np.asarray(((places >= 0) & (places < self.sides.shape)).all(axis=1))
        places = np.where(known[:, None], places, 0)
        return np.asarray(known & (self.sides[places[:, 0], places[:, 1], places[:, 2]] > 0))

    def lung_places(self, points_mm: ArrayLike) -> tuple[LungPlace, ...]:
        """Return for each point the lung and the third of its height.

        A point outside the lungs gets the place of the nearest point of a lung. The thirds divide
        the height of each lung by itself, from its lowest to its highest voxel along LPS z.

        Args:
            points_mm: [N, 3] LPS mm.
        """
        points = np.reshape(np.asarray(points_mm, dtype=np.float64), (-1, 3))
        if not len(points):
            return ()
        index = np.argwhere(self.sides)
        voxels_mm = self.grid.voxel_to_world(index)
        sides = self.sides[tuple(index.T)]
        nearest = np.asarray(cKDTree(voxels_mm).query(points)[1])
        heights = {side: voxels_mm[sides == side, 2] for side in (RIGHT, LEFT)}
        ends = {side: (z.min(), z.max()) for side, z in heights.items() if len(z)}
        return tuple(
            _place(int(sides[n]), z_mm, ends[int(sides[n])])
            for n, z_mm in zip(nearest, points[:, 2], strict=True)
        )


def _place(side: int, z_mm: float, ends_mm: tuple[float, float]) -> LungPlace:
    low, high = ends_mm
    share = (z_mm - low) / (high - low) if high > low else 0.5
    name: Literal["left", "right"] = "right" if side == RIGHT else "left"
    if share < 1 / 3:
        return LungPlace(name, "lower")
    return LungPlace(name, "middle" if share < 2 / 3 else "upper")


def field_of_patch(scan: Scan) -> LungField:
    """Return a field of all voxels of a patch, in which lungs cannot be found: it is too small.

    Args:
        scan: HU on any grid; the litres of the field are 0, because no lung is measured, and all
            voxels count as right.
    """
    i, j, k = scan.grid.shape
    box = (slice(0, i), slice(0, j), slice(0, k))
    return LungField(box, np.full(scan.grid.shape, RIGHT, np.uint8), scan.grid, 0.0, 0.0)
