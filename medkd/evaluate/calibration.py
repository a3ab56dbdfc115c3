"""Calibration of probabilities: of the samples with probability 0.8, 80 % should be positive.

Labels are binary; with several labels each output is calibrated separately, and exclusive classes
share one temperature. Temperature scaling
divides the logits by one number fitted on validation (Guo et al., ICML 2017). Marks on whole scans
are mostly false, so their logits need a shift as well (Platt, 1999). Neither changes the ranking.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]

TEMPERATURE_RANGE = (0.05, 20.0)
"""Range of the search; logits that separate the labels perfectly give the lower bound."""


class Scaling(NamedTuple):
    """probability = sigmoid(logit / temperature + shift), with temperature > 0."""

    temperature: float
    shift: float


class ReliabilityBin(NamedTuple):
    """Samples of similar probability: mean probability, observed share of positives, number."""

    probability: float
    observed: float
    samples: int


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Find the temperature T that minimises the negative log-likelihood of sigmoid(logit / T).

    Args:
        logits: any shape, one logit per label.
        labels: the same shape, 0 or 1.

    Returns:
        Temperature > 0; above 1 if the model was overconfident.

    Raises:
        ValueError: if shapes differ, a logit is not finite, or all labels are equal.

    Example:
        >>> round(fit_temperature([4.0, 4.0, 4.0, -4.0], [1, 1, 0, 0]), 2)  # log 3 = 4 / T
        3.64
    """
    from scipy.optimize import minimize_scalar  # slow to import and rarely needed

    logit, label = _checked(logits, labels)
    sign = 2.0 * label - 1.0

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -sign * logit / np.exp(log_temperature)).mean())

    low, high = np.log(TEMPERATURE_RANGE)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def fit_softmax_temperature(logits: ArrayLike, classes: ArrayLike) -> float:
    """Find the temperature T that minimises the negative log-likelihood of softmax(logits / T).

    Guo et al. 2017 (1706.04599), section 4.2.

    Args:
        logits: [N, K].
        classes: [N] the class of each sample, 0..K-1.

    Returns:
        Temperature in `TEMPERATURE_RANGE`; above 1 if the model was overconfident.

    Raises:
        ValueError: if shapes differ, there is no sample, a logit is not finite, or a class is
            outside 0..K-1.

    Example:
        >>> logits = [[4.0, 0.0, -99.0]] * 4
        >>> round(fit_softmax_temperature(logits, [0, 0, 0, 1]), 2)  # log 3 = 4 / T
        3.64
    """
    from scipy.optimize import minimize_scalar  # slow to import and rarely needed
    from scipy.special import log_softmax

    logit, number = np.asarray(logits, dtype=np.float64), np.asarray(classes, dtype=np.int64)
    if logit.ndim != 2 or number.shape != logit.shape[:1] or not len(number):
        raise ValueError(
            f"expected logits [N, K] and classes [N], got {logit.shape} and {number.shape}"
        )
    if not np.isfinite(logit).all() or number.min() < 0 or number.max() >= logit.shape[1]:
        raise ValueError(f"expected finite logits and classes of 0..{logit.shape[1] - 1}")
    rows = np.arange(len(number))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logit / np.exp(log_temperature), axis=1)[rows, number].mean())

    low, high = np.log(TEMPERATURE_RANGE)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def fit_scaling(logits: ArrayLike, labels: ArrayLike) -> Scaling:
    """Find temperature and shift that minimise the cross-entropy of sigmoid(logit / T + shift).

    The targets are those of Platt (Advances in Large Margin Classifiers, 1999, section 2.2):
    (P + 1) / (P + 2) for the P positive and 1 / (N + 2) for the N negative labels. With few
    positives they keep the probabilities away from 0 and 1.

    Args:
        logits: any shape, one logit per label.
        labels: the same shape, 0 or 1.

    Returns:
        Temperature in `TEMPERATURE_RANGE`, and shift. The upper end means that the logits do not
        separate the classes.

    Raises:
        ValueError: if shapes differ, a logit is not finite, or all labels are equal.

    Example:
        >>> logits, labels = [2.0] * 4 + [-2.0] * 4, [1, 1, 1, 0, 1, 0, 0, 0]
        >>> [round(value, 2) for value in fit_scaling(logits, labels)]  # log 2 = 2 / T
        [2.89, 0.0]
    """
    from scipy.optimize import minimize  # slow to import and rarely needed

    logit, label = (values.ravel() for values in _checked(logits, labels))
    positives, negatives = label.sum(), (1.0 - label).sum()
    target = np.where(label == 1.0, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(at: Float64) -> tuple[float, Float64]:
        scaled = logit * at[0] + at[1]
        excess = 1.0 / (1.0 + np.exp(-np.clip(scaled, -700, 700))) - target
        value = (np.logaddexp(0.0, scaled) - target * scaled).mean()
        return float(value), np.array([(excess * logit).mean(), excess.mean()])

    low, high = TEMPERATURE_RANGE
    found = minimize(
        loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[(1 / high, 1 / low), (None, None)],
        options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000},
    )  # fmt: skip
    return Scaling(1.0 / float(found.x[0]), float(found.x[1]))


