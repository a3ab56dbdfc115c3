"""Batches: whole at once, repeatable from (seed, epoch), balanced, the true prior kept."""

import dataclasses
import multiprocessing

import numpy as np
import pytest
import torch

from medkd.data.loader import PairedLoader, TrainLoader
from medkd.data.patches import ImagePatches, iterate
from tests.data.conftest import make_table


def ids(loader: TrainLoader, epoch: int) -> list[tuple[str, ...]]:
    return [batch.sample_id for batch in loader.epoch(epoch)]


def build(source: ImagePatches, **changes: object) -> TrainLoader:
    options = {"batch_size": 10, "balanced": True, "seed": 5} | changes
    return TrainLoader(source, **options)  # type: ignore[arg-type]


def test_a_batch_holds_the_asked_samples_with_their_labels(images: ImagePatches) -> None:
    batch = images.__getitems__([95, 3, 95])
    assert batch.sample_id == ("s95", "s3", "s95")
    assert batch.label[:, 0].tolist() == [1.0, 0.0, 1.0]
    assert batch.label_known.all()
    assert batch.image.shape == (3, 1, 4, 5)
    torch.testing.assert_close(batch.image[:, 0, 0, 0] * 255, torch.tensor([95.0, 3.0, 95.0]))


def test_a_batch_of_one_keeps_its_axis(images: ImagePatches) -> None:
    batch = images[7]
    assert batch.sample_id == ("s7",)
    assert batch.image.shape == (1, 1, 4, 5)


def test_changing_a_batch_leaves_the_source(images: ImagePatches) -> None:
    images[7].image.zero_()
    assert float(images[7].image[0, 0, 0, 0]) == pytest.approx(7 / 255)


def test_the_epoch_repeats_whatever_ran_before(images: ImagePatches) -> None:
    first, second = build(images), build(images)
    ids(first, 0)
    assert ids(first, 3) == ids(second, 3)
    assert ids(first, 3) != ids(first, 4)


def test_workers_give_the_same_batches_in_the_same_order(images: ImagePatches) -> None:
    alone, helped = build(images), build(images, workers=1)
    assert ids(alone, 1) == ids(helped, 1)
    pairs = zip(alone.epoch(2), helped.epoch(2), strict=True)
    assert all(torch.equal(a.image, b.image) for a, b in pairs)


def test_every_batch_is_half_positive_and_the_true_prior_is_kept(images: ImagePatches) -> None:
    loader = build(images)
    assert all(float(batch.label.mean()) == 0.5 for batch in loader.epoch(0))
    assert images.prior == pytest.approx((0.1,))
    assert loader.sampled_prior == (0.5,)


def test_without_balance_the_epoch_is_every_sample_once(images: ImagePatches) -> None:
    loader = build(images, balanced=False)
    names = [name for batch in ids(loader, 0) for name in batch]
    assert sorted(names) == sorted(images.sample_id)
    assert loader.sampled_prior == pytest.approx((0.1,))


@pytest.mark.parametrize(("batch_size", "steps"), [(30, 3), (100, 1), (400, 1)])
def test_all_batches_are_full(images: ImagePatches, batch_size: int, steps: int) -> None:
    loader = build(images, batch_size=batch_size, balanced=False)
    sizes = [len(names) for names in ids(loader, 0)]
    assert sizes == [min(batch_size, 100)] * steps
    assert len(loader) == steps


def test_each_label_has_its_own_share_of_positives_in_training() -> None:
    table = make_table([0, 0, 0, 0, 1, 1, 0, 1])
    # A second label; it is unknown of the last two samples, and known of two of the positives.
    second = torch.tensor([0, 0, 0, 0, 0, 1, 1, 0]).float()[:, None]
    known = torch.tensor([True] * 6 + [False] * 2)[:, None]
    both = dataclasses.replace(
        table,
        label=torch.cat([table.label, second], dim=1),
        label_known=torch.cat([table.label_known, known], dim=1),
    )
    source = ImagePatches(both, np.zeros((8, 1, 2, 2), np.uint8))
    # Balanced are 5 samples without a positive (4 of them known) and 3 with the first label.
    expected = (0.5, (1 / 3) / (4 / 5 + 2 / 3))
    assert build(source, batch_size=2).sampled_prior == pytest.approx(expected)
    assert build(source, batch_size=2, balanced=False).sampled_prior == pytest.approx(
        (3 / 8, 1 / 6)
    )


