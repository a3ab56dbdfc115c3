"""The raw rows of a bench, and the table that is made from them alone.

There is one row per arm and cell. Each row holds machine, versions, and the probabilities of all
test samples. Intervals come from a two-way bootstrap: over patients, jointly for all arms, and
over seeds. One comparison is primary and is named before the run; the p-values of all others are
adjusted (Holm).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medkd.config.run_settings import CONTROL, SELF_TRAINING
from medkd.evaluate.caution import few_cases_warning, sentence
from medkd.evaluate.intervals import (
    LabelledSamples,
    bootstrap_values,
    holm,
    interval_of,
    mean_over_labels,
    two_way_difference,
)
from medkd.train.compare import TRANSFER_SHARE
from medkd.train.plan import Role
from medkd.types import Estimate, RunRecord

Float64 = NDArray[np.float64]

WORDS = {
    "roc_auc": "ROC AUC",
    "pr_auc": "average precision",
    "accuracy@half": "accuracy at .5",
    "accuracy@frozen": "accuracy at the fixed threshold",
    "balanced_accuracy@frozen": "balanced accuracy at the fixed threshold",
}

METRICS = ("roc_auc", "accuracy@half", "accuracy@frozen", "balanced_accuracy@frozen")
"""The metrics of the table of a bench."""

_EARLIER_METRICS = METRICS[:3]
"""Those of a record that does not name its metrics: its differences were adjusted for these."""


@dataclass(frozen=True, slots=True)
class BenchSamples:
    """The N samples on which the arms of a cell were scored.

    `labels` [N K] are 0, 1 or None (not known), sample by sample; `patients` [N].
    """

    labels: tuple[int | None, ...]
    patients: tuple[str, ...]

    @property
    def by_label(self) -> Float64:
        """Labels [N, K], NaN where not known."""
        return np.array(self.labels, dtype=np.float64).reshape(len(self.patients), -1)


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One arm of one cell.

    `fold` is None if the official test part was scored. `probabilities` [N K] are calibrated,
    sample by sample. `threshold` was chosen on validation: one number, or [K] for K labels, over
    which `validation` and `test` are means. Only students have `kl_to_teacher` and
    those of the arms without its teacher (see `types.Fidelity`). `labels` are those of training and
    validation. `cpm` is that of marks on whole scans, interpolated (None: not searched).
    """

    seed: int
    fold: int | None
    arm: str
    role: Role
    model: str
    parameters: int
    validation: dict[str, float]
    test: dict[str, float]
    threshold: float | tuple[float, ...]
    probabilities: tuple[float, ...]
    record: RunRecord
    teacher: str | None = None
    kl_to_teacher: float | None = None
    control_kl_to_teacher: float | None = None
    labels: int = 0
    cpm: float | None = None
    self_training_kl_to_teacher: float | None = None


@dataclass(frozen=True, slots=True)
class BenchComparison:
    """Two arms and the metric by which they are compared."""

    first: str
    second: str
    metric: str


@dataclass(frozen=True, slots=True)
class PublishedScore:
    """A published result of another method."""

    name: str
    roc_auc: float
    accuracy: float
    source: str


@dataclass(frozen=True, slots=True)
class BenchRecord:
    """A whole bench; `samples` maps each scored part ("test", "fold-0", ...) to its samples.

    `metrics` are the columns of its table, and what its arms are compared by. `label_names` are
    those of several labels, over which all scores are means; one label has no name here.
    """

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
    metrics: tuple[str, ...] = _EARLIER_METRICS
    label_names: tuple[str, ...] = ()
    schema_version: Literal[1] = 1

    def arms(self) -> tuple[str, ...]:
        """Return the arms in the order of their first rows."""
        return tuple(dict.fromkeys(row.arm for row in self.rows))

    def of(self, arm: str) -> tuple[BenchRow, ...]:
        """Return the rows of an arm, by seed and fold."""
        found = [row for row in self.rows if row.arm == arm]
        return tuple(sorted(found, key=lambda row: (row.seed, row.fold or 0)))

    def by_seed(self, arm: str) -> Iterator[tuple[BenchRow, ...]]:
        """Yield the rows of each seed of an arm: one row, or one per fold."""
        rows = self.of(arm)
        for seed in dict.fromkeys(row.seed for row in rows):
            yield tuple(row for row in rows if row.seed == seed)

    def scored_samples(self) -> BenchSamples:
        """Return all samples on which one seed was scored, fold by fold."""
        parts = [self.samples[name] for name in sorted(self.samples)]
        return BenchSamples(
            tuple(label for part in parts for label in part.labels),
            tuple(patient for part in parts for patient in part.patients),
        )


@dataclass(frozen=True, slots=True)
class SeedMean:
    """A metric of an arm: its mean over seeds with an interval, and its SD over seeds."""

    estimate: Estimate
    seed_sd: float
    seeds: int


@dataclass(frozen=True, slots=True)
class BenchDifference:
    """First arm minus second: difference of seed means, its interval and adjusted p-value."""

    comparison: BenchComparison
    estimate: Estimate
    p_value: float
    primary: bool


