"""The chest wall: inside of the rib cage, skin, layers of fat and muscle, diaphragm, organs.

Signed distances are in template mm, negative inside, and approximate away from the surface. The
profiles are those of an adult in deep inspiration with raised arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from medkd.synthetic.phantom.canvas import Float32, Float64
from medkd.synthetic.phantom.fields import smooth_max, smooth_min, soft_step
from medkd.synthetic.phantom.patient import Frame

APEX_MM = 141.0

_CAGE = np.array([
    # z, outer half width, middle of a lung's apex, front, back
    [-210.0, 118.0, 0.0, -60.0, 78.0], [-175.0, 128.0, 0.0, -72.0, 88.0],
    [-150.0, 136.0, 0.0, -86.0, 98.0], [-110.0, 140.0, 0.0, -96.0, 106.0],
    [-70.0, 140.0, 0.0, -97.0, 112.0], [-30.0, 139.0, 0.0, -95.0, 113.0],
    [10.0, 136.0, 0.0, -90.0, 112.0], [50.0, 131.0, 0.0, -79.0, 108.0],
    [80.0, 121.0, 8.0, -64.0, 100.0], [105.0, 103.0, 24.0, -44.0, 86.0],
    [125.0, 77.0, 40.0, -20.0, 63.0], [134.0, 66.0, 46.0, -3.0, 45.0],
    [139.0, 58.0, 48.0, 8.0, 33.0], [143.0, 53.0, 49.0, 14.0, 26.0],
    [230.0, 53.0, 49.0, 14.0, 26.0],
])  # fmt: skip
_BODY = np.array([
    # z, half width, front, back; without the fat below the skin
    [-210.0, 158.0, -112.0, 128.0], [-110.0, 163.0, -118.0, 136.0], [-30.0, 165.0, -114.0, 140.0],
    [30.0, 165.0, -107.0, 141.0], [70.0, 173.0, -95.0, 139.0], [100.0, 188.0, -80.0, 132.0],
    [130.0, 204.0, -64.0, 118.0], [160.0, 212.0, -52.0, 102.0], [230.0, 214.0, -45.0, 92.0],
])  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Cage:
    """The inside of the rib cage on a frame.

    Args:
        distance: [i, j, k] template mm, negative inside.
        ahead: [i, j, k] direction from the chest's middle: 1 back, 0 sideways, -1 front.
        front: [1, 1, k] y of the front wall in the midline.
        back: [1, 1, k] y of the back wall.
    """

    distance: Float32
    ahead: Float32
    front: Float32
    back: Float32


def profile(table: Float64, column: int, z: Float32) -> Float32:
    """Interpolate a column of a table at heights z (monotone cubic, Fritsch-Carlson)."""
    curve = PchipInterpolator(table[:, 0], table[:, column])
    return np.asarray(curve(z.astype(np.float64)), dtype=np.float32)


def build_cage(frame: Frame) -> Cage:
    """Compute the inside of the rib cage: an oval that narrows into the two apices."""
    wide, middle, front, back = (profile(_CAGE, column, frame.z) for column in (1, 2, 3, 4))
    aside = np.maximum(np.abs(frame.x) - middle, 0.0)
    y = frame.y - (front + back) / 2
    u, v = aside / (wide - middle), y / ((back - front) / 2)
    squared = u * u + v * v
    rho = _squircle(squared, u * v, 0.3)
    distance = np.sqrt(aside * aside + y * y)
    distance *= 1.0 - 1.0 / rho
    ahead = v / np.sqrt(np.maximum(squared, np.float32(1e-6)))
    # Near the spine ribs run backwards before they turn to the side.
    dent = np.maximum(np.float32(1.0) - (frame.x / np.float32(58.0)) ** 2, np.float32(0.0))
    distance += np.float32(11.0) * dent * np.clip(y / np.float32(40.0), 0.0, 1.0)
    top = np.asarray(frame.z - np.float32(APEX_MM), dtype=np.float32)
    return Cage(smooth_max(distance, top, blend_mm=5.0), ahead, front, back)


def body_distance(frame: Frame) -> Float32:
    """Return the signed distance to the skin: an oval with shoulders and breasts."""
    patient = frame.patient
    fat = np.float32(patient.fat_mm / patient.unit)
    wide, front, back = (profile(_BODY, column, frame.z) for column in (1, 2, 3))
    wide, front, back = wide + fat, front - np.float32(0.8) * fat, back + np.float32(0.7) * fat
    half = np.float32(0.5)
    y = frame.y - (front + back) * half
    u, v = frame.x / wide, y / ((back - front) * half)
    rho = _squircle(u * u + v * v, u * v, 0.5)
    body = np.sqrt(frame.x * frame.x + y * y)
    body *= 1.0 - 1.0 / rho
    # There are grooves over the spine and over the sternum.
    groove = np.float32(1.0) / (np.float32(1.0) + (frame.x / np.float32(22.0)) ** 2)
    body += groove * np.where(y > 0, np.float32(4.0), np.float32(5.0))
    if patient.breast_mm:
        body = smooth_min(body, _breasts(frame, front), blend_mm=9.0)
    return np.asarray(body, dtype=np.float32)


def _breasts(frame: Frame, front: Float32) -> Float32:
    high = np.float32(frame.patient.breast_mm / frame.patient.unit)
    x = (np.abs(frame.x) - np.float32(74.0)) / np.float32(62.0)
    z = (frame.z + np.float32(6.0)) / np.float32(66.0)
    y = (frame.y - front - np.float32(22.0)) / (high + np.float32(24.0))
    far = (np.sqrt(x * x + y * y + z * z) - np.float32(1.0)) * (high + np.float32(24.0))
    return np.asarray(far, dtype=np.float32)


def wall_distance(frame: Frame, cage: Cage, body: Float32, *, texture: Float32) -> Float32:
    """Return the signed distance to the lean layers around the rib cage, without fat planes.

    Args:
        frame: the points.
        cage: inside of the rib cage.
        body: [i, j, k] signed distance to the skin.
        texture: [i, j, k] smooth field of unit variance that deforms the layers.
    """
    patient = frame.patient
    share = np.float32(patient.muscle)
    outer = np.float32(10.0) + share * _muscle_mm(frame, cage) + np.float32(1.6) * texture
    under_skin = body + np.float32(patient.fat_mm / patient.unit * 0.8 + 2.0)
    lean = np.maximum(cage.distance - outer, under_skin)
    plane = np.float32(0.9) - np.abs(cage.distance - np.float32(11.5) - np.float32(1.2) * texture)
    lean = np.maximum(lean, plane + np.float32(0.5) * texture)
    second = np.float32(0.8) - np.abs(cage.distance - np.float32(21.0) + np.float32(2.5) * texture)
    lean = np.maximum(lean, second - np.float32(0.4) * texture)
    streaks = np.float32(2.4) * (texture - np.float32(0.75))
    shoulder = np.clip((frame.z - np.float32(92.0)) / np.float32(20.0), 0.0, 1.0)
    lean = np.maximum(lean, streaks * shoulder + (np.float32(1.0) - shoulder) * np.float32(-9.0))
    skin = np.abs(body + np.float32(0.9)) - np.float32(0.9)
    return np.asarray(np.minimum(np.maximum(lean, -cage.distance), skin), dtype=np.float32)


def _muscle_mm(frame: Frame, cage: Cage) -> Float32:
    """Return the thickness of the muscles outside the ribs."""
    z, ahead = frame.z, cage.ahead
    back = np.clip(ahead * np.float32(1.6) - np.float32(0.5), 0.0, 1.0)
    front = np.clip(np.float32(-1.8) * ahead - np.float32(0.5), 0.0, 1.0)
    side = np.float32(1.0) - back - front
    near = (frame.x / np.float32(42.0)) ** 2
    spine = np.float32(1.0) / (np.float32(1.0) + near * near)
    pectoral = np.clip((z + 5.0) / 50.0, 0.0, 1.0) * np.clip(np.abs(frame.x) / 30.0 - 0.4, 0.0, 1.0)
    lateral = np.clip((z + 95.0) / 80.0, 0.15, 1.0)
    high = np.clip((z - 85.0) / 45.0, 0.0, 1.0) * np.float32(70.0)
    thick = back * (np.float32(13.0) + np.float32(20.0) * spine)
    thick = thick + front * (np.float32(2.0) + np.float32(16.0) * pectoral)
    thick += side * (np.float32(24.0) * lateral)
    thick += high
    return np.asarray(thick, dtype=np.float32)


def diaphragm_height(frame: Frame) -> Float32:
    """Return the height z [i, j, 1] of the diaphragm: two domes, steepest at the back."""
    patient = frame.patient
    right = _dome(frame, -66.0, patient.dome_right_mm)
    left = _dome(frame, 64.0, patient.dome_left_mm)
    height = smooth_max(right, left, blend_mm=5.0)
    return smooth_max(height, np.full_like(height, -163.0), blend_mm=6.0)


def _dome(frame: Frame, middle: float, top: float) -> Float32:
    side = np.float32(1.0 if middle > 0 else -1.0)
    x = side * (frame.x - np.float32(middle))
    x = x / np.where(x > 0, np.float32(74.0), np.float32(165.0))
    y = frame.y + np.float32(12.0)
    y = y / np.where(y > 0, np.float32(116.0), np.float32(86.0))
    fall = np.where(y > 0, np.float32(84.0), np.float32(12.0))
    drop = np.float32(30.0) * x * x + np.float32(14.0) * (x * x) ** 2 + fall * y * y
    return np.asarray(np.float32(top) - drop, dtype=np.float32)


def organs(
    frame: Frame, cage: Cage, height: Float32, *, texture: Float32
) -> tuple[Float32, Float32]:
    """Return the distance to diaphragm and organs below it, and their density.

    Args:
        frame: the points.
        cage: inside of the rib cage.
        height: [i, j, 1] height of the diaphragm.
        texture: [i, j, k] smooth field of unit variance.

    Returns:
        Signed distance [i, j, k] to the union of diaphragm, liver, spleen, stomach and bowel, and
        HU [i, j, k].
    """
    patient = frame.patient
    below = frame.z - height
    inside = np.maximum(below, cage.distance)
    muscle = np.maximum(np.abs(below + np.float32(1.4)) - np.float32(1.6), cage.distance)
    edge = _liver_edge(frame) + np.float32(5.0) * texture
    liver = np.maximum(inside + np.float32(3.0), edge)
    spleen = ellipsoid_distance(frame, (96.0, 50.0, -112.0), (30.0, 48.0, 46.0))
    spleen = np.maximum(spleen, inside + 3.0)
    stomach = ellipsoid_distance(frame, (58.0, -18.0, -114.0), (50.0, 50.0, 46.0))
    stomach = np.maximum(stomach, inside + 3.5)
    bowel = np.maximum(inside + np.float32(6.0), np.float32(4.0) * (texture - np.float32(0.2)))
    bowel = np.maximum(bowel, frame.z + np.float32(128.0))
    gain = np.float32(patient.contrast_hu)
    values = np.float32(45.0) + soft_step(liver, 3.0) * (np.float32(14.0) + np.float32(0.3) * gain)
    values += soft_step(spleen, 3.0) * (np.float32(5.0) + np.float32(0.4) * gain)
    values += np.float32(2.5) * texture
    level = np.maximum(stomach + np.float32(4.0), frame.y + np.float32(22.0))
    values += soft_step(level, 3.0) * (np.float32(-975.0) - values)
    lean = np.minimum(np.minimum(muscle, liver), np.minimum(spleen, stomach))
    return np.minimum(lean, bowel), values


def _liver_edge(frame: Frame) -> Float32:
    """Return the distance to a plane that bounds the liver on the left."""
    edge = frame.x - np.float32(16.0) + np.float32(0.55) * frame.y
    edge = edge - np.float32(0.2) * frame.z - np.float32(16.0)
    return np.asarray(edge * np.float32(0.8), dtype=np.float32)


def ellipsoid_distance(
    frame: Frame, middle: Sequence[float] | Float64, half: Sequence[float] | Float64
) -> Float32:
    """Return the signed distance to an ellipsoid with this centre (3,) and half axes (3,)."""
    offsets = frame.offsets(np.asarray(middle))
    x, y, z = (line / np.float32(size) for line, size in zip(offsets, half, strict=True))
    return np.asarray((np.sqrt(x * x + y * y + z * z) - 1.0) * np.float32(min(half)), np.float32)


def couch_hu(frame: Frame) -> Float32:
    """Return the HU [i, j, 1] around the patient: air, a mat and the couch."""
    patient = frame.patient
    couch_y = 141.0 + 0.7 * patient.fat_mm / patient.unit - 2.0
    top = np.float32(couch_y) - np.float32(0.00065) * frame.x * frame.x
    depth = frame.y - top
    shell = soft_step(np.abs(depth - np.float32(16.0)) - np.float32(0.6), 3.0)
    lower = soft_step(np.abs(depth - np.float32(52.0)) - np.float32(0.8), 3.0)
    mat = soft_step(np.abs(depth - np.float32(8.0)) - np.float32(7.0), 3.0)
    foam = soft_step(np.abs(depth - np.float32(34.0)) - np.float32(17.0), 3.0)
    lines = np.float32(700.0) * np.maximum(shell, lower)
    return np.asarray(np.float32(-1000.0) + np.maximum(40.0 * mat + 25.0 * foam, lines), np.float32)


def _squircle(squared: Float32, product: Float32, square: float) -> Float32:
    """Return the distance from the centre in units of Fernandez Guasti's squircle.

    `squared` is u^2 + v^2 and `product` is u v in units of the half axes; `square` is 0 for an
    ellipse and 1 for a rectangle.
    """
    root = squared * squared
    root -= np.float32(4.0 * square) * product * product
    np.maximum(root, 0.0, out=root)
    np.sqrt(root, out=root)
    root += squared
    root *= np.float32(0.5)
    np.maximum(root, np.float32(1e-6), out=root)
    return np.asarray(np.sqrt(root, out=root), dtype=np.float32)
