"""Apply a trained network to a split: logits, calibration, predictions and their scores.

A network has one logit for each of K independent binary labels, or for each of K exclusive classes,
which are scored one against the rest: the score of a class is its softmax probability. Labels are
float64 [N, K], NaN where unknown. Calibration and thresholds are fitted on validation, label by
label (exclusive classes share one temperature), and only applied to the other splits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medkd.config.run_settings import EvaluationSettings
from medkd.config.training_settings import TrainingSettings
from medkd.data.patches import PatchSource, iterate
from medkd.detect.fast import fast_copy
from medkd.evaluate.calibration import fit_softmax_temperature, fit_temperature
from medkd.evaluate.classification import evaluate_classes, evaluate_classification
from medkd.evaluate.metrics import compute_metric
from medkd.files import replacing
from medkd.models.detector import CentreScore, PointDetector
from medkd.models.package import CLASSIFICATION, Calibration, ModelInfo, calibrated_probability
from medkd.runs import Prediction
from medkd.train.state import Scores
from medkd.transfer.outputs import Outputs
from medkd.types import ClassificationResult, Estimate

Float64 = NDArray[np.float64]

_SAVE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Prior:
    """Prevalence of each label or class, 0..1: in the data, and in the training batches."""

    true: tuple[float, ...]
    trained: tuple[float, ...]
    outputs: Outputs = "independent"

    @property
    def logit_bias(self) -> Float64:
        """[K] upward bias of the logits due to the prevalence in the training batches.

        The logit of an independent output is biased by logit(trained) - logit(true), that of an
        exclusive class by log(trained) - log(true): Bayes' rule with other class priors.
        """
        if self.outputs == "exclusive":
            true, trained = (np.clip(share, 1e-6, 1.0) for share in (self.true, self.trained))
            return np.asarray(np.log(trained) - np.log(true), dtype=np.float64)
        return np.array(
            [_logit(b) - _logit(a) for a, b in zip(self.true, self.trained, strict=True)]
        )


@dataclass(frozen=True, slots=True)
class KnownValues:
    """One label on the samples where it is known: [M] labels, probabilities, patients."""

    labels: list[int]
    probabilities: list[float]
    patients: list[str]


def predict_logits(
    network: nn.Module,
    source: PatchSource,
    *,
    batch_size: int,
    kept: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Float64:
    """Compute the logits of every sample once, without augmentation, on the network's device.

    Args:
        network: its training mode is restored afterwards. A point detector scores a sample by
            its highest logit near the centre.
        source: N samples.
        batch_size: samples per forward pass.
        kept: file of the logits computed so far, rewritten every few seconds; scoring continues
            after them. The file must belong to this network, source and batch size.
        progress: called with the number of samples scored.

    Returns:
        [N, K] logits.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    training = network.training
    network.eval()
    score: nn.Module = network
    if isinstance(network, PointDetector):
        score = CentreScore(fast_copy(network))
    score_dtype = next((p.dtype for p in score.parameters()), torch.float32)
    parts = [torch.from_numpy(np.load(kept))] if kept and kept.is_file() else []
    done, written = sum(map(len, parts)), time.monotonic()
    with torch.no_grad():
        for batch in iterate(source, batch_size, first=done):
            image = batch.image.to(device, score_dtype)
            parts.append(score(image).float().cpu())
            done += len(parts[-1])
            if kept and time.monotonic() - written >= _SAVE_EVERY_S:
                _save(kept, torch.cat(parts))
                written = time.monotonic()
            if progress is not None:
                progress(done)
    network.train(training)
    return torch.cat(parts).double().numpy()


def _save(path: Path, logits: Tensor) -> None:
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, logits.numpy(), allow_pickle=False)


def labels_of(source: PatchSource) -> Float64:
    """Return [N, K] labels: 0, 1, or NaN where unknown."""
    labels = (source.label >= 0.5).double()
    return torch.where(source.label_known, labels, torch.nan).numpy()


def validation_scores(
    logits: Float64, labels: Float64, *, outputs: Outputs = "independent"
) -> Scores:
    """Return roc_auc, pr_auc, and the log loss with equal weights for both classes.

    Args:
        logits: [N, K].
        labels: [N, K]; each label has both classes. Scores are means over labels.
        outputs: what the K logits mean; an exclusive class is scored against the rest.
    """
    logits = log_odds(logits) if outputs == "exclusive" else logits
    found = [_scores_of(*known(z, y)) for z, y in zip(logits.T, labels.T, strict=True)]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def log_odds(logits: Float64) -> Float64:
    """Return log p_k - log(1 - p_k) of the softmax p of logits [N, K], K > 1.

    It is z_k minus the logarithm of the sum of exp(z_j) over the other classes j.

    Example:
        >>> log_odds(np.log([[1.0, 1.0, 2.0]])).round(3).tolist()  # p = 1/4, 1/4, 1/2
        [[-1.099, -1.099, 0.0]]
    """
    classes = range(logits.shape[1])
    rest = [np.logaddexp.reduce(np.delete(logits, one, axis=1), axis=1) for one in classes]
    return np.asarray(logits - np.stack(rest, axis=1), dtype=np.float64)


