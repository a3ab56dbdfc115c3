"""Nodules of a phantom: what they are made of, how large they are, and their true spheres.

How common each texture and outline is follows LIDC-IDRI's scores roughly (most nodules solid and
smooth, one in five subsolid, one in twelve calcified; larger ones more often lobulated or
spiculated). Densities are those of soft tissue, of ground glass (-750 to -450 HU) and of calcium.
Units are chest mm and HU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medkd.synthetic.phantom.canvas import Float64
from medkd.synthetic.phantom.fields import SmoothField
from medkd.synthetic.phantom.findings import Attachment, Finding, Layer, LungSide, Texture
from medkd.synthetic.phantom.forms import (
    Form,
    Outline,
    draw_directions,
    draw_form,
    draw_turn,
    true_sphere,
)
from medkd.synthetic.phantom.lidc_forms import LidcForm
from medkd.synthetic.phantom.places import Chooser
from medkd.synthetic.phantom.sizes import LEAST_DIAMETER_MM, MOST_DIAMETER_MM, draw_diameter

_TEXTURES: tuple[Texture, ...] = ("solid", "part-solid", "ground-glass", "calcified")
_OUTLINES: tuple[Outline, ...] = ("round", "lobulated", "spiculated")
_ATTACHMENTS: tuple[Attachment, ...] = ("free", "vessel", "pleura", "fissure")
_ATTACHMENT_SHARES = (0.2, 0.5, 0.25, 0.05)
_LEAST_SUBSOLID_MM, _LEAST_PART_SOLID_MM = 5.0, 6.5
_TRIES = 12


@dataclass(frozen=True, slots=True)
class Traits:
    """What a nodule is to be before it has a place, which decides whether it is at the pleura."""

    texture: Texture
    outline: Outline
    attachment: Attachment
    diameter_mm: float


def draw_traits(
    rng: np.random.Generator,
    *,
    low_mm: float = LEAST_DIAMETER_MM,
    high_mm: float = MOST_DIAMETER_MM,
) -> Traits:
    """Draw what a nodule is to be: LUNA16's diameters; kinds that go with the size."""
    diameter = draw_diameter(rng, low_mm=low_mm, high_mm=high_mm)
    shares = np.array([0.72, 0.1, 0.1, 0.08])
    if diameter < _LEAST_PART_SOLID_MM:
        shares[1] = 0.0
    if diameter < _LEAST_SUBSOLID_MM:
        shares[2] = 0.0
    texture = _TEXTURES[_drawn(rng, shares)]
    common = {"calcified": [0.75, 0.25, 0.0]}.get(texture, [0.5, 0.32, 0.18])
    outlines = np.array([0.75, 0.2, 0.05] if diameter < 6.0 else common)
    outline = _OUTLINES[_drawn(rng, outlines)]
    return Traits(texture, outline, _ATTACHMENTS[_drawn(rng, _ATTACHMENT_SHARES)], diameter)


def place_nodule(
    rng: np.random.Generator,
    traits: Traits,
    chooser: Chooser,
    others: list[Finding],
    *,
    forms: Sequence[LidcForm] = (),
) -> Finding | None:
    """Find a place for a nodule and build it there.

    Args:
        rng: source of its form and densities.
        traits: what it is to be.
        chooser: of places.
        others: findings to keep away from.
        forms: outlines of real nodules, one of which it takes; without them one is drawn.

    Returns:
        The nodule with its true sphere; None if the chest has no room for it.
    """
    radius_mm = traits.diameter_mm / 2.0
    for attempt in range(_TRIES):
        wanted = traits.attachment if attempt < _TRIES // 2 else "vessel"
        twin = chooser.twin(others)
        attachment = chooser.attachment(wanted, radius_mm, twin)
        form = _form(rng, traits, forms)
        middle = chooser.choose(attachment, radius_mm, others, twin=twin)
        if middle is None:
            continue
        side = chooser.side(middle, 1.3 * form.reach_mm)
        edge = _edge_mm(rng, traits)
        fitted = _fitted(form, middle, side, wanted_mm=traits.diameter_mm, edge_mm=edge)
        if fitted is not None:
            lung = chooser.lung_hu(middle)
            layers = _layers(rng, traits.texture, Layer(fitted, middle, edge, 0.0, lung))
            found = _measured(traits, attachment, layers, side)
            return replace(found, outline="real") if found and forms else found
    return None


