"""Candidates: true ones inside nodules, false ones from the finder and away from findings."""

from __future__ import annotations

from functools import cache

import numpy as np

from medkd.synthetic.phantom.finder import GAP_MM, Candidates, draw_candidates
from medkd.synthetic.phantom.findings import MIMICS, Finding, render_findings
from tests.synthetic.phantom.chests import canvas_of, chest_hu, findings_of, lung_of, survey


@cache
def made() -> tuple[tuple[Finding, ...], Candidates]:
    rng = np.random.default_rng(5)
    findings = findings_of(rng, nodules=3, diameters_mm=(4.0, 12.0))
    canvas = canvas_of((1.1, 1.1, 1.5))
    hu = chest_hu(canvas)
    render_findings(findings, canvas, hu)
    seen = np.rint(hu + rng.normal(0.0, 15.0, canvas.shape)).astype(np.int16)
    lung = lung_of(survey().canvas)
    found = draw_candidates(
        seen, canvas, lung, lung_canvas=survey().canvas, findings=findings, rng=rng
    )
    return tuple(findings), found


def depth_mm(place: np.ndarray, finding: Finding) -> float:
    return float(np.linalg.norm(place - finding.center_mm)) - finding.diameter_mm / 2.0


def test_true_candidates_are_inside_nodules_and_each_nodule_has_one() -> None:
    findings, found = made()
    nodules = [f for f in findings if f.kind == "nodule"]
    true = found.places_mm[found.labels == 1]
    depths = np.array([[depth_mm(place, nodule) for nodule in nodules] for place in true])
    assert (depths.min(axis=1) < 0.0).all()
    assert (depths.min(axis=0) < 0.0).all()


def test_false_candidates_are_away_from_nodules_and_excluded_findings() -> None:
    findings, found = made()
    false = found.places_mm[found.labels == 0]
    apart = [f for f in findings if f.kind not in MIMICS]
    assert len(false) > 20
    assert min(depth_mm(place, f) for place in false for f in apart) >= GAP_MM


def test_many_false_candidates_are_bright_spots_in_the_lung() -> None:
    _, found = made()
    false = found.places_mm[found.labels == 0]
    canvas = canvas_of((1.1, 1.1, 1.5))
    dense = canvas.sample(chest_hu(canvas), false) > -700.0
    assert 0.3 < dense.mean() < 0.95
    assert (canvas.sample(lung_of(canvas), false) < 3.0).mean() > 0.95
