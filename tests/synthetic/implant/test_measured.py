"""Places where a nodule could be: beside vessels, but not among many of them."""

import numpy as np
import pytest
from scipy import ndimage

from medkd.synthetic.implant.measured import LungMap, PlaceFinder, place_finder

RADIUS_MM = 3.0
SIDE = 64


@pytest.fixture
def finder() -> PlaceFinder:
    """A ball of lung at 1 mm with one vessel on the left and many close vessels on the right."""
    i, j, k = np.indices((SIDE, SIDE, SIDE)) - SIDE // 2
    depth = np.sqrt(i**2 + j**2 + k**2) - 30.0
    lone = (i + 14) ** 2 + j**2 < 2.0**2
    close = (i > 4) & (i % 4 < 2) & (j % 4 < 2)
    dense = (depth < 0) & (lone | close)
    lungs = LungMap(
        np.zeros(3, dtype=np.int64), np.ones(3, dtype=np.int64), np.ones(3),
        np.where(dense, 40.0, -850.0).astype(np.float32), depth.astype(np.float32), dense,
        np.full(depth.shape, 99.0, dtype=np.float32),
    )  # fmt: skip
    return place_finder(lungs)


def found(finder: PlaceFinder, attachment: str, *, count: int = 400) -> np.ndarray:
    return finder.find(attachment, RADIUS_MM, np.random.default_rng(0), count=count)


def test_nodules_at_vessels_are_beside_one_and_not_among_many(finder: PlaceFinder):
    places = found(finder, "vessel")
    away = np.hypot(places[:, 0] - SIDE // 2 + 14, places[:, 1] - SIDE // 2)
    assert (away < 2.0 + RADIUS_MM).sum() > 20
    kernel = ndimage.gaussian_filter(finder.lungs.dense.astype(float), 0.7 * RADIUS_MM)
    assert kernel[tuple(places.T)].max() < 0.16


def test_free_nodules_touch_no_vessel(finder: PlaceFinder):
    dense = np.argwhere(finder.lungs.dense & (finder.lungs.depth_mm <= -2.5))
    for place in found(finder, "free", count=20):
        assert np.linalg.norm(dense - place, axis=1).min() > RADIUS_MM


def test_nodules_at_the_pleura_touch_it(finder: PlaceFinder):
    places = found(finder, "pleura")
    depth = -finder.lungs.depth_mm[tuple(places.T)]
    assert len(places) == 400
    assert (depth < RADIUS_MM).all()


def test_a_taken_place_is_not_drawn_again(finder: PlaceFinder):
    (place,) = found(finder, "free", count=1)
    finder.take(place, 10.0)
    assert np.abs(found(finder, "free") - place).max(axis=1).min() > 10
