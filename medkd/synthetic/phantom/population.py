"""All findings of one phantom: first those that are not nodules, then the nodules.

Nodules come last, because they are placed where a blob finder makes false marks in a scan that
already shows everything else. The number of the other findings is proportional to the share of the
lungs in the scan, so a region holds as many per litre as a whole chest.

The shares of textures and outlines roughly follow LIDC-IDRI's scores (most nodules are solid and
smooth, one in five is subsolid, one in twelve is calcified; larger ones are more often lobulated or
spiculated). Densities are those of soft tissue, of ground glass (-750 to -450 HU) and of calcium.
Units are chest mm and HU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from medkd.synthetic.phantom import mimics
from medkd.synthetic.phantom.canvas import Float64
from medkd.synthetic.phantom.fields import SmoothField
from medkd.synthetic.phantom.findings import Attachment, Finding, Layer, LungSide, Texture
from medkd.synthetic.phantom.forms import (
    LEAST_DIAMETER_MM,
    MOST_DIAMETER_MM,
    Form,
    Outline,
    draw_diameter,
    draw_directions,
    draw_form,
    draw_turn,
    true_sphere,
)
from medkd.synthetic.phantom.lidc_forms import LidcForm
from medkd.synthetic.phantom.places import Chooser, Places, Survey

_TEXTURES: tuple[Texture, ...] = ("solid", "part-solid", "ground-glass", "calcified")
_OUTLINES: tuple[Outline, ...] = ("round", "lobulated", "spiculated")
_ATTACHMENTS: tuple[Attachment, ...] = ("free", "vessel", "pleura", "fissure")
_ATTACHMENT_SHARES = (0.2, 0.5, 0.25, 0.05)
_LEAST_SUBSOLID_MM, _LEAST_PART_SOLID_MM = 5.0, 6.5
_NODULE_TRIES = 12
_Draw = Callable[[np.random.Generator, Places, list[Finding]], Finding | None]
_REST: tuple[tuple[_Draw, int, int], ...] = (
    (mimics.scar, 0, 3),
    (mimics.plaque, 0, 2),
    (mimics.bump, 5, 12),
    (mimics.knot, 5, 12),
    (mimics.mucus, 0, 3),
    (mimics.node, 0, 3),
)
"""Other findings: the function that draws one, and the least and greatest number in two lungs."""
_SMALL = (2, 6)
"""Least and greatest number of nodules below 3 mm."""
_TRIES = 6


@dataclass(frozen=True, slots=True)
class Traits:
    """The properties of a nodule that are drawn before its place."""

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
    """Draw a nodule's properties: LUNA16's diameters, and kinds that fit the size."""
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
    """Choose a place for a nodule and build the nodule there.

    Args:
        rng: source of its form and densities.
        traits: the properties that were drawn for it.
        chooser: chooses the place.
        others: findings that it must not touch.
        forms: outlines of real nodules, of which one is drawn; if empty, the outline is analytic.

    Returns:
        The nodule with its true sphere; None if the chest has no room for it.
    """
    radius_mm = traits.diameter_mm / 2.0
    for attempt in range(_NODULE_TRIES):
        wanted = traits.attachment if attempt < _NODULE_TRIES // 2 else "vessel"
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
    chosen = replace(forms[int(rng.integers(len(forms)))], turn=draw_turn(rng))
    whole = true_sphere(chosen, None, np.zeros(3), fineness=0.5).diameter_mm
    return chosen.scaled(traits.diameter_mm / whole)


def _fitted(
    form: Form, middle: Float64, side: LungSide | None, *, wanted_mm: float, edge_mm: float
) -> Form | None:
    """Scale a form until the part inside the lung has the wanted diameter."""
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
    """Draw the width of the soft edge: narrow, or wide for ground glass."""
    if traits.texture in ("ground-glass", "part-solid"):
        return float(min(rng.uniform(0.2, 0.5) * traits.diameter_mm, 5.0))
    return float(rng.uniform(0.3, 0.5) + 0.06 * rng.random() * traits.diameter_mm)


def _layers(rng: np.random.Generator, texture: Texture, outer: Layer) -> tuple[Layer, ...]:
    """Fill an outline with one layer, or with a denser core inside an outer layer."""
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
    """Set the density of a layer and draw its texture, which has details of 2 to 4 mm."""
    grain = SmoothField.drawn(rng, float(rng.uniform(2.0, 4.0)), period_mm=45.0)
    return replace(body, value_hu=value_hu, grain_hu=grain_hu, grain=grain)


def _core(rng: np.random.Generator, outer: Layer, value_hu: float, *, over_hu: float) -> Layer:
    """Draw a denser, off-centre core inside a layer."""
    whole = true_sphere(outer.form, None, np.zeros(3), fineness=0.5).diameter_mm
    share = float(rng.uniform(0.35, 0.65))
    form = draw_form(rng, "lobulated", share * whole)
    away = draw_directions(rng, 1)[0] * (rng.random() * 0.5 * (1.0 - share) * whole * 0.6)
    middle = outer.middle_mm + away
    body = Layer(form, middle, min(outer.edge_mm, 1.0), value_hu, over_hu)
    return _filled(rng, body, value_hu, 25.0)


def _drawn(rng: np.random.Generator, shares: object) -> int:
    """Draw an index with these probabilities, which need not add up to 1."""
    weights = np.cumsum(np.asarray(shares, dtype=np.float64))
    return int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))


def draw_rest(survey: Survey, *, box_mm: Float64 | None, rng: np.random.Generator) -> list[Finding]:
    """Draw the findings that are not nodules: mimics, scars, plaques, mucus and lymph nodes.

    Args:
        survey: the chest without findings.
        box_mm: [2, 3] low and high corner in chest mm; None means anywhere.
        rng: source of all random draws.
    """
    places = Places(survey, box_mm, rng)
    rest: list[Finding] = []
    for draw, fewest, most in _REST:
        for _ in range(_count(rng, (fewest, most), places)):
            rest += _first(draw(rng, places, rest) for _ in range(_TRIES))
    return rest


def draw_nodules(
    chooser: Chooser,
    rest: list[Finding],
    *,
    nodules: int,
    rng: np.random.Generator,
    diameters_mm: tuple[float, float] = (LEAST_DIAMETER_MM, MOST_DIAMETER_MM),
    forms: Sequence[LidcForm] = (),
) -> list[Finding]:
    """Draw the nodules of a chest, and those below 3 mm.

    Args:
        chooser: chooses places in the chest that shows the other findings.
        rest: the other findings, which nodules must not touch.
        nodules: how many are wanted; there are fewer if the chest has no room.
        rng: source of all random draws but the places.
        diameters_mm: least and largest diameter.
        forms: outlines of real nodules to draw from; if empty, outlines are analytic.
    """
    found: list[Finding] = []
    low, high = diameters_mm
    drawn = sorted(
        (draw_traits(rng, low_mm=low, high_mm=high) for _ in range(nodules)),
        key=lambda traits: -traits.diameter_mm,
    )
    for traits in drawn:  # the largest first, while there is room
        nodule = place_nodule(rng, traits, chooser, [*found, *rest], forms=forms)
        if nodule is not None:
            found.append(nodule)
    for _ in range(_count(rng, _SMALL, chooser)):
        found += _first(mimics.small_nodule(rng, chooser, [*found, *rest]) for _ in range(_TRIES))
    return found


def _count(rng: np.random.Generator, ends: tuple[int, int], places: Places) -> int:
    """Draw a number from a range for two lungs and scale it to the share of lung in `places`."""
    wanted = int(rng.integers(ends[0], ends[1] + 1)) * places.lung_share
    return int(wanted) + int(rng.random() < wanted - int(wanted))


def _first(tried: Iterator[Finding | None]) -> list[Finding]:
    """Return the first finding that has a place, as a list; the list is empty if none has."""
    return list(islice(filter(None, tried), 1))
