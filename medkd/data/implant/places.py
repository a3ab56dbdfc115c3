"""Places in real lungs where a nodule could be: free, at a vessel, or at the pleura."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.data.implant.lung_map import LungMap
from medkd.data.implant.response import Bools, Float32

Attachment = Literal["free", "vessel", "pleura"]

_HILUM_SHARE = 0.35
_TRIES = 40


@dataclass(frozen=True, slots=True, eq=False)
class PlaceFinder:
    """Finds places in one scan's lungs.

    Args:
        lungs: of the scan.
        vessel_mm: [i, j, k] distance to the nearest vessel that is no wall, on the map's voxels.
        taken: [i, j, k] places near nodules that were put in already.
    """

    lungs: LungMap
    vessel_mm: Float32
    taken: Bools

    def find(
        self, attachment: Attachment, radius_mm: float, rng: np.random.Generator
    ) -> NDArray[np.int64] | None:
        """Draw a place (3,) on the map's voxels; None where there is none."""
        lungs = self.lungs
        depth, near = -lungs.depth_mm, self.vessel_mm
        good = ~self.taken & (lungs.airway_mm > radius_mm + 1.0)
        if attachment == "pleura":
            good &= (depth > 0.1 * radius_mm) & (depth < 0.75 * radius_mm)
        else:
            good &= depth > radius_mm + 2.0
        if attachment == "vessel":
            good &= (near > 0.2 * radius_mm) & (near < 0.9 * radius_mm)
        elif attachment == "free":
            good &= near > radius_mm + 0.5
        good &= self._dense_share(radius_mm) < (0.1 if attachment == "free" else _HILUM_SHARE)
        places = np.flatnonzero(good)
        if not len(places):
            return None
        chosen = np.unravel_index(places[rng.integers(len(places))], good.shape)
        return np.array(chosen, dtype=np.int64)

    def take(self, place: NDArray[np.int64], radius_mm: float) -> None:
        """Keep others away from a place."""
        lungs = self.lungs
        reach = np.ceil(radius_mm / lungs.spacing_mm).astype(int)
        low = np.maximum(place - reach, 0)
        high = np.minimum(place + reach + 1, lungs.depth_mm.shape)
        self.taken[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True

    def _dense_share(self, radius_mm: float) -> Float32:
        dense = self.lungs.dense.astype(np.float32)
        return np.asarray(
            ndimage.gaussian_filter(dense, 0.7 * radius_mm / self.lungs.spacing_mm, truncate=2.5)
        )


def place_finder(lungs: LungMap) -> PlaceFinder:
    """Prepare to find places."""
    wall = lungs.depth_mm > -2.5
    vessels = lungs.dense & ~wall
    near = ndimage.distance_transform_edt(~vessels, sampling=lungs.spacing_mm)
    return PlaceFinder(
        lungs, np.asarray(near, dtype=np.float32), np.zeros(lungs.dense.shape, dtype=np.bool_)
    )
