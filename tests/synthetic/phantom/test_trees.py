"""Trees fill both lungs, taper by Murray's law, and depend only on the seed."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from medkd.synthetic.phantom.canvas import Canvas
from medkd.synthetic.phantom.patient import Patient, draw_patient
from medkd.synthetic.phantom.trees import Branches, Tree, Vasculature, grow, grow_lung_trees
from medkd.synthetic.phantom.tubes import Tubes


@pytest.fixture(scope="module")
def patient() -> Patient:
    return draw_patient(np.random.default_rng(4), "small")


@pytest.fixture(scope="module")
def points_mm() -> np.ndarray:
    rng = np.random.default_rng(5)
    points = rng.uniform([40.0, -60.0, -90.0], [115.0, 80.0, 100.0], (6000, 3))
    points[:, 0] *= np.where(np.arange(6000) % 2 == 0, 1.0, -1.0)
    return points


@pytest.fixture(scope="module")
def trees(patient: Patient, points_mm: np.ndarray) -> Vasculature:
    return grow_lung_trees(
        np.random.default_rng(6), patient, points_mm, upper=before_fissure(points_mm)
    )


def before_fissure(points_mm: np.ndarray) -> np.ndarray:
    return points_mm[:, 2] > 6.0 + 1.1 * points_mm[:, 1]


def vessels_of(trees: Vasculature, side: float) -> Tubes:
    return trees.vessel_tubes.chosen(trees.vessel_tubes.end_mm[:, 0] * side > 0.0)


def _branches() -> Branches:
    rng = np.random.default_rng(1)
    ends = rng.uniform(-30.0, 30.0, (200, 3))
    roots = np.array([[-60.0, 0.0, 0.0], [60.0, 0.0, 0.0]])
    return grow(rng, roots, ends, owner=(ends[:, 0] > 0).astype(np.int64))


def test_every_end_is_reached_by_one_last_branch() -> None:
    ends = np.random.default_rng(1).uniform(-30.0, 30.0, (200, 3))
    branches = _branches()
    last = branches.end_mm[branches.ends == 1]
    np.testing.assert_allclose(np.sort(last, axis=0), np.sort(ends, axis=0), atol=1e-9)


def test_two_daughters_share_the_end_points_of_their_mother_and_begin_at_its_end() -> None:
    branches = _branches()
    child = branches.mother >= 0
    mother = branches.mother[child]
    fed = np.bincount(mother, weights=branches.ends[child], minlength=len(branches.ends))
    inner = branches.ends > 1
    assert (fed[inner] == branches.ends[inner]).all()
    assert (np.bincount(mother, minlength=len(inner))[inner] == 2).all()
    np.testing.assert_array_equal(branches.start_mm[child], branches.end_mm[mother])


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_trees_begin_at_the_hilum_and_stay_on_their_side(
    trees: Vasculature, patient: Patient, side: float
) -> None:
    own = vessels_of(trees, side)
    for root in patient.hilum(side)[:3]:
        assert np.isclose(own.start_mm, root).all(axis=1).any()
    assert (own.start_mm[:, 0] * side > 10.0).all()
    assert (own.end_mm[:, 0] * side > 10.0).all()


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_vessels_taper_from_several_millimetres_to_less_than_one(
    trees: Vasculature, side: float
) -> None:
    own = vessels_of(trees, side)
    assert 4.0 < 2.0 * own.start_radius_mm.max() < 12.0
    assert 0.4 < 2.0 * own.end_radius_mm.min() < 0.9


def test_airways_run_beside_a_vessel_without_touching_it(trees: Vasculature) -> None:
    vessels, airways = trees.vessel_tubes, trees.wall_tubes
    apart, nearest = cKDTree(vessels.end_mm).query(airways.end_mm)
    gap = apart - vessels.end_radius_mm[nearest] - airways.end_radius_mm
    assert np.median(gap) > 0.0
    assert np.quantile(apart, 0.9) < 12.0


def test_a_thin_tree_keeps_its_volume_on_coarse_voxels(trees: Vasculature) -> None:
    spacing = np.full(3, 2.0)
    first = np.array([-150.0, -110.0, -140.0])
    canvas = Canvas((150, 110, 140), spacing, first, np.zeros(3))
    tubes = trees.vessel_tubes
    length = np.linalg.norm(tubes.end_mm - tubes.start_mm, axis=1)
    radius = (tubes.start_radius_mm + tubes.end_radius_mm) / 2.0
    volume = float((np.pi * radius**2 * length).sum())
    # Branches overlap where they divide, which reduces the volume by up to a fifth.
    found = trees.on(canvas).vessels.sum(dtype=np.float64) * 8.0
    assert 0.8 * volume < found < 1.03 * volume


def test_the_same_seed_grows_the_same_trees(
    trees: Vasculature, patient: Patient, points_mm: np.ndarray
) -> None:
    again = grow_lung_trees(
        np.random.default_rng(6), patient, points_mm, upper=before_fissure(points_mm)
    )
    assert again.vessel_tubes.start_mm.tobytes() == trees.vessel_tubes.start_mm.tobytes()
    assert again.wall_tubes.end_radius_mm.tobytes() == trees.wall_tubes.end_radius_mm.tobytes()


def test_tubes_follow_the_curve_of_a_branch() -> None:
    bent = Tree(*(np.array([p]) for p in ([0.0, 0, 0], [6.0, 6, 0], [12.0, 0, 0])),
                np.array([2.0]), np.array([1.0]))  # fmt: skip
    tubes = bent.tubes()
    # Halfway the curve is at (start + 2 bend + end) / 4, with the mean radius.
    np.testing.assert_allclose(tubes.end_mm[0], [6.0, 3.0, 0.0])
    assert tubes.end_radius_mm[0] == pytest.approx(1.5)
