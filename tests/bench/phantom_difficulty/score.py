"""From the rows of the scans to the figures, and what a generator must keep to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from medkd.evaluate.froc import evaluate_froc
from medkd.evaluate.intervals import bootstrap_interval
from medkd.evaluate.metrics import build_metric
from medkd.synthetic.phantom import generator_stamp
from medkd.types import FrocResult, Interval, Reference
from tests.bench.phantom_difficulty.measure import PHANTOMS, Place, ScanRow

Float64 = NDArray[np.float64]

CPM_BAR, CLASSIFIER_BARS, SURROUNDINGS_BAR = 0.60, (0.85, 0.99), 0.60
BOOTSTRAP = 1000
LEAST_FALSE_MARKS = 200
DIAMETERS_MM = (0.0, 6.0, 8.0, 12.0, 20.0, 99.0)
_FOLDS, _SHUFFLES = 10, 5

Judged = tuple[str, Place]
"""The scan of a place, and the place."""


@dataclass(frozen=True, slots=True)
class BlobFinder:
    """The blob finder's score, as LUNA16 scores marks."""

    cpm: float
    interval_95: tuple[float, float] | None
    sensitivity_at: dict[str, float]
    nodules: int
    found_of_best_marks: int


@dataclass(frozen=True, slots=True)
class Auc:
    """ROC AUC of nodules against false marks; `by` holds nodules of one kind against all."""

    roc_auc: float
    interval_95: tuple[float, float] | None
    nodules: int
    false_marks: int
    by: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What difficulty.json holds; a part that was not measured is null."""

    generator: str
    size: str
    scans: int
    nodules: int
    blob_finder: BlobFinder
    luna16_classifier: Auc | None
    masked_surroundings: Auc | None
    seconds_a_scan: float


def result_of(rows: Sequence[ScanRow]) -> Result:
    """Return the figures of measured scans."""
    froc = score_blobs(rows)
    nodules = [(row.seriesuid, p) for row in rows for p in row.places if p.is_nodule]
    return Result(
        generator=generator_stamp(),
        size=PHANTOMS.size,
        scans=len(rows),
        nodules=froc.nodules,
        blob_finder=BlobFinder(
            round(froc.cpm_interpolated, 4),
            _pair(froc.interval),
            {rate: round(value, 4) for rate, value in froc.sensitivity_at.items()},
            froc.nodules,
            froc.true_positives,
        ),
        luna16_classifier=score_classifier(
            nodules, best_false_marks(rows, max(len(nodules), LEAST_FALSE_MARKS))
        ),
        masked_surroundings=score_surroundings(nodules, as_many_false_marks(rows)),
        seconds_a_scan=round(float(np.mean([row.seconds for row in rows])), 1),
    )


def score_blobs(rows: Sequence[ScanRow]) -> FrocResult:
    """Score the blob finder's marks as LUNA16 does."""
    reference = Reference(
        tuple(nodule for row in rows for nodule in row.nodules),
        tuple(nodule for row in rows for nodule in row.excluded),
        tuple(row.seriesuid for row in rows),
    )
    marks = [mark for row in rows for mark in row.marks]
    track = "blob finder inside the true lung, phantoms"
    return evaluate_froc(marks, reference, track=track, bootstrap=BOOTSTRAP, seed=0)


def best_false_marks(rows: Iterable[ScanRow], count: int) -> list[Judged]:
    """Return the blob finder's best false marks of all scans together."""
    false = [(row.seriesuid, p) for row in rows for p in row.places if not p.is_nodule]
    return sorted(false, key=lambda judged: -judged[1].blob_score)[:count]


def as_many_false_marks(rows: Iterable[ScanRow]) -> list[Judged]:
    """Return each scan's best false marks, as many as it has nodules.

    Otherwise the scan that a place lies in would tell whether it is a nodule.
    """
    return [
        judged
        for row in rows
        for judged in best_false_marks([row], sum(place.is_nodule for place in row.places))
    ]


def score_classifier(nodules: Sequence[Judged], false: Sequence[Judged]) -> Auc | None:
    """Score the classifier of real nodules; None: not measured."""
    logits = [place.classifier_logit for _, place in (*nodules, *false)]
    if not nodules or not false or None in logits:
        return None
    against = logits[len(nodules) :]

    def auc_by(key: Callable[[Place], str]) -> Iterator[tuple[str, float]]:
        for name in sorted({key(place) for _, place in nodules}):
            chosen = [place.classifier_logit for _, place in nodules if key(place) == name]
            yield name, _roc_auc(chosen, against)

    groups = {
        name: value for key in (_texture, _attachment, _diameter) for name, value in auc_by(key)
    }
    return _auc(nodules, false, logits, groups)


