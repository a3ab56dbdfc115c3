"""How well one number of a case, or one category, separates a label on its own: its ROC AUC.

A network that scores little more than such a number may have learned the number instead of the
finding (a shortcut: Geirhos et al. 2020, Nature Machine Intelligence 2:665; for radiographs Zech et
al. 2018, PLoS Medicine 15:e1002683).

A number, or one of two categories, may point either way, so its AUC is at least 0.5. Three or more
categories are ordered by their share of positives among other patients (cross-fitting), so their
AUC does not grow with their number.

The p-value is that of a rank sum test for clustered data: the AUC is a sum over patients, and its
variance is that of the patients' parts (Obuchowski 1997, Biometrics 53:567, with the placements
that hold if the AUC is 0.5), but at least that of independent cases. Student's t replaces the
normal distribution, because the rarer class may have few patients. Three or more categories are
tested each against the rest, adjusted by Holm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, t

from medkd.evaluate.caution import FEW_CASES, FEW_GROUPS
from medkd.evaluate.intervals import LabelledSamples, bootstrap_interval, holm
from medkd.evaluate.metrics import build_metric, compute_metric
from medkd.types import Interval

FOLDS = 5
FEW_VALUES = 10
"""At most so many different numbers are categories: their effect need not be monotone."""
OTHER = "others"
"""Category of all values that fewer than `FEW_GROUPS` patients have."""

Float64 = NDArray[np.float64]
Labels = NDArray[np.int64]
Texts = NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Separation:
    """The AUC of one number for one label.

    `p_value` is that of chance alone. `interval` is by patient; None: not computed, because the AUC
    is below the asked limit. `positives` and `cases` count cases, `patients` the patients. `shares`
    are the shares of positives of each category, 0..1, the largest category first; empty for
    numbers.
    """

    auc: float
    p_value: float
    interval: Interval | None
    cases: int
    positives: int
    patients: int
    shares: dict[str, float] = field(default_factory=dict)


def measure_separation(
    values: Sequence[float | str],
    samples: LabelledSamples,
    *,
    least: float = 0.0,
    resamples: int = 1000,
    seed: int = 0,
) -> Separation | None:
    """Measure how well a number or a category separates a label.

    Args:
        values: [N] finite numbers, or [N] names of categories.
        samples: labels [N], 0 or 1, and patients [N].
        least: an AUC below it gets no interval.
        resamples: of the bootstrap by patient; categories are not ordered again in them.
        seed: of the folds and of the bootstrap.

    Returns:
        None if there is nothing to compare: a class with fewer than `FEW_CASES` cases or
        `FEW_GROUPS` patients, or only one value.

    Raises:
        ValueError: if values, labels and patients differ in number.

    Example:
        >>> samples = LabelledSamples([0, 1] * 20, [f"p{n}" for n in range(40)])
        >>> measure_separation([0.1, 0.9] * 20, samples, resamples=100).auc
        1.0
    """
    labels = np.asarray(samples.labels, dtype=np.int64)
    patients = np.unique(np.asarray(list(samples.groups)), return_inverse=True)[1]
    if not len(values) == len(labels) == len(patients):
        raise ValueError(f"{len(values)} values, {len(labels)} labels, {len(patients)} patients")
    if not _is_enough(labels, patients):
        return None
    numbers, categories = _read_values(values, patients)
    if len(np.unique(numbers)) < 2:
        return None
    if len(categories) > 2:
        folds = np.random.default_rng(seed).permutation(patients.max() + 1) % FOLDS
        scores = _score_categories(numbers.astype(np.int64), labels, folds[patients])
        tested = [(numbers == place).astype(np.float64) for place in categories.values()]
    else:
        rises = compute_metric("roc_auc", labels, numbers) >= 0.5
        scores = numbers if rises else -numbers
        tested = [numbers]
    auc = compute_metric("roc_auc", labels, scores)
    p_value = min(holm([_p_value(column, labels, patients) for column in tested]))
    interval = None
    if auc >= least:
        statistic = build_metric("roc_auc", labels, scores)
        interval = bootstrap_interval(
            statistic, samples.groups, resamples=resamples, seed=seed, unit="patient"
        )
    shares = {name: float(labels[numbers == place].mean()) for name, place in categories.items()}
    count = len(np.unique(patients))
    return Separation(auc, p_value, interval, len(labels), int(labels.sum()), count, shares)


def _is_enough(labels: Labels, patients: NDArray[np.intp]) -> bool:
    return all(
        (labels == value).sum() >= FEW_CASES
        and len(np.unique(patients[labels == value])) >= FEW_GROUPS
        for value in (0, 1)
    )


def _read_values(
    values: Sequence[float | str], patients: NDArray[np.intp]
) -> tuple[Float64, dict[str, int]]:
    """Return the numbers [N]; of categories their places, and the place of each by its name.

    Rare categories are joined; the most frequent category comes first.
    """
    different = set(values)
    if len(different) > FEW_VALUES and not any(isinstance(value, str) for value in different):
        return np.asarray(values, dtype=np.float64), {}
    texts = [value if isinstance(value, str) else f"{value:g}" for value in values]
    patients_of: dict[str, set[int]] = {}
    for text, patient in zip(texts, patients.tolist(), strict=True):
        patients_of.setdefault(text, set()).add(patient)
    rare = {text for text, found in patients_of.items() if len(found) < FEW_GROUPS}
    names = [OTHER if text in rare else text for text in texts]
    ordered = sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))
    places = {name: place for place, (name, _) in enumerate(ordered)}
    return np.asarray([places[name] for name in names], dtype=np.float64), places


def _p_value(numbers: Float64, labels: Labels, patients: NDArray[np.intp]) -> float:
    """Return the two-sided p-value of an AUC of 0.5; patients are independent."""
    ranks = (rankdata(numbers) - (len(numbers) + 1) / 2) / len(numbers)
    present, absent = labels.sum(), (1 - labels).sum()
    parts = np.bincount(patients, ranks * np.where(labels == 1, 1 / present, -1 / absent))
    by_patient, by_case = (parts**2).sum(), ranks.var(ddof=1) * (1 / present + 1 / absent)
    fewest = min(len(np.unique(patients[labels == value])) for value in (0, 1))
    # The sum of the parts is the AUC minus 0.5.
    statistic = abs(parts.sum()) / np.sqrt(max(by_patient, by_case))
    return float(2 * t.sf(statistic, fewest - 1))


def _score_categories(categories: Labels, labels: Labels, folds: NDArray[np.intp]) -> Float64:
    """Score each case by the place of its category, ordered by the share of positives elsewhere.

    Places instead of shares, because shares of different folds cannot be compared exactly.
    """
    count = categories.max() + 1
    scores = np.zeros(len(categories))
    for fold in range(FOLDS):
        others = folds != fold
        sizes = np.bincount(categories[others], minlength=count)
        present = np.bincount(categories[others], labels[others], minlength=count)
        shares = (present + labels[others].mean()) / (sizes + 1)  # of an absent category: the mean
        scores[folds == fold] = rankdata(shares)[categories[folds == fold]]
    return scores
