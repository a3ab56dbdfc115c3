"""The chest: equal on all voxel grids, large enough, with the right densities."""

from functools import cache

import numpy as np
import pytest

from medkd.synthetic.phantom.anatomy import draw_anatomy, render_anatomy
from medkd.synthetic.phantom.canvas import Canvas
from medkd.synthetic.phantom.patient import draw_patient
from tests.synthetic.phantom.chests import axis_mm


def _rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


@cache
def _anatomy(seed=0, size="full"):
    return _drawn(seed, size)


def _drawn(seed, size):
    rng = _rng(seed)
    return draw_anatomy(draw_patient(rng, size), rng)


def _canvas(anatomy, step, *, share=1.0):
    low, high = anatomy.lung_box_mm
    middle, size = (low + high) / 2, (high - low + 40.0) * share
    shape = tuple(int(n) for n in size // step)
    first = middle - (np.asarray(shape) - 1) / 2 * step
    return Canvas(shape, np.full(3, float(step)), first, np.zeros(3))


@pytest.fixture(scope="module")
def chest():
    anatomy = _anatomy(2)
    canvas = _canvas(anatomy, 4.0)
    return anatomy, canvas, render_anatomy(anatomy, canvas)


@pytest.mark.parametrize("seed", range(3))
def test_every_large_chest_fills_a_box_of_24_2_million_voxels_at_1_mm(seed):
    anatomy = _anatomy(seed)
    # The box is checked on a finer lattice.
    fine = anatomy.lung_mm(_canvas(anatomy, 3.0)) < 0
    sizes = [np.flatnonzero(fine.any(axis=(1, 2))), np.flatnonzero(fine.any(axis=(0, 2))),
             np.flatnonzero(fine.any(axis=(0, 1)))]  # fmt: skip
    # Voxels of 3 mm miss up to 3 mm at each end of an axis, half of it on average.
    volume = np.prod([3.0 * (line[-1] - line[0] + 1.5) for line in sizes])
    assert volume >= 24.2e6


def test_the_same_seed_gives_the_same_bytes():
    anatomies = [_drawn(5, "small"), _drawn(5, "small")]
    canvas = _canvas(anatomies[0], 2.0, share=0.2)
    first, second = (render_anatomy(anatomy, canvas).hu.tobytes() for anatomy in anatomies)
    assert first == second


def test_another_seed_gives_another_chest():
    canvas = _canvas(_anatomy(0), 6.0, share=0.4)
    one, other = (render_anatomy(_anatomy(seed), canvas).hu for seed in (0, 1))
    assert np.abs(one - other).mean() > 20.0


def test_slabs_equal_the_whole():
    anatomy = _anatomy(1)
    canvas = _canvas(anatomy, 1.5, share=0.2)
    whole = render_anatomy(anatomy, canvas)
    for inner, slab in canvas.slabs(13):
        part = render_anatomy(anatomy, slab)
        np.testing.assert_allclose(part.hu, whole.hu[..., inner], atol=0.5)
        np.testing.assert_allclose(part.lung_mm, whole.lung_mm[..., inner], atol=1e-3)


def test_a_region_equals_that_part_of_the_whole():
    anatomy = _anatomy(1)
    canvas = _canvas(anatomy, 1.5, share=0.2)
    box = (slice(4, 30), slice(9, 21), slice(11, 40))
    part = render_anatomy(anatomy, canvas.part(box)).hu
    np.testing.assert_allclose(part, render_anatomy(anatomy, canvas).hu[box], atol=0.5)


def test_lung_distance_alone_equals_the_rendered_one():
    anatomy = _anatomy(1)
    canvas = _canvas(anatomy, 3.0, share=0.3)
    rendered = render_anatomy(anatomy, canvas)
    np.testing.assert_array_equal(anatomy.lung_mm(canvas), rendered.lung_mm)


def test_coarse_and_fine_voxels_agree_on_where_the_lungs_are(chest):
    anatomy, _, rendered = chest
    fine = anatomy.lung_mm(_canvas(anatomy, 2.0)) < 0
    coarse = (rendered.lung_mm < 0).sum() * 64.0
    assert fine.sum() * 8.0 == pytest.approx(coarse, rel=0.03)


def test_lung_is_dark_and_its_surroundings_are_not(chest):
    _, _, rendered = chest
    deep = rendered.hu[rendered.lung_mm < -6.0]
    assert -930 < np.median(deep) < -780
    around = rendered.hu[(rendered.lung_mm > 6.0) & (rendered.lung_mm < 12.0)]
    assert np.median(around) > -130


def test_the_lungs_hold_between_4_and_10_litres(chest):
    _, _, rendered = chest
    litres = (rendered.lung_mm < 0).sum() * 64.0 / 1e6
    assert 4.0 < litres < 10.0


def test_the_back_of_the_lung_is_denser_than_its_front():
    anatomy = _anatomy(1)
    rendered = render_anatomy(anatomy, canvas := _canvas(anatomy, 4.0))
    deep, y = rendered.lung_mm < -8.0, np.broadcast_to(axis_mm(canvas, 1), canvas.shape)
    front, back = (np.median(rendered.hu[deep & part]) for part in (y < -35.0, y > 45.0))
    assert back - front > 12.0


def test_fissures_are_thin_surfaces_denser_than_the_lung():
    anatomy = _anatomy(1)
    canvas = _canvas(anatomy, 1.0, share=0.2)
    rendered, near = render_anatomy(anatomy, canvas), anatomy.fissure_mm(canvas)
    deep = (rendered.lung_mm < -4.0) & (rendered.vessels < 0.01)
    on, off = rendered.hu[deep & (near < 0.3)], rendered.hu[deep & (near > 3.0) & (near < 6.0)]
    assert np.median(on) - np.median(off) > 40.0


def test_bones_are_denser_than_the_body_and_most_frequent_at_the_spine(chest):
    anatomy, _, _ = chest
    canvas = _canvas(anatomy, 2.0)
    canvas = canvas.part((slice(None), slice(None), slice(90, 102)))
    bone = render_anatomy(anatomy, canvas).hu > 400
    assert 0.003 < bone.mean() < 0.06
    spine = np.broadcast_to(np.abs(axis_mm(canvas, 0)) < 20.0, canvas.shape)
    assert bone[spine].mean() > 1.5 * bone[~spine].mean()


def test_air_in_the_trachea_is_outside_the_lungs(chest):
    anatomy, canvas, rendered = chest
    place = np.array([[-4.0, 20.0, 80.0]]) * anatomy.patient.scale
    assert canvas.sample(rendered.hu, place)[0] < -850
    assert canvas.sample(rendered.lung_mm, place)[0] > 2.0


def test_hila_are_at_the_inner_border_of_their_lung():
    anatomy = _anatomy(0)
    canvas = _canvas(anatomy, 3.0)
    lung = anatomy.lung_mm(canvas)
    for side in (-1.0, 1.0):
        hilum = anatomy.patient.hilum(side)
        places = np.stack([hilum.artery_mm, hilum.upper_vein_mm, hilum.lower_vein_mm])
        assert (np.sign(places[:, 0]) == side).all()
        assert (np.abs(canvas.sample(lung, places)) < 12.0).all()
