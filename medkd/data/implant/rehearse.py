"""A rehearsal: nodules that are drawn and never put in show which of them look real.

The response of a scan is measured at the pleura, which leans within a slice and is rounded: a
nodule that is drawn with it is less sharp than the vessels of the scan. So nodules of many
responses are drawn at each of many places, and what the likest to real structure of each place have
is taken over. Trees learn from the last of them what tells the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from medkd.data.implant.draw import draw_kind
from medkd.data.implant.likeness import Likeness, describe, odds_without_own
from medkd.data.implant.response import ScanResponse
from medkd.data.implant.settings import ImplantSettings
from medkd.data.implant.site import Implant, ImplantSite
from medkd.data.phantom.forms import Float64, Form

_ROUNDS = ((16, 0.3, 0.5), (60, 0.08, 0.15))
"""Kinds to draw, and how far their sharpness and overshoot stray, as shares."""
_PLACES = 2
"""For each kind."""
_AT_EACH = 5
"""Nodules drawn at each place: which place it is tells more than the response does."""
_LEAST = 40
"""Fewer nodules tell nothing."""
REHEARSED = sum(kinds for kinds, *_ in _ROUNDS)
"""Kinds that are drawn in all."""


def rehearse(
    site: ImplantSite,
    settings: ImplantSettings,
    *,
    forms: Sequence[Form] = (),
    progress: Callable[[int], None] | None = None,
) -> ImplantSite:
    """Return a site with the response under which nodules are most like its real structure.

    Args:
        site: as measured; returned unchanged where there is too little structure to learn from,
            no clear edge, or hardly any room for nodules.
        settings: which nodules.
        forms: their outlines; analytic ones where empty.
        progress: called with how many of `REHEARSED` are done.
    """
    if not site.structure.enough or not site.response.profiles:
        return site
    rehearsed, done = site, 0
    rng = np.random.Generator(np.random.PCG64(0))
    for kinds, sharpness, overshoot in _ROUNDS:
        rehearsed = replace(rehearsed, stray=(sharpness, overshoot))
        made: list[Implant] = []
        group: list[int] = []
        for number in range(kinds):
            kind = draw_kind(settings, rng, structure_hu=site.structure.density_hu)
            places = rehearsed.places(kind, rng, count=_PLACES).repeat(_AT_EACH, axis=0)
            made += rehearsed.drawn(kind, places, forms, rng)
            group += [number] * len(places)
            done += 1
            if progress is not None:
                progress(done)
        if len(made) < _LEAST:
            return site
        own = rehearsed.described(made)
        real = _as_thick(site, made, own[:, 0], rng)
        odds = odds_without_own(own, real, np.array(group)).reshape(-1, _AT_EACH)
        best = odds.argmax(axis=1) + _AT_EACH * np.arange(len(odds))
        rehearsed = replace(rehearsed, response=_middle([made[n].response for n in best]))
    return replace(rehearsed, likeness=Likeness.learnt(own, real))


def _as_thick(
    site: ImplantSite, made: Sequence[Implant], depth_mm: Float64, rng: np.random.Generator
) -> Float64:
    """Describe real structure [N, features] that is as thick as each nodule."""
    return np.array(
        [
            describe(
                site.voxels_hu, site.structure.as_thick(max(depth, 0.5), rng),
                implant.diameter_mm / 2.0, spacing_mm=site.grid.spacing_mm,
            )
            for implant, depth in zip(made, depth_mm.tolist(), strict=True)
        ]
    )  # fmt: skip


def _middle(responses: Sequence[ScanResponse]) -> ScanResponse:
    """Average the in-plane responses of one scan."""
    sigma, wide, overshoot = np.mean(
        [(r.sigma_mm, r.wide_mm, r.overshoot) for r in responses], axis=0
    ).tolist()
    return replace(responses[0], sigma_mm=sigma, wide_mm=wide, overshoot=overshoot)
