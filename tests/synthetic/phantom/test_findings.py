"""Findings are painted equally on all voxel grids, and their true spheres agree with the voxels."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from medkd.synthetic.phantom.canvas import Canvas
from medkd.synthetic.phantom.findings import EXCLUDED, Finding, cover_layer, render_findings
from tests.synthetic.phantom.chests import (
    BLOOD_HU,
    canvas_of,
    chest_hu,
    findings_of,
    lung_of,
    vessels_of,
)

GRIDS = [(0.6, 0.6, 0.6), (0.75, 0.75, 2.5), (2.1, 2.1, 3.0)]


@cache
def drawn(seed: int = 0, nodules: int = 4) -> tuple[Finding, ...]:
    rng = np.random.default_rng(seed)
    return tuple(findings_of(rng, nodules=nodules, diameters_mm=(3.0, 16.0)))


def nodules_of(*seeds: int) -> list[Finding]:
    return [f for seed in seeds for f in drawn(seed) if f.kind == "nodule"]


def own_sphere(finding: Finding, canvas: Canvas) -> tuple[np.ndarray, float]:
    box, cover = cover_layer(finding.layers[0], finding.side, canvas)
    weight = cover[cover > 0].astype(np.float64)
    index = np.argwhere(cover > 0) + [part.start for part in box]
    center = (canvas.points_mm(index) * weight[:, None]).sum(axis=0) / weight.sum()
    return center, float(np.cbrt(6.0 * weight.sum() * canvas.spacing_mm.prod() / np.pi))


@pytest.mark.parametrize("spacing", GRIDS)
def test_the_true_sphere_agrees_with_a_nodules_voxels(spacing: tuple[float, float, float]) -> None:
    canvas = canvas_of(spacing)
    for nodule in nodules_of(0, 1, 2):
        center, diameter = own_sphere(nodule, canvas)
        bound = 0.05 if max(spacing) < 1.0 else 0.2  # the mass of a voxel is taken at its centre
        assert np.linalg.norm(center - nodule.center_mm) < bound
        assert diameter == pytest.approx(nodule.diameter_mm, rel=0.01)


def test_pleural_nodules_are_cut_off_at_the_pleura() -> None:
    canvas = canvas_of((1.0, 1.0, 1.0))
    depth = lung_of(canvas)
    pleural = [f for seed in range(6) for f in nodules_of(seed) if f.attachment == "pleura"]
    for nodule in pleural:
        box, cover = cover_layer(nodule.layers[0], nodule.side, canvas)
        assert not cover[depth[box] > 1.2].any()
        assert depth[box][cover > 0.5].max() > -2.0
    assert pleural


def test_slabs_equal_the_whole() -> None:
    canvas = canvas_of((1.5, 1.5, 1.7))
    whole = chest_hu(canvas)
    pieces = whole.copy()
    render_findings(drawn(), canvas, whole)
    for part, slab in canvas.slabs(16):
        render_findings(drawn(), slab, pieces[:, :, part])
    assert np.abs(whole - pieces).max() < 1e-2


def test_nothing_is_changed_away_from_findings() -> None:
    canvas = canvas_of((2.0, 2.0, 2.0))
    before = chest_hu(canvas)
    after = before.copy()
    render_findings(drawn(), canvas, after)
    touched = np.zeros(canvas.shape, dtype=bool)
    for finding in drawn():
        box, cover = cover_layer(finding.layers[0], finding.side, canvas)
        touched[box] |= cover > 0
    assert (after != before).any()
    extra = (after != before) & ~touched  # cores may extend slightly beyond an outline
    assert extra.sum() < 0.01 * touched.sum()


def test_vessels_run_through_nodules() -> None:
    canvas = canvas_of((1.5, 1.5, 1.7))
    hu = chest_hu(canvas)
    vessels = vessels_of(canvas) > 0.99
    render_findings(nodules_of(0, 1, 2), canvas, hu)
    assert hu[vessels].min() > BLOOD_HU - 75.0


def test_a_solid_nodules_middle_has_its_density() -> None:
    canvas = canvas_of((1.5, 1.5, 1.7))
    for nodule in (f for f in nodules_of(0, 1, 2) if f.texture == "solid" and f.diameter_mm > 6):
        hu = chest_hu(canvas)
        render_findings([nodule], canvas, hu)
        layer = nodule.layers[0]
        middle = canvas.sample(hu, nodule.center_mm[None])[0]
        assert abs(middle - layer.value_hu) < 5.0 * layer.grain_hu + BLOOD_HU


def test_every_soft_sphere_that_is_not_a_nodule_is_excluded() -> None:
    assert {"small nodule", "node", "mucus", "isolated"} <= EXCLUDED
    assert all(f.diameter_mm < 3.0 for s in range(4) for f in drawn(s) if f.kind == "small nodule")
    assert all(f.diameter_mm >= 3.0 for s in range(4) for f in drawn(s) if f.kind == "nodule")
