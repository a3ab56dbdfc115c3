"""Findings in a phantom's lungs that are not nodules: irrelevant findings, and mimics of nodules.

Irrelevant findings (in the excluded table) are nodules below 3 mm, scars, pleural plaques, mucus
plugs and hilar lymph nodes. Mimics (in no table) are pleural bumps, and knots and crossings of
vessels. Every function draws one, or returns None if the chest has no room for it. Units are chest
mm and HU.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from medkd.synthetic.phantom.canvas import Float64
from medkd.synthetic.phantom.findings import Attachment, Finding, Kind, Layer, Texture, clear_of
from medkd.synthetic.phantom.forms import (
    AnalyticForm,
    Form,
    TubeForm,
    draw_directions,
    draw_form,
    true_sphere,
)
from medkd.synthetic.phantom.places import Chooser, Places

_EDGE_MM = 0.5
_TISSUE_HU = 40.0


def small_nodule(
    rng: np.random.Generator, chooser: Chooser, others: list[Finding]
) -> Finding | None:
    """Draw a nodule below 3 mm; a quarter of them is calcified."""
    wanted = float(rng.uniform(1.6, 2.8))
    attachment = ("free", "vessel")[int(rng.integers(2))]
    middle = chooser.choose("free" if attachment == "free" else "vessel", wanted / 2.0, others)
    if middle is None:
        return None
    calcified = rng.random() < 0.25
    value = float(rng.uniform(200.0, 500.0)) if calcified else _TISSUE_HU
    texture: Texture = "calcified" if calcified else "solid"
    return _single("small nodule", texture, draw_form(rng, "round", wanted), middle,
                   value_hu=value, places=chooser)  # fmt: skip


def scar(rng: np.random.Generator, places: Places, others: list[Finding]) -> Finding | None:
    """Draw a thin crooked band that reaches the pleura."""
    begin = places.on_pleura()
    if begin is None:
        return None
    inward = places.inward(begin[None])[0]
    sideways = _across(inward, rng)
    length = float(rng.uniform(10.0, 24.0))
    t = np.linspace(0.0, 1.0, 6)[:, None]
    line = begin + length * t * (0.6 * inward + 0.8 * sideways)
    line[1:] += rng.normal(0.0, 1.1, size=(5, 3))
    middle = line.mean(axis=0)
    if not clear_of(middle[None], others, length / 2.0 + 4.0)[0]:
        return None
    radius = rng.uniform(0.6, 1.4) * (1.25 - 0.7 * t[:, 0]) * rng.uniform(0.8, 1.2, size=6)
    return _single("scar", "solid", TubeForm(line - middle, radius), middle,
                   value_hu=float(rng.uniform(-60.0, 40.0)), places=places,
                   size_mm=length)  # fmt: skip


def plaque(rng: np.random.Generator, places: Places, others: list[Finding]) -> Finding | None:
    """Draw a flat thickening of the pleura; two of five are calcified."""
    wide = float(rng.uniform(8.0, 15.0))
    hard = rng.random() < 0.4
    value = float(rng.uniform(200.0, 500.0)) if hard else _TISSUE_HU
    texture: Texture = "calcified" if hard else "solid"
    half = np.array([wide, wide * rng.uniform(0.5, 0.9), rng.uniform(1.5, 3.0)])
    return _on_pleura(rng, "plaque", texture, half, places=places, others=others, value_hu=value)


def bump(rng: np.random.Generator, places: Places, others: list[Finding]) -> Finding | None:
    """Draw a small thickening of the pleura."""
    wide = float(rng.uniform(3.5, 8.0))
    half = np.array([wide, wide * rng.uniform(0.6, 1.0), wide * rng.uniform(0.25, 0.55)])
    return _on_pleura(rng, "bump", "solid", half, places=places, others=others,
                      value_hu=_TISSUE_HU)  # fmt: skip


def knot(rng: np.random.Generator, places: Places, others: list[Finding]) -> Finding | None:
    """Draw a bulge of a vessel along its direction, or a short vessel that crosses it."""
    found = _branch(rng, places, low_mm=0.9, high_mm=2.6)
    if found is None or not _has_room(places, found.middle_mm, others, 8.0):
        return None
    middle, along, radius = found
    t = np.linspace(-1.0, 1.0, 5)[:, None]
    if rng.random() < 0.5:
        line, wide = t * along * (radius * rng.uniform(1.5, 3.0)), radius * rng.uniform(1.2, 1.6)
        radii = wide * (1.0 - 0.35 * np.abs(t[:, 0]))
    else:
        beside = _across(along, rng)
        across = 0.9 * _across(along, rng) + 0.45 * along
        line = t * across * rng.uniform(5.0, 10.0) + beside * radius * rng.uniform(0.3, 1.2)
        line += rng.normal(0.0, 0.5, size=line.shape)
        radii = np.full(5, radius * rng.uniform(0.6, 0.95))
    return _single("knot", "solid", TubeForm(line, radii), middle,
                   value_hu=places.survey.blood_hu, places=places,
                   size_mm=2.0 * float(radii.max()))  # fmt: skip


def mucus(rng: np.random.Generator, places: Places, others: list[Finding]) -> Finding | None:
    """Draw a forked mucus plug beside a vessel, where an airway runs."""
    found = _branch(rng, places, low_mm=0.9, high_mm=2.2)
    if found is None:
        return None
    middle, along, radius = found
    wide = float(rng.uniform(1.1, 2.2))
    middle = middle + _across(along, rng) * (radius + wide + 0.4)
    if not _has_room(places, middle, others, 9.0):
        return None
    length, fork = float(rng.uniform(5.0, 9.0)), _across(along, rng)
    line = np.stack([-along * length, np.zeros(3), (along + 0.5 * fork) * 0.8 * length])
    if rng.random() < 0.5:
        line = np.concatenate([line, np.zeros((1, 3)), (along - 0.6 * fork)[None] * 0.7 * length])
    radii = wide * rng.uniform(0.75, 1.2, size=len(line))
    return _single("mucus", "solid", TubeForm(line, radii), middle,
                   value_hu=float(rng.uniform(5.0, 45.0)), places=places,
                   size_mm=2.0 * wide)  # fmt: skip


def node(rng: np.random.Generator, places: Places, others: list[Finding]) -> Finding | None:
    """Draw a hilar lymph node beside a large vessel."""
    found = _branch(rng, places, low_mm=2.8, high_mm=9.0)
    if found is None:
        return None
    middle, along, radius = found
    wanted = float(rng.uniform(5.0, 10.0))
    middle = middle + _across(along, rng) * (radius + 0.25 * wanted)
    if not clear_of(middle[None], others, wanted / 2.0 + 4.0)[0]:
        return None
    return _single("node", "solid", draw_form(rng, "lobulated", wanted), middle,
                   value_hu=float(rng.uniform(20.0, 60.0)), places=places,
                   size_mm=wanted)  # fmt: skip


def _on_pleura(
    rng: np.random.Generator,
    kind: Kind,
    texture: Texture,
    half_mm: Float64,
    *,
    places: Places,
    others: list[Finding],
    value_hu: float,
) -> Finding | None:
    """Build a flat ellipsoid at the pleura; the half beyond the pleura is not painted."""
    begin = places.on_pleura()
    if begin is None or not clear_of(begin[None], others, float(half_mm.max()) + 4.0)[0]:
        return None
    inward = places.inward(begin[None])[0]
    first = _across(inward, rng)
    turn = np.stack([first, np.cross(inward, first), inward], axis=1)
    bulges, none = np.zeros((0, 3)), np.zeros(0)
    form = AnalyticForm(half_mm, turn, bulges, none, none.astype(np.int64))
    size = 2.0 * float(half_mm.max())
    return _single(kind, texture, form, begin, value_hu=value_hu, places=places, size_mm=size)


def _single(
    kind: Kind,
    texture: Texture,
    form: Form,
    middle_mm: Float64,
    *,
    value_hu: float,
    places: Places,
    size_mm: float | None = None,
) -> Finding | None:
    """Build a finding with one layer, with the given size or else its true sphere."""
    side = places.side(middle_mm, form.reach_mm + 1.0)
    center, size = middle_mm, size_mm
    if size is None:
        keep = None if side is None else side.share
        center, size = true_sphere(form, keep, middle_mm, edge_mm=_EDGE_MM)
    if size < 1.0:
        return None
    layer = Layer(form, middle_mm, _EDGE_MM, value_hu, places.lung_hu(middle_mm))
    attachment: Attachment = "pleura" if kind in ("scar", "plaque", "bump") else "vessel"
    return Finding(kind, texture, "round", attachment, center, size, (layer,), side)


class _Piece(NamedTuple):
    """A piece of a vessel: centre (3,), unit direction (3,) and radius."""

    middle_mm: Float64
    along: Float64
    radius_mm: float


def _branch(
    rng: np.random.Generator, places: Places, *, low_mm: float, high_mm: float
) -> _Piece | None:
    """Draw a piece of a vessel with a radius in this range."""
    branches = places.survey.branches
    middles = (branches.start_mm + branches.end_mm) / 2.0
    radius = (branches.start_radius_mm + branches.end_radius_mm) / 2.0
    fit = (radius > low_mm) & (radius < high_mm)
    fit &= places.contains(middles)
    if not fit.any():
        return None
    chosen = int(rng.choice(np.flatnonzero(fit)))
    along = branches.end_mm[chosen] - branches.start_mm[chosen]
    along = along / max(float(np.sqrt((along * along).sum())), 1e-9)
    return _Piece(middles[chosen], along, float(radius[chosen]))


def _has_room(places: Places, middle_mm: Float64, others: list[Finding], room_mm: float) -> bool:
    """Return whether a place is in the lung and clear of other findings."""
    deep = bool(places.depth(middle_mm[None])[0] < -3.0)
    return deep and bool(clear_of(middle_mm[None], others, room_mm)[0])


def _across(direction: Float64, rng: np.random.Generator) -> Float64:
    """Draw a unit vector (3,) orthogonal to another."""
    beside = np.cross(direction, draw_directions(rng, 1)[0])
    return np.asarray(beside / max(float(np.sqrt((beside * beside).sum())), 1e-9))