def known(values: Float64, labels: Float64) -> tuple[Float64, NDArray[np.int64]]:
    """Return values [M] and labels [M] of the samples [N] whose label is known."""
    rows = ~np.isnan(labels)
    return values[rows], labels[rows].astype(np.int64)


def _scores_of(logits: Float64, labels: NDArray[np.int64]) -> Scores:
    losses = np.logaddexp(0.0, np.where(labels == 1, -logits, logits))
    by_class = [float(losses[labels == value].mean()) for value in (0, 1)]
    return {
        "roc_auc": compute_metric("roc_auc", labels, logits),
        "pr_auc": compute_metric("pr_auc", labels, logits),
        "loss": sum(by_class) / 2,
    }


def calibrate(
    logits: Float64, labels: Float64, *, prior: Prior, settings: TrainingSettings
) -> Calibration:
    """Fit the temperature of each label on validation, after a correction of the prevalence.

    Exclusive classes have one temperature, because another one for each class would change which
    class is the most probable.

    The logits are first shifted from the prevalence `prior.trained` to the true prevalence. The
    temperature therefore measures confidence and not the sampling of classes. With
    `prior: balanced` in the settings, the probabilities are afterwards computed without the shift.

    Args:
        logits: [N, K] of validation samples.
        labels: [N, K].
        prior: true and trained prevalence, and what the outputs mean.
        settings: its `prior` selects the prevalence that the probabilities assume.
    """
    shifted = logits - prior.logit_bias
    if prior.outputs == "exclusive":
        rows = ~np.isnan(labels).any(axis=1)
        one = fit_softmax_temperature(shifted[rows], labels[rows].argmax(axis=1))
        temperatures = [one] * logits.shape[1]
    else:
        columns = zip(shifted.T, labels.T, strict=True)
        temperatures = [fit_temperature(*known(z, y)) for z, y in columns]
    shifts = -prior.logit_bias / temperatures
    shifts = shifts if settings.prior == "data" else np.zeros_like(shifts)
    return Calibration(tuple(temperatures), tuple(shifts.tolist()))


def make_predictions(source: PatchSource, logits: Float64, info: ModelInfo) -> list[Prediction]:
    """Combine logits with the names and labels of their samples.

    Args:
        source: N samples.
        logits: [N, K].
        info: holds the calibration that gives the probabilities.
    """
    probabilities = calibrated_probability(torch.from_numpy(logits), info).tolist()
    places = source.center_mm or (None,) * len(source)
    names = zip(source.sample_id, source.patient_id, source.seriesuid, strict=True)
    labels = [
        tuple(None if math.isnan(value) else int(value) for value in row)
        for row in labels_of(source).tolist()
    ]
    values = zip(names, labels, logits.tolist(), probabilities, places, strict=True)
    return [
        Prediction(*name, label, tuple(logit), tuple(probability), place)
        for name, label, logit, probability, place in values
    ]


def known_values(predictions: Sequence[Prediction], number: int) -> KnownValues:
    """Return the predictions of label `number` for the samples where this label is known."""
    rows = [row for row in predictions if row.labels[number] is not None]
    return KnownValues(
        [int(row.labels[number] or 0) for row in rows],
        [row.probabilities[number] for row in rows],
        [row.patient_id for row in rows],
    )


def point_names(info: ModelInfo) -> list[str]:
    """Return the name of each label's operating point; a single label has no suffix."""
    if len(info.label_names) == 1:
        return [CLASSIFICATION]
    return [f"{CLASSIFICATION}:{name}" for name in info.label_names]


def score_predictions(
    predictions: Mapping[str, Sequence[Prediction]], info: ModelInfo, settings: EvaluationSettings
) -> dict[str, tuple[ClassificationResult, ...]]:
    """Score the predictions of every split, label by label.

    Args:
        predictions: by split.
        info: holds the operating points chosen on validation.
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


def score_classes(
    predictions: Mapping[str, Sequence[Prediction]], info: ModelInfo, settings: EvaluationSettings
) -> dict[str, Estimate]:
    """Return how often the most probable class is right, by split; empty if none is exclusive.

    Args:
        predictions: by split.
        info: states what the outputs mean.
        settings: of the bootstrap.
    """
    if info.outputs != "exclusive":
        return {}
    found = {}
    for split, rows in predictions.items():
        scored = [row for row in rows if None not in row.labels]
        found[split] = evaluate_classes(
            [row.labels.index(1) for row in scored],
            [row.probabilities for row in scored],
            [row.patient_id for row in scored],
            bootstrap=settings.bootstrap,
            seed=settings.seed,
        )
    return found


def _logit(share: float) -> float:
    inside = min(max(share, 1e-6), 1 - 1e-6)
    return math.log(inside / (1 - inside))
