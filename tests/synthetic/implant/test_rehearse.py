"""A rehearsal shows what tells nodules from real structure."""

import dataclasses

import numpy as np
import pytest

from medkd.synthetic.implant.rehearse import REHEARSED, rehearse
from medkd.synthetic.implant.settings import ImplantSettings
from medkd.synthetic.implant.site import ImplantSite
from medkd.types import Scan

SETTINGS = ImplantSettings(n=1, sizes="5-8")


@pytest.fixture(scope="module")
def site(chest: Scan) -> ImplantSite:
    return ImplantSite.of(chest, 2, np.random.default_rng(0))


@pytest.mark.slow
def test_a_response_that_was_measured_too_soft_is_made_sharper(site: ImplantSite):
    narrow, wide = 2.0 * site.response.sigma_mm, 2.0 * site.response.wide_mm
    thick = 2.0 * site.response.slice_sigma_mm
    soft = dataclasses.replace(
        site.response, sigma_mm=narrow, wide_mm=wide, slice_sigma_mm=thick
    )  # fmt: skip
    told: list[int] = []
    ready = rehearse(dataclasses.replace(site, response=soft), SETTINGS, progress=told.append)
    assert ready.response.sigma_mm < soft.sigma_mm
    assert ready.response.slice_sigma_mm < soft.slice_sigma_mm
    assert len(ready.likeness) > 1
    assert told == list(range(1, REHEARSED + 1))


def test_without_structure_or_edges_a_site_stays_as_it_is(site: ImplantSite):
    few = dataclasses.replace(
        site.structure, center_vox=site.structure.center_vox[:5],
        depth_mm=site.structure.depth_mm[:5],
    )  # fmt: skip
    poor = dataclasses.replace(site, structure=few)
    assert rehearse(poor, SETTINGS) is poor
    blind = dataclasses.replace(site, response=dataclasses.replace(site.response, profiles=0))
    assert rehearse(blind, SETTINGS) is blind


def test_a_lung_without_room_is_not_rehearsed(site: ImplantSite):
    full = dataclasses.replace(site.finder, taken=np.ones_like(site.finder.taken))
    packed = dataclasses.replace(site, finder=full)
    assert rehearse(packed, SETTINGS) is packed
