"""The surroundings of a place in a chest, with the place itself hidden, as a few numbers.

The numbers are densities and gradients in three shells beyond a mask, read from a lattice of about
2 mm. Two places with similar numbers cannot be distinguished by their surroundings; `places`
chooses by that.
"""

from __future__ import annotations

import numpy as np

from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64
from medkd.synthetic.phantom.forms import draw_directions

_SHELLS_MM = ((0.3, 3.0, 96), (3.0, 7.0, 80), (7.0, 12.0, 80))
"""Shells: from and to beyond the mask, and the points looked at."""
_PAD = 26
"""Voxels of 1.5 mm that a mask of 20 mm and all shells may reach beyond the lattice."""
_HU_RANGE = (-1000.0, 400.0)
_LEAST_SPREAD = np.tile(
    [45.0, 45.0, 20.0, 25.0, 45.0, 70.0, 100.0, 15.0, 15.0, 40.0, 15.0, 40.0], len(_SHELLS_MM)
)
"""Differences that mean little, feature by feature: HU, and HU per 2 voxels for gradients."""
_WEIGHTS = np.repeat([1.2, 2.0, 2.8, 0.8, 1.6, 2.2, 0.8, 1.2, 1.6], 3 * [7, 3, 2])
"""What lies next to the mask tells most, and gradients more than densities."""


class Surroundings:
    """Reads surroundings on one lattice.

    Args:
        canvas: the lattice.
        hu: [i, j, k] densities on it, as the scan shows them.
        rng: source of the points looked at.
    """

    def __init__(self, canvas: Canvas, hu: Float32, rng: np.random.Generator) -> None:
        self._canvas = canvas
        image = np.pad(np.clip(hu, *_HU_RANGE), _PAD, mode="edge")
        self._shape = image.shape
        squared = np.zeros_like(image)
        for axis in range(3):
            ahead = [slice(1, -1)] * 3
            behind = [slice(1, -1)] * 3
            ahead[axis], behind[axis] = slice(2, None), slice(None, -2)
            step = image[tuple(ahead)] - image[tuple(behind)]
            squared[1:-1, 1:-1, 1:-1] += step * step
        along = np.zeros_like(image)  # of the last axis: slices blur it, and so it differs
        along[1:-1, 1:-1, 1:-1] = np.abs(step)
        self._image = image.reshape(-1)
        self._slope = np.sqrt(squared).reshape(-1)
        self._along = along.reshape(-1)
        self._shells = [
            (draw_directions(rng, count), rng.uniform(low, high, size=(count, 1)))
            for low, high, count in _SHELLS_MM
        ]

    def at(self, points_mm: Float64, mask_mm: float) -> Float64:
        """Read the numbers [N, F] of places [N, 3] beyond a mask of this radius."""
        base = np.clip(self._canvas.index_vox(points_mm), 0.0, np.asarray(self._canvas.shape) - 1.0)
        parts: list[Float64] = []
        for directions, out_mm in self._shells:
            offsets = directions * (out_mm + mask_mm) / self._canvas.spacing_mm
            offsets = np.clip(offsets, 1.0 - _PAD, _PAD - 1.0)
            i, j, k = (
                np.rint(base[:, axis, None] + (offsets[:, axis] + _PAD)).astype(np.int64)
                for axis in range(3)
            )
            around = (i * self._shape[1] + j) * self._shape[2] + k
            values = np.sort(self._image[around].astype(np.float64), axis=1)
            slopes = np.sort(self._slope[around].astype(np.float64), axis=1)
            count = len(directions)
            parts += [values.mean(axis=1), values.std(axis=1)]
            parts += [values[:, int(share * count)] for share in (0.05, 0.25, 0.5, 0.75, 0.95)]
            parts += [slopes.mean(axis=1), slopes[:, count // 2], slopes[:, int(0.9 * count)]]
            along = np.sort(self._along[around].astype(np.float64), axis=1)
            parts += [along.mean(axis=1), along[:, int(0.9 * count)]]
        return np.stack(parts, axis=1)

    def likest(
        self, points_mm: Float64, twin_mm: Float64, marks_mm: Float64, mask_mm: float
    ) -> int:
        """Return which of the places [N, 3] has surroundings most like those of `twin_mm` (3,).

        Args:
            points_mm: at least one place.
            twin_mm: the place to resemble.
            marks_mm: [M, 3] places among which differences are ordinary.
            mask_mm: radius of what is hidden at all of them.
        """
        spread = np.maximum(self.at(marks_mm, mask_mm).std(axis=0), _LEAST_SPREAD)
        apart = self.at(points_mm, mask_mm) - self.at(twin_mm[None], mask_mm)
        apart *= _WEIGHTS / spread
        return int((apart * apart).sum(axis=1).argmin())
