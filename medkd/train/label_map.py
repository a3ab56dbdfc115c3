"""A map of when transfer pays: one bench for each fraction of the labels.

    DIR/labels-5/...    the bench with 5 % of the labels (see `bench.py`)
    DIR/map.json        `LabelMap`
    DIR/map.md          the table

Each seed draws its own labels and its own weights. Nothing is chosen on the test part, and inside a
cell nothing is chosen with labels outside its fraction: validation labels are part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medkd.config.run_settings import CONTROL, SELF_TRAINING, LabelPoint, RunSettings
from medkd.data.splits import LabelLimit
from medkd.errors import SettingsError
from medkd.evaluate.intervals import holm
from medkd.files import write_text
from medkd.jsonio import write_json
from medkd.train.bench import run_bench
from medkd.train.bench_record import (
    WORDS,
    BenchComparison,
    BenchDifference,
    BenchRecord,
    difference_of,
    seed_mean,
    warnings_of,
)
from medkd.train.logs import Progress, no_progress
from medkd.types import Estimate

MAP_METRICS = ("roc_auc", "pr_auc", "balanced_accuracy@frozen")


@dataclass(frozen=True, slots=True)
class MapScore:
    """One arm at one fraction: a metric's mean over seeds with its interval and SD."""

    fraction: float
    labels: float
    arm: str
    role: str
    parameters: int
    metric: str
    estimate: Estimate
    seed_sd: float
    seeds: int


@dataclass(frozen=True, slots=True)
class MapDifference:
    """One arm minus another at one fraction; `p_value` is Holm-adjusted unless it is primary."""

    fraction: float
    first: str
    second: str
    metric: str
    estimate: Estimate
    p_value: float
    primary: bool


@dataclass(frozen=True, slots=True)
class LabelMap:
    """A whole map; `seconds` maps fractions, as text, to the time of all their trainings."""

    name: str
    dataset: str
    scores: tuple[MapScore, ...]
    differences: tuple[MapDifference, ...]
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
    schema_version: int = 1


def run_label_map(
    settings: RunSettings, folder: Path, *, resume: bool = False, progress: Progress = no_progress
) -> LabelMap:
    """Run the bench of every fraction that is not finished, and write the table.

    Args:
        settings: settings with `bench.labels`; `${run_dir}` in them is `folder`.
        folder: folder of the map.
        resume: continue the map in this folder.
        progress: called after every step.

    Raises:
        SettingsError: if the settings have no `bench.labels`.
    """
    if settings.bench is None or not settings.bench.labels:
        raise SettingsError("this configuration has no map", ["give bench.labels"])
    records = {}
    for point in settings.bench.labels:
        own = folder / folder_name(point.fraction)
        records[point.fraction] = run_bench(
            settings_at(settings, point), own, resume=resume or own.is_dir(), work_dir=folder,
            progress=progress,
        )  # fmt: skip
        found = build_map(settings, records)
        write_json(folder / "map.json", found)
        write_text(folder / "map.md", map_markdown(found))
    return found


def folder_name(fraction: float) -> str:
    """Name the folder of a fraction.

    Example:
        >>> folder_name(0.05)
        'labels-5'
    """
    return f"labels-{100 * fraction:g}"


def settings_at(settings: RunSettings, point: LabelPoint) -> RunSettings:
    """Return the settings of the bench with a fraction of the labels; the rest is the pool."""
    limit = LabelLimit(labelled_fraction=point.fraction, unlabelled="keep", validation="limited")
    split = settings.target.split.model_copy(update={"limit": limit})
    bench = settings.bench and settings.bench.model_copy(
        update={"seeds": tuple(range(point.seeds))}
    )
    target = settings.target.model_copy(update={"split": split})
    return settings.model_copy(update={"target": target, "bench": bench})


def build_map(settings: RunSettings, records: dict[float, BenchRecord]) -> LabelMap:
    """Put the records of all fractions into one map; the first fraction has the primary pair."""
    scores, differences = [], []
    for fraction, record in records.items():
        labels = _label_count(record)
        for arm in record.arms():
            first = record.of(arm)[0]
            for metric in MAP_METRICS:
                mean = seed_mean(record, arm, metric)
                scores.append(
                    MapScore(
                        fraction, labels, arm, first.role, first.parameters, metric, mean.estimate,
                        mean.seed_sd, mean.seeds,
                    )
                )  # fmt: skip
        differences += [(fraction, found) for found in _differences(record)]
    bench = settings.bench
    wanted = bench.primary if bench else None

    def is_primary(fraction: float, one: BenchComparison) -> bool:
        pair = wanted is not None and (one.first, one.second) == (wanted.first, wanted.second)
        return fraction == min(records) and pair and one.metric == "roc_auc"

    others = [found for at, found in differences if not is_primary(at, found.comparison)]
    adjusted = iter(holm([found.p_value for found in others]))
    rows = []
    for fraction, found in differences:
        primary = is_primary(fraction, found.comparison)
        p_value = found.p_value if primary else next(adjusted)
        pair = found.comparison
        rows.append(
            MapDifference(
                fraction, pair.first, pair.second, pair.metric, found.estimate, p_value, primary
            )
        )
    seconds = {f"{at:g}": round(_seconds(record), 1) for at, record in records.items()}
    any_record = next(iter(records.values()))
    notes = [f"{100 * at:g} %: {n}" for at, record in records.items() for n in warnings_of(record)]
    return LabelMap(
        settings.name, any_record.dataset, tuple(scores), tuple(rows), seconds, tuple(notes)
    )


