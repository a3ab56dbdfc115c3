"""From the rows of the scans to the figures: FROC, the classifier's AUC, the masked AUC."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkd.config.difficulty_settings import DifficultySettings
from medkd.evaluate.froc import evaluate_froc
from medkd.evaluate.intervals import bootstrap_interval
from medkd.evaluate.metrics import build_metric, compute_metric
from medkd.train.difficulty.rows import (
    Auc,
    BlobFinder,
    Judged,
    Masked,
    Place,
    ScanRow,
    pair_of,
)
from medkd.train.difficulty.surroundings import feature_names
from medkd.types import FrocResult, Reference

Float64 = NDArray[np.float64]

DIAMETER_CLASSES = ((0.0, 6.0), (6.0, 8.0), (8.0, 12.0), (12.0, 20.0), (20.0, 99.0))
"""From, below; mm."""
TRACK = "blob finder inside the true lung, phantoms"
_TELLING = 12
_LAST_FP_PER_SCAN, _CURVE_POINTS = 16.0, 200


@dataclass(frozen=True, slots=True)
class _Judgement:
    """A judged place with the scan that it lies in."""

    place: Place
    scan: ScanRow


def choose_threshold(
    rows: Sequence[ScanRow], settings: DifficultySettings
) -> tuple[float, dict[float, float]]:
    """Return the threshold with the best CPM on these scans, the lowest of equal ones, and all."""
    found = {
        threshold: score_blobs(rows, settings, threshold=threshold, bootstrap=0).cpm_interpolated
        for threshold in sorted(settings.blobs.thresholds)
    }
    return max(found, key=lambda threshold: found[threshold]), found


def score_blobs(
    rows: Sequence[ScanRow], settings: DifficultySettings, *, threshold: float, bootstrap: int
) -> FrocResult:
    """Score the blob finder's marks under one threshold as LUNA16 does."""
    reference = Reference(
        tuple(nodule for row in rows for nodule in row.nodules),
        tuple(nodule for row in rows for nodule in row.excluded),
        tuple(row.seriesuid for row in rows),
    )
    marks = [
        mark
        for row in rows
        for found in row.marks
        if found.threshold == threshold
        for mark in found.marks
    ]
    return evaluate_froc(marks, reference, track=TRACK, bootstrap=bootstrap, seed=settings.seed)


def describe_blobs(froc: FrocResult, threshold: float, *, tuned_cpm: float) -> BlobFinder:
    """Put the blob finder's result into the record's words; its curve ends at 16 FP a scan."""
    points = np.flatnonzero(np.asarray(froc.fp_per_scan) <= _LAST_FP_PER_SCAN)
    points = points[np.unique(np.linspace(0, len(points) - 1, _CURVE_POINTS).astype(int))]
    return BlobFinder(
        cpm=round(froc.cpm_interpolated, 4),
        interval_95=pair_of(froc.interval),
        cpm_nearest=round(froc.cpm_nearest, 4),
        sensitivity_at={rate: round(value, 4) for rate, value in froc.sensitivity_at.items()},
        nodules=froc.nodules,
        found_of_best_marks=froc.true_positives,
        threshold=threshold,
        tuned_cpm=round(tuned_cpm, 4),
        fp_per_scan=tuple(np.round(np.asarray(froc.fp_per_scan)[points], 4).tolist()),
        sensitivity=tuple(np.round(np.asarray(froc.sensitivity)[points], 4).tolist()),
    )


def score_judge(rows: Sequence[ScanRow], settings: DifficultySettings) -> Judged | None:
    """Score the classifier: nodules against the best false marks of all scans; None: not measured.

    There are as many false marks as nodules, but no fewer than 200 where there are so many.
    """
    nodules, false = _judged(rows)
    false = highest(false, max(len(nodules), 200))
    if not nodules or not false or any(n.place.judge_score is None for n in (*nodules, *false)):
        return None

    def auc(chosen: list[_Judgement], against: list[_Judgement] = false) -> Auc:
        scores = [float(j.place.judge_score or 0.0) for j in (*chosen, *against)]
        return _auc(chosen, against, scores=scores, settings=settings)

    def split(key: Callable[[Place], str]) -> dict[str, Auc]:
        groups = sorted({key(j.place) for j in nodules} - {""})
        return {g: auc([j for j in nodules if key(j.place) == g]) for g in groups}

    whole = auc(nodules)
    by_kernel = {}
    for kernel in sorted({row.kernel for row in rows}):
        ours = [j for j in nodules if j.scan.kernel == kernel]
        theirs = [j for j in false if j.scan.kernel == kernel]
        if ours and theirs:
            by_kernel[kernel] = auc(ours, theirs)
    return Judged(
        whole.roc_auc, whole.interval_95, whole.nodules, whole.false_marks,
        by_texture=split(lambda place: place.texture),
        by_outline=split(lambda place: place.outline),
        by_attachment=split(lambda place: place.attachment),
        by_diameter={
            _range_words(low, high): auc(chosen)
            for low, high in DIAMETER_CLASSES
            if (chosen := [j for j in nodules if low <= (j.place.diameter_mm or 0.0) < high])
        },
        by_kernel=by_kernel,
    )  # fmt: skip


