"""CKA against the definition of unbiased HSIC by plain loops, and its invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medkd.evaluate.cka import batch_sizes, linear_cka, unbiased_hsic
from tests.oracles import loop_over_quadruples

Float64 = NDArray[np.float64]


def drawn(seed: int, *shape: int) -> Float64:
    return np.random.default_rng(seed).normal(size=shape)


def cka(first: Float64, second: Float64) -> float:
    return float(linear_cka([([first], [second])])[0, 0])


def orthogonal(seed: int, size: int) -> Float64:
    return np.linalg.qr(drawn(seed, size, size))[0]


@given(st.integers(0, 1000), st.integers(4, 7), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_hsic_is_the_mean_over_all_quadruples_of_samples(
    seed: int, n: int, wide: int, narrow: int
) -> None:
    first, second = drawn(seed, n, wide), drawn(seed + 1, n, narrow) + 3
    first[:, 0] += second[:, 0]

    expected = loop_over_quadruples(first @ first.T, second @ second.T)

    assert unbiased_hsic(first, second) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_cka_of_batches_divides_means_over_the_batches() -> None:
    pairs = [(drawn(n, 6, 3), drawn(n + 9, 6, 2) + drawn(n, 6, 3)[:, :2]) for n in range(3)]
    mean = [
        np.mean([unbiased_hsic(pair[a], pair[b]) for pair in pairs])
        for a, b in ((0, 1), (0, 0), (1, 1))
    ]

    found = linear_cka([([first], [second]) for first, second in pairs])

    assert found[0, 0] == pytest.approx(mean[0] / np.sqrt(mean[1] * mean[2]))


@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(-50, 50))
@settings(max_examples=25, deadline=None)
def test_rotation_scale_and_shift_change_nothing(seed: int, scale: float, shift: float) -> None:
    first, second = drawn(seed, 12, 5), drawn(seed + 1, 12, 3)
    second += first[:, :3]

    moved = scale * (second @ orthogonal(seed, 3)) + shift

    assert cka(first, moved) == pytest.approx(cka(first, second), abs=1e-9)
    assert cka(second, moved) == pytest.approx(1.0, abs=1e-9)


def test_an_invertible_linear_map_changes_it() -> None:
    features = drawn(0, 200, 4)

    assert cka(features, features @ np.diag([1.0, 1.0, 1.0, 20.0])) < 0.6


def test_the_order_of_samples_and_of_the_two_networks_does_not_matter() -> None:
    first, second = drawn(0, 10, 4), drawn(1, 10, 6)
    second[:, :4] += first
    order = np.random.default_rng(2).permutation(10)

    assert cka(first[order], second[order]) == pytest.approx(cka(first, second))
    assert cka(second, first) == pytest.approx(cka(first, second))


@pytest.mark.parametrize("width", [2, 400])
def test_independent_features_have_about_zero_however_wide_they_are(width: int) -> None:
    batches = [([drawn(n, 32, width)], [drawn(n + 100, 32, width)]) for n in range(20)]
    biased = _biased_cka(*(side[0] for side in batches[0]))

    assert abs(linear_cka(batches)[0, 0]) < 0.1
    if width > 32:  # what the unbiased estimator is for
        assert biased > 0.7


def _biased_cka(first: Float64, second: Float64) -> float:
    """Kornblith et al. 2019: |Y^T X|^2 / (|X^T X| |Y^T Y|) of centred features."""
    x, y = (one - one.mean(axis=0) for one in (first, second))
    cross, *own = (np.linalg.norm(a.T @ b) for a, b in ((y, x), (x, x), (y, y)))
    return float(cross**2 / (own[0] * own[1]))


def test_with_many_samples_it_is_that_of_kornblith() -> None:
    first = drawn(0, 1500, 3)
    second = first @ drawn(1, 3, 3) + 0.5 * drawn(2, 1500, 3)

    assert cka(first, second) == pytest.approx(_biased_cka(first, second), abs=0.01)


def test_every_layer_is_compared_with_every_other_and_maps_are_vectors() -> None:
    maps, vectors = drawn(0, 8, 2, 3, 3), drawn(1, 8, 5)

    found = linear_cka([([maps, vectors], [vectors, maps, maps])])

    assert found.shape == (2, 3)
    assert found[0, 1] == found[0, 2] == pytest.approx(1.0)
    assert found[0, 0] == pytest.approx(cka(maps.reshape(8, 18), vectors))


def test_float32_maps_are_as_exact_as_float64() -> None:
    first = (1000 + drawn(0, 16, 4)).astype(np.float32)

    assert cka(first, first.astype(np.float64) - 1000) == pytest.approx(1.0, abs=1e-9)


def test_a_constant_layer_has_no_cka() -> None:
    constant = np.full((8, 3), 0.1)

    found = linear_cka([([constant, drawn(0, 8, 2)], [drawn(1, 8, 2)])])

    assert np.isnan(found[0, 0])
    assert np.isfinite(found[1, 0])


def test_too_few_or_different_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4 samples"):
        cka(drawn(0, 3, 2), drawn(1, 3, 2))
    with pytest.raises(ValueError, match="of 5 and of 6 samples"):
        unbiased_hsic(drawn(0, 5, 2), drawn(1, 6, 2))
    with pytest.raises(ValueError, match="of 5 and of 6 samples"):
        cka(drawn(0, 5, 2), drawn(1, 6, 2))
    with pytest.raises(ValueError, match="at least one batch"):
        linear_cka([])


@given(st.integers(1, 600), st.integers(1, 64))
def test_batches_hold_every_sample_and_differ_by_one_at_most(samples: int, batch: int) -> None:
    sizes = batch_sizes(samples, batch=batch)

    assert sum(sizes) == samples
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(batch, samples)
