"""Nodules that are added to a scan look as if they had been in the scanned chest."""

from __future__ import annotations

from functools import cache

import numpy as np

from medkd.synthetic.phantom import PhantomScan, PhantomSettings, make_phantom
from medkd.synthetic.phantom.anatomy import Anatomy, draw_anatomy, render_anatomy, render_body
from medkd.synthetic.phantom.canvas import Canvas, Float32
from medkd.synthetic.phantom.finder import mark_scan
from medkd.synthetic.phantom.findings import render_findings
from medkd.synthetic.phantom.make import add_findings
from medkd.synthetic.phantom.patient import draw_patient
from medkd.synthetic.phantom.scanner import draw_canvas, scan_volume
from medkd.synthetic.phantom.styles import STYLES, Protocol, draw_protocol


@cache
def made() -> PhantomScan:
    return make_phantom(PhantomSettings(site="c", size="region", seed=7, nodules_per_scan="4-4"), 0)


def scene() -> tuple[Anatomy, Protocol, Canvas]:
    """Return another chest and a canvas in it that contains the findings of the first."""
    rng = np.random.default_rng(0)
    protocol = draw_protocol(STYLES["a"], "region", rng)
    anatomy = draw_anatomy(draw_patient(rng, "region"), rng)
    middle = np.mean([f.center_mm for f in made().findings if f.kind == "nodule"], axis=0)
    return anatomy, protocol, draw_canvas(protocol, "region", middle_mm=middle, rng=rng)


def test_adding_nodules_to_a_scan_equals_scanning_a_chest_with_them() -> None:
    anatomy, protocol, canvas = scene()
    nodules = [
        f
        for f in made().findings
        if f.kind == "nodule"
        and canvas.contains(f.center_mm[None], margin_mm=f.diameter_mm / 2 + 5.0)[0]
    ]
    rest = [f for f in made().findings if f.kind in ("bump", "knot")]

    def scanned(findings: list) -> np.ndarray:
        def paint(part: Canvas) -> Float32:
            hu = render_anatomy(anatomy, part).hu
            render_findings(findings, part, hu)
            return hu

        return scan_volume(
            canvas, protocol, paint, rng=np.random.default_rng(1),
            body=lambda part: render_body(anatomy, part),
        )  # fmt: skip

    before, wanted = scanned(rest), scanned([*rest, *nodules])
    add_findings(before, nodules, anatomy=anatomy, rest=rest, canvas=canvas, protocol=protocol)
    off = np.abs(before.astype(int) - wanted)
    assert len(nodules) > 1
    assert off.max() <= 2  # rounded twice, and the kernel's tails are cut off
    assert (off > 1).mean() < 1e-3


def test_a_finder_marks_only_the_lungs() -> None:
    phantom = made()
    marks = mark_scan(phantom.scan.voxels_hu, phantom.canvas, phantom.lung).marks_mm
    index = np.rint(phantom.canvas.index_vox(marks)).astype(int)
    assert len(marks) > 20
    near = [phantom.lung[tuple(slice(max(a - 1, 0), a + 2) for a in place)] for place in index]
    assert all(part.any() for part in near)
    assert not len(mark_scan(phantom.scan.voxels_hu, phantom.canvas, phantom.lung & False).marks_mm)


def test_a_strong_nodule_is_among_a_finders_first_marks() -> None:
    phantom = made()
    marks = mark_scan(phantom.scan.voxels_hu, phantom.canvas, phantom.lung).marks_mm
    solid = [f for f in phantom.findings if f.kind == "nodule" and f.texture == "solid"]
    largest = max(solid, key=lambda f: f.diameter_mm)
    away = np.linalg.norm(marks[:40] - largest.center_mm, axis=1)
    assert away.min() < largest.diameter_mm / 2.0 + 1.0