def mean_log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean negative log-likelihood of labels in nats.

    Args:
        labels: [N] 0 or 1.
        probabilities: [N] 0..1; those within 1e-15 of 0 or 1 are moved to that distance.
    """
    label = np.asarray(labels, dtype=np.float64)
    probability = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-15, 1 - 1e-15)
    return float(-np.where(label == 1.0, np.log(probability), np.log1p(-probability)).mean())


def _checked(logits: ArrayLike, labels: ArrayLike) -> tuple[Float64, Float64]:
    logit = np.asarray(logits, dtype=np.float64)
    label = np.asarray(labels, dtype=np.float64)
    if logit.shape != label.shape:
        raise ValueError(f"logits {logit.shape} and labels {label.shape} differ in shape")
    if not np.isfinite(logit).all():
        raise ValueError("logits must be finite")
    if set(np.unique(label).tolist()) != {0.0, 1.0}:
        raise ValueError("fitting a calibration needs labels of both classes, 0 and 1")
    return logit, label


def reliability_curve(
    labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 10
) -> list[ReliabilityBin]:
    """Compare mean probability and observed share of positives in bins; omit empty bins.

    Args:
        labels: [N] 0 or 1.
        probabilities: [N] 0..1.
        bins: number of bins of equal width in 0..1.

    Raises:
        ValueError: if there is no sample, the shapes differ, or a probability is outside 0..1.
    """
    label = np.asarray(labels, dtype=np.float64)
    probability = np.asarray(probabilities, dtype=np.float64)
    if not len(label) or label.shape != probability.shape:
        raise ValueError(f"expected [N] labels and probabilities, N >= 1, got {label.shape}")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("probabilities must lie in 0..1")
    number = np.minimum((probability * bins).astype(int), bins - 1)
    count = np.bincount(number, minlength=bins)
    filled = np.flatnonzero(count)
    mean = np.bincount(number, weights=probability, minlength=bins)[filled] / count[filled]
    observed = np.bincount(number, weights=label, minlength=bins)[filled] / count[filled]
    rows = zip(mean.tolist(), observed.tolist(), count[filled].tolist(), strict=True)
    return [ReliabilityBin(*row) for row in rows]


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 10
) -> float:
    """Return the expected calibration error, for the probability of the positive class.

    It is the mean absolute difference between mean probability and observed share of positives
    over the bins, weighted by their number of samples (Naeini et al., AAAI 2015).

    Args:
        labels: [N] 0 or 1.
        probabilities: [N] 0..1.
        bins: number of bins of equal width in 0..1.
    """
    rows = reliability_curve(labels, probabilities, bins=bins)
    samples = sum(row.samples for row in rows)
    return sum(row.samples * abs(row.probability - row.observed) for row in rows) / samples
