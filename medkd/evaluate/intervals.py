"""Bootstrap intervals: how much a number varies with the choice of patients and seeds.

The method is a seeded percentile bootstrap over groups (patients, if they are known). A resample
is stored as one weight per group: how often it was drawn. A statistic is then computed for all
resamples at once from weights [resamples, samples], without copying samples. Groups are sorted
before drawing, so the order of the samples has no effect. Percentiles use the floor index, as
LUNA16's script does. Resamples in which a statistic is undefined (NaN) are omitted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medkd.evaluate.metrics import build_metric
from medkd.types import Estimate, Interval

Float64 = NDArray[np.float64]
Statistic = Callable[[Float64], Float64]
"""A function from weights [resamples, samples] to one value per resample (NaN: undefined)."""

LEVEL = 0.95
"""Fraction of the bootstrap values inside an interval."""

LEAST_GROUPS = 2
"""With a single group all resamples are equal, so there is no interval."""

_CHUNK_VALUES = 4_000_000  # weights held at once: 32 MB


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSamples:
    """The samples on which two arms are compared.

    Args:
        labels: [N] 0 or 1, or [N, K] for K labels; NaN: not known.
        groups: [N] the patient of each sample, the unit of resampling.
    """

    labels: ArrayLike
    groups: Sequence[str]


@dataclass(frozen=True, slots=True)
class Difference:
    """First arm minus second arm, with interval and p-value."""

    estimate: Estimate
    p_value: float


def draw_weights(groups: int, *, resamples: int, seed: int) -> Float64:
    """Draw resamples of the groups with replacement.

    Args:
        groups: number of groups; each resample draws as many.
        resamples: number of resamples.
        seed: seed of the generator; the same seed draws the same resamples.

    Returns:
        [resamples, groups]: how often each group was drawn; each row sums to `groups`. Without
        rows if there are fewer groups than `LEAST_GROUPS`.
    """
    resamples = resamples if groups >= LEAST_GROUPS else 0
    drawn = np.random.default_rng(seed).integers(groups, size=(resamples, groups))
    flat = drawn + np.arange(resamples)[:, None] * groups
    counts = np.bincount(flat.ravel(), minlength=resamples * groups)
    return counts.reshape(resamples, groups).astype(np.float64)


def bootstrap_values(
    statistics: Sequence[Statistic], groups: Sequence[str], *, resamples: int, seed: int
) -> Float64:
    """Compute several statistics on the same resamples of groups.

    Args:
        statistics: functions from weights [resamples, N] to [resamples].
        groups: [N] the group of each sample.
        resamples: number of resamples.
        seed: seed of the draws.

    Returns:
        [statistics, resamples]; [statistics, 0] if there are fewer groups than `LEAST_GROUPS`.
    """
    names, position = np.unique(np.asarray(list(groups)), return_inverse=True)
    weights = draw_weights(len(names), resamples=resamples, seed=seed)
    rows = max(1, _CHUNK_VALUES // max(1, len(position)))
    values = np.empty((len(statistics), len(weights)))
    for start in range(0, len(weights), rows):
        chunk = weights[start : start + rows][:, position]
        for index, statistic in enumerate(statistics):
            values[index, start : start + rows] = statistic(chunk)
    return values


def interval_of(values: ArrayLike, *, seed: int, unit: str) -> Interval | None:
    """Return the percentile interval of bootstrap values; None if no value is defined.

    Args:
        values: [resamples], one per resample; values that are not finite are omitted.
        seed: seed that the resamples were drawn with.
        unit: name of the resampled unit, for example "patient".
    """
    finite = np.sort(np.asarray(values, dtype=np.float64))
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return None
    outside = (1.0 - LEVEL) / 2.0
    low = finite[int(outside * len(finite))]
    high = finite[min(int((1.0 - outside) * len(finite)), len(finite) - 1)]
    return Interval(float(low), float(high), LEVEL, len(finite), unit, seed)


def bootstrap_interval(
    statistic: Statistic, groups: Sequence[str], *, resamples: int, seed: int, unit: str
) -> Interval | None:
    """Return the bootstrap interval of one statistic; None without resamples or with one group.

    Args:
        statistic: a function from weights [resamples, N] to [resamples].
        groups: [N] the group of each sample.
        resamples: number of resamples; 0 for no interval.
        seed: seed of the draws.
        unit: name of the resampled unit, for example "patient".

    Example:
        >>> values = np.array([1.0, 2.0, 3.0])
        >>> mean = lambda weights: weights @ values / weights.sum(axis=1)
        >>> bootstrap_interval(mean, ["a", "b", "c"], resamples=100, seed=0, unit="patient").low
        1.0
    """
    if resamples < 1:
        return None
    values = bootstrap_values([statistic], groups, resamples=resamples, seed=seed)
    return interval_of(values[0], seed=seed, unit=unit)


def two_way_difference(
    first: Sequence[ArrayLike],
    second: Sequence[ArrayLike],
    samples: LabelledSamples,
    *,
    metric: str,
    resamples: int = 1000,
    seed: int = 0,
) -> Difference:
    """Compare two arms trained with several seeds by the difference of their seed means.

    Each resample draws patients jointly for both arms and all seeds. It also draws seeds: jointly
    if both arms have the same number of seeds (seed n of one arm belongs to seed n of the other),
    otherwise separately for each arm. With one seed per arm this is the paired bootstrap of
    patients. The p-value is two-sided, 2 (1 + n) / (1 + resamples), where n is the smaller of the
    numbers of differences <= 0 and >= 0: Davison & Hinkley, Bootstrap Methods and their
    Application (1997), section 4.4. With several labels the metric is the mean over labels, each
    computed on the samples whose label is known.

    Args:
        first: one array [N] or [N, K] per seed: probabilities (decisions 0 / 1 for a metric at
            a threshold).
        second: the same for the other arm.
        samples: labels and groups.
        metric: a key of `medkd.evaluate.metrics.METRICS`.
        resamples: number of bootstrap resamples.
        seed: seed of the draws.

    Raises:
        ValueError: if an arm has no seed, or scores and labels do not match.
    """
    if not len(first) or not len(second):
        raise ValueError("each arm needs the scores of at least one seed")
    statistics = [mean_over_labels(metric, samples, scores) for scores in (*first, *second)]
    whole = np.ones((1, len(samples.groups)))
    observed = np.array([statistic(whole)[0] for statistic in statistics])
    drawn = bootstrap_values(statistics, samples.groups, resamples=resamples, seed=seed)
    split = len(first)
    means = _seed_means(drawn[:split], drawn[split:], seed=seed)
    unit = "patient" if max(len(first), len(second)) == 1 else "patient and seed"
    value = float(observed[:split].mean() - observed[split:].mean())
    return Difference(
        Estimate(value, interval_of(means, seed=seed, unit=unit) if resamples else None),
        two_sided_p(means),
    )


def two_sided_p(differences: Float64) -> float:
    """Return the two-sided p-value of bootstrap values of a difference, see `two_way_difference`.

    Args:
        differences: [resamples]; values that are not finite are omitted.
    """
    finite = differences[np.isfinite(differences)]
    fewer = min(int((finite <= 0).sum()), int((finite >= 0).sum()))
    return min(1.0, 2.0 * (1 + fewer) / (1 + len(finite)))


def mean_over_labels(metric: str, samples: LabelledSamples, scores: ArrayLike) -> Statistic:
    """Build the mean of a metric over the labels, each computed on its known samples.

    Args:
        metric: a key of `medkd.evaluate.metrics.METRICS`.
        samples: labels and groups.
        scores: of the shape of the labels; probabilities, or decisions for a metric at a threshold.

    Raises:
        ValueError: if scores and labels do not match.
    """
    labels = np.asarray(samples.labels, dtype=np.float64)
    values = np.asarray(scores, dtype=np.float64)
    if labels.shape != values.shape:
        raise ValueError(f"expected scores of the labels' shape {labels.shape}, got {values.shape}")
    parts: list[tuple[NDArray[np.intp], Statistic]] = []
    for label, score in zip(np.atleast_2d(labels.T), np.atleast_2d(values.T), strict=True):
        known = np.flatnonzero(~np.isnan(label))
        parts.append((known, build_metric(metric, label[known], score[known])))

    def mean(weights: Float64) -> Float64:
        every = weights.shape[1]
        values = [
            part(weights if len(known) == every else weights[:, known]) for known, part in parts
        ]
        return np.asarray(np.mean(values, axis=0))

    return mean


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for several comparisons (Holm, Scand J Stat 1979;6:65).

    Args:
        p_values: one per comparison, 0..1.

    Returns:
        Adjusted p-values in the same order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _seed_means(first: Float64, second: Float64, *, seed: int) -> Float64:
    """Draw seeds within each resample and return the difference of means [resamples]."""
    generator = np.random.default_rng([seed, 1])  # a stream separate from the draw of patients
    resamples = first.shape[1]
    drawn = generator.integers(len(first), size=(len(first), resamples))
    drawn_second = drawn
    if len(second) != len(first):
        drawn_second = generator.integers(len(second), size=(len(second), resamples))
    columns = np.arange(resamples)
    return np.asarray(
        first[drawn, columns].mean(axis=0) - second[drawn_second, columns].mean(axis=0)
    )
