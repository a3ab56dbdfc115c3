"""Bones of a phantom as tubes: ribs, spine, sternum, collar bones, shoulder blades."""

from __future__ import annotations

import numpy as np

from medkd.data.phantom.old.draw import Float64, Tubes
from medkd.data.phantom.old.patient import Patient

_RIBS = 12
_OUTSIDE_MM = 7.0


def rib_tubes(patient: Patient) -> Tubes:
    """The bony part of 24 ribs; each is two tubes side by side, higher than thick."""
    parts = []
    for side in (-1.0, 1.0):
        for number in range(_RIBS):
            reach = {10: 105.0, 11: 75.0}.get(number, 132.0)
            line = _rib_line(patient, number, side, np.arange(14.0, reach, 6.0))
            parts += [Tubes.along(line + np.array([0.0, 0.0, dz]), 3.4) for dz in (-1.9, 1.9)]
    return Tubes.joined(parts)


def cartilage_tubes(patient: Patient) -> Tubes:
    """From the ends of the upper seven ribs to the sternum."""
    lines = [
        _rib_line(patient, number, side, np.arange(128.0, 172.0, 6.0))
        for side in (-1.0, 1.0)
        for number in range(7)
    ]
    return Tubes.joined([Tubes.along(line, 4.5) for line in lines])


def spine_and_shoulders(patient: Patient) -> Tubes:
    """Vertebrae with discs left out, their processes, sternum, collar bones, shoulder blades."""
    parts = []
    for middle in np.arange(-158.0, 165.0, 25.0):
        y = float(patient.spine_y_mm(np.array([middle], np.float32))[0])
        for dx in (-7.0, 0.0, 7.0):
            body = np.array([[dx, y, middle - 3.0], [dx, y, middle + 3.0]])
            parts.append(Tubes.along(body, 10.5))
        for side in (-1.0, 1.0):
            arch = [
                [side * 13, y + 8, middle],
                [side * 12, y + 22, middle],
                [0, y + 31, middle - 2],
            ]
            parts.append(Tubes.along(np.array(arch), 4.0))
            wing = [[side * 12, y + 20, middle], [side * 30, y + 27, middle + 3]]
            parts.append(Tubes.along(np.array(wing), 4.0))
        tail = [[0, y + 30, middle - 2], [0, y + 46, middle - 14]]
        parts.append(Tubes.along(np.array(tail), 3.5))
    return Tubes.joined([*parts, *_sternum(patient), *_shoulders(patient)])


def _rib_line(patient: Patient, number: int, side: float, degrees: Float64) -> Float64:
    """Points along a rib; degrees run from the spine (0) around to the sternum (180)."""
    angle = np.deg2rad(degrees)
    drop = 18.0 + 7.5 * min(number, 6)
    z = 118.0 - 23.0 * number - drop * (1.0 - np.cos(angle)) / 2.0 * 1.15
    half_x, half_y = patient.cage_half_mm(np.minimum(z, 104.0).astype(np.float32))
    rise = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2 / 2.3)
    x = side * (half_x + _OUTSIDE_MM) * np.abs(np.sin(angle)) ** (2 / 2.3)
    y = patient.shift_y_mm(z.astype(np.float32)) + (half_y + _OUTSIDE_MM) * rise
    return np.stack([x, y, z], axis=1).astype(np.float64)


def _sternum(patient: Patient) -> list[Tubes]:
    lines = []
    for dx in (-12.0, -8.0, -4.0, 0.0, 4.0, 8.0, 12.0):
        z = np.linspace(88.0, -62.0, 16)
        half_y = patient.cage_half_mm(np.minimum(z, 60.0).astype(np.float32))[1]
        y = patient.shift_y_mm(z.astype(np.float32)) - half_y - _OUTSIDE_MM - 1.0
        lines.append(Tubes.along(np.stack([np.full(16, dx), y, z], axis=1).astype(float), 5.0))
    return lines


def _shoulders(patient: Patient) -> list[Tubes]:
    parts = []
    front = -patient.half_depth_mm * 0.55
    for side in (-1.0, 1.0):
        collar = [[side * 14, front - 8, 92], [side * 60, front, 112], [side * 128, 10, 138]]
        parts.append(Tubes.along(np.array(collar, dtype=float), 5.5))
        for share in np.linspace(0.0, 1.0, 12):
            inner = np.array(
                [side * (62 + 30 * share), patient.half_depth_mm + 8, 120 - 95 * share]
            )
            outer = np.array([side * (132 - 36 * share), 42 + 34 * share, 135 - 105 * share])
            parts.append(Tubes.along(np.stack([inner, outer]), 2.6))
    return parts
