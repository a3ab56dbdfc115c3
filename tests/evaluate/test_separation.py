"""One number against a label: strong where it is one, and nothing where there is chance alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from medkd.evaluate.intervals import LabelledSamples
from medkd.evaluate.separation import Separation, measure_separation
from tests.oracles import count_pairs_auc

Labels = NDArray[np.int64]


def drawn(seed: int, n: int = 120) -> tuple[np.random.Generator, Labels, list[str]]:
    """Draw labels of n cases, two for each patient."""
    random = np.random.default_rng(seed)
    return random, random.integers(0, 2, n), [f"p{number // 2}" for number in range(n)]


def measured(values: list[float] | list[str], labels: Labels, patients: list[str]) -> Separation:
    found = measure_separation(values, LabelledSamples(labels, patients), resamples=200)
    assert found is not None
    return found


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_number_has_its_auc_whichever_way_it_points(sign: float) -> None:
    random, labels, patients = drawn(0)
    values = labels + random.normal(size=len(labels))

    found = measured((sign * values).tolist(), labels, patients)

    assert found.auc == pytest.approx(count_pairs_auc(labels.tolist(), values.tolist()))
    assert found.interval is not None
    assert found.interval.low < found.auc < found.interval.high
    assert found.interval.unit == "patient"
    assert (found.cases, found.positives, found.patients) == (120, labels.sum(), 60)


@pytest.mark.parametrize("names", [("AP", "PA"), ("PA", "AP"), (2.0, 1.0)])
def test_two_categories_have_the_auc_of_zero_and_one(names: tuple[str, str]) -> None:
    random, labels, patients = drawn(1)
    portable = random.random(len(labels)) < 0.2 + 0.5 * labels

    found = measured([names[0] if one else names[1] for one in portable], labels, patients)

    expected = count_pairs_auc(labels.tolist(), portable.astype(float).tolist())
    assert found.auc == pytest.approx(expected)
    shares = [found.shares[name if isinstance(name, str) else f"{name:g}"] for name in names]
    assert shares == pytest.approx([labels[portable].mean(), labels[~portable].mean()])


def test_a_number_of_few_values_may_separate_without_a_direction() -> None:
    random, labels, patients = drawn(2, 300)
    values = np.where(labels == 1, 2.0, random.choice([1.0, 3.0], len(labels)))

    assert measured(values.tolist(), labels, patients).auc == 1.0


def test_chance_alone_separates_nothing_even_with_many_categories() -> None:
    aucs = []
    for seed in range(30):
        random, labels, patients = drawn(seed)
        aucs.append(measured([f"k{n}" for n in random.integers(0, 6, 120)], labels, patients).auc)

    assert np.mean(aucs) == pytest.approx(0.5, abs=0.03)
    assert max(aucs) < 0.7


def test_rare_categories_are_joined_so_names_of_patients_separate_nothing() -> None:
    _, labels, patients = drawn(3)
    labels = np.repeat(labels[::2], 2)  # the cases of a patient are alike

    assert measure_separation(patients, LabelledSamples(labels, patients)) is None


@pytest.mark.parametrize(
    ("positives", "each"), [(19, 1), (40, 5)], ids=["19 cases", "40 cases of 8 patients"]
)
def test_few_cases_or_patients_of_a_class_are_not_measured(positives: int, each: int) -> None:
    labels = np.r_[np.ones(positives, int), np.zeros(60, int)]
    patients = [f"a{n // each}" for n in range(positives)] + [f"b{n}" for n in range(60)]

    found = measure_separation(labels.astype(float).tolist(), LabelledSamples(labels, patients))

    assert found is None


def test_a_single_category_or_number_is_not_measured() -> None:
    _, labels, patients = drawn(4)
    samples = LabelledSamples(labels, patients)

    assert measure_separation(["PA"] * 120, samples) is None
    assert measure_separation([0.5] * 120, samples) is None


def test_a_low_auc_gets_no_interval() -> None:
    random, labels, patients = drawn(5)
    values = random.normal(size=120).tolist()

    found = measure_separation(values, LabelledSamples(labels, patients), least=0.9)

    assert found is not None
    assert found.interval is None


@pytest.mark.parametrize("categories", [False, True])
def test_the_order_of_the_cases_does_not_matter(*, categories: bool) -> None:
    random, labels, patients = drawn(6)
    values = labels + random.normal(size=120)
    names = [f"k{n}" for n in np.digitize(values, [-0.5, 0.5, 1.5])]
    column = names if categories else values.tolist()
    order = random.permutation(120).tolist()

    moved = measured([column[n] for n in order], labels[order], [patients[n] for n in order])
    before = measured(column, labels, patients)

    assert moved.auc == pytest.approx(before.auc)
    assert replace(moved, auc=before.auc) == before


def test_the_p_value_of_independent_cases_is_that_of_the_rank_sum_test() -> None:
    random, labels, _ = drawn(7, 2000)
    values = 0.05 * labels + random.normal(size=2000)

    found = measured(values.tolist(), labels, [f"p{n}" for n in range(2000)])

    expected = mannwhitneyu(values[labels == 1], values[labels == 0]).pvalue
    assert 0.001 < expected < 0.2
    assert found.p_value == pytest.approx(expected, rel=0.15)


def test_copies_of_the_cases_of_a_patient_are_no_further_evidence() -> None:
    random, labels, _ = drawn(8, 400)
    values = 0.3 * labels + random.normal(size=400)
    patients = [f"p{n}" for n in range(400)]
    once = measured(values.tolist(), labels, patients)

    thrice = measured(values.tolist() * 3, np.tile(labels, 3), patients * 3)

    assert thrice.auc == pytest.approx(once.auc)
    assert thrice.p_value == pytest.approx(once.p_value, rel=0.2)


@pytest.mark.parametrize("kinds", [1000, 2, 5], ids=["numbers", "two categories", "five"])
def test_chance_has_a_small_p_value_as_rarely_as_it_should(kinds: int) -> None:
    """Labels and values are alike within a patient, so the patients are the sample."""
    small = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        labels = np.repeat(random.random(60) < 0.3, 3).astype(int)
        values = np.repeat(random.integers(0, kinds, 60), 3).astype(float).tolist()
        samples = LabelledSamples(labels, [f"p{n // 3}" for n in range(180)])
        found = measure_separation(values, samples, least=1.0)
        small += found is not None and found.p_value <= 0.05
    assert small <= 16  # of 200 at 1/20: P(more than 16) = .03


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="1 values, 2 labels, 2 patients"):
        measure_separation([1.0], LabelledSamples([0, 1], ["a", "b"]))