def score_surroundings(nodules: Sequence[Judged], false: Sequence[Judged]) -> Auc | None:
    """Score boosted trees on what lies around nodules and around false marks."""
    groups = np.asarray([uid for uid, _ in (*nodules, *false)])
    if min(len(nodules), len(false)) < 2 or len(set(groups)) < 2:
        return None
    features = np.asarray([p.surroundings for _, p in (*nodules, *false)], dtype=np.float64)
    labels = np.repeat([1, 0], [len(nodules), len(false)])
    return _auc(nodules, false, cross_validated_scores(features, labels, groups), {})


def cross_validated_scores(
    features: Float64,
    labels: NDArray[np.int_],
    groups: NDArray[np.str_],
    *,
    shuffles: int = _SHUFFLES,
) -> Float64:
    """Score each place by trees that saw no place of its scan.

    Args:
        features: [N, F]; NaN: not known.
        labels: [N] 0 or 1.
        groups: [N] the scan.
        shuffles: cross-validations, whose scores are averaged.

    Returns:
        [N] probabilities.
    """
    total = np.zeros(len(labels))
    for seed in range(shuffles):
        cut = StratifiedGroupKFold(
            min(_FOLDS, len(np.unique(groups))), shuffle=True, random_state=seed
        )
        for train, test in cut.split(features, labels, groups):
            trees = HistGradientBoostingClassifier(
                learning_rate=0.05, max_iter=150, max_leaf_nodes=8, min_samples_leaf=10,
                l2_regularization=1.0, early_stopping=False, random_state=seed,
            )  # fmt: skip
            known = np.isfinite(features[train]).any(axis=0)
            with threadpool_limits(1):  # so small a problem: threads would wait for each other
                trees.fit(features[train][:, known], labels[train])
                total[test] += trees.predict_proba(features[test][:, known])[:, -1]
    return total / shuffles


def failed_bars(result: Result) -> tuple[str, ...]:
    """Say which bars the generator does not keep to, or were not measured."""
    failed = []
    if result.blob_finder.cpm >= CPM_BAR:
        failed.append(f"blob finder CPM {result.blob_finder.cpm}, not below {CPM_BAR}")
    judged, masked, (low, high) = (
        result.luna16_classifier,
        result.masked_surroundings,
        CLASSIFIER_BARS,
    )
    if judged is None or not low <= judged.roc_auc <= high:
        failed.append(f"classifier AUC {judged and judged.roc_auc}, not {low} to {high}")
    if masked is None or masked.roc_auc >= SURROUNDINGS_BAR:
        failed.append(f"surroundings AUC {masked and masked.roc_auc}, not below {SURROUNDINGS_BAR}")
    return tuple(failed)


def _texture(place: Place) -> str:
    return place.texture


def _attachment(place: Place) -> str:
    return f"attachment: {place.attachment}"


def _diameter(place: Place) -> str:
    above = int(np.searchsorted(DIAMETERS_MM, place.diameter_mm, side="right"))
    return f"{DIAMETERS_MM[above - 1]:02.0f} to {DIAMETERS_MM[above]:.0f} mm"


def _auc(
    nodules: Sequence[Judged],
    false: Sequence[Judged],
    scores: Sequence[float | None] | Float64,
    by: dict[str, float],
) -> Auc:
    labels = [1.0] * len(nodules) + [0.0] * len(false)
    scans = [uid for uid, _ in (*nodules, *false)]
    statistic = build_metric("roc_auc", labels, list(scores))
    interval = bootstrap_interval(statistic, scans, resamples=BOOTSTRAP, seed=0, unit="series")
    value = round(float(statistic(np.ones((1, len(labels))))[0]), 4)
    return Auc(value, _pair(interval), len(nodules), len(false), by)


def _roc_auc(nodules: Sequence[float | None], false: Sequence[float | None]) -> float:
    labels = [1.0] * len(nodules) + [0.0] * len(false)
    statistic = build_metric("roc_auc", labels, [*nodules, *false])
    return round(float(statistic(np.ones((1, len(labels))))[0]), 4)


def _pair(interval: Interval | None) -> tuple[float, float] | None:
    return None if interval is None else (round(interval.low, 4), round(interval.high, 4))
