"""All findings of one phantom: first what only looks like a nodule, then nodules.

Nodules come last because places like a finder's false marks are looked for, in a scan that shows
all the rest. How many there are of the rest goes with the share of the lungs that is seen, so that
a part of a chest holds as many to the litre as a whole one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np

from medkd.synthetic.phantom import mimics
from medkd.synthetic.phantom.canvas import Float64
from medkd.synthetic.phantom.findings import Finding
from medkd.synthetic.phantom.lidc_forms import LidcForm
from medkd.synthetic.phantom.nodules import draw_traits, place_nodule
from medkd.synthetic.phantom.places import Chooser, Places, Survey
from medkd.synthetic.phantom.sizes import LEAST_DIAMETER_MM, MOST_DIAMETER_MM

_Draw = Callable[[np.random.Generator, Places, list[Finding]], Finding | None]
_REST: tuple[tuple[_Draw, int, int], ...] = (
    (mimics.scar, 0, 3),
    (mimics.plaque, 0, 2),
    (mimics.bump, 5, 12),
    (mimics.knot, 5, 12),
    (mimics.mucus, 0, 3),
    (mimics.node, 0, 3),
)
"""What else lies in two lungs: how it is drawn, and the fewest and the most of it."""
_SMALL = (2, 6)
"""The fewest and the most nodules below 3 mm."""

_TRIES = 6


def draw_rest(survey: Survey, *, box_mm: Float64 | None, rng: np.random.Generator) -> list[Finding]:
    """Draw what is no nodule: mimics, scars and plaques.

    Args:
        survey: the chest without findings.
        box_mm: [2, 3] low and high corner in chest mm; None: anywhere.
        rng: source of everything.
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
        chooser: of places in the chest, the rest in it.
        rest: findings to keep away from.
        nodules: how many are wanted; fewer where the chest has no room.
        rng: source of all but the places.
        diameters_mm: least and largest diameter.
        forms: outlines of real nodules to take; without them outlines are drawn.
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
    """Draw how many there are in this share of two lungs that hold this few to this many."""
    wanted = int(rng.integers(ends[0], ends[1] + 1)) * places.lung_share
    return int(wanted) + int(rng.random() < wanted - int(wanted))


def _first(tried: Iterator[Finding | None]) -> list[Finding]:
    """Return the first that found a place; nothing where none did."""
    return list(islice(filter(None, tried), 1))