def labels_needed(counts: Sequence[float], scores: Sequence[float], wanted: float) -> float | None:
    """Return how many labels the control would need for a score, read from its own curve.

    The curve is interpolated linearly over the logarithm of the number of labels; scores are made
    non-decreasing first. None: more labels than there are.

    Args:
        counts: numbers of labels, ascending.
        scores: of the control.
        wanted: the score of another arm.

    Example:
        >>> labels_needed([10, 100], [0.8, 0.9], 0.85)
        31.6
    """
    rising = np.maximum.accumulate(np.asarray(scores, dtype=float))
    if wanted > rising[-1]:
        return None
    if wanted <= rising[0]:
        return float(counts[0])
    keep = np.concatenate([[True], np.diff(rising) > 0])
    place = np.interp(wanted, rising[keep], np.log(np.asarray(counts, dtype=float)[keep]))
    return round(float(np.exp(place)), 1)


def map_markdown(found: LabelMap) -> str:
    """Return the table of a map, the differences, and the labels that each gain is worth."""
    lines = [
        f"| labels | arm | {' | '.join(WORDS[metric] for metric in MAP_METRICS)} | seeds |",
        f"|---|---|{'---|' * len(MAP_METRICS)}---|",
    ]
    by_place: dict[tuple[float, str], dict[str, MapScore]] = {}
    for score in found.scores:
        by_place.setdefault((score.fraction, score.arm), {})[score.metric] = score
    for (fraction, arm), scores in by_place.items():
        one = scores["roc_auc"]
        cells = " | ".join(_mean_words(scores[metric]) for metric in MAP_METRICS)
        lines.append(f"| {100 * fraction:g} % ({one.labels:.0f}) | {arm} | {cells} | {one.seeds} |")
    lines += ["", "| labels | difference | " + " | ".join(WORDS[m] for m in MAP_METRICS) + " |"]
    lines += [f"|---|---|{'---|' * len(MAP_METRICS)}"]
    pairs: dict[tuple[float, str, str], dict[str, MapDifference]] = {}
    for pair in found.differences:
        pairs.setdefault((pair.fraction, pair.first, pair.second), {})[pair.metric] = pair
    for (fraction, first, second), metrics in pairs.items():
        cells = " | ".join(_difference_words(metrics[metric]) for metric in MAP_METRICS)
        lines.append(f"| {100 * fraction:g} % | {first} minus {second} | {cells} |")
    worth = list(_label_words(found))
    took = ", ".join(f"{float(at) * 100:g} %: {s:.0f} s" for at, s in found.seconds.items())
    notes = [f"- {note}" for note in found.notes]
    return "\n".join([*lines, "", *worth, *notes, "", f"Time of all trainings: {took}.", ""])


def _label_words(found: LabelMap) -> Iterator[str]:
    """Say for each gain how many labels the control would need for the same ROC AUC."""
    scores = [score for score in found.scores if score.metric == "roc_auc"]
    curve = sorted((s.labels, s.estimate.value) for s in scores if s.arm == CONTROL)
    counts, values = [count for count, _ in curve], [value for _, value in curve]
    for score in scores:
        is_student = score.role == "student" and score.arm != SELF_TRAINING
        if not is_student or score.estimate.value <= dict(curve)[score.labels]:
            continue
        needed = labels_needed(counts, values, score.estimate.value)
        if needed is None:
            words = f"more than {counts[-1]:.0f}"
        else:
            words = f"{'at most' if needed == counts[0] else 'about'} {needed:.0f}"
        yield (
            f"- {score.arm} with {score.labels:.0f} labels: the control would need {words} for "
            f"its ROC AUC of {score.estimate.value:.3f}."
        )


def _differences(record: BenchRecord) -> Iterator[BenchDifference]:
    """Compare every student with the control and with self-training, in each metric."""
    arms = record.arms()
    for arm in arms:
        if record.of(arm)[0].role == "control":
            continue
        for second in (CONTROL, SELF_TRAINING):
            if second not in arms or second == arm:
                continue
            for metric in MAP_METRICS:
                yield difference_of(record, BenchComparison(arm, second, metric))


def _label_count(record: BenchRecord) -> float:
    """Return the mean number of labels of training and validation over the seeds."""
    return float(np.mean([row.labels for row in record.of(CONTROL)]))


def _seconds(record: BenchRecord) -> float:
    cells = {(row.seed, row.fold): row.record.seconds for row in record.rows}
    return sum(cells.values())


def _mean_words(score: MapScore) -> str:
    interval = score.estimate.interval
    shown = f" ({interval.low:.3f} to {interval.high:.3f})" if interval else ""
    return f"{score.estimate.value:.3f} +- {score.seed_sd:.3f}{shown}"


def _difference_words(found: MapDifference) -> str:
    interval = found.estimate.interval
    shown = f" ({interval.low:+.3f} to {interval.high:+.3f})" if interval else ""
    mark = ", primary" if found.primary else ""
    return f"{found.estimate.value:+.3f}{shown}, p {found.p_value:.3f}{mark}"
