"""The table of a bench, drawn from its raw rows alone: seed means with intervals, differences.

Intervals are two-way bootstrap: patients jointly for all arms, and seeds. One comparison is
primary and was named before the run; p-values of all others are adjusted after Holm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from medkd.evaluate.caution import few_cases_warning, sentence
from medkd.evaluate.intervals import (
    LabelledSamples,
    bootstrap_values,
    holm,
    interval_of,
    two_way_difference,
)
from medkd.evaluate.metrics import build_metric
from medkd.train.bench_record import BenchComparison, BenchRecord, scores_of
from medkd.types import Estimate

METRICS = {
    "roc_auc": "ROC AUC",
    "accuracy@half": "accuracy at .5",
    "accuracy@frozen": "accuracy at the frozen point",
}


@dataclass(frozen=True, slots=True)
class SeedMean:
    """A metric of an arm: mean over seeds with its interval, and the SD over seeds."""

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


def seed_mean(record: BenchRecord, arm: str, metric: str) -> SeedMean:
    """Average a metric over an arm's seeds.

    Args:
        record: of the bench.
        arm: one of its arms.
        metric: see `rows.scores_of`.
    """
    samples = record.scored_samples()
    statistics = [
        build_metric(_plain(metric), samples.labels, scores_of(rows, metric))
        for rows in record.by_seed(arm)
    ]
    values = np.array([s(np.ones((1, len(samples.labels))))[0] for s in statistics])
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
    """Compare the primary pair, every student with the control, and with its teacher."""
    primary = _resolved(record.primary, record.headline)
    others = [c for c in _comparisons(record) if c != primary]
    found = [_difference(record, c) for c in (primary, *others)]
    adjusted = holm([d.p_value for d in found[1:]])
    rest = [replace(d, p_value=p) for d, p in zip(found[1:], adjusted, strict=True)]
    return (replace(found[0], primary=True), *rest)


def bench_markdown(record: BenchRecord) -> str:
    """Draw the table, the differences and the notes as Markdown."""
    lines = [
        f"| arm | parameters | seeds | {' | '.join(METRICS.values())} |",
        f"|---|---|---|{'---|' * len(METRICS)}",
    ]
    for arm in record.arms():
        first = record.of(arm)[0]
        means = [seed_mean(record, arm, metric) for metric in METRICS]
        name = f"**{arm}** (headline)" if arm == record.headline else arm
        cells = " | ".join(_mean_words(mean) for mean in means)
        lines.append(
            f"| {name}: {first.model} | {first.parameters:,} | {means[0].seeds} | {cells} |"
        )
    lines += [
        f"| {row.name} ({row.source}) | | published | {row.roc_auc:.3f} | {row.accuracy:.3f} | |"
        for row in record.published
    ]
    differences = [_difference_words(found) for found in compare(record)]
    return "\n".join([*lines, "", *differences, "", *(f"- {n}" for n in bench_notes(record)), ""])


def bench_notes(record: BenchRecord) -> list[str]:
    """Say what must be known beside the table."""
    unit = "patients and seeds drawn together"
    scored = "the official test part" if record.protocol == "test" else "pooled held-out folds"
    notes = [
        f"Mean over seeds +- SD over seeds (95 % interval, {record.bootstrap} two-way bootstrap "
        f"resamples, {unit}); scored on {scored} of {record.dataset}.",
        f"The distilled arm shown as headline, {record.headline}, was chosen on validation.",
    ]
    if few := _few(record):
        notes.append(few)
    phantoms = dict.fromkeys(line for row in record.rows for line in row.record.phantoms)
    return [*notes, *phantoms, *_transfer_notes(record), *_teacher_notes(record), *record.notes]


def _few(record: BenchRecord) -> str:
    samples = record.scored_samples()
    positive = sum(samples.labels)
    counts = [
        (positive, "positive samples"),
        (len(samples.labels) - positive, "negative samples"),
    ]
    return sentence(few_cases_warning(counts, [(len(set(samples.patients)), "patients")]))


def _transfer_notes(record: BenchRecord) -> Iterator[str]:
    for arm in record.arms():
        own = [row.kl_to_teacher for row in record.of(arm) if row.kl_to_teacher is not None]
        control = [row.control_kl_to_teacher or 0.0 for row in record.of(arm)]
        if own and sum(control) > 0:
            share = sum(own) / sum(control)
            verdict = "transfer took place" if share <= 0.7 else "NO TRANSFER TOOK PLACE"
            yield f"{arm}: mean KL to its teacher is {share:.2f} of the control's: {verdict}."


def _teacher_notes(record: BenchRecord) -> Iterator[str]:
    """Compare teachers and control where it can be seen before the test."""
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
            seconds = [*controls[:1], *([first.teacher] if first.teacher else [])]
            found += [BenchComparison(arm, s, metric) for s in seconds for metric in METRICS]
    return found


def _resolved(comparison: BenchComparison, headline: str) -> BenchComparison:
    named = {"headline": headline}
    return replace(
        comparison,
        first=named.get(comparison.first, comparison.first),
        second=named.get(comparison.second, comparison.second),
    )


def _difference(record: BenchRecord, comparison: BenchComparison) -> BenchDifference:
    samples = record.scored_samples()
    first, second = (
        [scores_of(rows, comparison.metric) for rows in record.by_seed(arm)]
        for arm in (comparison.first, comparison.second)
    )
    found = two_way_difference(
        first,
        second,
        LabelledSamples(samples.labels, samples.patients),
        metric=_plain(comparison.metric),
        resamples=record.bootstrap,
        seed=record.bootstrap_seed,
    )
    return BenchDifference(comparison, found.estimate, found.p_value, primary=False)


def _plain(metric: str) -> str:
    """Drop the place of a threshold: what is scored at it are decisions already."""
    return metric.partition("@")[0]


def _mean_words(mean: SeedMean) -> str:
    spread = f" +- {mean.seed_sd:.4f}" if mean.seeds > 1 else ""
    interval = mean.estimate.interval
    shown = f" ({interval.low:.3f} to {interval.high:.3f})" if interval else ""
    return f"{mean.estimate.value:.4f}{spread}{shown}"


def _difference_words(found: BenchDifference) -> str:
    named = found.comparison
    kind = "primary" if found.primary else "Holm-adjusted"
    interval = found.estimate.interval
    shown = f" ({interval.low:+.4f} to {interval.high:+.4f})" if interval else ""
    return (
        f"- {named.first} minus {named.second}, {METRICS.get(named.metric, named.metric)}: "
        f"{found.estimate.value:+.4f}{shown}, p = {found.p_value:.3f} ({kind})"
    )
