"""A small objective for tests of the loop: separable points, a network with BN and dropout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own customary name
from torch import Tensor, nn

from medkd.config.training_settings import TrainingSettings
from medkd.data.sampling import WHOLE, Share
from medkd.train.loop import FitPlan
from medkd.transfer.taps import Join, own_rows
from medkd.types import PatchBatch


def make_network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1)
        )


@dataclass(frozen=True)
class ToyOutput:
    loss: Tensor
    terms: Mapping[str, Tensor]
    logits: Tensor


class ToyObjective(nn.Module):
    def __init__(self, seed: int = 0, *, explode_at: float = 2.0) -> None:
        super().__init__()
        self.student = make_network(seed)
        self.join: Join = own_rows
        self.explode_at = explode_at
        self.progress: list[float] = []

    def forward(self, batch: PatchBatch, progress: float) -> ToyOutput:
        self.progress.append(progress)
        logits = self.join(self.student(batch.image), len(batch.label))
        loss = F.binary_cross_entropy_with_logits(logits, batch.label)
        if progress >= self.explode_at:
            loss = loss * float("nan")
        return ToyOutput(2 * loss, {"hard_label": loss}, logits)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return self.parameters()


class ToyLoader:
    """Batches of points whose mean says their label; `stop` interrupts at (epoch, batch)."""

    def __init__(self, batches: int = 5, *, stop: tuple[int, int] | None = None) -> None:
        self.batches = batches
        self.stop = stop
        self.epochs_read: list[int] = []

    def __len__(self) -> int:
        return self.batches

    def epoch(self, epoch: int, _share: Share = WHOLE) -> Iterator[PatchBatch]:
        self.epochs_read.append(epoch)
        for number in range(self.batches):
            if self.stop == (epoch, number):
                raise KeyboardInterrupt
            yield make_batch(1000 * epoch + number)


def make_batch(seed: int, size: int = 8) -> PatchBatch:
    generator = torch.Generator().manual_seed(seed)
    label = torch.tensor([[0.0], [1.0]]).repeat(size // 2, 1)
    image = torch.randn(size, 1, 4, 4, generator=generator) + (label - 0.5)[:, :, None, None]
    known = torch.ones_like(label, dtype=torch.bool)
    return PatchBatch(image, label, known, tuple(f"s{seed}-{n}" for n in range(size)))


def validate(student: nn.Module) -> dict[str, float]:
    batch = make_batch(99, size=64)
    student.eval()
    with torch.no_grad():
        logits = student(batch.image)
    loss = float(F.binary_cross_entropy_with_logits(logits, batch.label))
    return {"roc_auc": 0.5, "pr_auc": 0.5, "loss": loss}


def make_plan(folder: Path, **settings: object) -> FitPlan:
    values = {"epochs": 4, "batch_size": 8, "learning_rate": 0.01, "ema_decay": 0.9, **settings}
    return FitPlan(TrainingSettings.model_validate(values), folder, seed=3, device="cpu")
