"""Places in real lungs where a nodule could be: free, at a vessel, or at the pleura."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medkd.synthetic.implant.lung_map import LungMap
from medkd.synthetic.implant.response import Bools, Float32

Attachment = Literal["free", "vessel", "pleura"]

_CROWDED_SHARE = 0.15
"""Of dense structure around a place, from which on a nodule would hardly be seen among vessels."""


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
    _shares: dict[int, Float32] = field(default_factory=dict, repr=False)

    def find(
        self, attachment: Attachment, radius_mm: float, rng: np.random.Generator, *, count: int = 1
    ) -> NDArray[np.int64]:
        """Draw up to `count` different places [N, 3] on the map's voxels."""
        lungs = self.lungs
        depth, near = -lungs.depth_mm, self.vessel_mm
        good = ~self.taken & (lungs.airway_mm > radius_mm + 1.0)
        if attachment == "pleura":
            good &= (depth > 0.1 * radius_mm) & (depth < 0.75 * radius_mm)
        else:
            good &= depth > radius_mm + 1.0
        if attachment == "vessel":
            good &= (near > 0.1 * radius_mm) & (near < 0.8 * radius_mm)
        elif attachment == "free":
            good &= near > radius_mm + 0.5
        good &= self._dense_share(radius_mm) < (0.1 if attachment == "free" else _CROWDED_SHARE)
        places = np.flatnonzero(good)
        chosen = rng.choice(places, size=min(count, len(places)), replace=False)
        return np.stack(np.unravel_index(chosen, good.shape), axis=1).astype(np.int64)

    def take(self, place: NDArray[np.int64], radius_mm: float) -> None:
        """Keep others away from a place."""
        lungs = self.lungs
        reach = np.ceil(radius_mm / lungs.spacing_mm).astype(int)
        low = np.maximum(place - reach, 0)
        high = np.minimum(place + reach + 1, lungs.depth_mm.shape)
        self.taken[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True

    def _dense_share(self, radius_mm: float) -> Float32:
        """Share of dense structure around each place, for radii of whole mm."""
        rounded = max(round(radius_mm), 1)
        if rounded not in self._shares:
            dense = self.lungs.dense.astype(np.float32)
            sigma = 0.7 * rounded / self.lungs.spacing_mm
            self._shares[rounded] = ndimage.gaussian_filter(dense, sigma, truncate=2.5)
        return self._shares[rounded]


def place_finder(lungs: LungMap) -> PlaceFinder:
    """Prepare to find places."""
    vessels = lungs.dense & (lungs.depth_mm <= -2.5)
    near = ndimage.distance_transform_edt(~vessels, sampling=lungs.spacing_mm)
    return PlaceFinder(
        lungs, np.asarray(near, dtype=np.float32), np.zeros(lungs.dense.shape, dtype=np.bool_)
    )
