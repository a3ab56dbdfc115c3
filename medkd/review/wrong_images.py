"""The images that a model called wrongly at its frozen threshold, the worst first."""

from __future__ import annotations

from dataclasses import dataclass

from medkd.review.stored_scores import SPLIT, list_scored
from medkd.runs import RunFolder, read_predictions
from medkd.types import Evaluation


@dataclass(frozen=True, slots=True)
class WrongImage:
    """An image that was called wrongly, and its calibrated probability."""

    case_id: str
    probability: float


@dataclass(frozen=True, slots=True)
class WrongImages:
    """What an arm called wrongly on the test images for one label ("" if it has only one).

    An image with a probability of at least `threshold` is called positive. `missed` are positive
    images that were not, by rising probability; `false_alarms` are negative images that were, by
    falling probability.
    """

    label: str
    threshold: float
    missed: tuple[WrongImage, ...]
    false_alarms: tuple[WrongImage, ...]


def find_wrong_images(run: RunFolder, evaluation: Evaluation, *, arm: str) -> list[WrongImages]:
    """Find the test images that an arm called wrongly at its frozen thresholds.

    Args:
        run: the run.
        evaluation: its evaluation.
        arm: name of the arm.

    Returns:
        One result per label; none if the arm scored no whole images. Images of unknown label are
        left out.

    Raises:
        MedkdError: if the predictions cannot be read, with all reasons.
    """
    labels = [what for what in list_scored(evaluation, arm) if not what.track]
    if not labels:
        return []
    predictions = read_predictions(run.predictions(arm, SPLIT))
    rows = [row for row in predictions if row.center_mm is None]
    if not rows:
        return []
    scored = evaluation.arm(arm).classification[SPLIT]
    found = []
    for what in labels:
        threshold = scored[what.number].at_operating_point.threshold
        wrong: dict[int, list[WrongImage]] = {0: [], 1: []}
        for row in rows:
            label, probability = row.labels[what.number], row.probabilities[what.number]
            if label is not None and label != (probability >= threshold):
                wrong[label].append(WrongImage(row.seriesuid, probability))
        missed = sorted(wrong[1], key=lambda one: (one.probability, one.case_id))
        false_alarms = sorted(wrong[0], key=lambda one: (-one.probability, one.case_id))
        found.append(WrongImages(what.label, threshold, tuple(missed), tuple(false_alarms)))
    return found
