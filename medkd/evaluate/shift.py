"""How far apart two sites are: intensities, kernel distance of features, a classifier of sites.

Features are [N, C], one row for each sample; `first` [N] bool marks the samples of the first site.
Samples of one patient are not independent: patients are exchanged and held out as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Bandwidths of the kernels, relative to the median squared distance (as `transfer.mmd`)."""

MOST_FOLDS = 5
LEAST_PATIENTS = 2
"""With fewer patients at a site, no patient of it can be held out."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean, standard deviation and quantiles (by their share, 0..1) of values."""

    mean: float
    sd: float
    quantiles: dict[float, float]


def spread_of_counts(values: NDArray[np.int64], counts: NDArray[np.int64]) -> Spread:
    """Describe values that occur several times each.

    The quantile q is the smallest value at or below which at least the share q lies (definition 1
    of Hyndman and Fan 1996). The standard deviation divides by the number of values.

    Args:
        values: [M] different values in ascending order.
        counts: [M] how often each occurs; at least one is positive.

    Example:
        >>> spread_of_counts(np.array([0, 10]), np.array([3, 1])).mean
        2.5
    """
    total = int(counts.sum())
    if total < 1:
        raise ValueError("expected at least one value, got none")
    mean = float(values @ counts / total)
    below = np.cumsum(counts)
    rows = [int(np.searchsorted(below, q * total - 1e-9)) for q in QUANTILES]
    return Spread(
        mean,
        float(np.sqrt(((values - mean) ** 2) @ counts / total)),
        {q: float(values[row]) for q, row in zip(QUANTILES, rows, strict=True)},
    )


def gaussian_kernels(features: Float64) -> Float64:
    """Return the mean of five Gaussian kernels of all pairs of samples.

    k(a, b) = mean_f exp(-|a - b|^2 / (f m)),   f = 1/4, 1/2, 1, 2, 4

    m is the median of |a - b|^2 over all pairs (Gretton et al. 2012, JMLR 13:723, section 8).

    Args:
        features: [N, C], N >= 2.

    Returns:
        [N, N], 0..1.
    """
    centred = features - features.mean(axis=0)
    products = centred @ centred.T
    lengths = np.diag(products)
    distance = np.maximum(lengths[:, None] + lengths[None, :] - 2 * products, 0.0)
    median = max(float(np.median(distance[np.triu_indices(len(features), 1)])), 1e-12)
    return np.asarray(np.mean([np.exp(-distance / (f * median)) for f in BANDWIDTHS], axis=0))


def squared_mmd(kernel: Float64, first: Bool) -> float:
    """Squared maximum mean discrepancy, unbiased (Gretton et al. 2012, JMLR 13:723, equation 3).

    1/(m(m-1)) sum_{i != j} k(x_i, x_j) + 1/(n(n-1)) sum_{i != j} k(y_i, y_j)
    - 2/(mn) sum_ij k(x_i, y_j)

    Args:
        kernel: [N, N] result of `gaussian_kernels`.
        first: [N] which samples are x; the others are y.

    Returns:
        At most 2; about 0 if both sites have the same distribution, then often below 0. NaN if a
        site has fewer than 2 samples.
    """
    return float(_mmds(kernel, first[:, None].astype(np.float64))[0])


def permutation_p(
    kernel: Float64, first: Bool, patients: Sequence[str], *, resamples: int, seed: int
) -> float:
    """Return the p-value of `squared_mmd` if patients are exchanged between the sites.

    p = (1 + n) / (1 + resamples), n exchanges with at least the observed distance (Phipson and
    Smyth 2010, Stat Appl Genet Mol Biol 9:39). All samples of a patient at a site move together,
    and each site keeps its number of patients.

    Args:
        kernel: [N, N] result of `gaussian_kernels`.
        first: [N] the samples of the first site.
        patients: [N] the patient of each sample.
        resamples: number of exchanges.
        seed: seed of the exchanges.
    """
    names = [f"{int(one)} {patient}" for one, patient in zip(first, patients, strict=True)]
    _, start, unit = np.unique(names, return_index=True, return_inverse=True)
    of_unit = first[start]
    generator = np.random.default_rng(seed)
    drawn = np.stack([generator.permutation(of_unit)[unit] for _ in range(resamples)], axis=1)
    found = _mmds(kernel, drawn.astype(np.float64))
    observed = squared_mmd(kernel, first)
    # A site of one sample has no distance; counting such an exchange cannot lower p.
    reached = int((np.isnan(found) | (found >= observed - 1e-12)).sum())
    return (1 + reached) / (1 + resamples)


def site_auc(features: Float64, first: Bool, patients: Sequence[str], *, seed: int) -> float | None:
    """Return the ROC AUC of a classifier that recognises the site from a sample's features.

    A logistic regression on standardised features (L2 penalty, C = 1, equal weight of both sites)
    is fitted without the patients of a fold and scored on them (a classifier two-sample test:
    Lopez-Paz and Oquab 2017, 1610.06545). The mean over the folds is returned: 0.5 if the sites
    cannot be distinguished, 1 if every sample shows its site.

    Args:
        features: [N, C].
        first: [N] the samples of the first site.
        patients: [N] the patient of each sample; a patient is in one fold only.
        seed: seed of the folds.

    Returns:
        0..1; None if a site has fewer than `LEAST_PATIENTS` patients.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    named = np.asarray(list(patients))
    fewest = min(len(set(named[first])), len(set(named[~first])))
    if fewest < LEAST_PATIENTS:
        return None
    folds = StratifiedGroupKFold(min(MOST_FOLDS, fewest), shuffle=True, random_state=seed)
    areas = []
    for fitted, held in folds.split(features, first, named):
        if len(set(first[fitted])) < 2 or len(set(first[held])) < 2:
            continue
        model = make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
        )
        model.fit(features[fitted], first[fitted])
        areas.append(roc_auc_score(first[held], model.decision_function(features[held])))
    return float(np.mean(areas)) if areas else None


def _mmds(kernel: Float64, drawn: Float64) -> Float64:
    """Return the distance for each column of `drawn` [N, R], which is 1 for samples x."""
    pairs = kernel - np.diag(np.diag(kernel))
    other = 1.0 - drawn
    to_first = pairs @ drawn
    m, n = drawn.sum(axis=0), other.sum(axis=0)
    within = (drawn * to_first).sum(axis=0)
    across = (other * to_first).sum(axis=0)
    rest = (other * (pairs @ other)).sum(axis=0)
    enough = (m >= 2) & (n >= 2)
    m, n = np.where(enough, m, 2), np.where(enough, n, 2)
    found = within / (m * (m - 1)) + rest / (n * (n - 1)) - 2 * across / (m * n)
    return np.where(enough, found, np.nan)