def _form(rng: np.random.Generator, traits: Traits, forms: Sequence[LidcForm]) -> Form:
    if not forms:
        return draw_form(rng, traits.outline, traits.diameter_mm)
    chosen = forms[int(rng.integers(len(forms)))].turned(draw_turn(rng))
    whole = true_sphere(chosen, None, np.zeros(3), fineness=0.5).diameter_mm
    return chosen.scaled(traits.diameter_mm / whole)


def _fitted(
    form: Form, middle: Float64, side: LungSide | None, *, wanted_mm: float, edge_mm: float
) -> Form | None:
    """Scale a form until what the pleura leaves of it has the diameter wanted."""
    if side is None:
        return form
    for _ in range(3):
        found = true_sphere(form, side.share, middle, edge_mm=edge_mm, fineness=0.5).diameter_mm
        if found > 0.0 and abs(found / wanted_mm - 1.0) < 0.02:
            return form
        if found < 0.6 * wanted_mm:
            return None
        form = form.scaled(wanted_mm / found)
    return form if form.reach_mm < 1.5 * MOST_DIAMETER_MM else None


def _measured(
    traits: Traits, attachment: Attachment, layers: tuple[Layer, ...], side: LungSide | None
) -> Finding | None:
    """Build a finding with the true sphere of its first layer; None if that is below 3 mm."""
    outer = layers[0]
    keep = None if side is None else side.share
    sphere = true_sphere(outer.form, keep, outer.middle_mm, edge_mm=outer.edge_mm)
    if sphere.diameter_mm < LEAST_DIAMETER_MM:
        return None
    return Finding(
        "nodule", traits.texture, traits.outline, attachment, sphere.center_mm,
        sphere.diameter_mm, layers, side,
    )  # fmt: skip


def _edge_mm(rng: np.random.Generator, traits: Traits) -> float:
    """Draw how wide the soft edge is: narrow, or ill-defined in ground glass."""
    if traits.texture in ("ground-glass", "part-solid"):
        return float(min(rng.uniform(0.2, 0.5) * traits.diameter_mm, 5.0))
    return float(rng.uniform(0.3, 0.5) + 0.06 * rng.random() * traits.diameter_mm)


def _layers(rng: np.random.Generator, texture: Texture, outer: Layer) -> tuple[Layer, ...]:
    """Fill an outline: one body, or a core in ground glass or in soft tissue."""
    solid = float(rng.uniform(-30.0, 70.0))
    glass = float(np.clip(outer.over_hu + rng.uniform(140.0, 330.0), -740.0, -420.0))
    if texture == "solid":
        return (_filled(rng, outer, solid, 14.0),)
    if texture == "ground-glass":
        return (_filled(rng, outer, glass, 45.0),)
    if texture == "part-solid":
        return (_filled(rng, outer, glass, 45.0), _core(rng, outer, solid - 20.0, over_hu=glass))
    calcium = float(rng.uniform(250.0, 900.0))
    if rng.random() < 0.5:
        return (_filled(rng, outer, calcium, 60.0),)
    return (_filled(rng, outer, solid, 14.0), _core(rng, outer, calcium, over_hu=solid))


def _filled(rng: np.random.Generator, body: Layer, value_hu: float, grain_hu: float) -> Layer:
    """Give a body its density; its texture has details of 2 to 4 mm."""
    grain = SmoothField.drawn(rng, float(rng.uniform(2.0, 4.0)), period_mm=45.0)
    return Layer(body.form, body.middle_mm, body.edge_mm, value_hu, body.over_hu, grain_hu, grain)


def _core(rng: np.random.Generator, outer: Layer, value_hu: float, *, over_hu: float) -> Layer:
    """Draw a denser part inside a body, off its middle."""
    whole = true_sphere(outer.form, None, np.zeros(3), fineness=0.5).diameter_mm
    share = float(rng.uniform(0.35, 0.65))
    form = draw_form(rng, "lobulated", share * whole)
    away = draw_directions(rng, 1)[0] * (rng.random() * 0.5 * (1.0 - share) * whole * 0.6)
    middle = outer.middle_mm + away
    body = Layer(form, middle, min(outer.edge_mm, 1.0), value_hu, over_hu)
    return _filled(rng, body, value_hu, 25.0)


def _drawn(rng: np.random.Generator, shares: object) -> int:
    """Draw an index by shares, which need not add up to 1."""
    weights = np.cumsum(np.asarray(shares, dtype=np.float64))
    return int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))
