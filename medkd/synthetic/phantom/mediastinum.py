"""The mediastinum: heart with its chambers, great vessels, lymph nodes, oesophagus, trachea.

All is in template mm. The lungs are the inside of the rib cage minus the mediastinum, so the
outline of the lungs follows aortic arch, venae cavae and heart.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from medkd.synthetic.phantom.bones import segment_distance, spine_y
from medkd.synthetic.phantom.canvas import Float32, Float64
from medkd.synthetic.phantom.chest import Cage, build_cage, ellipsoid_distance
from medkd.synthetic.phantom.fields import smooth_max, smooth_min, soft_step
from medkd.synthetic.phantom.patient import Frame, Patient

FAR_MM = 22.0
"""Distances are computed up to this value."""

Line = list[tuple[float, float, float, float]]

_BLOOD: tuple[Line, ...] = (
    # x, y, z, radius: aorta, its branches, pulmonary arteries, venae cavae, pulmonary veins
    [(4, -24, -6, 15), (-10, -26, 22, 16), (-12, -22, 52, 15), (-3, -15, 72, 14),
     (13, -3, 80, 12.5), (21, 18, 80, 12), (25, 38, 74, 12.5), (27, 54, 58, 12.5),
     (27, 60, 34, 12.5), (25, 63, 0, 12), (21, 63, -50, 11.5),
     (12, 60, -110, 11), (4, 52, -215, 10.5)],
    [(-5, -12, 84, 7.5), (-14, -8, 112, 6.5), (-30, -4, 160, 6)],
    [(14, 2, 88, 5), (15, 2, 120, 4), (18, 4, 170, 4)],
    [(22, 24, 88, 6), (23, 18, 112, 5.5), (34, 8, 136, 5), (70, 2, 150, 5)],
    [(22, -42, -8, 15), (23, -32, 20, 14.5), (16, -10, 32, 12.5), (32, 6, 34, 11.5),
     (43, 16, 30, 8.5)],
    [(14, -12, 30, 11), (-14, 2, 25, 11), (-32, 9, 24, 9), (-41, 13, 22, 7)],
    [(-27, -20, 100, 7.5), (-29, -18, 60, 9), (-30, -14, 24, 10), (-28, -14, -4, 11)],
    [(40, -30, 132, 6), (20, -36, 108, 6.5), (-8, -34, 96, 7), (-26, -22, 88, 7.5)],
    [(-48, -14, 138, 6), (-30, -20, 104, 7)],
    [(-20, 8, -50, 13), (-23, 10, -90, 12), (-22, 26, -215, 11.5)],
    [(-14, 10, 2, 8), (-38, -2, 13, 6)], [(-16, 18, -10, 8), (-40, 24, -9, 6.5)],
    [(18, 8, 4, 8), (42, -2, 15, 6)], [(18, 20, -10, 8), (42, 26, -7, 6.5)],
    [(-9, 56, -150, 3.2), (-8, 58, 20, 3.6), (-12, 50, 54, 4.5), (-26, 20, 56, 5),
     (-29, -10, 52, 5)],
)  # fmt: skip
_SOFT: tuple[Line, ...] = (
    # oesophagus, thyroid and neck, roots of the lungs
    [(3, 34, 170, 6), (5, 40, 90, 7), (3, 44, 40, 7), (6, 43, -30, 7), (14, 38, -90, 8)],
    [(-22, 4, 150, 11), (-24, 2, 220, 13)], [(22, 4, 150, 11), (24, 2, 220, 13)],
    [(-30, 16, 22, 9), (-38, 18, 6, 8)], [(32, 18, 24, 9), (40, 20, 8, 8)],
)  # fmt: skip
_AIR: tuple[Line, ...] = (
    # trachea and main bronchi; radius of the lumen
    [(0, 4, 230, 9), (-1, 12, 130, 8.6), (-4, 20, 80, 8.6), (2, 23, 46, 9.3)],
    [(1, 23, 46, 8), (-14, 22, 33, 7.2), (-37, 21, 16, 5.8)],
    [(5, 23, 46, 7.5), (22, 23, 30, 6.2), (41, 21, 20, 5.4)],
)
_WALL_MM = 1.7
_NODES = ((-14, 8, 66), (-20, 0, 44), (2, 34, 24), (24, 14, 52), (-40, 16, 12), (46, 22, 14),
          (8, -40, 62), (-6, 36, 2), (-34, 6, 36), (36, 8, 46))  # fmt: skip
_NODE_DEPTH_MM = 4.0
"""Least depth of the centre of a node in the mediastinum, template mm."""


@dataclass(frozen=True, slots=True, eq=False)
class Mediastinum:
    """The mediastinum on a frame: signed distances in template mm, negative inside.

    Args:
        edge: distance to the outline that borders on the lungs.
        spine: distance to the vertebrae with the tissue beside and behind them.
        lean: distance to everything but fat: muscle and blood.
        lean_hu: HU of muscle and blood.
        air: distance to the lumen of trachea and main bronchi.
    """

    edge: Float32
    spine: Float32
    lean: Float32
    lean_hu: Float32
    air: Float32


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """Lymph nodes of the mediastinum and the hila.

    Args:
        middle_mm: [N, 3] template mm.
        half_mm: [N, 3] half axes, template mm.
    """

    middle_mm: Float64
    half_mm: Float64


def draw_nodes(rng: np.random.Generator, patient: Patient) -> Nodes:
    """Draw nodes of 5 to 11 mm (short axis) at the usual stations, two at some of them.

    A node that would be in the lung is moved towards the midline until it is attached to the
    mediastinum, because isolated nodes in aerated lung would look like nodules.
    """
    places = np.array(_NODES, dtype=np.float64)
    places = np.concatenate([places, places + rng.normal(0.0, 8.0, places.shape)])
    keep = rng.random(len(places)) < 0.75
    places = places[keep] + rng.normal(0.0, 2.0, (int(keep.sum()), 3))
    short = rng.uniform(2.4, 5.4, (len(places), 1))
    places = np.stack([_attached(patient, place) for place in places])
    return Nodes(places, short * rng.uniform(1.0, 1.7, (len(places), 3)))


def _attached(patient: Patient, place_mm: Float64) -> Float64:
    """Move a place (3,) in template mm along x until it is well inside the mediastinum."""
    x, y, z = place_mm.tolist()
    line = np.linspace(min(x, 0.0), max(x, 0.0), int(abs(x)) + 2)
    across, *rest = (np.float32(value).reshape(-1, 1, 1) for value in (line, y, z))
    frame = Frame(patient, across, *rest)
    flat = np.zeros(frame.shape, dtype=np.float32)
    none = Nodes(np.zeros((0, 3)), np.zeros((0, 3)))
    edge = build_mediastinum(frame, build_cage(frame), none, texture=flat).edge[:, 0, 0]
    inside = line[edge < -_NODE_DEPTH_MM]
    return np.array([inside[np.abs(inside - x).argmin()], y, z])


def build_mediastinum(frame: Frame, cage: Cage, nodes: Nodes, *, texture: Float32) -> Mediastinum:
    """Compute the mediastinum of a frame.

    Args:
        frame: the points.
        cage: inside of the rib cage.
        nodes: lymph nodes of the patient.
        texture: [i, j, k] smooth field of unit variance.
    """
    patient = frame.patient
    blood = _tubes(frame, _BLOOD)
    soft = _tubes(frame, _SOFT)
    _lower_by_nodes(frame, soft, nodes)
    air = _tubes(frame, _AIR)
    np.minimum(soft, air - np.float32(_WALL_MM), out=soft)
    muscle, cavity, hull = _heart(frame, texture)
    lean = np.minimum(np.minimum(blood, soft), muscle)
    inner = soft_step(cavity, 1.4)
    filled = np.maximum(inner, soft_step(blood, 1.4))
    wall = np.float32(0.45 * patient.contrast_hu) * soft_step(muscle, 2.5)
    values = np.float32(45.0) + wall
    values += filled * (np.float32(patient.blood_hu) - values)
    values += np.float32(2.5) * texture
    edge = np.minimum(blood, np.minimum(soft, hull)) - np.float32(1.2)
    edge = smooth_min(edge, np.abs(frame.x) - _sheet_mm(frame, cage), blend_mm=6.0)
    return Mediastinum(edge, _spine_edge(frame, cage), lean, values, air)


def _sheet_mm(frame: Frame, cage: Cage) -> Float32:
    """Return the half width of the mediastinal fat, which is wider towards the neck."""
    y, z = frame.y, frame.z
    high = np.clip((z - np.float32(78.0)) / np.float32(56.0), 0.0, 1.0)
    center = np.clip((z + np.float32(16.0)) / np.float32(40.0), 0.0, 1.0)
    middle = np.float32(8.0) + np.float32(14.0) * center + np.float32(16.0) * high
    depth = (y - np.float32(14.0)) / np.float32(50.0)
    depth = np.float32(1.0) / (np.float32(1.0) + (depth * depth) ** 2)
    width = np.float32(4.0) + depth * (middle - np.float32(4.0))
    # Fat behind the sternum separates the lungs in front.
    near = np.clip((cage.front + np.float32(20.0) - y) / np.float32(18.0), 0.0, 1.0)
    return np.asarray(width + np.float32(5.0) * near * near, dtype=np.float32)


def _spine_edge(frame: Frame, cage: Cage) -> Float32:
    """Return the distance to the vertebral bodies with tissue beside and muscles behind them."""
    y = frame.y - spine_y(cage)
    front = np.minimum(y, np.float32(0.0))
    # The necks of the ribs run backwards and outwards.
    width = np.float32(19.0) + np.float32(0.75) * np.maximum(y, np.float32(0.0))
    return np.asarray(np.sqrt(frame.x * frame.x + front * front) - width, dtype=np.float32)


def _heart(frame: Frame, texture: Float32) -> tuple[Float32, Float32, Float32]:
    """Return the signed distances to the heart's wall, to its blood and to its pericardial sac."""
    patient = frame.patient
    far = np.full(frame.shape, FAR_MM, dtype=np.float32)
    muscle, cavity = far, far.copy()
    for middle, half, axis, wall in _CHAMBERS:
        center = np.array(middle) + patient.heart_shift_mm
        size = np.array(half) * patient.heart
        reach = float(size.max()) + FAR_MM
        box = frame.box(center - reach, center + reach)
        own = frame.part(box)
        if 0 in own.shape:
            continue
        outer = _turned_ellipsoid(own, center, size, _turn(np.array(axis)))
        muscle[box] = smooth_min(muscle[box], outer, blend_mm=7.0)
        np.minimum(cavity[box], outer + np.float32(wall), out=cavity[box])
    fat = np.float32(4.0) + np.float32(1.6) * texture
    hull = muscle - np.maximum(fat, np.float32(1.0))
    return muscle, cavity, hull


