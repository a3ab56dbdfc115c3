"""The finder finds bright balls where they are, as wide as they are, and not the chest wall."""

from __future__ import annotations

import numpy as np
import pytest

from medkd.data.blobs import block_means, find_blobs
from medkd.synthetic.phantom.canvas import Canvas, Float32
from tests.synthetic.phantom.chests import axis_mm, canvas_of, chest_hu, lung_of

MIDDLES = np.array([[-18.0, 0.0, 10.0], [16.0, 8.0, -12.0]])


def lung_with_balls(radii_mm: tuple[float, float], canvas: Canvas) -> Float32:
    hu = np.where(lung_of(canvas) < 0.0, -860.0, 40.0)
    points = np.stack(np.meshgrid(*(canvas.line_mm(a) for a in range(3)), indexing="ij"), axis=-1)
    for middle, radius in zip(MIDDLES, radii_mm, strict=True):
        away = np.linalg.norm(points - middle, axis=-1) - radius
        hu += 900.0 * np.clip(0.5 - away / 2.0, 0.0, 1.0)
    return np.asarray(hu, dtype=np.float32)


def test_balls_are_found_where_they_are_the_wide_one_with_the_wide_gaussian() -> None:
    canvas = canvas_of((2.0, 2.0, 2.0))
    hu = lung_with_balls((3.0, 7.0), canvas)
    found = find_blobs(hu, canvas.spacing_mm, lung_of(canvas) < -1.0, most=2)
    places = canvas.points_mm(found.places_vox)
    nearest = np.linalg.norm(MIDDLES[:, None] - places, axis=2).argmin(axis=1)
    assert np.linalg.norm(MIDDLES - places[nearest], axis=1).max() < 2.5
    assert found.sigma_mm[nearest[1]] > 1.5 * found.sigma_mm[nearest[0]]


def test_a_balls_answer_is_that_of_the_normalised_laplacian() -> None:
    # In the middle of a ball of radius r the largest answer of -s^2 LoG over s is at s = r / 3^.5:
    # contrast x (r^3 / s^3) (2 / pi)^.5 exp(-r^2 / 2 s^2) = .925 x contrast. The difference of
    # two Gaussians 1.44 apart in width is an average over widths: a little less.
    canvas = canvas_of((1.0, 1.0, 1.0), 60.0)
    away = np.sqrt(sum(axis_mm(canvas, a) ** 2 for a in range(3))) - 5.4
    hu = np.asarray(-860.0 + 900.0 * np.clip(0.5 - away, 0.0, 1.0), dtype=np.float32)
    found = find_blobs(hu, canvas.spacing_mm, np.ones(canvas.shape, dtype=bool), most=1)
    assert found.response[0] == pytest.approx(0.925 * 900.0 / 1400.0, rel=0.12)


def test_marks_lie_apart_in_the_lung_the_strongest_first() -> None:
    canvas = canvas_of((2.0, 2.0, 2.0))
    lung = lung_of(canvas) < 0.0
    found = find_blobs(chest_hu(canvas), canvas.spacing_mm, lung, most=30)
    index = np.rint(found.places_vox).astype(int)
    places = found.places_vox * canvas.spacing_mm
    apart = np.linalg.norm(places[:, None] - places, axis=2)
    assert lung[tuple(index.T)].all()
    assert (np.diff(found.response) <= 0.0).all()
    assert apart[~np.eye(len(index), dtype=bool)].min() > 6.0


def test_a_plain_chest_has_no_mark() -> None:
    canvas = canvas_of((2.0, 2.0, 2.0))
    hu = np.where(lung_of(canvas) < 0.0, -860.0, 40.0).astype(np.float32)
    assert not len(find_blobs(hu, canvas.spacing_mm, lung_of(canvas) < 0.0).places_vox)


def test_no_lung_no_mark() -> None:
    canvas = canvas_of((4.0, 4.0, 4.0))
    empty = np.zeros(canvas.shape, dtype=bool)
    assert not len(find_blobs(chest_hu(canvas), canvas.spacing_mm, empty).response)


def test_the_middle_of_a_block_is_where_its_mean_lies() -> None:
    ramp = np.broadcast_to(np.arange(57.0)[:, None, None], (57, 40, 40)).astype(np.float32)
    means, count = block_means(ramp, np.array([0.7, 0.7, 1.0]))
    assert count.tolist() == [2, 2, 2]
    assert means.shape == (28, 20, 20)
    assert means[:, 3, 3] == pytest.approx(np.arange(28) * 2 + 0.5)


def test_of_two_blobs_nearer_than_asked_the_stronger_stays() -> None:
    canvas = canvas_of((2.0, 2.0, 2.0))
    hu, inside = lung_with_balls((3.0, 7.0), canvas), lung_of(canvas) < -1.0
    found = find_blobs(hu, canvas.spacing_mm, inside, apart_mm=100.0, least_response=0.1)
    assert len(found.response) == 1
    assert found.response[0] == find_blobs(hu, canvas.spacing_mm, inside).response[0]
