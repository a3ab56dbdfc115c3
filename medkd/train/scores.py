"""The scores of one arm's predictions; thresholds and temperatures were frozen before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medkd.config.run_settings import EvaluationSettings
from medkd.evaluate.classification import evaluate_classification
from medkd.models.package import ModelInfo
from medkd.runs import Prediction
from medkd.types import ClassificationResult

CLASSIFICATION = "classification"
"""Name of the operating point for samples (candidates, images)."""


def score_predictions(
    predictions: Mapping[str, Sequence[Prediction]], info: ModelInfo, settings: EvaluationSettings
) -> dict[str, ClassificationResult]:
    """Score the predictions of every split.

    Args:
        predictions: by split.
        info: holds the frozen operating point.
        settings: of the bootstrap.
    """
    return {
        split: evaluate_classification(
            [row.label for row in rows],
            [row.probability for row in rows],
            [row.patient_id for row in rows],
            operating_point=info.operating_points[CLASSIFICATION],
            split=split,
            bootstrap=settings.bootstrap,
            seed=settings.seed,
        )
        for split, rows in predictions.items()
    }
