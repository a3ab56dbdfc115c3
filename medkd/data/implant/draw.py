"""What a synthetic nodule is: diameter, texture, outline, attachment, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medkd.data.implant.paint import Tissue
from medkd.data.implant.places import Attachment
from medkd.data.implant.settings import ImplantSettings, Texture
from medkd.data.phantom.forms import Outline
from medkd.data.phantom.sizes import draw_diameter

_TEXTURE_SHARES: dict[Texture, float] = {"solid": 0.7, "part-solid": 0.15, "ground-glass": 0.15}
_OUTLINES: tuple[Outline, ...] = ("round", "lobulated", "spiculated")
_OUTLINE_SHARES = (0.4, 0.4, 0.2)
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


def draw_kind(settings: ImplantSettings, rng: np.random.Generator) -> Kind:
    """Draw a nodule's kind.

    Args:
        settings: sizes and textures to choose from.
        rng: source of the draw.
    """
    low, high = settings.range_mm
    diameter = draw_diameter(rng, low_mm=low, high_mm=high)
    shares = np.array([_TEXTURE_SHARES[t] for t in settings.textures])
    texture = settings.textures[int(rng.choice(len(shares), p=shares / shares.sum()))]
    outline = _OUTLINES[int(rng.choice(3, p=_OUTLINE_SHARES))]
    attachment = _ATTACHMENTS[int(rng.choice(3, p=_ATTACHMENT_SHARES))]
    return Kind(diameter, texture, outline, attachment, draw_tissue(rng, texture))


def draw_tissue(rng: np.random.Generator, texture: Texture) -> Tissue:
    """Draw what a nodule is made of."""
    if texture == "solid":
        return Tissue(float(rng.normal(45, 40)), 1.0, 0.0, 25.0, float(rng.uniform(0.2, 0.8)))
    share = float(rng.uniform(0.3, 0.55))
    core = float(rng.uniform(0.4, 0.65)) if texture == "part-solid" else 0.0
    return Tissue(float(rng.normal(20, 30)), share, core, 60.0, float(rng.uniform(1.5, 3.0)))
