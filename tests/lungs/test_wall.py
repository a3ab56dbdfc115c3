"""Tissue between the air of a lung and the chest wall, on an ellipsoid as the lung."""

import numpy as np
import pytest

from medkd.lungs.sides import RIGHT, close_lungs
from medkd.lungs.wall import dense_at_wall

SPACING_MM = np.array([4.0, 4.0, 4.0])
INDEX = np.indices((50, 50, 60)) - np.array([25, 25, 30]).reshape(3, 1, 1, 1)
LUNG = (INDEX[0] / 15) ** 2 + (INDEX[1] / 20) ** 2 + (INDEX[2] / 26) ** 2 < 1


def ball(x: int, y: int, z: int, radius: int) -> np.ndarray:
    """Return the part of the lung in a ball around an index relative to the middle."""
    offset = INDEX - np.array([x, y, z]).reshape(3, 1, 1, 1)
    return LUNG & (np.sqrt((offset**2).sum(axis=0)) < radius)


@pytest.mark.parametrize("place", [(-15, 0, 0), (-3, -20, 0), (-3, 20, 0)])
def test_tissue_at_the_side_the_front_and_the_back_is_kept(place):
    dense = ball(*place, 9)
    # Gaps of up to 12 mm, at the rim of the ball, are left to the closing that follows.
    assert dense_at_wall(LUNG & ~dense, SPACING_MM, lateral=-1)[dense].mean() > 0.6
    right = np.where(LUNG & ~dense, RIGHT, 0).astype(np.uint8)
    assert (close_lungs(right, SPACING_MM) == RIGHT)[dense].mean() > 0.85


def test_the_side_of_the_mediastinum_is_left_out():
    heart = ball(-15, 0, 0, 9)
    assert not dense_at_wall(LUNG & ~heart, SPACING_MM, lateral=1).any()


def test_nothing_outside_the_hull_of_the_air_is_marked():
    dense = ball(-15, 0, 0, 9)
    assert not dense_at_wall(LUNG & ~dense, SPACING_MM, lateral=-1)[~LUNG].any()


def test_a_lung_without_gaps_stays_as_it_is():
    assert not dense_at_wall(LUNG, SPACING_MM, lateral=-1).any()


def test_tissue_with_no_lung_below_it_is_not_marked():
    liver = LUNG & (INDEX[2] < -8) & (INDEX[0] < 3)
    assert dense_at_wall(LUNG & ~liver, SPACING_MM, lateral=-1)[liver].mean() < 0.1


def test_flat_air_has_no_wall():
    flat = LUNG & (INDEX[2] == 0)
    assert not dense_at_wall(flat, SPACING_MM, lateral=-1).any()
