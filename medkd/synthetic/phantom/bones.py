"""Bones: ribs with their cartilage, vertebrae, sternum, clavicles, scapulae.

All bones share one signed distance in template mm, from which the shell of compact bone is painted
at the fine voxels. Ribs are not drawn separately: on the cage's surface the height of a point
determines the nearest rib.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from medkd.synthetic.phantom.canvas import Float32, Float64
from medkd.synthetic.phantom.chest import Cage
from medkd.synthetic.phantom.fields import soft_step
from medkd.synthetic.phantom.patient import Frame

FAR_MM = 12.0
"""Distances to bone are computed up to this value."""

_RIB_HEIGHT_MM, _RIB_APART_MM = 126.0, 24.0
_DROP_MM, _MORE_DROP_MM = 28.0, 8.0
_VERTEBRA_MM = 24.0
_SPINE = np.array([17.0, 14.0])


@dataclass(frozen=True, slots=True, eq=False)
class Bones:
    """Bones on a frame.

    Args:
        distance: [i, j, k] template mm, negative inside, at most `FAR_MM`.
        hard: [i, j, k] 1 for bone, 0 for cartilage and discs.
    """

    distance: Float32
    hard: Float32


def build_bones(frame: Frame, cage: Cage) -> Bones:
    """Compute all bones of a frame."""
    distance, hard = _ribs(frame, cage)
    np.minimum(distance, FAR_MM, out=distance)
    _add_spine(frame, cage, distance, hard)
    _add_sternum(frame, cage, distance, hard)
    _add_shoulders(frame, cage, distance, hard)
    return Bones(distance, hard)


def spine_y(cage: Cage) -> Float32:
    """Return y [1, 1, k] of the middle of the vertebral bodies, template mm."""
    return cage.back - np.float32(26.0)


def _ribs(frame: Frame, cage: Cage) -> tuple[Float32, Float32]:
    """Return the signed distance to ribs and rib cartilage, and `Bones.hard`."""
    ahead = cage.ahead
    half = np.maximum(np.float32(0.5) - np.float32(0.5) * ahead, np.float32(0.0))
    drop = np.float32(0.55) * half + np.float32(0.45) * np.sqrt(half)
    depth = np.float32(_RIB_HEIGHT_MM) - frame.z
    apart = np.float32(_RIB_APART_MM) + np.float32(_MORE_DROP_MM) * drop
    number = (depth - np.float32(_DROP_MM) * drop) / apart
    most = np.float32(_DROP_MM + 6.0 * _MORE_DROP_MM)
    lower = (depth - most * drop) / np.float32(_RIB_APART_MM)
    is_lower = number > 6.0
    number = np.where(is_lower, lower, number)
    apart = np.where(is_lower, np.float32(_RIB_APART_MM), apart)
    own = np.clip(np.floor(number + np.float32(0.5)), 0.0, 11.0)
    height = np.maximum(np.abs(number - own) * apart * np.float32(0.92) - np.float32(3.6), 0.0)
    out = cage.distance - np.float32(5.2)
    distance = np.sqrt(height * height + out * out) - np.float32(3.3)
    # Ribs end in cartilage in front and at the spine behind; the last two end at the side.
    distance = np.maximum(distance, np.float32(22.0) - np.abs(frame.x) + np.minimum(ahead, 0.0) * 9)
    end = np.where(own > 9.5, np.float32(-0.2), np.float32(-0.9))
    end = np.where(own > 10.5, np.float32(0.3), end)
    end = np.where(own < 6.5, np.float32(-1.1), end)
    distance = np.maximum(distance, (end - ahead) * np.float32(90.0))
    hard = np.clip((ahead + np.float32(0.68)) * np.float32(12.0), 0.0, 1.0)
    return distance.astype(np.float32, copy=False), hard.astype(np.float32, copy=False)


def _add_spine(frame: Frame, cage: Cage, distance: Float32, hard: Float32) -> None:
    """Add vertebrae: bodies with waists, discs, and arches with their processes."""
    box = frame.box(np.array([-44.0, -10.0, -400.0]), np.array([44.0, 170.0, 400.0]))
    own = frame.part(box)
    if 0 in own.shape:
        return
    y = own.y - spine_y(cage)[..., box[2]]
    number = np.floor(own.z / np.float32(_VERTEBRA_MM) + np.float32(0.5))
    up = own.z - number * np.float32(_VERTEBRA_MM)
    waist = np.float32(1.0) + (np.float32(1.0) - (up / 10.0) ** 2) * np.float32(-0.07)
    u, v = own.x / (np.float32(_SPINE[0]) * waist), y / (np.float32(_SPINE[1]) * waist)
    column = (np.sqrt(u * u + v * v) - np.float32(1.0)) * np.float32(14.0)
    body = np.maximum(column, np.abs(up) - np.float32(9.3))
    arch = _arch(own, y, up)
    part = distance[box]
    hard_part = hard[box]
    disc = soft_step(np.asarray(column), 2.0) * soft_step(np.float32(9.3) - np.abs(up), 2.0)
    near = np.minimum(body, arch)
    hard_part[...] = np.where(near < part, np.float32(1.0), hard_part)
    np.minimum(part, near, out=part)
    # A disc is painted as cartilage: softer than bone and denser than muscle.
    hard_part *= np.float32(1.0) - disc
    np.minimum(part, np.maximum(column, np.abs(up) - np.float32(13.0)), out=part)


def _arch(own: Frame, y: Float32, up: Float32) -> Float32:
    aside = np.asarray(np.abs(own.x), dtype=np.float32)
    canal = y - np.float32(24.0)
    ring = np.sqrt(own.x * own.x + canal * canal)
    ring = np.abs(ring - np.float32(11.5)) - np.float32(2.6)
    ring = np.maximum(ring, np.abs(up + 3.0) - np.float32(9.5))
    # The transverse processes point backwards and outwards.
    share = _clipped((aside - np.float32(11.0)) / np.float32(24.0))
    wing = _length(
        aside - np.float32(11.0) - np.float32(24.0) * share,
        y - np.float32(26.0) - np.float32(13.0) * share,
        up - np.float32(2.0) * share,
    ) - np.float32(4.4)
    share = _clipped((y - np.float32(36.0)) / np.float32(15.0))
    back = y - np.float32(36.0) - np.float32(15.0) * share
    low = np.abs(up + np.float32(3.0) + np.float32(6.0) * share) - np.float32(7.0)
    tail = _length(own.x, back, np.maximum(low, np.float32(0.0))) - np.float32(2.8)
    return np.asarray(np.minimum(np.minimum(ring, wing), tail), dtype=np.float32)


def _add_sternum(frame: Frame, cage: Cage, distance: Float32, hard: Float32) -> None:
    box = frame.box(np.array([-48.0, -150.0, -110.0]), np.array([48.0, -20.0, 105.0]))
    own = frame.part(box)
    if 0 in own.shape:
        return
    wide = np.where(own.z > 58.0, np.float32(24.0), np.float32(15.0))
    wide = wide + np.clip((own.z - 70.0) / 2.0, 0.0, 6.0)
    x = np.maximum(np.abs(own.x) - (wide - np.float32(4.0)), 0.0)
    middle = cage.front[..., box[2]] - np.float32(9.0)
    y = np.maximum(np.abs(own.y - middle) - np.float32(1.6), 0.0)
    height = np.maximum(np.abs(own.z - np.float32(8.0)) - np.float32(76.0), 0.0)
    plate = _length(x, y, height) - np.float32(3.8)
    _merge(plate, distance[box], hard[box])


def _add_shoulders(frame: Frame, cage: Cage, distance: Float32, hard: Float32) -> None:
    """Add scapulae as plates at a distance from the ribs, clavicles and humeral heads."""
    # The outer edge of a scapula is away from the ribs, its inner edge touches them.
    off = np.float32(34.0) - np.float32(26.0) * cage.ahead
    blade = np.abs(cage.distance - off) * np.float32(0.9) - np.float32(1.7)
    blade = np.maximum(blade, np.abs(cage.ahead - np.float32(0.42)) * 95.0 - np.float32(32.0))
    blade = np.maximum(blade, np.abs(frame.z - np.float32(66.0)) - np.float32(58.0))
    # A scapula narrows to its lower angle.
    narrow = np.abs(cage.ahead - np.float32(0.42)) * 95.0 - (frame.z + 10.0) * np.float32(0.9)
    _merge(np.maximum(blade, narrow * np.float32(0.7)), distance, hard)
    for side in (-1.0, 1.0):
        collar = np.array([[24, -66, 92], [58, -66, 110], [100, -42, 124], [142, -4, 136]], float)
        spur = np.array([[70, 100, 92], [120, 72, 112], [156, 34, 138]], float)
        turn = np.array([side, 1.0, 1.0])
        _add_tube(frame, distance, hard, collar * turn, radius=5.8)
        _add_tube(frame, distance, hard, spur * turn, radius=5.0)
        head = np.array([[168, 14, 140], [176, 4, 200]], float)
        _add_tube(frame, distance, hard, head * turn, radius=21.0)


def _add_tube(
    frame: Frame, distance: Float32, hard: Float32, line: Float64, *, radius: float
) -> None:
    """Add a bent tube of bone through points [N, 3] in template mm."""
    for start, end in pairwise(line):
        reach = radius + FAR_MM
        box = frame.box(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
        own = frame.part(box)
        if 0 not in own.shape:
            _merge(segment_distance(own, start, end, (radius, radius)), distance[box], hard[box])


def segment_distance(
    own: Frame, start: Float64, end: Float64, radii: tuple[float, float]
) -> Float32:
    """Return the distance to a straight tube with round ends whose radius changes linearly."""
    along = end - start
    squared = max(float((along * along).sum()), 1e-9)
    x, y, z = own.offsets(start)
    ax, ay, az = (np.float32(part) for part in along)
    t = (x * (ax / np.float32(squared)) + y * (ay / np.float32(squared))) + z * (
        az / np.float32(squared)
    )
    np.clip(t, 0.0, 1.0, out=t)
    far = _length(x - t * ax, y - t * ay, z - t * az)
    far -= np.float32(radii[0]) + t * np.float32(radii[1] - radii[0])
    return far


def _merge(new: Float32, distance: Float32, hard: Float32) -> None:
    hard[...] = np.where(new < distance, np.float32(1.0), hard)
    np.minimum(distance, new, out=distance)


def _length(x: Float32, y: Float32, z: Float32) -> Float32:
    return np.asarray(np.sqrt(x * x + y * y + z * z), dtype=np.float32)


def _clipped(share: Float32) -> Float32:
    return np.asarray(np.clip(share, 0.0, 1.0), dtype=np.float32)
