"""One number against a label: strong where it is one, and nothing where there is chance alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from medkd.evaluate.separation import LabelledCases, Separation, measure_separation
from medkd.types import Interval
from tests.oracles import count_pairs_auc

Labels = NDArray[np.int64]


def drawn(seed: int, n: int = 120) -> tuple[np.random.Generator, Labels, list[str]]:
    """Draw labels of n cases, two for each patient."""
    random = np.random.default_rng(seed)
    return random, random.integers(0, 2, n), [f"p{number // 2}" for number in range(n)]


def measured(values: list[float] | list[str], labels: Labels, patients: list[str]) -> Separation:
    found = measure_separation(values, LabelledCases(labels, patients), resamples=200)
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


def test_two_categories_have_the_auc_of_zero_and_one() -> None:
    random, labels, patients = drawn(1)
    portable = random.random(len(labels)) < 0.2 + 0.5 * labels

    found = measured(["AP" if one else "PA" for one in portable], labels, patients)

    expected = count_pairs_auc(labels.tolist(), portable.astype(float).tolist())
    assert found.auc == pytest.approx(expected)


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


def test_a_category_of_each_patient_separates_nothing() -> None:
    _, labels, patients = drawn(3)
    labels = np.repeat(labels[::2], 2)  # the cases of a patient are alike

    cases = LabelledCases(labels, patients)

    assert measure_separation(patients, cases) is None  # all are rare, so there is one category


@pytest.mark.parametrize(
    ("positives", "each"), [(19, 1), (40, 5)], ids=["19 cases", "40 cases of 8 patients"]
)
def test_few_cases_or_patients_of_a_class_are_not_measured(positives: int, each: int) -> None:
    labels = np.r_[np.ones(positives, int), np.zeros(60, int)]
    patients = [f"a{n // each}" for n in range(positives)] + [f"b{n}" for n in range(60)]

    assert (
        measure_separation(labels.astype(float).tolist(), LabelledCases(labels, patients)) is None
    )


def test_one_value_is_not_measured() -> None:
    _, labels, patients = drawn(4)
    assert measure_separation(["PA"] * 120, LabelledCases(labels, patients)) is None


def test_a_low_auc_gets_no_interval() -> None:
    random, labels, patients = drawn(5)
    values = random.normal(size=120).tolist()

    found = measure_separation(values, LabelledCases(labels, patients), least=0.9)

    assert found is not None
    assert (found.interval, found.lower_bound(10)) == (None, 0.0)


def test_the_order_of_the_cases_does_not_matter() -> None:
    random, labels, patients = drawn(6)
    values = labels + random.normal(size=120)
    order = random.permutation(120)

    moved = measured(values[order].tolist(), labels[order], [patients[n] for n in order])

    assert moved.auc == pytest.approx(measured(values.tolist(), labels, patients).auc)


def test_the_bound_of_several_tests_is_that_of_a_normal_distribution() -> None:
    found = Separation(0.8, Interval(0.7, 0.87), 100, 50, 100)

    assert found.lower_bound(1) == pytest.approx(0.7)
    # z of .0025 is 2.8070, of .025 it is 1.9600: .8 - .1 * 2.8070 / 1.9600
    assert found.lower_bound(10) == pytest.approx(0.65678, abs=1e-4)


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="1 values, 2 labels, 2 patients"):
        measure_separation([1.0], LabelledCases([0, 1], ["a", "b"]))