def scores_of(rows: tuple[BenchRow, ...], metric: str) -> Float64:
    """Return the input of a metric: probabilities, or decisions 0 / 1 at a threshold.

    Args:
        rows: the rows of one seed, fold by fold.
        metric: "roc_auc", "pr_auc", "brier", "accuracy@half", or accuracy or
            balanced_accuracy "@frozen".

    Returns:
        [N, K] for K labels.
    """
    parts = []
    for row in rows:
        probability = np.array(row.probabilities).reshape(-1, np.size(row.threshold))
        if metric == "accuracy@half":
            probability = (probability >= 0.5).astype(np.float64)
        elif metric.endswith("@frozen"):
            probability = (probability >= np.array(row.threshold)).astype(np.float64)
        parts.append(probability)
    return np.concatenate(parts)


def seed_mean(record: BenchRecord, arm: str, metric: str) -> SeedMean:
    """Average a metric over an arm's labels and seeds.

    Args:
        record: of the bench.
        arm: one of its arms.
        metric: see `scores_of`.
    """
    samples = record.scored_samples()
    labelled = LabelledSamples(samples.by_label, samples.patients)
    statistics = [
        mean_over_labels(_plain(metric), labelled, scores_of(rows, metric))
        for rows in record.by_seed(arm)
    ]
    values = np.array([s(np.ones((1, len(samples.patients))))[0] for s in statistics])
    drawn = bootstrap_values(
        statistics, samples.patients, resamples=record.bootstrap, seed=record.bootstrap_seed
    )
    generator = np.random.default_rng([record.bootstrap_seed, 1])
    picked = generator.integers(len(values), size=drawn.shape)
    means = np.take_along_axis(drawn, picked, axis=0).mean(axis=0)
    unit = "patient" if len(values) == 1 else "patient and seed"
    interval = interval_of(means, seed=record.bootstrap_seed, unit=unit)
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return SeedMean(Estimate(float(values.mean()), interval), spread, len(values))


def compare(record: BenchRecord) -> tuple[BenchDifference, ...]:
    """Compare the primary pair, and every student with the control and with its teacher."""
    named = {"headline": record.headline}
    primary = replace(
        record.primary,
        first=named.get(record.primary.first, record.primary.first),
        second=named.get(record.primary.second, record.primary.second),
    )
    others = [c for c in _comparisons(record) if c != primary]
    found = [difference_of(record, c) for c in (primary, *others)]
    adjusted = holm([d.p_value for d in found[1:]])
    rest = [replace(d, p_value=p) for d, p in zip(found[1:], adjusted, strict=True)]
    return (replace(found[0], primary=True), *rest)


def bench_markdown(record: BenchRecord) -> str:
    """Return the table, the differences and the notes as Markdown."""
    lines = [
        f"| arm | parameters | seeds | {' | '.join(WORDS[name] for name in record.metrics)} |",
        f"|---|---|---|{'---|' * len(record.metrics)}",
    ]
    for arm in record.arms():
        first = record.of(arm)[0]
        means = [seed_mean(record, arm, metric) for metric in record.metrics]
        name = f"**{arm}** (headline)" if arm == record.headline else arm
        cells = " | ".join(_mean_words(mean) for mean in means)
        lines.append(
            f"| {name}: {first.model} | {first.parameters:,} | {means[0].seeds} | {cells} |"
        )
    lines += [_published_words(row, record.metrics) for row in record.published]
    differences = [_difference_words(found) for found in compare(record)]
    return "\n".join([*lines, "", *differences, "", *(f"- {n}" for n in bench_notes(record)), ""])


def bench_notes(record: BenchRecord) -> list[str]:
    """Return the notes that a reader of the table needs."""
    unit = "patients and seeds drawn together"
    scored = "the test part" if record.protocol == "test" else "pooled held-out folds"
    samples = record.scored_samples()
    counts = [
        (int((labels == value).sum()), f"{word} samples{f' of {name}' if name else ''}")
        for name, labels in zip(record.label_names or ("",), samples.by_label.T, strict=True)
        for value, word in ((1, "positive"), (0, "negative"))
    ]
    few = sentence(few_cases_warning(counts, [(len(set(samples.patients)), "patients")]))
    several = f"All scores are means over the labels {', '.join(record.label_names)}."
    return [
        f"Mean over seeds +- SD over seeds (95 % interval, {record.bootstrap} two-way bootstrap "
        f"resamples, {unit}); scored on {scored} of {record.dataset}.",
        *([several] if record.label_names else []),
        f"The distilled arm shown as headline, {record.headline}, was chosen on validation.",
        *([few] if few else []),
        *dict.fromkeys(line for row in record.rows for line in row.record.phantoms),
        *_cpm_notes(record),
        *warnings_of(record),
        *record.notes,
    ]


def warnings_of(record: BenchRecord) -> Iterator[str]:
    """Yield the arms without transfer, how close students are to teachers, and weak teachers."""
    yield from _untaught_notes(record)
    yield from _transfer_notes(record)
    yield from _teacher_notes(record)


