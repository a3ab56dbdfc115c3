"""The transfer losses as slow sums over samples, written from the papers and not from our code.

Arrays are float64. Features are [B, C, *spatial]; logits are [B, K].
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def softmax(values: Array) -> list[float]:
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def soft_label(teacher: Array, student: Array, temperature: float, divergence: str) -> float:
    """Hinton 2015, section 2, one softmax per sample."""
    total = 0.0
    for t, s in zip(teacher, student, strict=True):
        p, q = softmax(t / temperature), softmax(s / temperature)
        forward, reverse = kl(p, q), kl(q, p)
        total += {"forward": forward, "reverse": reverse}.get(divergence, (forward + reverse) / 2)
    return temperature**2 * total / len(teacher)


def bernoulli(teacher: Array, student: Array, temperature: float, divergence: str) -> float:
    """One sigmoid per label: the divergence of two classes with the logits 0 and z."""
    labels = (
        [np.array([[0.0, z]]) for z in teacher.flat],
        [np.array([[0.0, z]]) for z in student.flat],
    )
    each = [soft_label(t, s, temperature, divergence) for t, s in zip(*labels, strict=True)]
    return sum(each) / len(each)


def logit_mse(teacher: Array, student: Array) -> float:
    """Hinton 2015, section 2.1, with logits of mean 0 in each sample."""
    total = 0.0
    for t, s in zip(teacher, student, strict=True):
        t, s = t - sum(t) / len(t), s - sum(s) / len(s)  # as the paper assumes
        total += sum((a - b) ** 2 for a, b in zip(t, s, strict=True)) / (2 * len(t))
    return total / len(teacher)


def standardised(teacher: Array, student: Array, temperature: float) -> float:
    """2403.01427: subtract the mean, divide by the standard deviation, then soft labels."""

    def scores(rows: Array) -> Array:
        done = []
        for z in rows:
            mean = sum(z) / len(z)
            spread = math.sqrt(sum((v - mean) ** 2 for v in z) / (len(z) - 1))
            done.append([(v - mean) / spread for v in z])
        return np.array(done)

    return soft_label(scores(teacher), scores(student), temperature, "forward")


def dkd(teacher: Array, student: Array, label: list[int], *, weights: tuple[float, float]) -> float:
    """2203.08679, equation 7, at temperature 1."""
    total = 0.0
    for t, s, y in zip(teacher, student, label, strict=True):
        p, q = softmax(t), softmax(s)
        target = kl([p[y], 1 - p[y]], [q[y], 1 - q[y]])
        rest = kl(
            [p[k] / (1 - p[y]) for k in range(len(p)) if k != y],
            [q[k] / (1 - q[y]) for k in range(len(q)) if k != y],
        )
        total += weights[0] * target + weights[1] * rest
    return total / len(teacher)
