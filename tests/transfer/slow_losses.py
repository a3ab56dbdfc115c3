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


def weighted_soft_label(
    teacher: Array, student: Array, temperature: float, wanted: list[float]
) -> float:
    """A mean over samples in which each counts by its weight."""
    each = [
        soft_label(t[None], s[None], temperature, "forward")
        for t, s in zip(teacher, student, strict=True)
    ]
    return sum(w * v for w, v in zip(wanted, each, strict=True)) / sum(wanted)


def confidence(teacher: Array) -> list[float]:
    """One minus the entropy of each answer, as a share of the entropy of equal classes."""
    found = []
    for z in teacher:
        entropy = -sum(p * math.log(p) for p in softmax(z))
        found.append(1 - entropy / math.log(len(z)))
    return found


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
    """2203.08679, section 3, at temperature 1."""
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


def attention(teacher: Array, student: Array) -> float:
    """1612.03928, equation 2 with F_sum^2, squared; both maps have one size."""
    total = 0.0
    for t, s in zip(teacher, student, strict=True):
        maps = [(a**2).sum(axis=0).flatten() for a in (t, s)]
        q_t, q_s = (q / math.sqrt(sum(v * v for v in q)) for q in maps)
        total += sum((a - b) ** 2 for a, b in zip(q_t, q_s, strict=True))
    return total / len(teacher)


def feature_kl(teacher: Array, student: Array, over: str, temperature: float) -> float:
    """2011.13256, section 3, or the same over channels."""
    values = []
    for t, s in zip(teacher, student, strict=True):
        t, s = t.reshape(len(t), -1) / temperature, s.reshape(len(s), -1) / temperature
        rows = (t, s) if over == "space" else (t.T, s.T)
        values += [kl(softmax(a), softmax(b)) for a, b in zip(*rows, strict=True)]
    return temperature**2 * sum(values) / len(values)


def huber(x: float) -> float:
    return 0.5 * x * x if abs(x) <= 1 else abs(x) - 0.5


def pooled(feature: Array) -> Array:
    return feature.reshape(*feature.shape[:2], -1).mean(axis=2)


def length(v: Array) -> float:
    return math.sqrt(sum(x * x for x in v))


def rkd_distance(teacher: Array, student: Array) -> float:
    """1904.05068, section 3.2.1, as a mean over pairs."""
    both = []
    for rows in (pooled(teacher), pooled(student)):
        n = len(rows)
        apart = [length(rows[i] - rows[j]) for i in range(n) for j in range(i + 1, n)]
        both.append([d / (sum(apart) / len(apart)) for d in apart])
    return sum(huber(a - b) for a, b in zip(*both, strict=True)) / len(both[0])


def rkd_angle(teacher: Array, student: Array) -> float:
    """1904.05068, section 3.2.2, as a mean over triples of different samples."""
    both = []
    for rows in (pooled(teacher), pooled(student)):
        n, cosines = len(rows), []
        for i in range(n):
            for j in range(n):
                for k in range(n):
                    if len({i, j, k}) == 3:
                        a, b = rows[i] - rows[j], rows[k] - rows[j]
                        cosines.append(float(a @ b) / (length(a) * length(b)))
        both.append(cosines)
    return sum(huber(a - b) for a, b in zip(*both, strict=True)) / len(both[0])


def similarity(teacher: Array, student: Array) -> float:
    """1907.09682, section 3."""
    both = []
    for feature in (teacher, student):
        rows = feature.reshape(len(feature), -1)
        products = [[float(a @ b) for b in rows] for a in rows]
        both.append([[v / length(np.array(row)) for v in row] for row in products])
    n = len(teacher)
    return sum((both[0][i][j] - both[1][i][j]) ** 2 for i in range(n) for j in range(n)) / n**2


def pkt(teacher: Array, student: Array) -> float:
    """1803.10837, section 3, with the cosine kernel, as a mean over samples."""
    both = []
    for rows in (pooled(teacher), pooled(student)):
        shares = []
        for i, a in enumerate(rows):
            others = [b for j, b in enumerate(rows) if j != i]
            kernel = [(float(a @ b) / (length(a) * length(b)) + 1) / 2 for b in others]
            shares.append([v / sum(kernel) for v in kernel])
        both.append(shares)
    return sum(kl(p, q) for p, q in zip(*both, strict=True)) / len(teacher)


def subclass_shares(
    embedding: Array, margin: Array, label: list[int], *, rotation: Array, temperatures: Array
) -> list[list[float]]:
    """The subclass probabilities of a binary teacher, class after class, as documented.

    `temperatures` are those of the classes and of the subclasses.
    """
    centred = embedding - embedding.mean(axis=0)
    slope = np.linalg.lstsq(centred, margin - margin.mean(), rcond=None)[0]
    slope = slope / length(slope)
    count = len(rotation)
    divided = []
    for c in (0, 1):
        own = np.array([e for e, y in zip(embedding, label, strict=True) if y == c])
        mean = own.mean(axis=0)
        free = [e - mean - ((e - mean) @ slope) * slope for e in own]
        covariance = sum(np.outer(e, e) for e in free) / len(free)
        variance, axes = np.linalg.eigh(covariance)
        first = [axes[:, -1 - s] for s in range(count)]
        first = [axis * np.sign(axis[np.abs(axis).argmax()]) for axis in first]
        scale = math.sqrt(sum(variance[-count:]) / count)
        divided.append((mean, [axis / scale for axis in first]))
    rows = []
    for e, m in zip(embedding, margin, strict=True):
        of_class = softmax(np.array([0.0, m]) / temperatures[0])
        row = []
        for share, (mean, axes) in zip(of_class, divided, strict=True):
            places = rotation @ np.array([(e - mean) @ axis for axis in axes])
            row += [share * part for part in softmax(places / temperatures[1])]
        rows.append(row)
    return rows


def coral(first: Array, second: Array) -> float:
    """1607.01719, equations 1 to 3, on features averaged over space."""
    matrices = []
    for feature in (first, second):
        rows = pooled(feature)
        count, width = rows.shape
        mean = [sum(rows[n, a] for n in range(count)) / count for a in range(width)]
        matrices.append(
            [
                [
                    sum((r[a] - mean[a]) * (r[b] - mean[b]) for r in rows) / (count - 1)
                    for b in range(width)
                ]
                for a in range(width)
            ]
        )
    width = len(matrices[0])
    pairs = [(a, b) for a in range(width) for b in range(width)]
    total = sum((matrices[0][a][b] - matrices[1][a][b]) ** 2 for a, b in pairs)
    return total / (4 * width**2)


def mmd(first: Array, second: Array) -> float:
    """Gretton et al. 2012, equation 4, with five kernels around the lower median."""
    x, y = pooled(first), pooled(second)
    joint = [*x, *y]

    def apart(a: Array, b: Array) -> float:
        return sum((p - q) ** 2 for p, q in zip(a, b, strict=True))

    size = len(joint)
    every = sorted(apart(joint[i], joint[j]) for i in range(size) for j in range(i))
    median = every[(len(every) - 1) // 2]

    def k(a: Array, b: Array) -> float:
        return sum(math.exp(-apart(a, b) / (f * median)) for f in (0.25, 0.5, 1, 2, 4)) / 5

    count, total = len(x), 0.0
    for i in range(count):
        for j in range(count):
            if i != j:
                total += k(x[i], x[j]) + k(y[i], y[j]) - k(x[i], y[j]) - k(x[j], y[i])
    return total / (count * (count - 1))
