"""What a trained network says of a split: logits, validation scores, calibrated predictions.

One logit for each of K yes-or-no labels. Labels are float64, NaN where not known. Calibration is
fitted on validation, label by label, and then only applied.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medkd.config.run_settings import TrainingSettings
from medkd.data.patches import PatchSource, iterate
from medkd.evaluate.calibration import fit_temperature
from medkd.evaluate.metrics import compute_metric
from medkd.files import replacing
from medkd.models.package import Calibration, ModelInfo, calibrated_probability
from medkd.runs import Prediction
from medkd.train.state import Scores

Float64 = NDArray[np.float64]

_KEEP_S = 5.0


@dataclass(frozen=True, slots=True)
class Prior:
    """Prevalence of each label, 0..1: in the data, and as training showed it (balanced: .5)."""

    true: tuple[float, ...]
    trained: tuple[float, ...]

    @property
    def logit_bias(self) -> Float64:
        """[K] by how much the logits are biased upwards by the prevalence of training."""
        return np.array(
            [_logit(b) - _logit(a) for a, b in zip(self.true, self.trained, strict=True)]
        )


def predict_logits(
    network: nn.Module,
    source: PatchSource,
    *,
    batch_size: int,
    kept: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Float64:
    """Score every sample once, as it is, on the device where the network stands.

    Args:
        network: left in the mode it was in.
        source: N samples.
        batch_size: samples a forward pass.
        kept: file of the logits so far, of this network, source and batch size alone; scoring
            goes on after what it holds, and it is written anew every few seconds.
        progress: called with the number of samples scored.

    Returns:
        [N, K] logits.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    training = network.training
    network.eval()
    parts = [torch.from_numpy(np.load(kept))] if kept and kept.is_file() else []
    done, written = sum(map(len, parts)), time.monotonic()
    with torch.no_grad():
        for batch in iterate(source, batch_size, first=done):
            parts.append(network(batch.image.to(device)).float().cpu())
            done += len(parts[-1])
            if kept and time.monotonic() - written >= _KEEP_S:
                _keep(kept, torch.cat(parts))
                written = time.monotonic()
            if progress is not None:
                progress(done)
    network.train(training)
    return torch.cat(parts).double().numpy()


def _keep(path: Path, logits: Tensor) -> None:
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, logits.numpy(), allow_pickle=False)


def labels_of(source: PatchSource) -> Float64:
    """Return [N, K] labels: 0, 1, or NaN where not known."""
    labels = (source.label >= 0.5).double()
    return torch.where(source.label_known, labels, torch.nan).numpy()


def validation_scores(logits: Float64, labels: Float64) -> Scores:
    """Return roc_auc, pr_auc, and the log loss with both classes weighing the same.

    Args:
        logits: [N, K].
        labels: [N, K]; each label has both classes. Scores are means over labels.
    """
    found = [_scores_of(*known(z, y)) for z, y in zip(logits.T, labels.T, strict=True)]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


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
    """Fit each label's temperature on validation, after correcting for the true prevalence.

    The network saw positives at `prior.trained`; the temperature is fitted on logits as if it
    had seen the true prevalence, so that it measures confidence and not the sampling. With
    `prior: balanced` the shift is left out of the probabilities afterwards.

    Args:
        logits: [N, K] of validation samples.
        labels: [N, K].
        prior: true and trained prevalence.
        settings: say which prior the probabilities are to have.
    """
    shifted = (logits - prior.logit_bias).T
    temperatures = [fit_temperature(*known(z, y)) for z, y in zip(shifted, labels.T, strict=True)]
    shifts = -prior.logit_bias / temperatures if settings.prior == "data" else 0.0 * shifted[:, 0]
    return Calibration(tuple(temperatures), tuple(shifts.tolist()))


def make_predictions(source: PatchSource, logits: Float64, info: ModelInfo) -> list[Prediction]:
    """Join logits to what is known of the samples.

    Args:
        source: N samples.
        logits: [N, K].
        info: its calibration makes the probabilities.
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


def _logit(share: float) -> float:
    inside = min(max(share, 1e-6), 1 - 1e-6)
    return math.log(inside / (1 - inside))
