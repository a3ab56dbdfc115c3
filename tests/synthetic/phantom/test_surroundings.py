"""Surroundings are read outside the mask, and similar places are recognised."""

from __future__ import annotations

import numpy as np
import pytest

from medkd.data.blobs import find_blobs
from medkd.synthetic.phantom.places import Surroundings
from tests.synthetic.phantom.chests import axis_mm, canvas_of, chest_hu, survey


def read(hu: np.ndarray) -> Surroundings:
    return Surroundings(canvas_of((2.0, 2.0, 2.0)), hu, np.random.default_rng(0))


def test_voxels_inside_the_mask_have_no_effect() -> None:
    canvas = canvas_of((2.0, 2.0, 2.0))
    plain = np.full(canvas.shape, -860.0, dtype=np.float32)
    away = np.sqrt(sum(axis_mm(canvas, a) ** 2 for a in range(3)))
    ball = np.where(away < 4.0, np.float32(60.0), plain)
    middle = np.zeros((1, 3))
    assert read(ball).at(middle, 9.0) == pytest.approx(read(plain).at(middle, 9.0))
    assert read(ball).at(middle, 2.0)[0, 0] > read(plain).at(middle, 2.0)[0, 0] + 50.0


def test_a_place_is_most_similar_to_itself() -> None:
    canvas = canvas_of((2.0, 2.0, 2.0))
    found = find_blobs(chest_hu(canvas), canvas.spacing_mm, survey().searched_mm < 0.0)
    marks = canvas.points_mm(found.places_vox)[:8]
    found = [read(chest_hu(canvas)).most_similar(marks, mark, marks, 5.0) for mark in marks]
    assert found == list(range(8))


def test_surroundings_at_the_edge_can_be_computed() -> None:
    canvas = canvas_of((2.0, 2.0, 2.0))
    corners = np.stack([canvas.low_mm, canvas.high_mm])
    assert np.isfinite(read(chest_hu(canvas)).at(corners, 18.0)).all()
