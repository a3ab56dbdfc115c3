"""What a border is described by, and what trees make of it."""

import numpy as np
import pytest
from scipy import ndimage

from medkd.synthetic.implant.likeness import (
    Likeness,
    RealStructure,
    describe,
    drawn_by,
    find_structure,
    odds_without_own,
)
from medkd.synthetic.implant.lung_map import DENSE_HU, LungMap
from medkd.synthetic.implant.paint import Patch

SPACING = np.array([0.7, 0.7, 2.0])
CENTER = np.array([40.0, 40.0, 6.0])
FAR = np.array([12.0, 12.0, 6.0])


def lung(*, radius_mm: float = 0.0, blur_mm: float = 0.6, noise_hu: float = 15.0) -> np.ndarray:
    """Lung with a rod along k at `CENTER`."""
    across = (np.arange(80) - 40) * 0.7
    away = np.hypot(across[:, None], across[None, :])
    image = np.where(away < radius_mm, 40.0, -860.0)
    volume = np.repeat(ndimage.gaussian_filter(image, blur_mm / 0.7)[:, :, None], 13, axis=2)
    volume += np.random.default_rng(0).normal(0, noise_hu, volume.shape)
    return np.rint(volume).astype(np.int16)


def described(volume: np.ndarray, center: np.ndarray = CENTER) -> np.ndarray:
    return describe(volume, center, 4.0, spacing_mm=SPACING)


def test_depth_core_and_surroundings_are_those_of_the_structure():
    found = described(lung(radius_mm=4.0))
    assert found[0] == pytest.approx(4.0, abs=0.7)
    assert found[1] == pytest.approx(40.0, abs=40.0)
    assert found[2] == pytest.approx(-860.0, abs=40.0)
    assert np.isfinite(found).mean() > 0.8


def test_a_place_without_structure_has_no_border():
    found = described(lung(radius_mm=4.0), FAR)
    assert found[0] == 0.0
    assert np.isnan(found[3:]).all()


def test_a_softer_border_is_described_otherwise():
    sharp, soft = described(lung(radius_mm=4.0)), described(lung(radius_mm=4.0, blur_mm=1.5))
    steepest = slice(3 + 20, 3 + 30)  # mean steepness by distance
    assert np.nanmax(sharp[steepest]) > 1.3 * np.nanmax(soft[steepest])


def test_what_is_added_is_described_as_if_it_stood_there():
    before, after = lung(), lung(radius_mm=4.0)
    box = (slice(25, 56), slice(25, 56), slice(0, 13))
    added = (after - before)[box]
    found = describe(before, CENTER, 4.0, spacing_mm=SPACING, patch=Patch(box, added))
    np.testing.assert_array_equal(found, described(after))


def test_a_place_at_the_border_of_the_scan_is_described():
    found = described(lung(radius_mm=4.0), np.array([0.0, 79.0, 0.0]))
    assert np.isfinite(found[0])


def test_structure_is_found_where_it_stands():
    """Between the voxels of the map, above all across thick slices."""
    at, spacing = np.array([31.4, 30.6, 8.9]), np.array([0.6, 0.6, 5.0])
    grid = np.meshgrid(*[np.arange(n) for n in (64, 64, 16)], indexing="ij")
    squared = sum(((g - a) * s) ** 2 for g, a, s in zip(grid, at, spacing, strict=True))
    volume = np.rint(-860.0 + 1000.0 * np.exp(-squared / (2 * 4.0**2))).astype(np.int16)
    coarse = volume.reshape(32, 2, 32, 2, 16).mean(axis=(1, 3)).astype(np.float32)
    away = np.full(coarse.shape, 20.0, dtype=np.float32)
    lungs = LungMap(
        np.zeros(3, dtype=np.int64), np.array([2, 2, 1]), 2.0 * spacing / (1, 1, 2), coarse,
        -away, coarse > DENSE_HU, away,
    )  # fmt: skip
    found = find_structure(volume, lungs, spacing)
    assert (np.abs(found.center_vox[0] - at) < [0.5, 0.5, 0.3]).all()
    assert found.density_hu == pytest.approx(float(coarse.max()), abs=1.0)


def structures(count: int) -> RealStructure:
    depth = np.linspace(1.0, 4.0, count)
    return RealStructure(np.repeat(depth[:, None], 3, axis=1), depth, 50.0)


def test_partners_are_about_as_thick():
    rng = np.random.default_rng(0)
    drawn = [structures(200).as_thick(2.0, rng)[0] for _ in range(50)]
    assert 2.0 * 0.88 < min(drawn) < max(drawn) < 2.0 / 0.88
    assert len(set(drawn)) > 5


def test_the_nearest_serve_where_none_is_as_thick():
    drawn = {structures(60).as_thick(9.0, np.random.default_rng(n))[0] for n in range(40)}
    assert min(drawn) > 3.7


def test_few_structures_tell_nothing():
    assert structures(30).enough
    assert not structures(29).enough


def clouds(shift: float, *, columns: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(0, 1, (200, columns)), rng.normal(shift, 1, (200, columns))


def test_odds_are_higher_for_what_is_like_real_structure():
    made, real = clouds(1.0)
    likeness = Likeness.learnt(made, real)
    fresh = np.random.default_rng(1).normal(0, 1, (200, 4))
    assert likeness.odds(fresh + 1.0).mean() > likeness.odds(fresh).mean() + 1.0


def test_draws_follow_the_odds_and_still_vary():
    made, real = clouds(1.0)
    likeness, rng = Likeness.learnt(made, real), np.random.default_rng(1)
    fresh = rng.normal(0.0, 1.0, (40, 4))
    odds = likeness.odds(fresh)
    drawn = drawn_by(odds, 200, rng)
    assert odds[drawn].mean() > odds.mean() + 0.5
    assert len(set(drawn.tolist())) > 5


def test_what_is_hardly_real_at_all_can_still_be_drawn_from():
    assert drawn_by(np.array([-900.0, -1000.0]), 50, np.random.default_rng(0)).max() == 0


def test_features_that_are_hardly_ever_known_are_left_out():
    made, real = clouds(1.0)
    made[:, 2], real[:, 2] = np.nan, np.nan
    likeness = Likeness.learnt(made, real)
    assert likeness.known.tolist() == [True, True, False, True]
    assert np.isfinite(likeness.odds(made)).all()


def test_odds_without_own_tell_nothing_that_was_learnt_by_heart():
    made, real = clouds(0.0)
    group = np.arange(200) // 5
    by_heart = Likeness.learnt(made, real).odds(made)
    honest = odds_without_own(made, real, group)
    assert by_heart.mean() < honest.mean() - 0.25
    assert abs(honest.mean()) < 0.6