def test_evaluation_gives_every_sample_once_in_order(images: ImagePatches) -> None:
    batches = list(iterate(images, 32))
    assert [len(b.sample_id) for b in batches] == [32, 32, 32, 4]
    assert [n for b in batches for n in b.sample_id] == list(images.sample_id)


def test_unknown_labels_do_not_count_in_the_prior() -> None:
    table = make_table([1, 0, 1, 1], known=[True, True, False, False])
    source = ImagePatches(table, np.zeros((4, 1, 2, 2), np.uint8))
    assert source.prior == (0.5,)


def test_an_empty_source_is_refused() -> None:
    empty = ImagePatches(make_table([0]).select([]), np.zeros((0, 1, 2, 2), np.uint8))
    with pytest.raises(ValueError, match="empty"):
        build(empty)


def test_pixels_that_do_not_fit_the_table_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        ImagePatches(make_table([0, 1]), np.zeros((3, 1, 2, 2), np.uint8))


def other_source(samples: int) -> ImagePatches:
    pixels = np.arange(samples, dtype=np.uint8).reshape(-1, 1, 1, 1)
    table = make_table([n % 2 for n in range(samples)])
    return ImagePatches(table, pixels.repeat(4, 2).repeat(5, 3))


def paired(images: ImagePatches, *, samples: int = 25, workers: int = 0) -> PairedLoader:
    other = build(other_source(samples), balanced=False, seed=6, workers=workers)
    return PairedLoader(build(images, workers=workers), other)


def other_ids(loader: PairedLoader, epoch: int) -> list[tuple[str, ...]]:
    return [batch.other.sample_id for batch in loader.epoch(epoch)]


@pytest.mark.parametrize("samples", [10, 25, 400])
def test_the_own_batches_do_not_change_beside_those_of_another_domain(
    images: ImagePatches, samples: int
) -> None:
    alone, loader = build(images), paired(images, samples=samples)
    assert len(loader) == len(alone)
    for own, both in zip(alone.epoch(2), loader.epoch(2), strict=True):
        assert own.sample_id == both.sample_id
        assert own.view_number == both.view_number
        assert torch.equal(own.image, both.image)
        assert both.other.image.shape == own.image.shape


def test_batches_of_the_other_domain_repeat_whatever_ran_before(images: ImagePatches) -> None:
    first, second = paired(images), paired(images)
    other_ids(first, 0)
    assert other_ids(first, 3) == other_ids(second, 3)
    assert other_ids(first, 3) != other_ids(first, 4)


def test_all_samples_of_the_other_domain_occur_before_one_is_repeated(images: ImagePatches) -> None:
    epoch = other_ids(paired(images, samples=20), 0)
    for first in range(0, 10, 2):  # two batches hold all 20 samples
        assert len({*epoch[first], *epoch[first + 1]}) == 20


def test_no_view_of_a_sample_of_the_other_domain_is_seen_twice(images: ImagePatches) -> None:
    loader = paired(images, samples=20)
    seen = [
        view
        for epoch in range(3)
        for batch in loader.epoch(epoch)
        for view in zip(batch.other.sample_id, batch.other.view_number, strict=True)
    ]
    assert len(set(seen)) == len(seen) == 300


def test_the_labels_of_the_other_domain_are_hidden(images: ImagePatches) -> None:
    loader = paired(images)
    assert all(not batch.other.label_known.any() for batch in loader.epoch(0))
    assert all(batch.label_known.all() for batch in loader.epoch(0))


def test_workers_of_two_domains_give_the_same_batches(images: ImagePatches) -> None:
    """Those of the other domain begin anew within an epoch, and at its end neither set is left."""
    alone, helped = paired(images), paired(images, workers=1)
    for _ in range(2):
        pairs = zip(alone.epoch(1), helped.epoch(1), strict=True)
        for a, b in pairs:
            assert torch.equal(a.image, b.image)
            assert torch.equal(a.other.image, b.other.image)
            assert a.other.view_number == b.other.view_number
    stopped = helped.epoch(2)
    next(stopped)
    stopped.close()
    assert multiprocessing.active_children() == []


def test_batches_of_two_sizes_are_not_paired(images: ImagePatches) -> None:
    with pytest.raises(ValueError, match="of one size, got 10 and 8"):
        PairedLoader(build(images), build(other_source(8), balanced=False))
