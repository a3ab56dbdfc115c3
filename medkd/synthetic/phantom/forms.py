"""The size and outline of a nodule, and the sphere that describes it in a table.

Diameters follow LUNA16. A form gives the depth of a point in a nodule and does not depend on
voxels. It is painted as a share, 0..1, that falls from 1 to 0 across an edge of a given width. The
true centre and diameter are the centre of mass of this share and the diameter of the sphere of the
same volume, measured on a fine grid. Offsets are mm from the form's middle, in the frame of the
caller (chest mm or LPS mm). Arrays are computed with + - * / and square roots only, so the bytes do
not depend on the processor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from medkd.synthetic.phantom.canvas import Bools, Box, Float32, Float64

LEAST_DIAMETER_MM = 3.0
"""Smaller nodules need not be found (LIDC-IDRI's bound)."""
MOST_DIAMETER_MM = 33.0
LUNA16_SHARES = (
    0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0,
)  # fmt: skip
LUNA16_DIAMETERS_MM = (
    3.25, 4.09, 4.40, 4.90, 5.32, 5.90, 6.43, 7.30, 8.72, 11.07, 15.48, 18.95, 21.85, 23.99, 32.27,
)  # fmt: skip
"""Quantiles (linear between order statistics) of the 1,186 diameters in `annotations.csv`.

Each diameter is the mean over the LIDC-IDRI readers who marked a nodule of at least 3 mm (Setio et
al. 2017, Medical Image Analysis 42, sec. 2). The density is taken as uniform between two quantiles.
"""


def draw_diameter(
    rng: np.random.Generator,
    *,
    low_mm: float = LEAST_DIAMETER_MM,
    high_mm: float = MOST_DIAMETER_MM,
) -> float:
    """Draw a diameter from LUNA16's distribution, truncated to a range.

    Args:
        rng: source of the draw.
        low_mm: least diameter in mm.
        high_mm: largest diameter in mm.

    Returns:
        Diameter in mm; it is uniform if LUNA16 has no nodule in the range.

    Raises:
        ValueError: if the range is empty.
    """
    if not 0 < low_mm <= high_mm:
        raise ValueError(f"diameters need 0 < low_mm <= high_mm, got {low_mm!r}, {high_mm!r}")
    first, last = np.interp([low_mm, high_mm], LUNA16_DIAMETERS_MM, LUNA16_SHARES).tolist()
    share = rng.random()
    if last <= first:
        return float(low_mm + share * (high_mm - low_mm))
    drawn = np.interp(first + share * (last - first), LUNA16_SHARES, LUNA16_DIAMETERS_MM)
    return float(min(max(float(drawn), low_mm), high_mm))


Outline = Literal["round", "lobulated", "spiculated"]
Keep = Callable[[Float64], Float64 | Bools]
"""Returns the share of each of N points [N, 3] that may be painted: the lung side of the pleura."""

_STEP_MM, _FEWEST_STEPS, _MOST_STEPS = 0.4, 16, 40
"""Cell of the fine grid, and the range of the number of cells from a form's middle to its reach."""
_CHUNK = 120_000
"""Number of points that are computed at once."""
_RAYS = 2500
"""Number of directions in which a form's radius is measured."""


class Form(Protocol):
    """The outline of a nodule."""

    @property
    def reach_mm(self) -> float:
        """Upper bound of the distance of the form's points from its middle."""

    def depth_mm(self, offset_mm: Float64) -> Float64:
        """Return the approximate distance [N] of offsets [N, 3] to the outline; negative inside."""

    def scaled(self, factor: float) -> Form:
        """Return the same outline in another size."""


class Sphere(NamedTuple):
    """Centre (3,) and diameter of a nodule in mm, as tables state them."""

    center_mm: Float64
    diameter_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class AnalyticForm:
    """A star-shaped outline: an ellipsoid with lobes and spicules.

    Args:
        half_mm: (3,) half axes before the rotation.
        turn: [3, 3] rotation.
        bulges: [L, 3] unit vectors towards the bulges.
        heights: [L] share of the radius that each bulge adds; negative for a notch.
        sharpness: [L] exponents; a bulge is ((1 + cos) / 2)^(2^sharpness): 3 is a lobe about 70
            degrees wide and 7 a spicule about 17 degrees wide.
    """

    half_mm: Float64
    turn: Float64
    bulges: Float64
    heights: Float64
    sharpness: NDArray[np.int64]

    @property
    def diameter_mm(self) -> float:
        """Diameter of the sphere of the same volume, from the mean of the cubed radius."""
        z = (np.arange(_RAYS) + 0.5) * (2.0 / _RAYS) - 1.0
        turned = np.arange(_RAYS) * (np.pi * (3.0 - np.sqrt(5.0)))  # evenly dense spiral
        flat = np.sqrt(1.0 - z * z)
        rays = np.stack([flat * np.cos(turned), flat * np.sin(turned), z], axis=1)
        radius = 1.0 - self.depth_mm(rays)
        return float(2.0 * np.cbrt((radius * radius * radius).mean()))

    @property
    def reach_mm(self) -> float:
        """Longest half axis with the highest bulge, checked at each bulge and between two."""
        first, second = np.triu_indices(len(self.bulges))
        tips = self.bulges[first] + self.bulges[second]
        highest = self._grown(tips[:, 0], tips[:, 1], tips[:, 2]).max(initial=1.0)
        return float(self.half_mm.max() * highest) * 1.03

    def depth_mm(self, offset_mm: Float64) -> Float64:
        """Return the distance [N] to the outline along the ray from the middle; negative inside."""
        x, y, z = offset_mm[:, 0], offset_mm[:, 1], offset_mm[:, 2]
        length = np.sqrt(x * x + y * y + z * z)
        squared = np.zeros_like(length)
        for axis in range(3):
            a, b, c = (self.turn[:, axis] / self.half_mm[axis]).tolist()
            squared += (a * x + b * y + c * z) ** 2
        radius = (length + 1e-9) / np.sqrt(squared + 1e-18)
        return np.asarray(length - radius * self._grown(x, y, z))

    def _grown(self, x: Float64, y: Float64, z: Float64) -> Float64:
        """Return the outline's radius over the ellipsoid's radius [N] in these directions."""
        length = np.sqrt(x * x + y * y + z * z) + 1e-9
        grown = np.ones_like(length)
        for direction, height, doublings in zip(
            self.bulges.tolist(), self.heights.tolist(), self.sharpness.tolist(), strict=True
        ):
            a, b, c = direction
            bulge = 0.5 + 0.5 * (a * x + b * y + c * z) / length
            for _ in range(doublings):
                bulge *= bulge
            grown += height * bulge
        return np.asarray(grown)

    def scaled(self, factor: float) -> AnalyticForm:
        """Return the same outline in another size."""
        return replace(self, half_mm=self.half_mm * factor)


@dataclass(frozen=True, slots=True, eq=False)
class TubeForm:
    """A bent tube with round ends, for scars, mucus and vessel knots.

    Args:
        points_mm: [N, 3] points of its axis (N >= 2) as offsets from the form's middle.
        radius_mm: [N] radius at these points.
    """

    points_mm: Float64
    radius_mm: Float64

    @property
    def reach_mm(self) -> float:
        """Greatest distance of the tube's surface from the form's middle."""
        length = np.sqrt((self.points_mm * self.points_mm).sum(axis=1))
        return float((length + self.radius_mm).max())

    def depth_mm(self, offset_mm: Float64) -> Float64:
        """Return the distance [N] of offsets [N, 3] from the tube's surface; negative inside."""
        best = np.full(len(offset_mm), np.inf)
        for number in range(len(self.points_mm) - 1):
            start, along = self.points_mm[number], self.points_mm[number + 1]
            along = along - start
            apart = offset_mm - start
            squared = max(float((along * along).sum()), 1e-9)
            share = np.clip(_dot(apart, along[None]) / squared, 0.0, 1.0)
            rest = apart - share[:, None] * along
            first, last = self.radius_mm[number], self.radius_mm[number + 1]
            away = np.sqrt(_dot(rest, rest)) - (first + share * (last - first))
            np.minimum(best, away, out=best)
        return best

    def scaled(self, factor: float) -> TubeForm:
        """Return the same tube in another size."""
        return TubeForm(self.points_mm * factor, self.radius_mm * factor)


def draw_form(rng: np.random.Generator, outline: Outline, diameter_mm: float) -> AnalyticForm:
    """Draw a form.

    Args:
        rng: source of axes, rotation and bulges.
        outline: round (nearly an ellipsoid), lobulated, or spiculated.
        diameter_mm: diameter of the sphere of the same volume.
    """
    flatness = {"round": 0.14, "lobulated": 0.22, "spiculated": 0.24}[outline]
    stretch = 1.0 + rng.uniform(-flatness, flatness, size=3)
    turn = draw_turn(rng)
    lobes = {"round": 2, "lobulated": int(rng.integers(3, 8)), "spiculated": 6}[outline]
    low, high = {"round": (-0.06, 0.1), "lobulated": (0.2, 0.45), "spiculated": (-0.2, 0.35)}[
        outline
    ]
    directions, heights = [draw_directions(rng, lobes)], [rng.uniform(low, high, size=lobes)]
    doublings = [rng.integers(3, 5, size=lobes)]
    if outline == "lobulated":
        notches = int(rng.integers(1, 4))
        directions.append(draw_directions(rng, notches))
        heights.append(rng.uniform(-0.35, -0.12, size=notches))
        doublings.append(np.full(notches, 4))
    if outline == "spiculated":
        spicules = int(rng.integers(14, 31))
        directions.append(draw_directions(rng, spicules))
        heights.append(0.2 + 0.9 * rng.random(spicules) ** 2)
        doublings.append(rng.integers(6, 10, size=spicules))
    form = AnalyticForm(
        stretch * (diameter_mm / 2.0),
        turn,
        np.concatenate(directions),
        np.concatenate(heights),
        np.concatenate(doublings),
    )
    return form.scaled(diameter_mm / form.diameter_mm)


def draw_turn(rng: np.random.Generator) -> Float64:
    """Draw a uniformly distributed rotation [3, 3] (unit quaternion: Shoemake 1992, sec. 2)."""
    q = rng.normal(size=4)
    w, x, y, z = (q / np.sqrt((q * q).sum())).tolist()
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def draw_directions(rng: np.random.Generator, count: int) -> Float64:
    """Draw unit vectors [count, 3] that are uniform on the sphere."""
    drawn = rng.normal(size=(count, 3))
    return np.asarray(drawn / np.sqrt((drawn * drawn).sum(axis=1, keepdims=True)))


def share_of(form: Form, offset_mm: Float64, *, edge_mm: float) -> Float64:
    """Return the share [N] of a form at offsets [N, 3]: 1 inside, 0 outside, linear in the edge."""
    return np.asarray(np.clip(0.5 - form.depth_mm(offset_mm) / max(edge_mm, 1e-6), 0.0, 1.0))


def true_sphere(
    form: Form,
    keep: Keep | None,
    center_mm: Float64,
    *,
    edge_mm: float = 0.0,
    fineness: float = 1.0,
) -> Sphere:
    """Measure the true centre and diameter of a form as it is painted.

    Args:
        form: outline.
        keep: returns the share of points [N, 3] that may be painted; None keeps everything.
        center_mm: (3,) position of the form's middle.
        edge_mm: width of the soft edge.
        fineness: factor on the number of grid cells; .5 is enough to fit a size.

    Returns:
        Centre of mass, and diameter of the sphere of the same volume: 0 if nothing is kept.
    """
    reach = form.reach_mm + edge_mm / 2.0
    steps = min(max(np.ceil(reach / _STEP_MM), _FEWEST_STEPS), _MOST_STEPS)
    step = reach / max(int(steps * fineness), 4)
    count = 2 * max(int(steps * fineness), 4)
    line = (np.arange(count, dtype=np.float64) + 0.5) * step - reach
    planes = max(1, _CHUNK // (2 * count * count))
    mass, moment = 0.0, np.zeros(3)
    for begin in range(0, count, planes):
        offset = _lattice(line[begin : begin + planes], line, line)
        offset = offset[_dot(offset, offset) <= (reach + step) ** 2]
        share = share_of(form, offset, edge_mm=max(edge_mm, step))
        found = np.flatnonzero(share)
        offset, share = offset[found], share[found]
        if keep is not None and len(offset):
            share = share * keep(center_mm + offset)
        mass += float(share.sum())
        moment += [(offset[:, axis] * share).sum() for axis in range(3)]
    if mass <= 0.0:
        return Sphere(np.array(center_mm, dtype=np.float64), 0.0)
    diameter = float(np.cbrt(6.0 * mass * step**3 / np.pi))
    return Sphere(np.asarray(center_mm + moment / mass), diameter)


def _lattice(x: Float64, y: Float64, z: Float64) -> Float64:
    """Return the points [N, 3] of the grid with these coordinates, the last one fastest."""
    points = np.empty((len(x), len(y), len(z), 3))
    points[..., 0] = x[:, None, None]
    points[..., 1] = y[:, None]
    points[..., 2] = z
    return points.reshape(-1, 3)


def _dot(first: Float64, second: Float64) -> Float64:
    """Return scalar products [N] of vectors [N, 3]; BLAS is avoided, since its sums differ."""
    total = first[:, 0] * second[:, 0] + first[:, 1] * second[:, 1]
    return np.asarray(total + first[:, 2] * second[:, 2])


def box_within(center_vox: Float64, reach_vox: Float64, shape: tuple[int, int, int]) -> Box:
    """Return a box of whole voxels around a point, clipped to the volume; it may be empty.

    Args:
        center_vox: (3,) continuous index of the middle.
        reach_vox: (3,) half widths in voxels.
        shape: shape of the volume.
    """
    low = np.floor(center_vox - reach_vox).astype(int)
    high = np.ceil(center_vox + reach_vox).astype(int) + 1
    i, j, k = (
        slice(min(max(int(a), 0), n), min(max(int(b), 0), n))
        for a, b, n in zip(low, high, shape, strict=True)
    )
    return i, j, k


def coverage_on(
    points_mm: Callable[[Float64], Float64],
    inside: Callable[[Float64], Float64 | Bools],
    *,
    start: tuple[int, int, int],
    shape: tuple[int, int, int],
    finer: tuple[int, int, int],
) -> Float32:
    """Compute the share of each voxel of a box that lies in a form.

    Args:
        points_mm: converts continuous indices [N, 3] to mm.
        inside: returns the share 0..1 of points [N, 3] in mm, or whether they are inside.
        start: index of the box's first voxel.
        shape: shape of the box in voxels.
        finer: number of sample points per voxel along i, j, k.

    Returns:
        Shares [i, j, k] of the box, 0..1.
    """
    fi, fj, fk = finer
    lines = [
        first - 0.5 + (np.arange(size * parts) + 0.5) / parts
        for first, size, parts in zip(start, shape, finer, strict=True)
    ]
    cover = np.empty(shape, dtype=np.float32)
    plane_points = fi * len(lines[1]) * len(lines[2])
    step = max(1, _CHUNK // max(plane_points, 1))
    for begin in range(0, shape[0], step):
        rows = lines[0][begin * fi : (begin + step) * fi]
        share = np.asarray(inside(points_mm(_lattice(rows, lines[1], lines[2]))), dtype=np.float64)
        blocks = share.reshape(len(rows) // fi, fi, shape[1], fj, shape[2], fk)
        cover[begin : begin + step] = blocks.mean(axis=(1, 3, 5))
    return cover
