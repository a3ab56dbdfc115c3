"""Nodules of all kinds find places of all kinds; the rest keeps away from them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from medkd.data.phantom.findings import Finding
from medkd.data.phantom.nodules import Traits, draw_traits, place_nodule
from medkd.data.phantom.places import Chooser
from medkd.data.phantom.population import draw_findings
from tests.data.phantom.chests import sites


def drawn(seed: int, *, box: np.ndarray | None = None, nodules: int = 3) -> list[Finding]:
    rng = np.random.default_rng(seed)
    return draw_findings(sites(), nodules=nodules, box_mm=box, rng=rng, diameters_mm=(3.0, 12.0))


def placed(attachment: str, seed: int, texture: str = "solid") -> Finding:
    rng = np.random.default_rng(seed)
    traits = Traits(texture, "round", attachment, 7.0)
    found = place_nodule(rng, traits, Chooser(sites(), None, rng), [])
    assert found is not None
    return found


def test_the_same_seed_draws_the_same_findings() -> None:
    first, again = drawn(3), drawn(3)
    assert [f.kind for f in first] == [f.kind for f in again]
    assert all((a.center_mm == b.center_mm).all() for a, b in zip(first, again, strict=True))


def test_nodules_keep_apart_from_all_else() -> None:
    findings = drawn(4)
    for nodule in (f for f in findings if f.kind == "nodule"):
        for other in (f for f in findings if f is not nodule):
            gap = np.linalg.norm(nodule.center_mm - other.center_mm)
            assert gap > (nodule.diameter_mm + other.diameter_mm) / 2.0


def test_nodules_lie_in_the_box_asked_for() -> None:
    box = np.array([[-30.0, -30.0, 0.0], [30.0, 30.0, 40.0]])
    nodules = [f for seed in range(4) for f in drawn(seed, box=box) if f.kind == "nodule"]
    assert nodules
    assert all((f.center_mm > box[0]).all() and (f.center_mm < box[1]).all() for f in nodules)


def test_traits_cover_all_kinds_and_subsolid_ones_are_not_tiny() -> None:
    rng = np.random.default_rng(0)
    traits = [draw_traits(rng) for _ in range(800)]
    assert len(Counter((t.texture, t.outline) for t in traits)) == 11  # calcified: no spicules
    assert len(Counter(t.attachment for t in traits)) == 4
    assert min(t.diameter_mm for t in traits if t.texture == "ground-glass") >= 5.0


def test_nodules_touch_what_they_are_to_touch() -> None:
    depth = sites().canvas.sample
    free = depth(sites().lung_mm, placed("free", 1).center_mm[None])[0]
    pleura = depth(sites().lung_mm, placed("pleura", 2).center_mm[None])[0]
    fissure = depth(sites().fissure_mm, placed("fissure", 3).center_mm[None])[0]
    assert free < -5.0
    assert -1.6 * 3.5 < pleura < 0.0
    assert abs(fissure) < 4.0


@pytest.mark.parametrize("texture", ["part-solid", "calcified", "ground-glass", "solid"])
def test_each_texture_has_its_densities(texture: str) -> None:
    layers = [placed("free", seed, texture).layers for seed in range(8)]
    outer = [body[0].value_hu for body in layers]
    inner = [body[-1].value_hu for body in layers]
    glass = texture in ("part-solid", "ground-glass")
    assert (max(outer) < -400.0) == glass
    assert max(inner) > 200.0 if texture == "calcified" else max(inner) < 100.0
    assert min(inner) > -100.0 or texture == "ground-glass"


def test_a_region_holds_fewer_of_the_rest_than_a_chest() -> None:
    share = Chooser(sites(), None, np.random.default_rng(0)).lung_share
    rest = [len(drawn(seed, nodules=0)) for seed in range(6)]
    assert share == pytest.approx(4.0 / 3.0 * np.pi * 44.0**3 / 3.0e6, rel=0.05)
    assert np.mean(rest) < 10
