"""The scores of one arm's predictions; thresholds and temperatures were frozen before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from medkd.config.run_settings import EvaluationSettings
from medkd.evaluate.classification import evaluate_classification
from medkd.models.package import CLASSIFICATION, ModelInfo
from medkd.runs import Prediction
from medkd.types import ClassificationResult


@dataclass(frozen=True, slots=True)
class KnownValues:
    """One label on the samples where it is known: [M] labels, probabilities, patients."""

    labels: list[int]
    probabilities: list[float]
    patients: list[str]


def known_values(predictions: Sequence[Prediction], number: int) -> KnownValues:
    """Return what is known of the label of that number."""
    rows = [
        (label, row.probabilities[number], row.patient_id)
        for row in predictions
        if (label := row.labels[number]) is not None
    ]
    return KnownValues([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])


def point_names(info: ModelInfo) -> list[str]:
    """Return the name of each label's operating point; the only label's has no suffix."""
    if len(info.label_names) == 1:
        return [CLASSIFICATION]
    return [f"{CLASSIFICATION}:{name}" for name in info.label_names]


def score_predictions(
    predictions: Mapping[str, Sequence[Prediction]], info: ModelInfo, settings: EvaluationSettings
) -> dict[str, tuple[ClassificationResult, ...]]:
    """Score the predictions of every split, label by label.

    Args:
        predictions: by split.
        info: holds the frozen operating points.
        settings: of the bootstrap.
    """
    found = {}
    for split, rows in predictions.items():
        results = []
        for number, point in enumerate(point_names(info)):
            values = known_values(rows, number)
            result = evaluate_classification(
                values.labels,
                values.probabilities,
                values.patients,
                operating_point=info.operating_points[point],
                split=split,
                bootstrap=settings.bootstrap,
                seed=settings.seed,
            )
            name = info.label_names[number] if len(info.label_names) > 1 else ""
            results.append(replace(result, label=name))
        found[split] = tuple(results)
    return found
