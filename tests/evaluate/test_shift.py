"""Distances between sites, each against slow loops from its paper, and what a reader relies on."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medkd.evaluate.shift import (
    QUANTILES,
    gaussian_kernels,
    permutation_p,
    site_auc,
    spread_of_counts,
    squared_mmd,
)

Float64 = NDArray[np.float64]


def sites(
    count: int = 40, *, shift: float = 0.0, scale: float = 1.0, seed: int = 0
) -> tuple[Float64, NDArray[np.bool_], list[str]]:
    """Features of two sites, two samples a patient; the second site is shifted and scaled."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, 3))
    first = np.arange(count) < count // 2
    features[~first] = scale * features[~first] + shift
    return features, first, [f"p{n // 2}" for n in range(count)]


def slow_kernel(features: Float64) -> list[list[float]]:
    size = len(features)

    def apart(i: int, j: int) -> float:
        return sum((a - b) ** 2 for a, b in zip(features[i], features[j], strict=True))

    every = sorted(apart(i, j) for i in range(size) for j in range(i))
    middle = len(every) // 2
    median = every[middle] if len(every) % 2 else (every[middle - 1] + every[middle]) / 2
    return [
        [
            sum(math.exp(-apart(i, j) / (f * median)) for f in (0.25, 0.5, 1, 2, 4)) / 5
            for j in range(size)
        ]
        for i in range(size)
    ]


def slow_mmd(kernel: list[list[float]], first: list[bool]) -> float:
    """Gretton et al. 2012, equation 3."""
    x = [n for n, one in enumerate(first) if one]
    y = [n for n, one in enumerate(first) if not one]
    own = [sum(kernel[i][j] for i in of for j in of if i != j) / (len(of) * (len(of) - 1))
           for of in (x, y)]  # fmt: skip
    cross = sum(kernel[i][j] for i in x for j in y) / (len(x) * len(y))
    return sum(own) - 2 * cross


COUNTED = st.dictionaries(st.integers(-9, 9), st.integers(0, 5), min_size=1, max_size=8)


@settings(max_examples=30, deadline=None)
@given(COUNTED.filter(lambda counted: any(counted.values())))
def test_a_spread_of_counts_is_that_of_all_values(counted: dict[int, int]) -> None:
    values, counts = (np.array(column) for column in zip(*sorted(counted.items()), strict=True))
    every = np.repeat(values, counts)

    found = spread_of_counts(values, counts)

    assert found.mean == pytest.approx(every.mean())
    assert found.sd == pytest.approx(every.std())
    for share in QUANTILES:
        assert found.quantiles[share] == np.quantile(every, share, method="inverted_cdf")


def test_no_value_has_no_spread() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        spread_of_counts(np.arange(3), np.zeros(3, dtype=np.int64))


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_kernels_and_distance_equal_slow_loops(shift: float) -> None:
    features, _, _ = sites(14, shift=shift)
    first = np.arange(14) < 5  # sites of unequal size
    kernel = slow_kernel(features)

    np.testing.assert_allclose(gaussian_kernels(features), kernel, rtol=1e-9)
    assert squared_mmd(np.array(kernel), first) == pytest.approx(slow_mmd(kernel, first.tolist()))


def test_the_distance_grows_with_the_shift_and_is_about_0_without_one() -> None:
    values = []
    for shift in (0.0, 0.5, 1.0, 3.0):
        features, first, _ = sites(200, shift=shift)
        values.append(squared_mmd(gaussian_kernels(features), first))

    assert abs(values[0]) < 0.02
    assert values == sorted(values)
    assert values[-1] > 0.5


def test_the_distance_does_not_depend_on_shift_scale_and_order_of_the_features() -> None:
    features, first, _ = sites(30, shift=1.0)
    order = np.random.default_rng(1).permutation(30)
    turned = 100 + 7 * features[:, ::-1]

    value = squared_mmd(gaussian_kernels(features), first)

    moved = squared_mmd(gaussian_kernels(turned[order]), first[order])
    assert moved == pytest.approx(value)
    assert squared_mmd(gaussian_kernels(features), ~first) == pytest.approx(value)


