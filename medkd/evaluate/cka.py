"""Linear centred kernel alignment (CKA): how alike two layers arrange the same samples.

Kornblith et al. 2019 (1905.00414), equations 3 and 4: CKA(K, L) = HSIC(K, L) / sqrt(HSIC(K, K)
HSIC(L, L)), here with linear kernels K = X X^T and L = Y Y^T of the features X and Y of n samples.
It is 1 for features that are equal up to an orthogonal transform, a scale and a shift; other
invertible linear maps change it.

HSIC is estimated without bias in minibatches (HSIC_1 of Song et al. 2012; minibatch CKA of Nguyen
et al. 2021, 2010.15327): numerator and denominator are means over the batches. Features that are
independent of each other then have a CKA around 0, sometimes below it, also if they are wider than
the batch is large.

Nothing here states whether a transfer took place: that is measured on the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

LEAST_SAMPLES = 4
"""Samples that a batch needs: the unbiased estimator divides by n - 3."""

Float64: TypeAlias = NDArray[np.float64]
Features: TypeAlias = NDArray[np.float32] | Float64


def linear_cka(batches: Iterable[tuple[Sequence[Features], Sequence[Features]]]) -> Float64:
    """Compute the CKA of every layer of one network with every layer of another.

    Args:
        batches: for each batch of n >= 4 samples the features [n, ...] of A layers of the first
            network and of B layers of the second, always in the same order. A feature map is
            compared as one long vector.

    Returns:
        [A, B] in -1..1; NaN if a layer is constant over the samples of each batch.

    Raises:
        ValueError: if there is no batch, a batch is too small, or its features are of different
            samples.

    Example:
        >>> features = np.random.default_rng(0).normal(size=(8, 3))
        >>> linear_cka([([features], [2 * features + 1])]).round(6).tolist()
        [[1.0]]
    """
    crossed: list[Float64] = []
    own: list[tuple[Float64, Float64]] = []
    for first, second in batches:
        one, other = (np.stack([centred_gram(layer) for layer in side]) for side in (first, second))
        if one.shape[1] != other.shape[1]:
            raise ValueError(f"features of {one.shape[1]} and of {other.shape[1]} samples")
        crossed.append(_products(one, other))
        own.append((_own_products(one), _own_products(other)))
    if not crossed:
        raise ValueError("expected at least one batch")
    of_first, of_second = (np.mean(parts, axis=0) for parts in zip(*own, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Float64 = np.mean(crossed, axis=0) / np.sqrt(np.outer(of_first, of_second))
    bounded: Float64 = np.where(np.isfinite(found), found, np.nan).clip(-1.0, 1.0)
    return bounded


def unbiased_hsic(first: Features, second: Features) -> float:
    """Estimate HSIC with linear kernels, without bias (HSIC_1 of Song et al. 2012).

    Args:
        first: [n, ...] features.
        second: [n, ...] features of the same samples.

    Raises:
        ValueError: if there are fewer than 4 samples, or different numbers of them.
    """
    if len(first) != len(second):
        raise ValueError(f"features of {len(first)} and of {len(second)} samples")
    return float(_products(centred_gram(first)[None], centred_gram(second)[None])[0, 0])


def centred_gram(features: Features) -> Float64:
    """Return the U-centred linear kernel of features.

    Szekely and Rizzo 2014, definition 2: the rows and columns sum to 0 without the diagonal, which
    is 0. The product of two such matrices, summed over all elements and divided by n (n - 3), is
    HSIC_1 of Song et al. 2012.

    Args:
        features: [n, ...].

    Returns:
        [n, n]; exactly 0 if all samples have the same features.

    Raises:
        ValueError: if there are fewer than 4 samples.
    """
    n = len(features)
    if n < LEAST_SAMPLES:
        raise ValueError(f"CKA needs at least {LEAST_SAMPLES} samples in a batch, got {n}")
    rows = np.asarray(features, dtype=np.float64).reshape(n, -1)
    rows = rows - rows[0]  # exact for equal rows, which a mean is not
    rows = rows - rows.mean(axis=0)  # a shift changes nothing but the rounding
    gram: Float64 = rows @ rows.T
    np.fill_diagonal(gram, 0.0)
    sums = gram.sum(axis=0)
    gram -= (sums[:, None] + sums[None, :]) / (n - 2)
    gram += sums.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(gram, 0.0)
    return gram


def _products(first: Float64, second: Float64) -> Float64:
    """Return HSIC [A, B] of U-centred kernels [A, n, n] and [B, n, n]."""
    n = first.shape[1]
    product: Float64 = first.reshape(len(first), -1) @ second.reshape(len(second), -1).T
    found: Float64 = product / (n * (n - 3))
    return found


def _own_products(grams: Float64) -> Float64:
    """Return HSIC [A] of each U-centred kernel [A, n, n] with itself."""
    n = grams.shape[1]
    found: Float64 = np.square(grams).sum(axis=(1, 2)) / (n * (n - 3))
    return found


def batch_sizes(samples: int, *, batch: int) -> tuple[int, ...]:
    """Divide samples into batches of at least `batch` and nearly equal size.

    Args:
        samples: their number.
        batch: the least size; fewer samples are one batch.

    Example:
        >>> batch_sizes(70, batch=32), batch_sizes(10, batch=32)
        ((35, 35), (10,))
    """
    count = max(1, samples // batch)
    small = math.floor(samples / count)
    return tuple(small + (number < samples % count) for number in range(count))
