"""Places to train on: inside nodules, away from them, never near excluded findings."""

from __future__ import annotations

import dataclasses
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from medkd.data.cases import Case
from medkd.data.loading import parse_loading
from medkd.data.prepared import PreparedScans
from medkd.data.training_places import (
    ProposalSettings,
    find_blob_points,
    label_points,
    propose_candidates,
    propose_in_scan,
)
from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.metaimage import write_mhd
from medkd.lungs import find_lungs
from medkd.synthetic.phantom import PhantomScan, PhantomSettings, make_phantom
from medkd.types import Nodule, Point, Scan
from tests.spheres import sphere_mask

STEPS = parse_loading([{"kind": "load"}, {"kind": "intensity"}])


@pytest.fixture(scope="module")
def phantom() -> PhantomScan:
    return make_phantom(PhantomSettings(site="a", nodules_per_scan="3-3"), 0)


def blobs(scan: Scan, **settings: float) -> list[Point]:
    return find_blob_points(scan, find_lungs(scan), ProposalSettings.model_validate(settings))


def test_places_lie_in_the_lungs_and_apart(phantom: PhantomScan) -> None:
    places = np.array(blobs(phantom.scan, apart_mm=7.0))
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    lungs = find_lungs(phantom.scan)
    # a place on the face of two voxels lies in both, whichever of them rounding would choose
    either = 0.01 * np.array(list(product((-1, 1), repeat=3)))
    assert np.any([lungs.contains(places + away) for away in either], axis=0).all()
    assert distance[~np.eye(len(places), dtype=bool)].min() >= 7.0


def test_the_same_scan_gives_the_same_places_best_first(phantom: PhantomScan) -> None:
    many = blobs(phantom.scan, blobs=30)
    assert many == blobs(phantom.scan, blobs=30)
    assert blobs(phantom.scan, blobs=10) == many[:10]
    wanted = ProposalSettings(blobs=5)
    first = propose_in_scan(phantom.scan, find_lungs(phantom.scan), phantom.nodules, wanted)
    assert propose_in_scan(phantom.scan, find_lungs(phantom.scan), phantom.nodules, wanted) == first


def test_a_bright_sphere_is_the_first_place_on_oblique_and_flipped_axes(
    phantom: PhantomScan,
) -> None:
    # A 10 mm sphere on empty lung tissue; the volume is then turned and flipped.
    scan, field = phantom.scan, find_lungs(phantom.scan)
    voxels = scan.voxels_hu.copy()
    inside = np.argwhere(field.mask)
    center = field.grid.voxel_to_world(inside[len(inside) // 3])
    voxels[sphere_mask(scan.grid, center, 30.0)] = -850
    voxels[sphere_mask(scan.grid, center, 10.0)] = 150
    affine = scan.grid.affine_lps_mm.copy()
    affine[:3, 3] += affine[:3, 0] * (scan.grid.shape[0] - 1)
    affine[:3, 0] *= -1
    turned = VoxelGrid((scan.grid.shape[1], scan.grid.shape[0], scan.grid.shape[2]),
                       affine[:, [1, 0, 2, 3]])  # fmt: skip
    flipped = Scan("s", voxels[::-1].transpose(1, 0, 2), turned, "p")
    places = np.array(blobs(flipped))
    assert np.linalg.norm(places[:5] - center, axis=1).min() < 2.5


def test_places_are_positive_inside_negative_apart_and_nothing_between() -> None:
    nodule = Nodule("s", (0.0, 0.0, 0.0), 10.0)
    excluded = Nodule("s", (50.0, 0.0, 0.0), 6.0, "excluded")
    unknown = Nodule("s", (90.0, 0.0, 0.0), -1.0, "excluded")
    # Radius 5 and gap 4: 4.9 is inside, 8.9 too near, 9.1 apart; of the excluded 46 touches.
    places = [(float(x), 0.0, 0.0) for x in (4.9, 8.9, 9.1, 50, 46, 82, 80)]
    found = label_points("s", places, [nodule, excluded, unknown], gap_mm=4.0)
    assert [(c.center_mm[0], c.label) for c in found] == [(0, 1), (4.9, 1), (9.1, 0), (80, 0)]


def test_negatives_stand_in_plain_lung_and_beside_nodules_too(phantom: PhantomScan) -> None:
    wanted = ProposalSettings(blobs=1, anywhere=50, beside=6)
    found = propose_in_scan(phantom.scan, find_lungs(phantom.scan), phantom.nodules, wanted)
    negatives = np.array([c.center_mm for c in found if c.label == 0])
    nodule = phantom.nodules[0]
    distance = np.linalg.norm(negatives - nodule.center_mm, axis=1) - nodule.diameter_mm / 2
    assert (distance > 4.0).all()
    assert (distance < 13.1).sum() >= 3
    assert find_lungs(phantom.scan).contains(negatives).sum() > 40


def test_a_scan_is_searched_once_and_a_broken_one_is_named(
    phantom: PhantomScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s1.mhd"
    write_mhd(phantom.scan, path)
    case = Case("s1", "p1", "scan", path=path)
    nodules = [dataclasses.replace(n, seriesuid="s1") for n in phantom.nodules]
    calls: list[tuple[int, int]] = []
    wanted = ProposalSettings(blobs=20)
    kept = {"scans": PreparedScans(STEPS, tmp_path / "cache"), "folder": tmp_path / "kept"}
    first = propose_candidates([case], nodules, wanted, **kept, progress=lambda *n: calls.append(n))
    monkeypatch.setattr(
        "medkd.data.training_places.propose_in_scan", lambda *_: pytest.fail("again")
    )
    assert propose_candidates([case], nodules, wanted, **kept) == first
    assert sum(c.label for c in first) >= len(nodules)
    assert calls == [(1, 1)]
    gone = dataclasses.replace(case, case_id="s2", path=tmp_path / "gone.mhd")
    with pytest.raises(SeriesError, match="s2: ") as refused:
        propose_candidates([case, gone], nodules, wanted, **kept)
    assert len(refused.value.reasons) == 1