_CHAMBERS = (
    # middle, half axes, direction of the first axis, thickness of the wall
    ((46.0, -22.0, -50.0), (62.0, 40.0, 40.0), (0.78, -0.5, -0.38), 11.0),
    ((12.0, -54.0, -44.0), (60.0, 27.0, 42.0), (0.88, -0.2, -0.42), 4.0),
    ((-28.0, -20.0, -32.0), (41.0, 29.0, 33.0), (0.1, 0.1, 0.99), 3.0),
    ((5.0, 14.0, -18.0), (42.0, 25.0, 27.0), (0.98, 0.1, -0.15), 3.0),
)


def _turned_ellipsoid(own: Frame, center: Float64, size: Float64, turn: Float64) -> Float32:
    """Return the distance to an ellipsoid with half axes `size` along the rows of `turn`."""
    x, y, z = own.offsets(center)
    squared = np.zeros(own.shape, dtype=np.float32)
    for row, length in zip(turn, size, strict=True):
        a, b, c = (np.float32(part / length) for part in row)
        along = a * x + b * y + c * z
        squared += along * along
    return np.asarray((np.sqrt(squared) - np.float32(1.0)) * np.float32(size.min()))


def _turn(axis: Float64) -> Float64:
    """Return a rotation [3, 3] whose first row points along an axis."""
    first = axis / np.sqrt((axis * axis).sum())
    second = np.cross(first, np.array([0.0, 0.0, 1.0]))
    length = np.sqrt((second * second).sum())
    second = second / length if length > 0.3 else np.array([0.0, 1.0, 0.0])
    second = second - first * float((first * second).sum())
    second /= np.sqrt((second * second).sum())
    return np.stack([first, second, np.cross(first, second)])


