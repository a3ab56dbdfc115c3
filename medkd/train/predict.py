"""What a trained network says of a split: logits, validation scores, calibrated predictions.

Binary tasks: one logit a sample. Calibration is fitted on validation and then only applied.
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
    """Share of positives, 0..1: in the data, and as training showed it (balanced: .5)."""

    true: float
    trained: float

    @property
    def logit_excess(self) -> float:
        """What a network trained so says too much, in logits."""
        return _logit(self.trained) - _logit(self.true)


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
        [N] logits of the first output.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    training = network.training
    network.eval()
    parts = [torch.from_numpy(np.load(kept))] if kept and kept.is_file() else []
    done, written = sum(map(len, parts)), time.monotonic()
    with torch.no_grad():
        for batch in iterate(source, batch_size, first=done):
            parts.append(network(batch.image.to(device))[:, 0].float().cpu())
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


def labels_of(source: PatchSource) -> NDArray[np.int64]:
    """Return [N] labels, 0 or 1."""
    return (source.label[:, 0] >= 0.5).numpy().astype(np.int64)


def validation_scores(logits: Float64, labels: NDArray[np.int64]) -> Scores:
    """Return roc_auc, pr_auc, and the log loss with both classes weighing the same.

    Args:
        logits: [N].
        labels: [N] 0 or 1, both present.
    """
    losses = np.logaddexp(0.0, np.where(labels == 1, -logits, logits))
    by_class = [float(losses[labels == value].mean()) for value in (0, 1)]
    return {
        "roc_auc": compute_metric("roc_auc", labels, logits),
        "pr_auc": compute_metric("pr_auc", labels, logits),
        "loss": sum(by_class) / 2,
    }


def calibrate(
    logits: Float64, labels: NDArray[np.int64], *, prior: Prior, settings: TrainingSettings
) -> Calibration:
    """Fit the temperature on validation, after putting the prior right.

    The network saw positives at `prior.trained`; the temperature is fitted on logits as if it
    had seen the true share, so that it measures confidence and not the sampling. With
    `prior: balanced` the shift is left out of the probabilities afterwards.

    Args:
        logits: [N] of validation samples.
        labels: [N] 0 or 1.
        prior: true and trained share of positives.
        settings: say which prior the probabilities are to have.
    """
    shifted = logits - prior.logit_excess
    temperature = fit_temperature(shifted, labels)
    shift = -prior.logit_excess / temperature if settings.prior == "data" else 0.0
    return Calibration(temperature, shift)


def make_predictions(source: PatchSource, logits: Float64, info: ModelInfo) -> list[Prediction]:
    """Join logits to what is known of the samples.

    Args:
        source: N samples.
        logits: [N].
        info: its calibration makes the probabilities.
    """
    probability = calibrated_probability(torch.from_numpy(logits)[:, None], info)[:, 0].tolist()
    places = source.center_mm or (None,) * len(source)
    known = zip(source.sample_id, source.patient_id, source.seriesuid, strict=True)
    numbers = zip(labels_of(source).tolist(), logits.tolist(), probability, places, strict=True)
    return [
        Prediction(*names, label, logit, p, place)
        for names, (label, logit, p, place) in zip(known, numbers, strict=True)
    ]


def _logit(share: float) -> float:
    inside = min(max(share, 1e-6), 1 - 1e-6)
    return math.log(inside / (1 - inside))
