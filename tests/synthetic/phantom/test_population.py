"""Nodules of all kinds find places of all kinds, away from other findings."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from medkd.synthetic.phantom.findings import Finding
from medkd.synthetic.phantom.population import Traits, draw_traits, place_nodule
from tests.synthetic.phantom.chests import chooser_of, findings_of, survey


def drawn(seed: int, *, box: np.ndarray | None = None, nodules: int = 3) -> list[Finding]:
    rng = np.random.default_rng(seed)
    return findings_of(rng, nodules=nodules, diameters_mm=(3.0, 12.0), box=box)


def placed(attachment: str, seed: int, texture: str = "solid") -> Finding:
    rng = np.random.default_rng(seed)
    traits = Traits(texture, "round", attachment, 7.0)
    found = place_nodule(rng, traits, chooser_of(rng), [])
    assert found is not None
    return found


def test_the_same_seed_draws_the_same_findings() -> None:
    first, again = drawn(3), drawn(3)
    assert [f.kind for f in first] == [f.kind for f in again]
    assert all((a.center_mm == b.center_mm).all() for a, b in zip(first, again, strict=True))


def test_nodules_are_apart_from_all_other_findings() -> None:
    findings = drawn(4)
    for nodule in (f for f in findings if f.kind == "nodule"):
        for other in (f for f in findings if f is not nodule):
            gap = np.linalg.norm(nodule.center_mm - other.center_mm)
            assert gap > (nodule.diameter_mm + other.diameter_mm) / 2.0


def test_nodules_are_in_the_requested_box() -> None:
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


def test_nodules_touch_their_stated_attachment() -> None:
    found = [placed(wanted, seed) for wanted in ("free", "vessel", "fissure") for seed in range(8)]
    middles = np.array([nodule.center_mm for nodule in found])
    depth = survey().canvas.sample(survey().lung_mm, middles)
    fissure = survey().canvas.sample(survey().fissure_mm, middles)
    touches = np.array([nodule.attachment for nodule in found])
    assert set(touches) == {"free", "vessel", "pleura", "fissure"}
    assert (depth[touches == "free"] < -5.0).all()
    assert (depth[touches == "pleura"] < 0.0).all()
    assert (depth[touches == "pleura"] > -1.6 * 3.5).all()
    assert (np.abs(fissure[touches == "fissure"]) < 4.0).all()


def test_a_nodule_is_at_the_pleura_if_its_twin_is_too_close_to_it() -> None:
    chooser = chooser_of(np.random.default_rng(0))
    near, deep = np.array([0.0, 0.0, 41.0]), np.zeros(3)
    assert chooser.attachment("free", 5.0, near) == "pleura"
    assert chooser.attachment("free", 2.0, near) == "free"
    assert chooser.attachment("pleura", 5.0, deep) == "vessel"
    assert chooser.attachment("pleura", 5.0, None) == "pleura"


@pytest.mark.parametrize("texture", ["part-solid", "calcified", "ground-glass", "solid"])
def test_each_texture_has_its_densities(texture: str) -> None:
    layers = [placed("free", seed, texture).layers for seed in range(8)]
    outer = [body[0].value_hu for body in layers]
    inner = [body[-1].value_hu for body in layers]
    glass = texture in ("part-solid", "ground-glass")
    assert (max(outer) < -400.0) == glass
    assert max(inner) > 200.0 if texture == "calcified" else max(inner) < 100.0
    assert min(inner) > -100.0 or texture == "ground-glass"


def test_a_region_has_fewer_other_findings_than_a_chest() -> None:
    share = chooser_of(np.random.default_rng(0)).lung_share
    rest = [len(drawn(seed, nodules=0)) for seed in range(6)]
    assert share == pytest.approx(4.0 / 3.0 * np.pi * 44.0**3 / 3.0e6, rel=0.05)
    assert np.mean(rest) < 10