def _tubes(frame: Frame, lines: tuple[Line, ...]) -> Float32:
    """Return the signed distance to a set of tubes, at most `FAR_MM`."""
    distance = np.full(frame.shape, FAR_MM, dtype=np.float32)
    for line in lines:
        for first, second in pairwise(np.array(line, dtype=np.float64)):
            start, end = first[:3], second[:3]
            reach = max(first[3], second[3]) + FAR_MM
            box = frame.box(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
            own = frame.part(box)
            if 0 not in own.shape:
                far = segment_distance(own, start, end, (float(first[3]), float(second[3])))
                np.minimum(distance[box], far, out=distance[box])
    return distance


def _lower_by_nodes(frame: Frame, distance: Float32, nodes: Nodes) -> None:
    for middle, half in zip(nodes.middle_mm, nodes.half_mm, strict=True):
        reach = float(half.max()) + 6.0
        box = frame.box(middle - reach, middle + reach)
        own = frame.part(box)
        if 0 in own.shape:
            continue
        np.minimum(distance[box], ellipsoid_distance(own, middle, half), out=distance[box])


def lung_distance(cage: Cage, middle: Mediastinum, below: Float32) -> Float32:
    """Return the signed distance to both lungs: the cage minus mediastinum, spine and diaphragm.

    Args:
        cage: inside of the rib cage.
        middle: the mediastinum.
        below: [i, j, k] depth under the diaphragm, positive below it.
    """
    # The lung is rounded where it extends behind the vertebrae.
    lung = smooth_max(cage.distance, -middle.spine, blend_mm=9.0)
    lung = smooth_max(lung, -middle.edge, blend_mm=3.5)
    return smooth_max(lung, below, blend_mm=2.5)
