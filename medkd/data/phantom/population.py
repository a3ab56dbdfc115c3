"""All findings of one phantom: nodules first, then what is irrelevant, then mimics.

How many there are of the rest goes with the share of the lungs that is seen, so that a part of a
chest holds as many to the litre as a whole one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from medkd.data.phantom import mimics
from medkd.data.phantom.canvas import Float64
from medkd.data.phantom.findings import Finding
from medkd.data.phantom.lidc_forms import LidcForm
from medkd.data.phantom.nodules import draw_traits, place_nodule
from medkd.data.phantom.places import Chooser, Sites

_Draw = Callable[[np.random.Generator, Chooser, list[Finding]], Finding | None]
_REST: tuple[tuple[_Draw, int, int], ...] = (
    (mimics.small_nodule, 2, 6),
    (mimics.scar, 0, 3),
    (mimics.plaque, 0, 2),
    (mimics.bump, 5, 12),
    (mimics.knot, 5, 12),
    (mimics.mucus, 0, 3),
    (mimics.node, 0, 3),
)
"""What else lies in two lungs: how it is drawn, and the fewest and the most of it."""

_TRIES = 6


def draw_findings(
    sites: Sites,
    *,
    nodules: int,
    box_mm: Float64 | None,
    rng: np.random.Generator,
    diameters_mm: tuple[float, float] = (3.0, 33.0),
    forms: Sequence[LidcForm] = (),
) -> list[Finding]:
    """Draw the findings of a chest.

    Args:
        sites: the chest without findings.
        nodules: how many nodules are wanted; fewer where the chest has no room.
        box_mm: [2, 3] low and high corner in chest mm; nodules lie inside it. None: anywhere.
        rng: source of everything.
        diameters_mm: least and largest diameter of nodules.
        forms: outlines of real nodules to take; without them outlines are drawn.

    Returns:
        Nodules first.
    """
    chooser = Chooser(sites, box_mm, rng)
    findings: list[Finding] = []
    low, high = diameters_mm
    drawn = sorted(
        (draw_traits(rng, low_mm=low, high_mm=high) for _ in range(nodules)),
        key=lambda traits: -traits.diameter_mm,
    )
    for traits in drawn:  # the largest first, while there is room
        nodule = place_nodule(rng, traits, chooser, findings, forms=forms)
        if nodule is not None:
            findings.append(nodule)
    for draw, fewest, most in _REST:
        wanted = int(rng.integers(fewest, most + 1)) * chooser.lung_share
        count = int(wanted) + int(rng.random() < wanted - int(wanted))
        for _ in range(count):
            found = next(filter(None, (draw(rng, chooser, findings) for _ in range(_TRIES))), None)
            if found is not None:
                findings.append(found)
    return findings
