"""How well one number of a case, or one category, separates a label on its own: its ROC AUC.

A network that scores little more than such a number may have learned the number instead of the
finding (a shortcut: Geirhos et al. 2020, Nature Machine Intelligence 2:665; for radiographs Zech et
al. 2018, PLoS Medicine 15:e1002683).

The score of a case is cross-fitted by patient: whether high values mean "present", and the order of
the categories by their share of positives, come from the other folds. Chance alone therefore gives
an AUC around 0.5, however many categories there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from medkd.evaluate.caution import FEW_CASES, FEW_GROUPS
from medkd.evaluate.intervals import LEVEL, bootstrap_interval
from medkd.evaluate.metrics import build_metric, compute_metric
from medkd.types import Interval

FOLDS = 5
FEW_VALUES = 10
"""A number with at most so many values is compared as a category: its effect need not be monotone.
"""
OTHER = "others"
"""Category of all values that fewer than `FEW_GROUPS` patients have."""

Float64 = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Separation:
    """The AUC of one number for one label.

    `interval` is by patient; None: not computed, because the AUC is below the asked limit.
    `positives` and `cases` count cases, `patients` the patients.
    """

    auc: float
    interval: Interval | None
    cases: int
    positives: int
    patients: int

    def lower_bound(self, tests: int) -> float:
        """Return the lower end of the interval if so many numbers were tested (Bonferroni).

        The lower half of the bootstrap interval is stretched as that of a normal distribution.
        0 if there is no interval.

        Args:
            tests: numbers and labels that were tested together, at least 1.
        """
        if self.interval is None:
            return 0.0
        width = self.auc - self.interval.low
        return self.auc - width * float(norm.isf(_OUTSIDE / tests) / norm.isf(_OUTSIDE))


_OUTSIDE = (1 - LEVEL) / 2


@dataclass(frozen=True, slots=True, eq=False)
class LabelledCases:
    """The cases of one label: [N] labels 0 or 1, and [N] the patient of each case."""

    labels: ArrayLike
    patients: Sequence[str]


def measure_separation(
    values: Sequence[float] | Sequence[str],
    cases: LabelledCases,
    *,
    least: float = 0.0,
    resamples: int = 1000,
    seed: int = 0,
) -> Separation | None:
    """Measure how well a number or a category separates a label.

    Args:
        values: [N] finite numbers, or [N] names of categories.
        cases: labels and patients.
        least: an AUC below it gets no interval.
        resamples: of the bootstrap by patient; the scores are not fitted again in them.
        seed: of the folds and of the bootstrap.

    Returns:
        None if there is nothing to compare: a class with fewer than `FEW_CASES` cases or
        `FEW_GROUPS` patients, or only one value.

    Raises:
        ValueError: if values, labels and patients differ in number.

    Example:
        >>> values, labels = [0.1, 0.9] * 20, [0, 1] * 20
        >>> cases = LabelledCases(labels, [f"p{n}" for n in range(40)])
        >>> measure_separation(values, cases, resamples=100).auc
        1.0
    """
    labels = np.asarray(cases.labels, dtype=np.int64)
    patients = np.asarray(list(cases.patients))
    if not len(values) == len(labels) == len(patients):
        raise ValueError(f"{len(values)} values, {len(labels)} labels, {len(patients)} patients")
    if not _is_enough(labels, patients) or len(set(values)) < 2:
        return None
    folds = _folds(patients, seed)
    if isinstance(values[0], str) or len(set(values)) <= FEW_VALUES:
        categories = _pooled(np.asarray([str(value) for value in values]), patients)
        if len(set(categories.tolist())) < 2:
            return None
        scores = _score_categories(categories, labels, folds)
    else:
        scores = _score_numbers(np.asarray(values, dtype=np.float64), labels, folds)
    auc = compute_metric("roc_auc", labels, scores)
    interval = None
    if auc >= least:
        statistic = build_metric("roc_auc", labels, scores)
        interval = bootstrap_interval(
            statistic, patients.tolist(), resamples=resamples, seed=seed, unit="patient"
        )
    count = len(np.unique(patients))
    return Separation(auc, interval, len(labels), int(labels.sum()), count)


def _is_enough(labels: Labels, patients: NDArray[np.str_]) -> bool:
    return all(
        (labels == value).sum() >= FEW_CASES
        and len(np.unique(patients[labels == value])) >= FEW_GROUPS
        for value in (0, 1)
    )


def _folds(patients: NDArray[np.str_], seed: int) -> NDArray[np.intp]:
    """Return the fold [N] of each case; all cases of a patient are in one fold."""
    names, position = np.unique(patients, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(names)) % FOLDS
    return np.asarray(fold[position], dtype=np.intp)


def _pooled(categories: NDArray[np.str_], patients: NDArray[np.str_]) -> NDArray[np.str_]:
    """Replace rare categories by one."""
    rare = [
        name
        for name in np.unique(categories)
        if len(np.unique(patients[categories == name])) < FEW_GROUPS
    ]
    return np.where(np.isin(categories, rare), OTHER, categories)


def _score_numbers(values: Float64, labels: Labels, folds: NDArray[np.intp]) -> Float64:
    """Rank the values, downwards in a fold where the other folds say that low values are present."""
    ranks = rankdata(values) - (len(values) + 1) / 2
    scores = np.zeros(len(values))
    for fold in range(FOLDS):
        here, others = folds == fold, folds != fold
        rises = compute_metric("roc_auc", labels[others], ranks[others]) >= 0.5
        scores[here] = ranks[here] if rises else -ranks[here]
    return scores


def _score_categories(
    categories: NDArray[np.str_], labels: Labels, folds: NDArray[np.intp]
) -> Float64:
    """Score each case by the place of its category, ordered by the share of positives elsewhere.

    Places instead of shares, because shares of different folds cannot be compared exactly.
    """
    names, position = np.unique(categories, return_inverse=True)
    scores = np.zeros(len(categories))
    for fold in range(FOLDS):
        others = folds != fold
        counts = np.bincount(position[others], minlength=len(names))
        present = np.bincount(position[others], labels[others], minlength=len(names))
        shares = (present + labels[others].mean()) / (counts + 1)  # of an absent category: the mean
        scores[folds == fold] = rankdata(shares)[position[folds == fold]]
    return scores
