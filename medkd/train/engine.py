"""The moving parts of one training: objective on its device, optimizer, schedule, averaging.

`loop.py` says when; this says how one epoch of steps is made with `accelerate`.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from medkd.config.run_settings import TrainingSettings
from medkd.errors import MedkdError, SettingsError
from medkd.train.average import WeightAverage
from medkd.train.logs import Progress
from medkd.train.state import Scores, Snapshot, random_state, restore_random_state
from medkd.types import PatchBatch

View = Callable[[PatchBatch], PatchBatch]
"""Replaces the samples of a batch, on its device, by the views that it names."""


class TrainingError(MedkdError):
    """A training that cannot go on: its loss is no number any more."""


class ObjectiveOutput(Protocol):
    """What one forward pass gives: the sum to minimise, and each term of it."""

    @property
    def loss(self) -> Tensor:
        """The weighted sum."""

    @property
    def terms(self) -> Mapping[str, Tensor]:
        """Each term by its name, before its weight."""


class Objective(Protocol):
    """What is minimised: an `nn.Module` that holds the student and what else learns."""

    student: nn.Module

    def __call__(self, batch: PatchBatch, progress: float) -> ObjectiveOutput:
        """Give the loss of a batch at a point 0..1 of the training."""

    def trainable_parameters(self) -> Iterable[nn.Parameter]:
        """Everything the optimizer moves."""

    def train(self, mode: bool = True) -> nn.Module:
        """Switch between training and evaluation."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that learns, and nothing of a teacher."""

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> object:
        """Put it back."""


