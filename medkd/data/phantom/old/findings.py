"""What is to be found in a phantom, what is not, and what only looks like it.

Nodules must be found. Irrelevant findings (nodules below 3 mm, scars, pleural plaques) count
neither way. Bumps of the pleura, vessel knots and all of the anatomy are what a detector must
not mark. Units are chest mm (`phantom_draw.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from medkd.data.phantom.old.chest import Chest
from medkd.data.phantom.old.draw import Canvas, Float64, Tubes, draw_tubes
from medkd.data.phantom.old.patient import Patient
from medkd.data.phantom.old.shapes import Drawn, Shape, blend, draw_finding, draw_shape

Texture = Literal["solid", "ground-glass"]
Attachment = Literal["free", "vessel", "pleura"]


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """One thing that was painted: its kind, true centre (chest mm) and diameter.

    `kind` is "nodule", "small nodule", "scar", "plaque", "bump" or "knot".
    """

    kind: str
    texture: Texture
    attachment: Attachment
    center_mm: Float64
    diameter_mm: float


class Painter:
    """Paints findings into one chest, one after the other, without overlaps."""

    def __init__(
        self, canvas: Canvas, patient: Patient, chest: Chest, rng: np.random.Generator
    ) -> None:
        self._canvas, self._patient, self._chest, self._rng = canvas, patient, chest, rng
        self.findings: list[Finding] = []
        steps = np.asarray(canvas.shape) * canvas.spacing_mm
        self._middle_mm = canvas.first_mm + steps / 2
        self._surface = _surface_points(canvas, chest, rng)

    def paint_all(self, nodules: int) -> list[Finding]:
        """Paint nodules, then irrelevant findings, then what only looks like nodules."""
        rng = self._rng
        for _ in range(nodules):
            self._paint_nodule()
        for _ in range(int(rng.integers(2, 7))):
            self._paint_small_nodule()
        for _ in range(int(rng.integers(0, 4))):
            self._paint_scar()
        for _ in range(int(rng.integers(0, 3))):
            self._paint_pleural("plaque")
        for _ in range(int(rng.integers(3, 9))):
            self._paint_pleural("bump")
        for _ in range(int(rng.integers(4, 11))):
            self._paint_knot()
        return self.findings

    def _paint_nodule(self) -> None:
        rng = self._rng
        texture: Texture = "ground-glass" if rng.random() < 0.3 else "solid"
        attachment = _ATTACHMENTS[int(rng.choice(3, p=[0.36, 0.4, 0.24]))]
        least = 8.0 if texture == "ground-glass" else 5.0
        wanted = float(np.clip(least + rng.gamma(1.5, 2.6), least, 21.5))
        for _ in range(40):
            shape = draw_shape(rng, wanted, flatness=0.25, lobes=int(rng.integers(0, 5)))
            drawn = self._place(shape, wanted, attachment)
            if drawn is not None and 4.6 <= drawn.diameter_mm <= 22.5:
                self._blend_nodule(drawn, texture)
                self._keep("nodule", texture, attachment, drawn)
                return

    def _blend_nodule(self, drawn: Drawn, texture: Texture) -> None:
        rng = self._rng
        if texture == "solid":
            value = rng.uniform(-30.0, 60.0) + 0.25 * self._patient.contrast_hu
        else:
            value = rng.uniform(-640.0, -430.0)
        grain = rng.normal(0.0, 22.0, drawn.coverage.shape).astype(np.float32)
        blend(self._chest.volume_hu, drawn, np.float32(value) + grain)

    def _paint_small_nodule(self) -> None:
        wanted = float(self._rng.uniform(1.7, 2.7))
        shape = draw_shape(self._rng, wanted, flatness=0.1, lobes=0)
        drawn = self._place(shape, wanted, "free")
        if drawn is not None and drawn.diameter_mm < 3.0:
            blend(self._chest.volume_hu, drawn, 40.0)
            self._keep("small nodule", "solid", "free", drawn)

    def _paint_scar(self) -> None:
        """A thin crooked band that reaches the pleura."""
        rng = self._rng
        begin = self._surface_point()
        inward = self._inward(begin)
        length = rng.uniform(10.0, 22.0)
        sideways = np.cross(inward, rng.normal(size=3))
        sideways /= max(float(np.linalg.norm(sideways)), 1e-9)
        t = np.linspace(0.0, 1.0, 6)[:, None]
        line = begin + length * t * (0.6 * inward + 0.8 * sideways)
        line[1:] += rng.normal(0.0, 1.0, size=(5, 3))
        middle = line.mean(axis=0)
        if self._clear(middle, length / 2 + 4.0):
            cover = draw_tubes(self._canvas, Tubes.along(line, rng.uniform(0.8, 1.5)))
            value = np.maximum(np.float32(20.0) - self._chest.volume_hu, 0.0)
            self._chest.volume_hu[...] += cover * value * (self._chest.lung_mm < 1.0)
            self.findings.append(Finding("scar", "solid", "pleura", middle, float(length)))

    def _paint_pleural(self, kind: Literal["plaque", "bump"]) -> None:
        """A flat thickening of the pleura: large and maybe calcified, or small."""
        rng = self._rng
        begin = self._surface_point()
        inward = self._inward(begin)
        height = rng.uniform(1.5, 3.0)
        wide = rng.uniform(8.0, 14.0) if kind == "plaque" else rng.uniform(5.0, 8.0)
        turn = _turn_to(inward, rng)
        shape = Shape(np.array([wide, wide * rng.uniform(0.5, 0.9), height]), turn,
                      np.zeros((0, 3)), np.zeros(0))  # fmt: skip
        drawn = draw_finding(self._canvas, shape, begin, lung_mm=self._chest.lung_mm)
        if drawn is None or not self._clear(drawn.center_mm, wide + 4.0):
            return
        calcified = kind == "plaque" and rng.random() < 0.4
        blend(self._chest.volume_hu, drawn, 350.0 if calcified else 45.0)
        size = 2.0 * wide if kind == "plaque" else drawn.diameter_mm
        self.findings.append(Finding(kind, "solid", "pleura", drawn.center_mm, float(size)))

    def _paint_knot(self) -> None:
        """A bulge of a vessel, longer than wide, along its direction."""
        rng = self._rng
        tree = self._chest.trees[int(rng.integers(len(self._chest.trees)))]
        fit = np.flatnonzero((tree.radius_mm > 1.0) & (tree.radius_mm < 2.6))
        if not len(fit):
            return
        branch = int(rng.choice(fit))
        middle = tree.middles_mm()[branch]
        if not self._clear(middle, 8.0) or not self._deep(middle, 3.0):
            return
        along = tree.end_mm[branch] - tree.start_mm[branch]
        along /= max(float(np.linalg.norm(along)), 1e-9)
        radius = tree.radius_mm[branch] * rng.uniform(1.2, 1.6)
        line = middle + np.outer(np.linspace(-1.0, 1.0, 4) * radius * rng.uniform(1.2, 2.2), along)
        cover = draw_tubes(self._canvas, Tubes.along(line, radius))
        value = np.float32(45.0 + 0.9 * self._patient.contrast_hu)
        self._chest.volume_hu[...] += cover * np.maximum(value - self._chest.volume_hu, 0.0)
        self.findings.append(Finding("knot", "solid", "vessel", middle, 2.0 * float(radius)))

    def _place(self, shape: Shape, diameter_mm: float, attachment: Attachment) -> Drawn | None:
        """Try one place; None if it is taken or unfit."""
        radius = diameter_mm / 2.0
        if attachment == "pleura":
            center = self._pleura_point(radius)
        elif attachment == "vessel":
            center = self._vessel_point(radius)
        else:
            center = self._free_point(radius)
        if not self._clear(center, radius + 5.0):
            return None
        drawn = draw_finding(self._canvas, shape, center, lung_mm=self._chest.lung_mm)
        fits = drawn is not None and drawn.diameter_mm > 0.8 * diameter_mm
        return drawn if fits else None

    def _pleura_point(self, radius: float) -> Float64:
        """On the pleura, where the lung behind is not a thin edge."""
        edge = self._surface_point()
        inward = self._inward(edge)
        center = edge + inward * radius * self._rng.uniform(0.35, 0.85)
        fits = self._deep(edge + inward * (2.0 * radius + 4.0), 1.0)
        return np.asarray(center if fits else self._middle_mm)

    def _vessel_point(self, radius: float) -> Float64:
        """Beside a vessel of at least 1.4 mm diameter, touching it."""
        rng = self._rng
        tree = self._chest.trees[int(rng.integers(len(self._chest.trees)))]
        fit = np.flatnonzero((tree.radius_mm > 0.7) & (tree.radius_mm < 2.5))
        branch = int(rng.choice(fit))
        along = tree.end_mm[branch] - tree.start_mm[branch]
        beside = np.cross(along, rng.normal(size=3))
        beside /= max(float(np.linalg.norm(beside)), 1e-9)
        apart = 0.8 * (radius + tree.radius_mm[branch])
        center = tree.middles_mm()[branch] + beside * apart * rng.uniform(0.2, 0.95)
        return np.asarray(center if self._deep(center, radius + 1.0) else self._middle_mm)

    def _free_point(self, radius: float) -> Float64:
        """In the lung, of a dozen places the one with the least vessel in it."""
        rng, canvas = self._rng, self._canvas
        steps = np.asarray(canvas.shape) * canvas.spacing_mm
        points = canvas.first_mm + rng.random((400, 3)) * steps
        deep = points[canvas.sample(self._chest.lung_mm, points) < -(radius + 2.5)][:12]
        if not len(deep):
            return self._middle_mm
        around = rng.normal(size=(10, 3))
        around *= radius / np.linalg.norm(around, axis=1, keepdims=True)
        nearby = (deep[:, None] + around).reshape(-1, 3)
        fill = canvas.sample(self._chest.vessels, nearby).reshape(len(deep), -1)
        return np.asarray(deep[fill.sum(axis=1).argmin()])

    def _surface_point(self) -> Float64:
        return np.asarray(self._surface[int(self._rng.integers(len(self._surface)))])

    def _inward(self, point_mm: Float64) -> Float64:
        """Unit vector from the pleura into the lung."""
        probe = np.concatenate([np.eye(3) * 3.0, -np.eye(3) * 3.0]) + point_mm
        depth = self._canvas.sample(self._chest.lung_mm, probe)
        slope = depth[3:] - depth[:3]
        return np.asarray(slope / max(float(np.linalg.norm(slope)), 1e-9))

    def _deep(self, point_mm: Float64, depth_mm: float) -> bool:
        return bool(self._canvas.sample(self._chest.lung_mm, point_mm[None])[0] < -depth_mm)

    def _clear(self, center_mm: Float64, room_mm: float) -> bool:
        """Whether nothing else was painted within this room."""
        return all(
            np.linalg.norm(center_mm - other.center_mm) > room_mm + other.diameter_mm / 2.0
            for other in self.findings
        )

    def _keep(self, kind: str, texture: Texture, attachment: Attachment, drawn: Drawn) -> None:
        self.findings.append(Finding(kind, texture, attachment, drawn.center_mm, drawn.diameter_mm))


_ATTACHMENTS: tuple[Attachment, ...] = ("free", "vessel", "pleura")


def _surface_points(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> Float64:
    """Random points of the lungs' surface towards the ribs."""
    near = np.flatnonzero(np.abs(chest.lung_mm.reshape(-1)) < 1.0)
    index = np.stack(np.unravel_index(rng.choice(near, size=600), canvas.shape), axis=1)
    points = canvas.first_mm + index * canvas.spacing_mm
    outer = (np.abs(points[:, 0]) > 40.0) | (np.abs(points[:, 1]) > 45.0)
    return np.asarray(points[outer])


def _turn_to(direction: Float64, rng: np.random.Generator) -> Float64:
    """Rotation [3, 3] whose third column is `direction`."""
    basis = np.column_stack([direction, rng.normal(size=(3, 2))])
    turn, _ = np.linalg.qr(basis)
    return np.column_stack([turn[:, 1], turn[:, 2], turn[:, 0]])
