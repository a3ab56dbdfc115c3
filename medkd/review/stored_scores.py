"""The stored scores of a RUN, over which a threshold can be moved without running a model.

The scores are the predictions for the samples of the test split, or marks on its scans, which are
matched to the reference standard by LUNA16's rules. Matching does not depend on the threshold and
is done once. No interval is computed here: the evaluation has those at the frozen threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from medkd.errors import SeriesError
from medkd.evaluate.classification import score_samples_at
from medkd.evaluate.froc import score_marks_at
from medkd.evaluate.matching import match_marks
from medkd.io.luna16_tables import read_annotations, read_excluded, read_marks, read_seriesuids
from medkd.jsonio import read_json
from medkd.runs import Prediction, RunFolder, read_predictions
from medkd.types import Candidate, CaseResult, Evaluation, PointScores, Reference

CANDIDATES, WHOLE_SCAN = "candidates", "whole-scan"
SPLIT = "test"
MOST_OFFERED = 200


@dataclass(frozen=True, slots=True)
class ScoredSet:
    """What was scored: a track of marks on scans, or the samples of one label (`track` empty).

    `number` is the place of the label among the labels of the model, `label` its name if there
    are several.
    """

    track: str = ""
    label: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class StoredScores:
    """The stored scores of one arm.

    `offered` are thresholds in rising order. The frozen one, which was chosen on validation, is
    among them. `frozen` is its result in the evaluation (None: the arm has no such threshold).
    `score` computes the result at any threshold.
    """

    offered: tuple[float, ...]
    frozen: PointScores | None
    score: Callable[[float], PointScores]

    @property
    def agrees(self) -> bool:
        """Whether the stored scores give the counts of the evaluation at the frozen threshold."""
        if self.frozen is None:
            return True
        return _counts(self.score(self.frozen.threshold)) == _counts(self.frozen)


def list_scored(evaluation: Evaluation, arm: str) -> list[ScoredSet]:
    """List what an arm was scored on: whole scans first, then listed candidates and labels."""
    found = next((one for one in evaluation.arms if one.name == arm), None)
    if found is None:
        return []
    tracks = {froc.track for froc in found.froc}
    labels = found.classification.get(SPLIT, ())
    return [
        *(ScoredSet(track) for track in (WHOLE_SCAN, CANDIDATES) if track in tracks),
        *(ScoredSet("", result.label, number) for number, result in enumerate(labels)),
    ]


def read_scores(run: RunFolder, evaluation: Evaluation, arm: str, what: ScoredSet) -> StoredScores:
    """Read the stored scores of an arm.

    Args:
        run: the run.
        evaluation: its evaluation.
        arm: name of the arm.
        what: one of `list_scored`.

    Raises:
        MedkdError: if a file of the run is missing or cannot be read, with all reasons.
    """
    result = evaluation.arm(arm)
    if what.track:
        frozen = next(f.at_operating_point for f in result.froc if f.track == what.track)
        return score_marks(
            read_track_marks(run, arm, what.track),
            read_scored_reference(run, what.track, arm),
            frozen,
        )
    scored = result.classification[SPLIT][what.number]
    rows = [
        (label, row.probabilities[what.number])
        for row in read_predictions(run.predictions(arm, SPLIT))
        if (label := row.labels[what.number]) is not None
    ]
    labels, probabilities = [row[0] for row in rows], [row[1] for row in rows]
    return StoredScores(
        offer_thresholds(probabilities, scored.at_operating_point.threshold),
        scored.at_operating_point,
        lambda threshold: score_samples_at(labels, probabilities, threshold=threshold),
    )


def score_marks(
    marks: Sequence[Candidate], reference: Reference, frozen: PointScores | None
) -> StoredScores:
    """Match marks to the reference standard, for any threshold on their scores.

    Args:
        marks: all marks of an arm.
        reference: the reference standard of the scored scans.
        frozen: the result of the evaluation at the frozen threshold, if there is one.
    """
    matching = match_marks(marks, reference)
    threshold = None if frozen is None else frozen.threshold
    offered = offer_thresholds(matching.scores, threshold)
    return StoredScores(offered, frozen, partial(score_marks_at, matching))


def offer_thresholds(
    scores: ArrayLike, frozen: float | None, *, most: int = MOST_OFFERED
) -> tuple[float, ...]:
    """Choose thresholds for a slider: near the highest scores one for each, below them fewer.

    They are rounded to six digits, so that the number on the page is the threshold itself.

    Args:
        scores: [N] all scores.
        frozen: a threshold that must be among them; None: there is none.
        most: upper limit of the number of chosen scores.

    Returns:
        Thresholds in rising order, with the frozen one; empty if there is neither.

    Example:
        >>> offer_thresholds([0.1, 0.9, 0.5, 0.5], 0.4)
        (0.1, 0.4, 0.5, 0.9)
    """
    falling = np.unique(np.asarray(scores, dtype=np.float64))[::-1]
    ranks = np.unique(np.geomspace(1, max(len(falling), 1), most).round().astype(int)) - 1
    chosen = {float(f"{score:.6g}") for score in falling[ranks[: len(falling)]]}
    return tuple(sorted(chosen | ({frozen} if frozen is not None else set())))


def read_track_marks(run: RunFolder, arm: str, track: str) -> list[Candidate]:
    """Read the marks of an arm that were scored on a track.

    Raises:
        MedkdError: if the file is missing or cannot be read, with all reasons.
    """
    if track == WHOLE_SCAN:
        return read_marks(run.marks(arm))
    return [mark for row in read_predictions(run.predictions(arm, SPLIT)) for mark in _mark_of(row)]


def read_reference(run: RunFolder) -> Reference:
    """Read the reference standard of all test scans; a run of images has none.

    Raises:
        MedkdError: if a file cannot be read, with all reasons.
    """
    folder = run.reference
    if not (folder / "seriesuids.csv").is_file():
        return Reference((), (), ())
    excluded = folder / "annotations_excluded.csv"
    return Reference(
        tuple(read_annotations(folder / "annotations.csv")),
        tuple(read_excluded(excluded) if excluded.is_file() else ()),
        tuple(read_seriesuids(folder / "seriesuids.csv")),
    )


def read_scored_reference(run: RunFolder, track: str, arm: str) -> Reference:
    """Read the reference standard of the scans that an arm was scored on.

    On the track of whole scans these are the scans with a result of the search, if the run has
    results: a scan of which only patches are stored is not searched.

    Raises:
        MedkdError: if it is missing or a file cannot be read, with all reasons.
    """
    reference = read_reference(run)
    if not reference.seriesuids:
        remedy = "copy the whole folder of the run, with reference/"
        reasons = ["expected at least one scan in seriesuids.csv: nothing can be counted", remedy]
        raise SeriesError(f"{run.reference}: no reference standard", reasons)
    searched = [uid for uid in reference.seriesuids if run.result(arm, uid).is_file()]
    if track != WHOLE_SCAN or not searched:
        return reference
    known = set(searched)
    return Reference(
        tuple(n for n in reference.nodules if n.seriesuid in known),
        tuple(n for n in reference.excluded if n.seriesuid in known),
        tuple(searched),
    )


def read_searches(run: RunFolder, arm: str) -> list[CaseResult]:
    """Read the results of an arm's search of whole scans, in the order of the file names.

    Raises:
        CheckpointError: if a result cannot be read.
    """
    folder = run.result(arm, "x").parent
    return [read_json(path, CaseResult) for path in sorted(folder.glob("*.json"))]


def _mark_of(row: Prediction) -> list[Candidate]:
    if row.center_mm is None:
        return []
    return [Candidate(row.seriesuid, row.center_mm, row.probabilities[0])]


def _counts(point: PointScores) -> tuple[int | None, ...]:
    return (
        point.true_positives, point.false_positives, point.false_negatives, point.true_negatives,
    )  # fmt: skip
