"""Generations of nodules for one place."""

import dataclasses

import numpy as np
import pytest

from medkd.synthetic.implant.brood import (
    PARTS,
    Brood,
    brood_size,
    fresh_seeds,
    with_one_part_anew,
)
from medkd.synthetic.implant.draw import draw_kind
from medkd.synthetic.implant.settings import ImplantSettings
from medkd.synthetic.implant.site import ImplantSite
from medkd.types import Scan

SETTINGS = ImplantSettings(n=1, sizes="5-8")


@pytest.fixture(scope="module")
def site(chest: Scan) -> ImplantSite:
    return ImplantSite.of(chest, 2, np.random.default_rng(0))


@pytest.fixture(scope="module")
def brood(site: ImplantSite) -> Brood:
    rng = np.random.default_rng(1)
    kind = draw_kind(SETTINGS, rng)
    place = site.places(kind, rng, count=1)[0]
    return site.brood(kind, place, fresh_seeds(5, rng), ())


def test_large_nodules_have_smaller_generations():
    sizes = [brood_size(diameter) for diameter in (4.0, 10.0, 14.0, 20.0, 33.0)]
    assert sizes[0] == sizes[1] > sizes[2] > sizes[3] >= sizes[4] > 1


def test_one_part_of_each_is_drawn_anew():
    seeds = fresh_seeds(200, np.random.default_rng(0))
    fresh = with_one_part_anew(seeds, np.random.default_rng(1))
    assert ((fresh != seeds).sum(axis=1) == 1).all()
    assert (fresh != seeds).any(axis=0).all()
    assert seeds.shape == (200, PARTS)


def test_seeds_say_all_of_a_nodule(site: ImplantSite, brood: Brood):
    again = site.brood(brood.kind, brood.place, brood.seeds[2:3], ())
    np.testing.assert_array_equal(again.made[0].patch.added_hu, brood.made[2].patch.added_hu)
    np.testing.assert_array_equal(again.described[0], brood.described[2])


def test_the_likeliest_live_on_beside_their_children(site: ImplantSite, brood: Brood):
    odds = np.array([-50.0, -50.0, 0.0, -50.0, -50.0])
    bred = site.bred(brood, odds, (), np.random.default_rng(0))
    assert len(bred.made) == len(bred.described) == len(brood.made)
    assert bred.made[:3] == (brood.made[2],) * 3
    changed = (bred.seeds != brood.seeds[2]).sum(axis=1)
    assert changed.tolist() == [0, 0, 0, 1, 1]
    np.testing.assert_array_equal(bred.described[:3], brood.described[[2, 2, 2]])


class Smaller:
    """Stands for trees that take the least deep of nodules for real."""

    def odds(self, described: np.ndarray) -> np.ndarray:
        return -20.0 * described[:, 0]


def test_each_generation_is_bred_towards_what_is_likest(site: ImplantSite):
    depths = {}
    for generations in (0, 1, 5):
        ready = dataclasses.replace(site, likeness=(Smaller(),) * generations)
        ready = dataclasses.replace(
            ready, finder=dataclasses.replace(site.finder, taken=site.finder.taken.copy())
        )  # fmt: skip
        rng = np.random.default_rng(3)
        made = [ready.implant(SETTINGS, forms=(), rng=rng) for _ in range(5)]
        depths[generations] = np.mean([site.described([m])[0, 0] for m in made if m is not None])
    assert depths[5] < depths[1] < depths[0]
