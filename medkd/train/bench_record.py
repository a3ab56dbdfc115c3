"""The raw rows of a bench: one an arm and cell, with machine and versions inside each.

Everything a table needs stands in them, the probabilities of every test sample included, so that
a table can be drawn again from the file alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medkd.train.plan import Role
from medkd.types import RunRecord

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BenchSamples:
    """What the arms of some cells were scored on: labels 0 or 1, and the patient of each."""

    labels: tuple[int, ...]
    patients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One arm of one cell.

    `fold` is None where the official test part was scored. `probabilities` [N] are calibrated,
    `threshold` was frozen on validation. `kl_to_teacher` and `control_kl_to_teacher` are of
    students (see `types.Fidelity`).
    """

    seed: int
    fold: int | None
    arm: str
    role: Role
    model: str
    parameters: int
    validation: dict[str, float]
    test: dict[str, float]
    threshold: float
    probabilities: tuple[float, ...]
    record: RunRecord
    teacher: str | None = None
    kl_to_teacher: float | None = None
    control_kl_to_teacher: float | None = None


@dataclass(frozen=True, slots=True)
class BenchComparison:
    """Two arms and the metric that they are compared by."""

    first: str
    second: str
    metric: str


@dataclass(frozen=True, slots=True)
class PublishedScore:
    """A row of somebody else's."""

    name: str
    roc_auc: float
    accuracy: float
    source: str


@dataclass(frozen=True, slots=True)
class BenchRecord:
    """A whole bench; `samples` by the name of the part that was scored ("test", "fold-0")."""

    name: str
    dataset: str
    protocol: Literal["test", "cross_validation"]
    primary: BenchComparison
    headline: str
    samples: dict[str, BenchSamples]
    rows: tuple[BenchRow, ...]
    published: tuple[PublishedScore, ...] = ()
    notes: tuple[str, ...] = ()
    bootstrap: int = 1000
    bootstrap_seed: int = 0
    schema_version: Literal[1] = 1

    def arms(self) -> tuple[str, ...]:
        """Return the arms in the order of their first rows."""
        return tuple(dict.fromkeys(row.arm for row in self.rows))

    def of(self, arm: str) -> tuple[BenchRow, ...]:
        """Return the rows of an arm, by seed and fold."""
        found = [row for row in self.rows if row.arm == arm]
        return tuple(sorted(found, key=lambda row: (row.seed, row.fold or 0)))

    def by_seed(self, arm: str) -> Iterator[tuple[BenchRow, ...]]:
        """Yield the rows of each seed of an arm: one, or one a fold."""
        rows = self.of(arm)
        for seed in dict.fromkeys(row.seed for row in rows):
            yield tuple(row for row in rows if row.seed == seed)

    def scored_samples(self) -> BenchSamples:
        """Return all samples that one seed was scored on, fold after fold."""
        parts = [self.samples[name] for name in sorted(self.samples)]
        return BenchSamples(
            tuple(label for part in parts for label in part.labels),
            tuple(patient for part in parts for patient in part.patients),
        )


def part_name(fold: int | None) -> str:
    """Name the part of the data that a cell scores."""
    return "test" if fold is None else f"fold-{fold}"


def scores_of(rows: tuple[BenchRow, ...], metric: str) -> Float64:
    """Return what a metric takes: probabilities, or decisions 0 / 1 at a threshold.

    Args:
        rows: of one seed, fold after fold.
        metric: "roc_auc", "pr_auc", "brier", "accuracy@half" or "accuracy@frozen".
    """
    parts = []
    for row in rows:
        probability = np.array(row.probabilities)
        if metric == "accuracy@half":
            probability = (probability >= 0.5).astype(np.float64)
        elif metric == "accuracy@frozen":
            probability = (probability >= row.threshold).astype(np.float64)
        parts.append(probability)
    return np.concatenate(parts)
