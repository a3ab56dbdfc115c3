"""Orders: pure functions of (seed, epoch), balanced, with nobody left out."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medkd.data.sampling import (
    UNLABELLED,
    balanced_order,
    class_strata,
    derive_seed,
    interleave,
    view_numbers,
)

RARE = np.array([0] * 95 + [1] * 5)


def test_the_order_repeats_from_seed_and_epoch_alone() -> None:
    np.random.default_rng(0).random(9)  # another user of randomness between the two
    first = balanced_order(RARE, seed=3, epoch=4, length=64)
    assert (first == balanced_order(RARE, seed=3, epoch=4, length=64)).all()


def shuffled(seed: int = 3, epoch: int = 4) -> np.ndarray:
    return balanced_order(np.zeros(50, np.int64), seed=seed, epoch=epoch, length=50)


def test_another_epoch_or_seed_gives_another_order() -> None:
    assert not (shuffled() == shuffled(epoch=5)).all()
    assert not (shuffled() == shuffled(seed=4)).all()


def test_with_a_single_class_an_epoch_holds_every_sample_once() -> None:
    assert sorted(shuffled()) == list(range(50))


def test_every_even_batch_of_a_balanced_epoch_is_half_positive() -> None:
    order = balanced_order(RARE, seed=0, epoch=0, length=96)
    assert (RARE[order].reshape(12, 8).sum(axis=1) == 4).all()


def test_a_rare_class_repeats_evenly() -> None:
    order = balanced_order(RARE, seed=0, epoch=0, length=96)
    times = np.bincount(order, minlength=100)
    # 48 draws of 5 positives: 9 full rounds and 3 more; 48 draws of 95 negatives: once or never.
    assert set(times[95:]) == {9, 10}
    assert times[:95].max() == 1


def test_no_view_of_a_sample_is_numbered_twice_in_any_epochs() -> None:
    drawn = []
    for epoch in range(4):
        order = balanced_order(RARE, seed=0, epoch=epoch, length=96)
        drawn += zip(order, view_numbers(order, RARE, epoch=epoch), strict=True)
    assert len(set(drawn)) == len(drawn) == 4 * 96


def test_a_sample_that_comes_once_an_epoch_is_numbered_by_the_epoch() -> None:
    order = balanced_order(RARE, seed=0, epoch=3, length=96)
    numbers = view_numbers(order, RARE, epoch=3)
    assert set(numbers[RARE[order] == 0]) == {3}
    # A positive comes 9 or 10 times an epoch, so that epoch 3 begins with number 30.
    assert set(numbers[RARE[order] == 1]) == set(range(30, 40))


def test_unlabelled_samples_keep_their_natural_share() -> None:
    strata = np.array([UNLABELLED] * 60 + [0] * 30 + [1] * 10)
    order = balanced_order(strata, seed=0, epoch=0, length=100)
    assert np.bincount(strata[order] + 1).tolist() == [60, 20, 20]


def test_samples_without_labels_at_all_are_all_one_stratum() -> None:
    strata = np.full(10, UNLABELLED)
    assert len(balanced_order(strata, seed=0, epoch=0, length=10)) == 10


def test_strata_are_no_label_then_the_first_positive_then_unlabelled() -> None:
    label = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.7, 0.0]])
    known = torch.ones(5, 2, dtype=torch.bool)
    known[3] = False
    assert class_strata(label, known).tolist() == [0, 2, 1, UNLABELLED, 1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=4))
def test_interleaving_keeps_counts_and_spreads_them(counts: list[int]) -> None:
    groups = interleave(counts)
    assert [int((groups == g).sum()) for g in range(len(counts))] == counts
    for group, count in enumerate(counts):
        for cut in range(len(groups)):
            share = count * cut / len(groups)
            assert abs(int((groups[:cut] == group).sum()) - share) <= len(counts)


def test_derived_seeds_differ_by_purpose_and_never_change() -> None:
    assert derive_seed(1, "view", 2) != derive_seed(1, "view", 3)
    assert derive_seed(1, "view", 23) != derive_seed(12, "view", 3)
    # sha256("0" + chr(31) + "order" + chr(31) + "0"), first 8 bytes, halved.
    assert derive_seed(0, "order", 0) == 878259672076101511
