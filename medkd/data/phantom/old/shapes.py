"""Findings of a phantom drawn with partial volume, with their true centre and diameter.

A finding is drawn on a grid several times finer than the voxels; centre and diameter are those of
its own fine voxels (centre of mass; diameter of the sphere of the same volume), not those asked
for. Units are chest mm (`phantom_draw.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medkd.data.phantom.old.draw import Canvas, Float32, Float64

_FINE_MM = 0.6


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A lobulated ellipsoid.

    Args:
        half_mm: (3,) half axes before turning.
        turn: [3, 3] rotation.
        lobes: [L, 3] unit directions in which it bulges.
        lobe_heights: [L] share of the radius that each bulge adds.
    """

    half_mm: Float64
    turn: Float64
    lobes: Float64
    lobe_heights: Float64

    def inside(self, offset_mm: Float64) -> np.ndarray:
        """Say which offsets [N, 3] from its middle lie inside."""
        turned = offset_mm @ self.turn
        length = np.linalg.norm(offset_mm, axis=1)
        rho = np.linalg.norm(turned / self.half_mm, axis=1)
        direction = offset_mm / np.maximum(length, 1e-9)[:, None]
        bulge = np.exp(5.0 * (direction @ self.lobes.T - 1.0)) @ self.lobe_heights
        return np.asarray(rho < 1.0 + bulge)


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A finding on a canvas: where its box begins, its coverage, its true sphere.

    `center_mm` is in chest mm; `start` is the index of the box's first voxel.
    """

    start: tuple[int, int, int]
    coverage: Float32
    center_mm: Float64
    diameter_mm: float

    def box(self) -> tuple[slice, slice, slice]:
        """Index of its box in the volume."""
        i, j, k = (
            slice(first, first + size)
            for first, size in zip(self.start, self.coverage.shape, strict=True)
        )
        return i, j, k


def draw_shape(
    rng: np.random.Generator, diameter_mm: float, *, flatness: float, lobes: int
) -> Shape:
    """Draw a shape whose volume is about that of a sphere of this diameter.

    Args:
        rng: source of axes, turn and bulges.
        diameter_mm: of the sphere of the same volume.
        flatness: 0 round; .4 axes may differ by about that share.
        lobes: number of bulges.
    """
    stretch = np.exp(rng.uniform(-flatness, flatness, size=3))
    stretch /= np.prod(stretch) ** (1.0 / 3.0)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    directions = rng.normal(size=(lobes, 3))
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    heights = rng.uniform(0.1, 0.35, size=lobes)
    shrink = 1.0 + 0.2 * float(heights.sum()) / 3.0
    return Shape(diameter_mm / 2.0 * stretch / shrink, turn, directions, heights)


def draw_finding(
    canvas: Canvas, shape: Shape, center_mm: Float64, *, lung_mm: Float32 | None
) -> Drawn | None:
    """Draw a finding; with `lung_mm` only the part of it that lies in the lung.

    Args:
        canvas: voxels of the volume.
        shape: its form.
        center_mm: (3,) middle of the form in chest mm.
        lung_mm: signed distance to the lungs' surface, or None.

    Returns:
        The drawn finding; None if nothing of it lies in the lung or in the volume.
    """
    reach = float(shape.half_mm.max()) * (1.0 + float(shape.lobe_heights.sum()) * 0.6)
    low = np.floor((center_mm - reach - canvas.first_mm) / canvas.spacing_mm).astype(int)
    high = np.ceil((center_mm + reach - canvas.first_mm) / canvas.spacing_mm).astype(int) + 1
    low, high = np.maximum(low, 0), np.minimum(high, canvas.shape)
    if (high <= low).any():
        return None
    finer = np.ceil(canvas.spacing_mm / _FINE_MM).astype(int)
    points = _fine_points(canvas, low, high, finer)
    mask = shape.inside(points - center_mm)
    if lung_mm is not None and mask.any():
        chosen = np.flatnonzero(mask)
        mask[chosen[canvas.sample(lung_mm, points[chosen]) > 0]] = False
    if not mask.any():
        return None
    size = high - low
    blocks = mask.reshape(size[0], finer[0], size[1], finer[1], size[2], finer[2])
    volume_mm3 = mask.sum() * np.prod(canvas.spacing_mm / finer)
    return Drawn(
        (int(low[0]), int(low[1]), int(low[2])),
        blocks.mean(axis=(1, 3, 5), dtype=np.float32),
        points[mask].mean(axis=0),
        float((6.0 * volume_mm3 / np.pi) ** (1.0 / 3.0)),
    )


def blend(volume_hu: Float32, drawn: Drawn, value_hu: float | Float32) -> None:
    """Paint a finding in place; it never makes a voxel less dense (a vessel runs through)."""
    part = volume_hu[drawn.box()]
    part += drawn.coverage * np.maximum(value_hu - part, 0.0)


def _fine_points(canvas: Canvas, low: Float64, high: Float64, finer: Float64) -> Float64:
    """Centres [N, 3] of the fine voxels of a box, in (i, j, k) order."""
    lines = []
    for axis in range(3):
        count = (high[axis] - low[axis]) * finer[axis]
        index = low[axis] - 0.5 + (np.arange(count) + 0.5) / finer[axis]
        lines.append(canvas.first_mm[axis] + index * canvas.spacing_mm[axis])
    return np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 3)
