"""Views are named by (sample, k): same pixels in any batch, order or process; V views repeat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from medkd.data.augment import AugmentationSettings, draw_parameters, view_batch
from medkd.data.loader import TrainLoader
from medkd.data.patches import ImagePatches
from medkd.data.views import ViewParameters, apply_view
from medkd.types import PatchBatch
from tests.data.conftest import make_table

HOW = AugmentationSettings(
    flip=(0.5, 0.5),
    rotate_degrees=20.0,
    shift_vox=2.0,
    scale_fraction=0.2,
    gamma=1.5,
    intensity_scale=0.2,
    intensity_shift=0.1,
    noise_sd=0.05,
)
COUNT = 23
Views = dict[tuple[str, int], Tensor]


def source_of(*shape: int) -> ImagePatches:
    """23 samples of random pixels; every fourth is positive."""
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, *shape), dtype=np.uint8)
    return ImagePatches(make_table([int(n % 4 == 0) for n in range(COUNT)]), pixels)


def views_in(batch: PatchBatch, how: AugmentationSettings = HOW, *, seed: int = 3) -> Views:
    """Map the name of each view of a batch to its pixels."""
    names = zip(batch.sample_id, batch.view_number, strict=True)
    return dict(zip(names, view_batch(batch, how, seed=seed).image, strict=True))


def views_of(
    source: ImagePatches, rows: list[int], k: int = 5, how: AugmentationSettings = HOW
) -> Views:
    batch = source.__getitems__(rows)
    return views_in(replace(batch, view_number=(k,) * len(rows)), how)


def assert_same(views: Views, expected: Views) -> None:
    assert [n for n, view in views.items() if not torch.equal(view, expected[n])] == []


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("shape", [(1, 29, 31), (2, 12, 10), (1, 23, 19, 21), (2, 7, 6, 5)])
def test_a_view_has_the_same_pixels_in_any_batch(shape: tuple[int, ...], padding: str) -> None:
    source, how = source_of(*shape), HOW.model_copy(update={"padding": padding})
    together = views_of(source, list(range(COUNT)), how=how)
    for rows in ([4], [22, 3, 4], list(range(16, -1, -1)), list(range(5, 12))):
        assert_same(views_of(source, rows, how=how), together)


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.integers(0, COUNT - 1), min_size=1, unique=True), k=st.integers(0, 10**9))
def test_parameters_do_not_depend_on_the_rest_of_the_batch(rows: list[int], k: int) -> None:
    names, one = [f"s{row}" for row in rows], f"s{rows[0]}"
    many = draw_parameters(HOW, names, [k] * len(rows), spatial_dims=3, seed=1)
    alone = draw_parameters(HOW, [one], [k], spatial_dims=3, seed=1)
    for name in ("flip", "angle_radians", "shift_vox", "scale", "gamma", "noise_start"):
        assert torch.equal(getattr(many, name)[:1], getattr(alone, name)), name


def test_a_sample_beside_ones_that_change_is_as_it_is_alone() -> None:
    zeros, ones = torch.zeros(2), torch.ones(2)
    views = ViewParameters(
        flip=torch.zeros(2, 2, dtype=torch.bool),
        angle_radians=torch.tensor([[0.1], [0.2]]),
        shift_vox=torch.zeros(2, 2),
        scale=ones,
        gamma=torch.tensor([1.0, 1.3]),
        gain=torch.tensor([1.0, 1.1]),
        offset=zeros,
        noise_sd=torch.tensor([0.0, 0.1]),
        noise_start=torch.tensor([0, 7]),
    )
    image = source_of(1, 16, 16).images(torch.tensor([0, 1]))
    first = {f.name: getattr(views, f.name)[:1] for f in fields(views) if f.name != "padding"}
    assert torch.equal(apply_view(image, views)[:1], apply_view(image[:1], ViewParameters(**first)))


def test_another_number_sample_or_seed_gives_another_view() -> None:
    how = AugmentationSettings(noise_sd=0.1)
    source = ImagePatches(make_table([0, 1]), np.full((2, 1, 8, 8), 100, np.uint8))
    batch = replace(source.__getitems__([0, 0, 1]), view_number=(0, 1, 0))
    first, other_number, other_sample = views_in(batch, how).values()
    other_seed = views_in(batch, how, seed=4)["s0", 0]
    assert not any(torch.equal(first, o) for o in (other_number, other_sample, other_seed))


def every_view(epochs: range, **options: object) -> Views:
    """All views of some epochs of a loader."""
    values = {"batch_size": 4, "balanced": True, "seed": 5, **options}
    loader = TrainLoader(source_of(1, 9, 8, 7), **values)  # type: ignore[arg-type]
    batches = [batch for epoch in epochs for batch in loader.epoch(epoch)]
    views: Views = {}
    for batch in batches:
        views |= views_in(batch)
    if loader.views == "live":
        assert len(views) == sum(len(batch.sample_id) for batch in batches)
    return views


def test_workers_change_no_view() -> None:
    assert_same(every_view(range(2), workers=1), every_view(range(2)))


def test_another_batch_size_and_order_change_no_view() -> None:
    expected = every_view(range(6), batch_size=1, balanced=False)
    views = every_view(range(2), seed=6, batch_size=3, balanced=False)
    assert len(views) == 2 * 21
    assert_same(views, expected)


def test_epochs_read_after_a_restart_have_the_views_of_one_go() -> None:
    whole, restarted = every_view(range(4)), every_view(range(2, 4))
    assert list(restarted) == list(whole)[-len(restarted) :]
    assert_same(restarted, whole)


def test_v_views_repeat_in_turn() -> None:
    views = every_view(range(7), views=3, balanced=False, batch_size=1)
    assert set(views) == {(f"s{n}", k) for n in range(COUNT) for k in range(3)}
    assert_same(views, every_view(range(3), balanced=False, batch_size=1))


@pytest.mark.parametrize("views", [0, -1, "few", 1.5])
def test_a_number_of_views_is_live_or_positive(views: object) -> None:
    with pytest.raises(ValidationError):
        AugmentationSettings.model_validate({"views": views})
