"""A finding in a phantom's chest: its kind, its true position and size, and how it is painted.

Nodules must be found. Irrelevant findings (nodules below 3 mm, scars, pleural plaques, mucus
plugs, hilar lymph nodes, isolated soft tissue) count neither way. A detector must not mark pleural
bumps, vessel knots and the rest of the anatomy. A finding does not depend on voxels: the same one
can be painted on any canvas, slab by slab. Units are chest mm and HU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medkd.synthetic.phantom.canvas import Bools, Box, Canvas, Float32, Float64
from medkd.synthetic.phantom.fields import SmoothField
from medkd.synthetic.phantom.forms import Form, Outline, box_within, coverage_on, share_of

Kind = Literal[
    "nodule", "small nodule", "scar", "plaque", "mucus", "node", "isolated", "bump", "knot"
]  # fmt: skip
Texture = Literal["solid", "part-solid", "ground-glass", "calcified"]
Attachment = Literal["free", "vessel", "pleura", "fissure"]

EXCLUDED: frozenset[Kind] = frozenset(
    {"small nodule", "scar", "plaque", "mucus", "node", "isolated"}
)
"""Kinds that count neither way."""

MIMICS: frozenset[Kind] = frozenset({"bump", "knot"})
"""Kinds that look like nodules but are in no table."""

_PLEURA_EDGE_MM = 0.6


@dataclass(frozen=True, slots=True, eq=False)
class LungSide:
    """The lung's side of the pleura around one finding; nothing is painted on the other side.

    Args:
        canvas: a small lattice.
        lung_mm: [i, j, k] signed distance to the lungs' surface, negative in the lungs.
    """

    canvas: Canvas
    lung_mm: Float32

    def share(self, points_mm: Float64) -> Float64:
        """Return the share [N] of points [N, 3] that is in the lung."""
        depth = self.canvas.sample(self.lung_mm, points_mm)
        return np.asarray(np.clip(0.5 - depth / _PLEURA_EDGE_MM, 0.0, 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One part of a finding, of about one density.

    Args:
        form: outline.
        middle_mm: (3,) chest mm of the form's middle.
        edge_mm: width of the soft edge.
        value_hu: density.
        over_hu: density of the tissue that it replaces (lung, or the layer below).
        grain_hu: standard deviation of the density.
        grain: texture of the density; None if `grain_hu` is 0.
    """

    form: Form
    middle_mm: Float64
    edge_mm: float
    value_hu: float
    over_hu: float
    grain_hu: float = 0.0
    grain: SmoothField | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """A nodule or another finding in a chest.

    Args:
        kind: what it is.
        texture: what it is made of.
        outline: shape of its border; real: from the contours of a real nodule.
        attachment: what it touches.
        center_mm: (3,) chest mm of its true centre.
        diameter_mm: true diameter; length for a scar or plaque.
        layers: what is painted, in this order; the first has the whole outline. Isolated tissue has
            no layers, because it is part of the anatomy.
        side: cuts it off at the pleura; None if it is clear of the pleura.
    """

    kind: Kind
    texture: Texture
    outline: Outline | Literal["real"]
    attachment: Attachment
    center_mm: Float64
    diameter_mm: float
    layers: tuple[Layer, ...]
    side: LungSide | None


def clear_of(points_mm: Float64, findings: Iterable[Finding], room_mm: float) -> Bools:
    """Mark the points [N, 3] that are more than `room_mm` from the surface of every finding."""
    clear = np.ones(len(points_mm), dtype=np.bool_)
    for finding in findings:
        apart = points_mm - finding.center_mm
        clear &= np.sqrt((apart * apart).sum(axis=1)) > room_mm + finding.diameter_mm / 2.0
    return clear


def render_findings(findings: Iterable[Finding], canvas: Canvas, volume_hu: Float32) -> None:
    """Paint findings into a chest, in place.

    Tissue that is already denser than lung (vessels, chest wall) keeps its share of a voxel. So
    vessels run through a nodule, and there is no gap at the pleura.

    Args:
        findings: what to paint; findings outside the canvas are ignored.
        canvas: voxel grid of the volume.
        volume_hu: [i, j, k] noise-free HU; changed in place.
    """
    for finding in findings:
        for layer in finding.layers:
            _paint(layer, finding.side, canvas, volume_hu)


def cover_layer(layer: Layer, side: LungSide | None, canvas: Canvas) -> tuple[Box, Float32]:
    """Return the box of a layer's voxels and the share [i, j, k] of each that it fills."""
    reach = layer.form.reach_mm + layer.edge_mm / 2.0
    middle = canvas.index_vox(layer.middle_mm[None])[0]
    box = box_within(middle, reach / canvas.spacing_mm + 0.5, canvas.shape)
    i, j, k = (part.stop - part.start for part in box)
    if min(i, j, k) < 1:
        return box, np.zeros((max(i, 0), max(j, 0), max(k, 0)), dtype=np.float32)

    def share(points_mm: Float64) -> Float64:
        part = share_of(layer.form, points_mm - layer.middle_mm, edge_mm=layer.edge_mm)
        if side is None:
            return part
        some = np.flatnonzero(part)
        part[some] *= side.share(points_mm[some])
        return part

    finest = min(max(reach / 7.0, 0.35), 0.7)
    fi, fj, fk = np.ceil(canvas.spacing_mm / finest).astype(int).tolist()
    start = (box[0].start, box[1].start, box[2].start)
    cover = coverage_on(canvas.points_mm, share, start=start, shape=(i, j, k), finer=(fi, fj, fk))
    return box, cover


def _paint(layer: Layer, side: LungSide | None, canvas: Canvas, volume_hu: Float32) -> None:
    box, cover = cover_layer(layer, side, canvas)
    if not cover.any():
        return
    part = volume_hu[box]
    contrast = np.float32(layer.value_hu - layer.over_hu)
    room = (np.float32(layer.value_hu) - part) / contrast
    amount = np.minimum(cover, np.clip(room, 0.0, 1.0))
    added = amount * contrast
    if layer.grain is not None:
        added += amount * layer.grain.on(canvas.part(box)) * np.float32(layer.grain_hu)
    part += added
