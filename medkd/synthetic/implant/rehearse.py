"""A rehearsal: nodules that are drawn and never put in show which of them look real.

The response of a scan is measured at the pleura, which leans within a slice and is rounded: a
nodule that is drawn with it is less sharp than the vessels of the scan. So nodules of many
responses are drawn first, and what the likest to real structure at each place have is taken over.
Then nodules are bred through generations, and in each one trees learn what still tells them from
real structure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from medkd.synthetic.implant.brood import Brood, brood_size, fresh_seeds
from medkd.synthetic.implant.draw import draw_kind
from medkd.synthetic.implant.likeness import Likeness, describe, odds_without_own
from medkd.synthetic.implant.response import ScanResponse, Stray
from medkd.synthetic.implant.settings import ImplantSettings
from medkd.synthetic.implant.site import ImplantSite
from medkd.synthetic.phantom.forms import Float64, Form

_FIRST_KINDS, _FIRST_SIZE, _FIRST_STRAY = 32, 5, Stray(0.4, 0.5, 0.5)
"""Kinds to draw for the response, nodules of each, and how far these stray from the measured."""
_KINDS, _STRAY = 64, Stray(0.2, 0.4, 0.3)
"""Kinds to breed, and how far they stray from what was taken over."""
_GENERATIONS = 5
_LEAST = 40
"""Fewer nodules tell nothing."""
REHEARSED = _FIRST_KINDS + _KINDS * _GENERATIONS
"""Generations of one kind that are drawn in all."""


def rehearse(
    site: ImplantSite,
    settings: ImplantSettings,
    *,
    forms: Sequence[Form] = (),
    progress: Callable[[int], None] | None = None,
) -> ImplantSite:
    """Return a site that knows how nodules are drawn most like its real structure.

    Args:
        site: as measured; returned unchanged where there is too little structure to learn from,
            no clear edge, or hardly any room for nodules.
        settings: which nodules.
        forms: their outlines; analytic ones where empty.
        progress: called with how many of `REHEARSED` are done.
    """
    if not site.structure.enough or not site.response.profiles:
        return site
    rng = np.random.Generator(np.random.PCG64(0))
    rehearsal = _Rehearsal(settings, forms, rng, progress, count(1))
    first = rehearsal.drawn(replace(site, stray=_FIRST_STRAY), _FIRST_KINDS, size=_FIRST_SIZE)
    if sum(len(brood.made) for brood in first) < _LEAST:
        return site
    odds = _odds(first, _as_thick(site, first, rng))
    best = [brood.made[int(own.argmax())] for brood, own in zip(first, odds, strict=True)]
    near = replace(site, stray=_STRAY, response=_middle([implant.response for implant in best]))
    broods = rehearsal.drawn(near, _KINDS)
    real = _as_thick(site, broods, rng)
    known = [Likeness.learnt(_described(broods), real)]
    for _ in range(_GENERATIONS - 1):
        broods = rehearsal.bred(near, broods, _odds(broods, real))
        real = _as_thick(site, broods, rng)
        known.append(Likeness.learnt(_described(broods), real))
    return replace(near, likeness=tuple(known))


@dataclass(frozen=True, slots=True, eq=False)
class _Rehearsal:
    """Draws broods, and tells how many are done."""

    settings: ImplantSettings
    forms: Sequence[Form]
    rng: np.random.Generator
    progress: Callable[[int], None] | None
    number: count[int]

    def drawn(self, site: ImplantSite, kinds: int, *, size: int = 0) -> list[Brood]:
        """Draw the first generation of some kinds, each at one place; of `size` unless 0."""
        broods = []
        for _ in range(kinds):
            kind = draw_kind(self.settings, self.rng, structure_hu=site.structure.density_hu)
            seeds = fresh_seeds(size or brood_size(kind.diameter_mm), self.rng)
            places = site.places(kind, self.rng, count=1)
            broods += [site.brood(kind, place, seeds, self.forms) for place in places]
            self._told()
        return broods

    def bred(
        self, site: ImplantSite, broods: Sequence[Brood], odds: Sequence[Float64]
    ) -> list[Brood]:
        """Breed the next generation of each brood by the log odds of its nodules."""
        out = []
        for brood, own in zip(broods, odds, strict=True):
            out.append(site.bred(brood, own, self.forms, self.rng))
            self._told()
        return out

    def _told(self) -> None:
        if self.progress is not None:
            self.progress(next(self.number))


def _described(broods: Sequence[Brood]) -> Float64:
    """Descriptions [N, features] of all nodules of some broods."""
    return np.concatenate([brood.described for brood in broods])


def _odds(broods: Sequence[Brood], real: Float64) -> list[Float64]:
    """Log odds of the nodules of each brood, by trees that saw none of that brood."""
    sizes = [len(brood.made) for brood in broods]
    group = np.repeat(np.arange(len(broods)), sizes)
    odds = odds_without_own(_described(broods), real, group)
    return np.split(odds, np.cumsum(sizes)[:-1])


def _as_thick(site: ImplantSite, broods: Sequence[Brood], rng: np.random.Generator) -> Float64:
    """Describe real structure [N, features] that is as thick as each nodule."""
    made = [implant for brood in broods for implant in brood.made]
    depths = _described(broods)[:, 0].tolist()
    return np.array(
        [
            describe(
                site.voxels_hu, site.structure.as_thick(max(depth, 0.5), rng),
                implant.diameter_mm / 2.0, spacing_mm=site.grid.spacing_mm,
            )
            for implant, depth in zip(made, depths, strict=True)
        ]
    )  # fmt: skip


def _middle(responses: Sequence[ScanResponse]) -> ScanResponse:
    """Average the responses of one scan."""
    sigma, wide, overshoot, across = np.mean(
        [(r.sigma_mm, r.wide_mm, r.overshoot, r.slice_sigma_mm) for r in responses], axis=0
    ).tolist()
    return replace(
        responses[0], sigma_mm=sigma, wide_mm=wide, overshoot=overshoot, slice_sigma_mm=across
    )
