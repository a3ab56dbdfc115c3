"""Nodules that could be put in at one place, generation by generation.

A nodule is drawn in parts, each from a seed of its own. Of a generation some are kept by their
odds of being real, and of each that is kept the same is made once more with one part drawn anew:
population Monte Carlo (Cappé, Guillin, Marin, Robert, J. Comput. Graph. Stat. 13, 907, 2004).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkd.synthetic.implant.draw import Kind
from medkd.synthetic.implant.likeness import drawn_by
from medkd.synthetic.implant.paint import Patch
from medkd.synthetic.implant.response import ScanResponse
from medkd.synthetic.phantom.forms import Float64

PARTS = 5
"""Outline, substance, vessels that run into it, response, grain with the place in its voxel."""
_SEEDS = 2**63 - 1
_SIZE = 12
_WHOLE_MM = 10.0
"""Nodules up to this size have whole generations; larger ones take longer to draw."""
_FEWEST = 4


@dataclass(frozen=True, slots=True, eq=False)
class Implant:
    """One synthetic nodule.

    Args:
        center_mm: (3,) LPS mm, true centre of mass of its outline.
        diameter_mm: of the sphere of the same volume; what the pleura cuts off does not count.
        kind: what was drawn.
        contrast_hu: largest that was added to a voxel.
        changed_mm: no voxel farther from the centre was changed.
        patch: what was added where, slices along k.
        response: with which it was drawn.
    """

    center_mm: Float64
    diameter_mm: float
    kind: Kind
    contrast_hu: int
    changed_mm: float
    patch: Patch
    response: ScanResponse


@dataclass(frozen=True, slots=True, eq=False)
class Brood:
    """A generation of nodules of one kind for one place.

    Args:
        kind: of all.
        place: (3,) voxel of the lungs' map.
        seeds: [N, PARTS] of each.
        made: N of them.
        described: [N, features] their borders.
    """

    kind: Kind
    place: NDArray[np.int64]
    seeds: NDArray[np.int64]
    made: tuple[Implant, ...]
    described: Float64

    def kept(self, rows: NDArray[np.int64]) -> Brood:
        """Return the nodules of some rows, any as often as it is named."""
        made = tuple(self.made[row] for row in rows.tolist())
        return Brood(self.kind, self.place, self.seeds[rows], made, self.described[rows])

    def joined(self, other: Brood) -> Brood:
        """Return these and others for the same place."""
        return Brood(
            self.kind, self.place, np.concatenate([self.seeds, other.seeds]),
            self.made + other.made, np.concatenate([self.described, other.described]),
        )  # fmt: skip

    def parents(self, odds: Float64, rng: np.random.Generator) -> Brood:
        """Draw half of them, rounded up, by their log odds [N] of being real."""
        return self.kept(drawn_by(odds, (len(self.made) + 1) // 2, rng))


def brood_size(diameter_mm: float) -> int:
    """Return how many nodules of a size make a generation."""
    return max(int(_SIZE * min(_WHOLE_MM / diameter_mm, 1.0) ** 2), _FEWEST)


def fresh_seeds(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw seeds [count, PARTS]."""
    return rng.integers(_SEEDS, size=(count, PARTS))


def with_one_part_anew(seeds: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return seeds [N, PARTS] of which one in each row is drawn anew."""
    out, rows = seeds.copy(), np.arange(len(seeds))
    out[rows, rng.integers(PARTS, size=len(seeds))] = rng.integers(_SEEDS, size=len(seeds))
    return out
