"""The true sphere of a form agrees with the painted form on any voxel grid."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from medkd.synthetic.phantom.forms import (
    AnalyticForm,
    Form,
    Outline,
    box_within,
    coverage_on,
    draw_form,
    draw_turn,
    share_of,
    true_sphere,
)

Float64 = NDArray[np.float64]
OUTLINES: tuple[Outline, ...] = ("round", "lobulated", "spiculated")


def ball(radius_mm: float) -> AnalyticForm:
    none = np.zeros(0)
    return AnalyticForm(np.full(3, radius_mm), np.eye(3), np.zeros((0, 3)), none, none.astype(int))


def measured(
    form: Form, center: Float64, spacing: Float64, turn: Float64, cut: bool
) -> tuple[Float64, float]:
    """Return centre of mass and diameter of a form's voxels on a rotated grid."""
    first = center - 45.0 * turn.sum(axis=1) * spacing.max()

    def points(index: Float64) -> Float64:
        return first + (index * spacing) @ turn.T

    def inside(points_mm: Float64) -> Float64:
        share = share_of(form, points_mm - center, edge_mm=0.5)
        return share * above(points_mm) if cut else share

    middle = (center - first) @ turn / spacing
    box = box_within(middle, form.reach_mm / spacing + 1.0, (200, 200, 200))
    start, stop = [part.start for part in box], [part.stop for part in box]
    shape = tuple(np.subtract(stop, start).tolist())
    finer = tuple(np.ceil(spacing / 0.3).astype(int).tolist())
    cover = coverage_on(points, inside, start=tuple(start), shape=shape, finer=finer)
    voxels = np.argwhere(cover > 0)
    weight = cover[cover > 0].astype(np.float64)
    where = points(voxels + np.asarray(start, dtype=np.float64))
    mean = (where * weight[:, None]).sum(axis=0) / weight.sum()
    return mean, float(np.cbrt(6.0 * weight.sum() * spacing.prod() / np.pi))


def above(points_mm: Float64) -> Float64:
    """Return the share below a pleura at z = 1 mm."""
    return np.clip(0.5 - (points_mm[:, 2] - 1.0) / 0.5, 0.0, 1.0)


def test_a_balls_true_sphere_is_the_ball() -> None:
    sphere = true_sphere(ball(4.0), None, np.array([1.0, 2.0, 3.0]))
    assert sphere.diameter_mm == pytest.approx(8.0, rel=2e-3)
    assert np.abs(sphere.center_mm - [1.0, 2.0, 3.0]).max() < 1e-9


def test_half_a_ball_has_the_centre_and_volume_of_half_a_ball() -> None:
    sphere = true_sphere(ball(4.0), lambda p: p[:, 2] > 0.0, np.zeros(3))
    assert sphere.center_mm[2] == pytest.approx(3.0 / 8.0 * 4.0, abs=0.02)  # 3 r / 8
    assert sphere.diameter_mm == pytest.approx(8.0 / 2.0 ** (1 / 3), rel=3e-3)


@pytest.mark.parametrize("outline", OUTLINES)
@pytest.mark.parametrize("cut", [False, True])
def test_the_true_sphere_is_that_of_the_voxels_on_any_grid(outline: Outline, cut: bool) -> None:
    rng = np.random.default_rng(3)
    for spacing in ([0.6, 0.6, 0.6], [0.7, 0.7, 1.2], [0.7, 0.7, 2.5]):
        form, turn = draw_form(rng, outline, 9.0), draw_turn(rng)
        center = rng.uniform(-1.0, 1.0, 3)
        truth = true_sphere(form, above if cut else None, center, edge_mm=0.5)
        mean, diameter = measured(form, center, np.array(spacing), turn, cut)
        assert np.abs(mean - truth.center_mm).max() < 0.05
        assert diameter == pytest.approx(truth.diameter_mm, rel=0.01)


@pytest.mark.parametrize("outline", OUTLINES)
def test_forms_have_the_requested_volume_and_stay_within_their_reach(outline: Outline) -> None:
    rng = np.random.default_rng(5)
    for wanted in (3.0, 8.0, 30.0):
        form = draw_form(rng, outline, wanted)
        far = rng.normal(size=(4000, 3))
        far *= form.reach_mm / np.linalg.norm(far, axis=1, keepdims=True)
        assert true_sphere(form, None, np.zeros(3)).diameter_mm == pytest.approx(wanted, rel=0.01)
        assert not (form.depth_mm(far * 1.001) < 0.0).any()


def test_spiculated_forms_extend_farther_than_round_ones() -> None:
    rng = np.random.default_rng(1)
    reach = {o: np.mean([draw_form(rng, o, 10.0).reach_mm for _ in range(8)]) for o in OUTLINES}
    assert reach["spiculated"] > 1.4 * reach["round"]


def test_scaling_a_form_scales_its_depth() -> None:
    form = draw_form(np.random.default_rng(2), "lobulated", 6.0)
    points = np.random.default_rng(3).normal(size=(50, 3)) * 4.0
    assert np.allclose(form.scaled(2.0).depth_mm(2.0 * points), 2.0 * form.depth_mm(points))


def test_a_drawn_turn_is_a_rotation() -> None:
    turn = draw_turn(np.random.default_rng(4))
    assert np.allclose(turn @ turn.T, np.eye(3))
    assert np.linalg.det(turn) == pytest.approx(1.0)


def test_a_form_of_which_nothing_is_kept_has_diameter_0() -> None:
    assert true_sphere(ball(2.0), lambda p: np.zeros(len(p)), np.zeros(3)).diameter_mm == 0.0