def score_surroundings(rows: Sequence[ScanRow], settings: DifficultySettings) -> Masked | None:
    """Score boosted trees on what lies around nodules and around false marks."""
    nodules, false = _judged(rows)
    alike = [
        mark
        for row in rows
        for mark in highest(
            [f for f in false if f.scan is row], sum(n.scan is row for n in nodules)
        )
    ]
    best = highest(false, len(nodules))
    if min(len(alike), len(nodules)) < 2 or len(rows) < 2:
        return None
    scores = _masked_scores(nodules, alike, settings)
    whole = _auc(nodules, alike, scores=scores, settings=settings)
    against = _masked_scores(nodules, best, settings)
    return Masked(
        whole.roc_auc, whole.interval_95, whole.nodules, whole.false_marks,
        highest=_auc(nodules, best, scores=against, settings=settings),
        by_attachment=_masked_by_attachment(nodules, alike, scores=scores, settings=settings),
        telling=_telling(nodules, alike, settings),
    )  # fmt: skip


def highest(false: Iterable[_Judgement], count: int) -> list[_Judgement]:
    """Return the blob finder's best ones."""
    return sorted(false, key=lambda j: -(j.place.blob_score or 0.0))[:count]


def judge_scores(rows: Sequence[ScanRow]) -> tuple[list[Place], list[Place]]:
    """Return the nodules, and as many of the best false marks, as `score_judge` takes them."""
    nodules, false = _judged(rows)
    kept = highest(false, max(len(nodules), 200))
    return [j.place for j in nodules], [j.place for j in kept]


def _judged(rows: Sequence[ScanRow]) -> tuple[list[_Judgement], list[_Judgement]]:
    everything = [_Judgement(place, row) for row in rows for place in row.places]
    return (
        [j for j in everything if j.place.is_nodule],
        [j for j in everything if not j.place.is_nodule],
    )


def _auc(
    nodules: Sequence[_Judgement],
    false: Sequence[_Judgement],
    *,
    scores: Sequence[float] | Float64,
    settings: DifficultySettings,
) -> Auc:
    labels = [1.0] * len(nodules) + [0.0] * len(false)
    groups = [j.scan.seriesuid for j in (*nodules, *false)]
    statistic = build_metric("roc_auc", labels, scores)
    interval = bootstrap_interval(
        statistic, groups, resamples=settings.bootstrap, seed=settings.seed, unit="series"
    )
    value = float(statistic(np.ones((1, len(labels))))[0])
    return Auc(round(value, 4), pair_of(interval), len(nodules), len(false))


def _masked_scores(
    nodules: Sequence[_Judgement], false: Sequence[_Judgement], settings: DifficultySettings
) -> Float64:
    features = _features((*nodules, *false))
    labels = np.asarray([1] * len(nodules) + [0] * len(false))
    groups = np.asarray([j.scan.seriesuid for j in (*nodules, *false)])
    return cross_validated_scores(features, labels, groups=groups, settings=settings)


def _masked_by_attachment(
    nodules: Sequence[_Judgement],
    false: Sequence[_Judgement],
    *,
    scores: Float64,
    settings: DifficultySettings,
) -> dict[str, Auc]:
    """Nodules of each attachment against all false marks, by the trees that saw all."""
    found = {}
    for name in sorted({j.place.attachment for j in nodules} - {""}):
        rows = [row for row, j in enumerate(nodules) if j.place.attachment == name]
        chosen = [*scores[rows].tolist(), *scores[len(nodules) :].tolist()]
        found[name] = _auc([nodules[row] for row in rows], false, scores=chosen, settings=settings)
    return found


def cross_validated_scores(
    features: Float64,
    labels: NDArray[np.int_],
    *,
    groups: NDArray[np.str_],
    settings: DifficultySettings,
) -> Float64:
    """Score each place by trees that saw no place of its scan; the mean over the shuffles.

    Args:
        features: [N, F]; NaN: not known.
        labels: [N] 0 or 1.
        groups: [N] the scan.
        settings: folds, shuffles, seed.

    Returns:
        [N] probabilities.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedGroupKFold
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # no stubs

    around = settings.surroundings
    folds = min(around.folds, len(np.unique(groups)))
    total = np.zeros(len(labels))
    for repeat in range(around.repeats):
        seed = settings.seed + repeat
        cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for train, test in cut.split(features, labels, groups):
            trees = HistGradientBoostingClassifier(
                learning_rate=0.05, max_iter=150, max_leaf_nodes=8, min_samples_leaf=10,
                l2_regularization=1.0, early_stopping=False, random_state=seed,
            )  # fmt: skip
            if len(np.unique(labels[train])) < 2:
                total[test] += 0.5
                continue
            known = np.isfinite(features[train]).any(axis=0)
            with threadpool_limits(1):  # so small a problem: threads would wait for each other
                trees.fit(features[train][:, known], labels[train])
                total[test] += trees.predict_proba(features[test][:, known])[:, 1]
    return total / around.repeats


def _telling(
    nodules: Sequence[_Judgement], false: Sequence[_Judgement], settings: DifficultySettings
) -> dict[str, float]:
    """AUC of each feature alone, those farthest from one half first."""
    features = _features((*nodules, *false))
    labels = np.asarray([1] * len(nodules) + [0] * len(false))
    found = {}
    for name, column in zip(feature_names(settings.surroundings), features.T, strict=True):
        known = np.isfinite(column)
        if len(np.unique(labels[known])) == 2:
            found[name] = round(compute_metric("roc_auc", labels[known], column[known]), 3)
    return dict(sorted(found.items(), key=lambda item: -abs(item[1] - 0.5))[:_TELLING])


def _features(judged: Sequence[_Judgement]) -> Float64:
    return np.asarray([[np.nan if v is None else v for v in j.place.surroundings] for j in judged])


def _range_words(low: float, high: float) -> str:
    if not low:
        return f"below {high:g} mm"
    return f"{low:g} mm and more" if high > 90 else f"{low:g} to {high:g} mm"
