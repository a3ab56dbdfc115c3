"""Marks and isolated soft tissue in a scan before nodules are added."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medkd.synthetic.phantom import PhantomScan, PhantomSettings, make_phantom
from medkd.synthetic.phantom.anatomy import build_walls, draw_anatomy
from medkd.synthetic.phantom.canvas import Canvas
from medkd.synthetic.phantom.finder import averaged, find_isolated
from medkd.synthetic.phantom.findings import Finding
from medkd.synthetic.phantom.patient import draw_patient
from tests.synthetic.phantom.chests import axis_mm, canvas_of, lung_of

CENTER_MM = np.array([10.0, -5.0, 12.0])
FULL_SCANS = 12


def isolated_in(hu: np.ndarray, canvas: Canvas, listed: list[Finding]) -> list[Finding]:
    return find_isolated(np.rint(hu).astype(np.int16), canvas, lung_of(canvas) < 0.0, listed)


def lung_with_ball(canvas: Canvas, diameter_mm: float, *, stalk: bool = False) -> np.ndarray:
    hu = np.where(lung_of(canvas) < 0.0, -860.0, 40.0)
    x, y, z = (axis_mm(canvas, axis) - CENTER_MM[axis] for axis in range(3))
    hu[np.sqrt(x * x + y * y + z * z) < diameter_mm / 2.0] = 40.0
    if stalk:
        hu[(np.sqrt(x * x + y * y) < 2.0) & (z > 0.0)] = 40.0
    return hu


def test_an_isolated_ball_in_the_lung_is_found_with_its_position_and_size() -> None:
    canvas = canvas_of((1.0, 1.0, 1.2))
    (found,) = isolated_in(lung_with_ball(canvas, 8.0), canvas, [])
    assert np.linalg.norm(found.center_mm - CENTER_MM) < 0.5
    assert found.diameter_mm == pytest.approx(8.0, abs=0.7)


def test_attached_small_or_listed_tissue_is_not_reported_as_isolated() -> None:
    canvas = canvas_of((1.0, 1.0, 1.2))
    assert isolated_in(lung_with_ball(canvas, 8.0, stalk=True), canvas, []) == []
    assert isolated_in(lung_with_ball(canvas, 2.0), canvas, []) == []
    listed = isolated_in(lung_with_ball(canvas, 8.0), canvas, [])
    assert isolated_in(lung_with_ball(canvas, 8.0), canvas, listed) == []


def test_averaging_keeps_positions() -> None:
    canvas = canvas_of((0.7, 0.7, 1.0), 40.0)
    ramp = np.broadcast_to(axis_mm(canvas, 0) * 20.0, canvas.shape).astype(np.float32)
    means, coarse = averaged(ramp, canvas)
    assert coarse.spacing_mm == pytest.approx([1.4, 1.4, 2.0])
    assert means[:, 3, 3] == pytest.approx(coarse.line_mm(0) * 20.0, abs=1e-2)


def test_no_lymph_node_is_isolated_in_the_lung() -> None:
    for seed in range(8):
        rng = np.random.Generator(np.random.PCG64(seed))
        build = draw_anatomy(draw_patient(rng, "full"), rng).build
        middles = build.nodes.middle_mm * build.patient.scale
        low, high = middles.min(axis=0) - 30.0, middles.max(axis=0) + 30.0
        i, j, k = np.ceil((high - low) / 2.0).astype(int).tolist()
        lattice = Canvas((i, j, k), np.full(3, 2.0), low, np.zeros(3)).coarse(2.0, margin_mm=0.0)
        labels, _ = ndimage.label(build_walls(build, lattice).lung_mm > 0.0)
        at = tuple(np.rint(lattice.index_vox(middles)).astype(int).T)
        assert len(set(labels[at].tolist()) - {0}) == 1


def unlisted_tissue(phantom: PhantomScan) -> list[tuple[np.ndarray, float]]:
    """Centre and diameter of round isolated tissue of 3 mm or more that is in no table.

    A finder of the test's own: another filter and threshold than the generator has.
    """
    spacing = phantom.canvas.spacing_mm
    box = ndimage.find_objects(phantom.lung.astype(np.int8))[0]
    lung = ndimage.binary_fill_holes(phantom.lung[box])
    sigma = np.maximum(0.7 / spacing, 0.7)
    hu = ndimage.gaussian_filter(phantom.scan.voxels_hu[box].astype(np.float32), sigma)
    labels, _ = ndimage.label(hu > -350.0)
    voxels = np.bincount(labels.ravel())
    diameters = np.cbrt(voxels * spacing.prod() * 6.0 / np.pi)
    fits = (diameters >= 3.0) & (diameters < 33.0) & (voxels >= 8)
    listed = (*phantom.nodules, *phantom.excluded)
    found = []
    for number in (np.flatnonzero(fits[1:]) + 1).tolist():
        index = np.argwhere(labels == number)
        ring = ndimage.binary_dilation(labels == number) & (labels != number)
        apart = (index - index.mean(axis=0)) * spacing
        round_ = np.sqrt(5.0 * (apart**2).sum(axis=1).mean() / 3.0) < 1.25 * diameters[number] / 2.0
        middle = index.mean(axis=0) + [part.start for part in box]
        place = phantom.scan.grid.voxel_to_world(middle[None])[0]
        away = [np.linalg.norm(place - n.center_mm) - n.diameter_mm / 2.0 for n in listed]
        if round_ and lung[ring].mean() > 0.5 and min(away, default=9.0) > 1.0:
            found.append((place, float(diameters[number])))
    return found


@pytest.mark.parametrize("scanner", ["a", "b", "c"])
def test_isolated_soft_tissue_of_a_region_is_a_nodule_or_excluded(scanner: str) -> None:
    settings = PhantomSettings(site=scanner, size="region", seed=61)
    for index in range(3):
        assert unlisted_tissue(make_phantom(settings, index)) == []


@pytest.mark.bench
def test_isolated_soft_tissue_of_full_scans_is_a_nodule_or_excluded() -> None:
    settings = PhantomSettings(site="mixed", size="full", seed=62)
    for index in range(FULL_SCANS):
        assert unlisted_tissue(make_phantom(settings, index)) == []