class Engine:
    """One objective in training.

    Args:
        objective: moved to the device and prepared for the precision asked for.
        settings: how it is trained.
        batches: batches an epoch.
        device: "auto", "cpu" or "cuda".
        title: what progress is reported as.
    """

    def __init__(
        self,
        objective: Objective,
        settings: TrainingSettings,
        *,
        batches: int,
        device: str,
        title: str,
    ) -> None:
        self.settings = settings
        self.objective = objective
        self.batches = batches
        self.title = title
        self.step = 0
        self.steps_per_epoch = math.ceil(batches / settings.accumulate)
        self.steps = settings.epochs * self.steps_per_epoch
        self.accelerator = build_accelerator(settings.mixed_precision, device)
        groups = parameter_groups(objective.trainable_parameters(), settings.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        self.model, self.optimizer = self.accelerator.prepare(objective, optimizer)
        decay = settings.ema_decay
        self.average = WeightAverage(objective.student, decay) if decay else None

    @property
    def learning_rate(self) -> float:
        """Rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def views(self, batches: Iterable[PatchBatch], view: View | None) -> Iterator[PatchBatch]:
        """Move the batches of an epoch to the device and replace their samples by views."""
        for batch in islice(batches, self.batches):
            moved = on_device(batch, self.accelerator.device)
            yield view(moved) if view else moved

    def train_epoch(self, batches: Iterator[PatchBatch], epoch: int, progress: Progress) -> Scores:
        """Train on every batch.

        Args:
            batches: of the epoch.
            epoch: its number from 0, to be told.
            progress: told after every step but the last of all: validation is still to come.

        Returns:
            Means over the epoch: `train_loss`, and `term_<name>` before its weight.

        Raises:
            TrainingError: if one of them is not finite.
        """
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        done = 0
        note = f"epoch {epoch + 1} of {self.settings.epochs}"
        self.objective.train()
        while group := list(islice(batches, self.settings.accumulate)):
            for batch in group:
                output: ObjectiveOutput = self.model(batch, self.step / self.steps)
                self.accelerator.backward(output.loss / len(group))
                sums["train_loss"] = sums["train_loss"] + _value(output.loss)
                for name, term in output.terms.items():
                    sums[f"term_{name}"] = sums[f"term_{name}"] + _value(term)
            self._update()
            done += len(group)
            if self.step < self.steps:
                progress(f"{self.title}: training steps", self.step, self.steps, note)
        return _finite_means(sums, done, self.title)

    def evaluated_weights(self) -> AbstractContextManager[None]:
        """Give the student the weights that count: averaged ones where there are any."""
        return self.average.applied_to(self.objective.student) if self.average else nullcontext()

    def snapshot(self) -> Snapshot:
        """Take down the weights, the optimizer and the generators."""
        scaler = self.accelerator.scaler
        return Snapshot(
            step=self.step,
            model=_copied(self.objective.state_dict()),
            optimizer=self.optimizer.state_dict(),
            random=random_state(),
            average=_copied(self.average.weights) if self.average else None,
            average_updates=self.average.updates if self.average else 0,
            scaler=scaler.state_dict() if scaler else None,
        )

    def restore(self, state: Snapshot) -> None:
        """Go back to where a snapshot was taken."""
        self.step = state.step
        self.objective.load_state_dict(state.model)
        self.optimizer.load_state_dict(state.optimizer)
        restore_random_state(state.random)
        if self.average and state.average is not None:
            device = self.accelerator.device
            self.average.weights = {n: t.to(device) for n, t in state.average.items()}
            self.average.updates = state.average_updates
        if self.accelerator.scaler and state.scaler:
            self.accelerator.scaler.load_state_dict(state.scaler)

    def _update(self) -> None:
        rate = learning_rate_at(
            self.step,
            steps=self.steps,
            warmup_steps=round(self.settings.warmup_epochs * self.steps_per_epoch),
            peak=self.settings.learning_rate,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.settings.gradient_clip:
            moved = list(self.objective.trainable_parameters())
            self.accelerator.clip_grad_norm_(moved, self.settings.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.average:
            self.average.update(self.objective.student)


def learning_rate_at(step: int, *, steps: int, warmup_steps: int, peak: float) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine down to zero.

    Args:
        step: from 0.
        steps: of the whole training.
        warmup_steps: of the rise.
        peak: the highest rate.

    Example:
        >>> [round(learning_rate_at(s, steps=6, warmup_steps=2, peak=1.0), 3) for s in range(6)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def parameter_groups(
    parameters: Iterable[nn.Parameter], weight_decay: float
) -> list[dict[str, Any]]:
    """Split parameters into those that decay (matrices, kernels) and those that do not."""
    everything = list(parameters)
    return [
        {"params": [p for p in everything if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in everything if p.dim() <= 1], "weight_decay": 0.0},
    ]


def build_accelerator(mixed_precision: str, device: str) -> Accelerator:
    """Build the engine for one arm.

    Args:
        mixed_precision: "no", "bf16", "fp16", or "auto" (bf16 on a GPU that computes in it).
        device: "auto" (the fastest here), "cpu" or "cuda".

    Raises:
        SettingsError: if the device cannot do what is asked.
    """
    # accelerate keeps one state a process and refuses another precision; arms may differ in it,
    # and it offers no public way to begin anew.
    AcceleratorState._reset_state(reset_partial_state=True)
    asked = mixed_precision
    if asked == "auto":
        gpu = device != "cpu" and torch.cuda.is_available()
        native = gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        asked = "bf16" if native else "no"
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=asked)
    reasons = []
    if accelerator.num_processes > 1:
        reasons.append("started in several processes; this version trains in one: drop torchrun")
    if device == "cuda" and accelerator.device.type != "cuda":
        reasons.append("device: cuda, but this machine has no CUDA device; use auto or cpu")
    if mixed_precision == "fp16" and accelerator.device.type != "cuda":
        reasons.append("mixed_precision: fp16 needs a CUDA device; use bf16 or no")
    if reasons:
        raise SettingsError("training cannot run here as configured", reasons)
    return accelerator


def on_device(batch: PatchBatch, device: torch.device) -> PatchBatch:
    """Return the batch with its tensors on a device."""
    return dataclasses.replace(
        batch,
        image=batch.image.to(device, non_blocking=True),
        label=batch.label.to(device, non_blocking=True),
        label_known=batch.label_known.to(device, non_blocking=True),
    )


def _value(tensor: Tensor) -> Tensor:
    return tensor.detach().float().cpu()


def _copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}


def _finite_means(sums: Mapping[str, Tensor], count: int, title: str) -> Scores:
    means = {name: float(total) / count for name, total in sums.items()}
    if not all(math.isfinite(value) for value in means.values()):
        raise TrainingError(
            f"{title}: the loss is not a finite number",
            [f"{means}", "lower training.learning_rate, or set training.gradient_clip: 1.0"],
        )
    return means
