"""Places are chosen in a chest that contains the mimics, by marks of all strengths."""

from __future__ import annotations

import numpy as np
import pytest

from medkd.data.blobs import find_blobs
from medkd.synthetic.phantom.mimics import bump
from medkd.synthetic.phantom.places import Places, draw_rank
from tests.synthetic.phantom.chests import survey


def test_every_doubling_of_the_rank_is_equally_likely() -> None:
    rng = np.random.default_rng(0)
    ranks = np.array([draw_rank(100, rng) for _ in range(7000)])
    assert ranks.min() == 1
    assert ranks.max() == 100
    counts = [np.sum((ranks >= 2**n) & (ranks < 2 ** (n + 1))) for n in range(7)]
    assert counts == pytest.approx([1000] * 7, abs=150)


def test_a_painted_bump_is_marked_and_the_original_chest_is_not_changed() -> None:
    plain = survey()
    before = plain.hu.copy()
    rng = np.random.default_rng(3)
    places = Places(plain, None, rng)
    mimic = next(filter(None, (bump(rng, places, []) for _ in range(20))))
    painted = plain.with_painted([mimic])
    canvas, inside = plain.canvas, plain.searched_mm < 0.0

    def response(hu: np.ndarray) -> float:
        found = find_blobs(hu, canvas.spacing_mm, inside)
        away = np.linalg.norm(canvas.points_mm(found.places_vox) - mimic.center_mm, axis=1)
        near = found.response[away < mimic.diameter_mm / 2.0 + 4.0]
        return float(near.max(initial=0.0))

    assert response(painted.hu) > response(plain.hu)
    assert (plain.hu == before).all()