def _cpm_notes(record: BenchRecord) -> Iterator[str]:
    """State what each arm that searched whole scans found there."""
    for arm in record.arms():
        values = [row.cpm for row in record.of(arm) if row.cpm is not None]
        if values:
            spread = f" +- {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            yield (
                f"{arm}: CPM of marks on whole scans (interpolated), mean over seeds +- SD: "
                f"{np.mean(values):.3f}{spread}; intervals are in the report of each seed."
            )


def _transfer_notes(record: BenchRecord) -> Iterator[str]:
    """Say how close students came to their teachers; what the control teaches is no transfer."""
    for arm in record.arms():
        if record.of(arm)[0].teacher == CONTROL:
            continue
        rows = record.of(arm)
        own = sum(row.kl_to_teacher or 0.0 for row in rows)
        others = {
            "the control's": sum(row.control_kl_to_teacher or 0.0 for row in rows),
            "self-training's": sum(row.self_training_kl_to_teacher or 0.0 for row in rows),
        }
        shares = {name: own / kl for name, kl in others.items() if kl > 0}
        if shares and any(row.kl_to_teacher is not None for row in rows):
            took_place = max(shares.values()) <= TRANSFER_SHARE
            verdict = "transfer took place" if took_place else "NO TRANSFER TOOK PLACE"
            found = " and ".join(f"{share:.2f} of {name}" for name, share in shares.items())
            yield f"{arm}: mean KL to its teacher is {found}: {verdict}."


def _untaught_notes(record: BenchRecord) -> Iterator[str]:
    for arm in record.arms():
        rows = record.of(arm)
        count = sum(arm in row.record.without_transfer for row in rows)
        if count:
            yield (
                f"{arm}: trained without transfer in {count} of {len(rows)} cells, because its "
                "teacher was not better than the control on validation."
            )


def _teacher_notes(record: BenchRecord) -> Iterator[str]:
    """Warn of teachers that are no better than the control on validation."""
    means = {
        arm: float(np.mean([row.validation["roc_auc"] for row in record.of(arm)]))
        for arm in record.arms()
    }
    control = next(row.arm for row in record.rows if row.role == "control")
    for arm in record.arms():
        if record.of(arm)[0].role == "teacher" and means[arm] <= means[control]:
            yield (
                f"TEACHER NOT BETTER: on validation {arm} has mean ROC AUC {means[arm]:.4f}, "
                f"{control} {means[control]:.4f}: it can hardly teach this student."
            )


def _comparisons(record: BenchRecord) -> list[BenchComparison]:
    controls = [row.arm for row in record.rows if row.role == "control"]
    found = []
    for arm in record.arms():
        first = record.of(arm)[0]
        if first.role == "student":
            teachers = [row.teacher for row in record.of(arm) if row.teacher]
            seconds = dict.fromkeys([*controls[:1], *teachers[:1]])
            if SELF_TRAINING in record.arms() and arm != SELF_TRAINING:
                seconds[SELF_TRAINING] = None
            found += [BenchComparison(arm, s, metric) for s in seconds for metric in record.metrics]
    return found


def difference_of(record: BenchRecord, comparison: BenchComparison) -> BenchDifference:
    """Compare two arms in one metric; its p-value is not adjusted."""
    samples = record.scored_samples()
    first, second = (
        [scores_of(rows, comparison.metric) for rows in record.by_seed(arm)]
        for arm in (comparison.first, comparison.second)
    )
    found = two_way_difference(
        first,
        second,
        LabelledSamples(samples.by_label, samples.patients),
        metric=_plain(comparison.metric),
        resamples=record.bootstrap,
        seed=record.bootstrap_seed,
    )
    return BenchDifference(comparison, found.estimate, found.p_value, primary=False)


def _plain(metric: str) -> str:
    """Return the metric without its threshold, which `scores_of` has already applied."""
    return metric.partition("@")[0]


def _mean_words(mean: SeedMean) -> str:
    spread = f" +- {mean.seed_sd:.4f}" if mean.seeds > 1 else ""
    interval = mean.estimate.interval
    shown = f" ({interval.low:.3f} to {interval.high:.3f})" if interval else ""
    return f"{mean.estimate.value:.4f}{spread}{shown}"


def _published_words(row: PublishedScore, metrics: Sequence[str]) -> str:
    known = {"roc_auc": f" {row.roc_auc:.3f} |", "accuracy@half": f" {row.accuracy:.3f} |"}
    cells = "".join(known.get(metric, " |") for metric in metrics)
    return f"| {row.name} ({row.source}) | | published |{cells}"


def _difference_words(found: BenchDifference) -> str:
    named = found.comparison
    kind = "primary" if found.primary else "Holm-adjusted"
    interval = found.estimate.interval
    shown = f" ({interval.low:+.4f} to {interval.high:+.4f})" if interval else ""
    return (
        f"- {named.first} minus {named.second}, {WORDS.get(named.metric, named.metric)}: "
        f"{found.estimate.value:+.4f}{shown}, p = {found.p_value:.3f} ({kind})"
    )