def test_a_site_of_one_sample_has_no_distance() -> None:
    features, _, _ = sites(6)

    assert math.isnan(squared_mmd(gaussian_kernels(features), np.arange(6) < 1))


def test_a_p_value_is_that_of_all_exchanges_of_patients() -> None:
    """Three patients with two samples against three: 20 divisions, each drawn equally often."""
    features, first, patients = sites(12, shift=0.8)
    kernel = gaussian_kernels(features)
    observed = squared_mmd(kernel, first)
    reached = 0
    for chosen in itertools.combinations(range(6), 3):
        of_first = np.repeat([n in chosen for n in range(6)], 2)
        reached += squared_mmd(kernel, of_first) >= observed - 1e-12

    p = permutation_p(kernel, first, patients, resamples=4000, seed=0)

    assert p == pytest.approx(reached / 20, abs=0.02)


def test_samples_of_one_patient_do_not_count_as_independent() -> None:
    """Two patients a site with 20 nearly equal samples each: 6 divisions, so p is about 1/3."""
    random = np.random.default_rng(0)
    centres = np.repeat([[0.0, 0], [1, 0], [3, 0], [4, 0]], 20, axis=0)
    features = centres + 0.01 * random.normal(size=(80, 2))
    first, patients = np.arange(80) < 40, [f"p{n // 20}" for n in range(80)]
    kernel = gaussian_kernels(features)

    grouped = permutation_p(kernel, first, patients, resamples=999, seed=0)
    single = permutation_p(kernel, first, [str(n) for n in range(80)], resamples=999, seed=0)

    assert grouped > 0.2
    assert single == 0.001


def test_a_p_value_is_uniform_if_the_sites_do_not_differ() -> None:
    values = [
        permutation_p(gaussian_kernels(f), first, patients, resamples=99, seed=n)
        for n in range(60)
        for f, first, patients in [sites(24, seed=n)]
    ]

    assert min(values) >= 0.01
    assert 0.35 < np.mean(values) < 0.65
    assert 0.0 < np.mean(np.array(values) <= 0.25) < 0.45


def test_a_patient_who_is_at_both_sites_moves_there_apart() -> None:
    features, first, _ = sites(12, shift=2.0)
    patients = [f"p{n % 6}" for n in range(12)]  # each has one sample at either site

    p = permutation_p(gaussian_kernels(features), first, patients, resamples=199, seed=0)

    assert p < 0.05


@pytest.mark.parametrize(
    ("shift", "low", "high"), [(0.0, 0.3, 0.7), (1.0, 0.75, 0.97), (6.0, 0.999, 1.0)]
)
def test_a_site_is_recognised_as_far_as_its_features_differ(
    shift: float, low: float, high: float
) -> None:
    features, first, patients = sites(120, shift=shift)

    found = site_auc(features, first, patients, seed=0)

    assert low <= found <= high
    assert found == site_auc(features, first, patients, seed=0)
    assert found == pytest.approx(site_auc(1000 * features - 5, first, patients, seed=0), abs=0.01)


def test_patients_are_held_out_as_a_whole() -> None:
    """Each patient has features of its own and the site says nothing: only leaks would show it."""
    random = np.random.default_rng(3)
    patients = [f"p{n // 10}" for n in range(200)]
    features = np.repeat(random.normal(size=(20, 30)), 10, axis=0)
    features += 0.01 * random.normal(size=features.shape)
    first = np.repeat(np.arange(20) % 2 == 0, 10)

    grouped = site_auc(features, first, patients, seed=0)
    leaking = site_auc(features, first, [str(n) for n in range(200)], seed=0)

    assert grouped < 0.75
    assert leaking > 0.99


def test_a_site_with_a_single_patient_is_not_classified() -> None:
    features, first, patients = sites(20)
    single = ["a" if one else patient for one, patient in zip(first, patients, strict=True)]

    assert site_auc(features, first, single, seed=0) is None
